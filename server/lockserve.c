/* LOCK_GET, LOCK_SET, LOCK_CANCEL: checks, then locks.h. */
#include <errno.h>
#include <fcntl.h>

#include "server/locks.h"

static int decode(const RpcReq *r, LockRange *ret_range)
{
	const WireLockReq *q = r->req;

	if (q->lock.type != F_RDLCK && q->lock.type != F_WRLCK && q->lock.type != F_UNLCK)
		return -EINVAL;
	if (q->kind >= WIRE_LOCK_KINDS || q->wait > 1 || q->lock.start > q->lock.end || q->lock.start > INT64_MAX)
		return -EINVAL;
	*ret_range = (LockRange) {
		.session = r->session, .peer = r->peer, .owner = q->owner, .pid = q->lock.pid, .type = q->lock.type,
		.start = q->lock.start,
		/* The kernel says "to the end" with the largest offset there is. */
		.end = q->lock.end >= INT64_MAX ? UINT64_MAX : q->lock.end,
	};
	if (q->kind != WIRE_LOCK_FCNTL) {
		ret_range->start = 0;
		ret_range->end = UINT64_MAX;
	}
	return 0;
}

/* Only what exists is locked; unlocking what is gone is fine. */
static int coroutine_fn check_inode(Server *s, uint64_t ino)
{
	Inode *inode;
	int r = inode_co_get_as_is(s, ino, &inode);

	if (r == 0)
		inode_unref(s, inode);
	return r;
}

static int coroutine_fn lock_get(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireLockReq *q = r->req;
	WireLockRep *rep = r->rep;
	LockRange want, found;
	int ret = decode(r, &want);

	if (ret == 0 && want.type == F_UNLCK)
		ret = -EINVAL;
	if (ret == 0)
		ret = check_inode(s, q->ino);
	if (ret < 0)
		return ret;
	locks_get(s->locks, q->ino, &want, q->kind, &found);
	rep->lock = (WireLock) { .start = found.start, .end = found.end, .type = found.type, .pid = found.pid };
	return 0;
}

static int coroutine_fn lock_set(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireLockReq *q = r->req;
	LockRange want;
	int ret = decode(r, &want);

	if (ret == 0 && want.type != F_UNLCK)
		ret = check_inode(s, q->ino);
	return ret < 0 ? ret : locks_co_set(s->locks, q->ino, &want, q->kind, q->wait, q->wait_id);
}

static int coroutine_fn lock_cancel(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireLockReq *q = r->req;

	locks_cancel(s->locks, r->session, q->wait_id);
	return 0;
}

static void session_ended(void *ctx, uint64_t session)
{
	Server *s = ctx;

	locks_end_session(s->locks, session);
}

void locks_attach(Server *s)
{
	rpc_serve(s->rpc, WIRE_LOCK_GET, lock_get, s);
	rpc_serve(s->rpc, WIRE_LOCK_SET, lock_set, s);
	rpc_serve(s->rpc, WIRE_LOCK_CANCEL, lock_cancel, s);
	rpc_on_session_ended(s->rpc, session_ended, s);
}
