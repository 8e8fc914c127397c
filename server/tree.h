#pragma once
/*
 * Who gives a directory another parent must know that no circle comes of it,
 * so at any time one change alone may do so, cluster-wide: it holds the lock of
 * the tree, which the root's home gives out. With it the way up from a
 * directory can be walked across peers and stays as it is: who held the lock
 * before has either settled its change, or it holds the directory still, and
 * the walk waits (holds.h).
 *
 * A holder that dies gives it back when its session ends; one that is cut off
 * loses it by then at the latest (TREE_LEASE_NS), and has to decide sooner than
 * that (TREE_DECIDE_NS), counted from before it asked.
 */
#include "server/names.h"
#include "server/txn.h"

#define TREE_LEASE_NS INT64_C(14000000000)
#define TREE_DECIDE_NS INT64_C(10000000000)

/* Takes the lock for a change; -EAGAIN: not now. Sets its decide_by_ns. The
 * number ends the lock. */
int coroutine_fn tree_co_lock(TxnCall *t, uint64_t *ret_number);
void coroutine_fn tree_co_unlock(TxnCall *t, uint64_t number);
/* May the directory `moved` go from olddir into newdir? -EINVAL when newdir is
 * in it. The lock of the tree is held. */
int coroutine_fn tree_co_check(Server *s, uint64_t moved, uint64_t olddir, uint64_t newdir);
