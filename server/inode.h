#pragma once
/*
 * Inodes of this home, in memory. There is one Inode for a number at a time,
 * held by references and kept a while after the last (a bounded LRU list); it
 * carries the mutex of the inode. Whoever changes an inode, the names in a
 * directory, its xattrs, chunk map or inline data holds that mutex: read,
 * build the batch, commit, then publish the new values in memory. Whoever only
 * reads one thing needs no mutex. More than one: inode_co_lock_many().
 */
#include <glib.h>
#include <stdint.h>

#include "common/co.h"
#include "common/rpc.h"
#include "server/meta.h"

struct Server;
typedef struct Inode Inode;

enum { INODE_INLINE = 1 << 0,  /* a regular file whose data, if any, is its inline record */
       INODE_ORPHAN = 1 << 2,  /* no name is left; lives while it is open */
       INODE_LINKABLE = 1 << 3,  /* never had a name, and may get one: O_TMPFILE */
       INODE_EXCLUSIVE = 1 << 4 };/* bits 16 and up: the peer with an exclusive lease */

/* What the inode record holds. A plain value: copy, change, put, publish. */
typedef struct InodeData {
	WireAttr attr;      /* attr.blocks is computed from `blocks` and the inline data */
	uint64_t parent;    /* of a directory */
	uint32_t flags;     /* INODE_* */
	uint32_t n_blocks;  /* targets that hold an object of this inode */
	WireBlocks *blocks; /* owned by the Inode */
	char *symlink;      /* owned by the Inode; NULL: not a symlink */
} InodeData;

struct Inode {
	InodeData d;
	CoMutex lock;
	uint64_t version; /* counts what was published */
	uint32_t changing; /* changes under way: leases.h */
	uint64_t changer;  /* session whose change was the last */
	uint32_t refs; /* inode.c counts; who holds the only one is alone */
	/* private to inode.c */
	GList lru;
	bool gone; /* deleted while referenced: answers -ENOENT */
	bool loading;
	int load_result;
	CoQueue loaded;
};

/* A reference to inode ino. -ENOENT (also when it is not served here: -ESTALE).
 * Waits for what a mount holds back of it (exclusive.h): -EIO while that can't be
 * had. The second does not wait, for who needs neither size nor times. */
int coroutine_fn inode_co_get(struct Server *s, uint64_t ino, Inode **ret_inode);
int coroutine_fn inode_co_get_as_is(struct Server *s, uint64_t ino, Inode **ret_inode);
/* The first, but a holder that asks itself is not asked. */
int coroutine_fn inode_co_get_for(struct Server *s, uint64_t ino, const RpcReq *r, Inode **ret_inode);
/* One more, of an inode that the caller has one of. */
Inode *inode_ref(Inode *inode);
void inode_unref(struct Server *s, Inode *inode);
/* Locks up to four (NULL and repeated ones are fine), in number order, so
 * that no two callers can block each other. Afterwards check ->gone. */
void coroutine_fn inode_co_lock_many(Inode *inodes[], uint32_t n);
void inode_unlock_many(Inode *inodes[], uint32_t n);

/* After the commit that created it: puts an inode into the cache. d is moved
 * out of the caller's. Returns a reference. */
Inode *coroutine_fn inode_co_add(struct Server *s, InodeData *d);
/* After the commit that deleted its records. The caller holds a reference. */
void inode_set_gone(struct Server *s, Inode *inode);
/* Commits a batch that changes the count of inodes of this store by delta, the
 * count with it. As meta_batch_co_commit(). */
int coroutine_fn inode_count_co_commit(struct Server *s, MetaBatch *b, int delta);
/* Reads the count; once, before the first change. */
int coroutine_fn inode_count_co_load(struct Server *s);

/* Copies d (deep). */
void inode_data_copy(InodeData *dst, const InodeData *src);
void inode_data_clear(InodeData *d);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(InodeData, inode_data_clear)
/* Reads the record of inode ino: 0, or -EIO where it makes no sense. */
int inode_data_decode(uint64_t ino, const uint8_t *data, size_t len, InodeData *ret_d);
/* Adds the record of d to a batch. */
void inode_data_put(MetaBatch *b, const InodeData *d);
/* Makes d (moved out of the caller's) what the inode is, after the commit. */
void inode_publish(Inode *inode, InodeData *d);

/* Sets what an object of `target` occupies and recomputes attr.blocks. */
void inode_data_set_blocks(InodeData *d, uint16_t target, uint64_t blocks);
/* The object of `target` was cut: known until the inode is loaded again. */
void inode_data_note_cut(InodeData *d, uint16_t target, uint16_t process, uint32_t cuts);
/* Was what b tells of written after the last cut of that object? Where its
 * process is not the one that is known nobody can say: that is false, and true
 * from then on. */
bool inode_written_since_cut(Inode *inode, const WireBlocks *b);
/* attr.blocks from the objects and, of an inline file, from its size. */
void inode_data_count_blocks(InodeData *d);
/* Adds the deletion of all records of an inode: itself, inline data, xattrs,
 * runs, orphan, intents. The inode is locked. 0 or -EIO. */
int coroutine_fn inode_data_co_delete(struct Server *s, MetaBatch *b, const InodeData *d);
/* mtime and ctime (or ctime alone) become now, or one ns more than they were
 * when the clock has not moved on: they strictly increase with each change. */
void inode_data_touch(InodeData *d, bool mtime);
/* Clears setuid, and setgid where group-executable; true when it changed. */
bool inode_data_kill_suidgid(InodeData *d);
