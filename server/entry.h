#pragma once
/*
 * A name in a directory of this home: its record, and the steps that every
 * change of names shares. Find the inode behind the name, lock it together
 * with the directory in number order, and see that the name is still its.
 */
#include "server/change.h"
#include "server/internal.h"

typedef struct Name {
	uint64_t hash;
	size_t len;
	char text[WIRE_NAME_MAX + 1];
} Name;

typedef struct Entry {
	Inode *dir; /* a reference */
	Name name;
	uint64_t ino;  /* 0: there is no such name */
	uint32_t mode; /* type bits */
	Inode *inode;  /* a reference; NULL: no such name, or its home is elsewhere */
	uint64_t version; /* of dir, before the name was read */
} Entry;

/* The name behind a request's struct, as wire_name(); "." and ".." are -EINVAL
 * unless dots. */
int name_parse(const RpcReq *r, size_t fixed, size_t skip, uint16_t name_len, bool dots, Name *ret_name);
/* A reference to a directory: -ENOTDIR, or as inode_co_get(). */
int coroutine_fn entry_co_get_dir(Server *s, uint64_t ino, Inode **ret_dir);

/* What the name stands for: fills ino and mode of e. -ENOENT, -EIO. */
int coroutine_fn entry_co_read(Server *s, Entry *e);
/* Adds the record of a name to a batch, or its removal. */
void entry_put(MetaBatch *b, const Entry *e, uint64_t ino, uint32_t mode);
void entry_delete(MetaBatch *b, const Entry *e);
/* Reads a dirent's value; false: not one. */
bool entry_decode(const uint8_t *value, size_t len, uint64_t *ret_ino, uint32_t *ret_mode);

/* Parses a name and gets its directory. Ends with entry_close(), also after an
 * error; zero-initialise. */
int coroutine_fn entry_co_open(Server *s, const RpcReq *r, uint64_t dir, size_t fixed, size_t skip, uint16_t name_len, Entry *e);
void entry_close(Server *s, Entry *e);
/* Locks the directories and the inodes behind up to two names, and `also`
 * (or NULL). -ENOENT: a directory is being removed, -EIO. Names that do not
 * exist have ino 0. */
int coroutine_fn entry_co_lock(Server *s, Entry *e, uint32_t n, Inode *also);
void entry_unlock(Entry *e, uint32_t n, Inode *also);

static inline bool entry_is_elsewhere(const Entry *e)
{
	return e->ino != 0 && !e->inode;
}
/* 1: no name in it, 0: some, or -EIO. */
int coroutine_fn entry_co_dir_is_empty(Server *s, const InodeData *dir);
/* What the entry's attributes are, with a lease where `lease` (or NULL) asks for
 * one; or, where its home is elsewhere, its number and type. */
int coroutine_fn entry_co_reply(Server *s, uint64_t ino, uint32_t mode, const RpcReq *lease, WireEntryRep *rep);
/* The directory has one entry more or fewer; its nlink counts subdirectories. */
void entry_count(InodeData *dir, uint32_t mode, int delta);
