#pragma once
/*
 * The locks of one kind on one inode: ranges of bytes, each of an owner. The
 * ranges of one owner don't overlap; neighbours of one type are merged. Pure.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct LockRange {
	uint64_t session, owner; /* both together are who owns it */
	uint64_t start, end;     /* inclusive; UINT64_MAX: to the end */
	uint32_t type;           /* F_RDLCK, F_WRLCK; F_UNLCK in requests */
	uint32_t pid;
	uint16_t peer;           /* of the session, or PEER_NONE */
} LockRange;

typedef struct LockSet {
	uint32_t n, cap;
	LockRange *v;
} LockSet;

void lockset_clear(LockSet *s);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(LockSet, lockset_clear)
static inline bool lock_same_owner(const LockRange *a, const LockRange *b)
{
	return a->session == b->session && a->owner == b->owner;
}
/* The first from index *at on that keeps `want` from being granted; *at is its
 * index then. NULL: none. */
const LockRange *lockset_conflict(const LockSet *s, const LockRange *want, uint32_t *at);
/* Makes the range the owner's with its type, or nobody's with F_UNLCK: splits,
 * replaces and merges what the owner had. Conflicts are the caller's. */
void lockset_apply(LockSet *s, const LockRange *range);
/* Would dropping (F_UNLCK) the range leave one range more? */
bool lockset_splits(const LockSet *s, const LockRange *range);
/* The ranges that lockset_apply() would change or merge, in a set of their own. */
LockSet lockset_touched(const LockSet *s, const LockRange *range);
/* Drops what a session has; true when that was something. */
bool lockset_drop_session(LockSet *s, uint64_t session);
