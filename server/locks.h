#pragma once
/* The locks of this home's inodes, apart from how they are asked for. */
#include "server/internal.h"
#include "server/lockset.h"

/* All waits of a home at once: each keeps a coroutine and its stack. A job may
 * well have a process on each of many cores wait for one file; and the search
 * for deadlocks goes as deep as there are waiters. */
#define LOCK_WAITERS_MAX 1024u
/* Ranges held at once. */
#define LOCKS_MAX (UINT64_C(1) << 20)

/* Sets, changes or (F_UNLCK) drops a lock. Of another peer's mount it is in the
 * store before this returns, or nothing has changed: -EIO, -ENOSPC. -EAGAIN when it is another's and
 * !wait; with wait: -EINTR when cancelled, -EDEADLK when it would wait for
 * itself (fcntl only), -ENOLCK when too many wait or are held. Of all kinds but
 * fcntl's the range is all of the file; what an owner of flock's had is given up
 * before waiting. */
int coroutine_fn locks_co_set(LockTable *t, uint64_t ino, const LockRange *want, WireLockKind kind, bool wait, uint64_t wait_id);
/* The first lock in the way of `want`, or F_UNLCK. */
void locks_get(LockTable *t, uint64_t ino, const LockRange *want, WireLockKind kind, LockRange *ret);
/* Ends a wait with -EINTR, also one that comes up to ten seconds later. */
void locks_cancel(LockTable *t, uint64_t session, uint64_t wait_id);
/* Drops a session's locks, ends its waits; the store follows behind. */
void locks_end_session(LockTable *t, uint64_t session);
uint32_t locks_waiting(const LockTable *t);
/* Adds the deletion of an inode's records to the batch that deletes it. Who
 * unlocks later finds the lock in memory. */
void locks_delete_records(LockTable *t, MetaBatch *b, uint64_t ino);
