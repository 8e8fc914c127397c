#pragma once
/*
 * Exclusive leases: the one mount that writes a file may hold back size, times
 * and blocks (common/heldback.h). A COMMIT asks for it, and its own batch puts
 * the holder into the inode's record, so that this is known after a crash of
 * either side and costs no write. Whoever then asks for the inode, through
 * inode_co_get(), waits until the holder has given back what it holds: it is
 * asked by its peer's id, so a process that follows a killed one answers, from
 * the store. While it can't be reached the inode answers -EIO: nobody else knows
 * its size.
 *
 * That a record names a holder means that it may hold something back. Where
 * somebody else had got hold of the inode before the COMMIT was done, the reply
 * grants nothing, and the record is put right at once.
 */
#include "server/internal.h"

/* COMMIT, of a locked inode: may r hold back from now on, as far as can be said
 * before the batch is written? */
bool exclusive_allowed(Server *s, const RpcReq *r, const Inode *inode);
/* Puts the holder into what is about to be written; PEER_NONE: none. */
void exclusive_set(InodeData *d, uint16_t holder);
/* After the commit, the inode still locked: is the lease granted? */
bool coroutine_fn exclusive_co_granted(Server *s, Inode *inode, const RpcReq *r);
/* Takes over what the holder says it has held back, where that is still its to
 * say: d of a locked inode. -EINVAL: it makes no sense. */
int exclusive_merge(Server *s, InodeData *d, const RpcReq *r, const WireHeldBack *held);

/* Whom the record names; PEER_NONE: nobody. */
uint16_t exclusive_holder(const InodeData *d);
/* Is it that peer? */
bool exclusive_is_holder(const Inode *inode, uint16_t peer);
/* Asks the holder, if there is one, and takes over what it says. Takes the
 * inode's lock. -EIO: it can't be reached; -ENOENT: the inode has gone. */
int coroutine_fn exclusive_co_take_back(Server *s, Inode *inode);

/* Called by server_attach(). */
void exclusive_attach(Server *s);
