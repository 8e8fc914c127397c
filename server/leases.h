#pragma once
/*
 * Leases: which mounts keep what of the inodes of this home. A mount that asks
 * for it is granted a shared lease with the reply: it may keep an inode's
 * attributes and data, and, of a directory, its names, until it is called back.
 *
 * Every change of an inode stands between leases_co_begin() and leases_end():
 * begin calls back whoever has a lease, and until end none is granted. So who
 * has a lease has what is committed, and once a change has returned nobody
 * keeps anything older.
 *
 * A change waits for the answers with the inode's lock held. That can't block
 * anybody for good: a mount answers a recall without waiting for anything
 * (fuse/recall.h), on coroutines that nothing else uses; and one that does not
 * answer loses its leases by time (rpc.h), within RPC_LEASE_GRANTED_NS. Reading
 * takes no lock and goes on.
 *
 * The mount that asks for a change has given up what it keeps of the inodes
 * that its request names (wire_changes()) before it sent it, so it is not
 * called back for those.
 */
#include "server/internal.h"

/* r: who asks. False: not now. The reply must then hold what the inode is at
 * this moment, without a yield in between; for names in a directory, which
 * takes reading, see leases_grant_since(). */
bool leases_grant(Server *s, const RpcReq *r, Inode *inode);
/* The same for what was read since the inode's version was `version`; false
 * also where it has changed since. */
bool leases_grant_since(Server *s, const RpcReq *r, Inode *inode, uint64_t version);

/* After a change that r has asked for, of an inode that is still locked: whoever
 * changes one alone goes on keeping it. Where two mounts take turns neither is
 * granted one, since it would only have to be called back. */
bool leases_grant_own(Server *s, const RpcReq *r, Inode *inode);
/* The same for an inode that r has made. */
bool leases_grant_new(Server *s, const RpcReq *r, Inode *inode);

/* Before a change of up to four inodes (NULL ones are fine), which are locked.
 * caller: the request that is the cause, or NULL: all are called back. Nests.
 * May yield. */
void coroutine_fn leases_co_begin(Server *s, Inode *const inodes[], uint32_t n, const RpcReq *caller);
/* The same without calling anybody back, where nobody keeps any of it: an older
 * process has begun it, and none has been granted since. */
void leases_bar(Inode *const inodes[], uint32_t n);
/* After it, whether it came about or not. */
void leases_end(Inode *const inodes[], uint32_t n);

/* Called by server_attach(). */
void leases_attach(Server *s);

/*
 * What was granted is not in the store, so a process that follows one that was
 * killed makes no change before all of that has run out by time: it may be that
 * a mount is cut off and has not noticed. A record says that a process runs; one
 * that stops has told all mounts.
 */
int coroutine_fn leases_co_load(Server *s);  /* by server_new() */
int coroutine_fn leases_co_start(Server *s); /* once calls may come */
void coroutine_fn leases_co_stop(Server *s); /* when none come any more */
