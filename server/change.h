#pragma once
/*
 * One change of up to four locked inodes: copies of their values to edit, and
 * the batch. The commit calls back what mounts keep of them (leases.h), writes
 * all of it and publishes the values; what is cleared without a commit has never
 * been.
 */
#include "server/internal.h"

typedef struct ChangeItem {
	Inode *inode; /* borrowed */
	InodeData d;
	bool deleted, orphaned, asked;
} ChangeItem;

typedef struct Change {
	const RpcReq *caller; /* whose change it is, or NULL; to be set before the commit */
	bool lazy;            /* the same: mounts need not hear of it now, no lease is called back */
	Server *s;
	MetaBatch *b;
	uint32_t n;
	ChangeItem items[4];
	int count; /* inodes more, or fewer, than before */
} Change;

void change_begin(Change *c, Server *s);
/* The inode's values to edit; always the same ones for the same inode. */
InodeData *change_data(Change *c, Inode *inode);
/* The commit deletes the inode and everything about it in the store. */
void change_delete(Change *c, Inode *inode);
/* Its last name goes: deletes it where it is known now that nobody has it open
 * and it has no objects, else makes it an orphan. The values are at 0 links
 * then. May yield. */
void coroutine_fn change_co_orphan(Change *c, Inode *inode);
/* 0 or -errno. Afterwards only change_clear(). */
int coroutine_fn change_co_commit(Change *c);
/* After the locks are given back: starts to reap what became an orphan. */
void coroutine_fn change_co_reap(Change *c);
void change_clear(Change *c);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Change, change_clear)
