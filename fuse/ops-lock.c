/*
 * Locks are the home's: fcntl's, flock's, and those of open files. A request
 * that waits for one is a coroutine that waits in its call. When its caller
 * gets a signal, the home is told to end the wait, and told again until it
 * has: the cancellation may have overtaken the lock request.
 *
 * A home that is killed and starts again has the locks that it had, so calls go
 * on there, waiting ones too (LOCK_SET may be done twice). One that stays away
 * is -EIO, as for any call; whether a lock that was asked for is held is then
 * not known before its owner unlocks it or closes the file. What is given up
 * meanwhile is not lost: owed.h.
 */
#include <errno.h>
#include <sys/file.h>

#include "fuse/internal.h"

/* Waiting requests hold coroutines, and the unlock they wait for needs one as
 * well: of 8192 they get no more than half. */
#define WAITS_MAX 4096u
#define CANCEL_AGAIN_NS INT64_C(100000000)

typedef struct LockWait {
	Mount *m;
	WireLockReq req;
	bool done, cancelling;
	Co *waiter; /* the request, when only the cancelling is left to wait for */
} LockWait;

static WireLock to_wire_lock(const struct flock *lock)
{
	uint64_t start = (uint64_t)lock->l_start;

	return (WireLock) {
		.start = start,
		.end = lock->l_len ? start + (uint64_t)lock->l_len - 1 : UINT64_MAX,
		.type = (uint32_t)lock->l_type,
		.pid = (uint32_t)lock->l_pid,
	};
}

static void from_wire_lock(const WireLock *wire, struct flock *ret_lock)
{
	*ret_lock = (struct flock) {
		.l_type = (short)wire->type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)wire->start,
		/* 0: to the end. Nothing ends behind the largest offset. */
		.l_len = wire->end >= INT64_MAX ? 0 : (off_t)(wire->end - wire->start + 1),
		.l_pid = (pid_t)wire->pid,
	};
}

void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	WireLockReq get = { .ino = ino, .owner = fi->lock_owner, .lock = to_wire_lock(lock) };
	WireLockRep rep;
	RpcCall call = { .req = &get, .req_len = sizeof(get), .rep = &rep };
	int r = owed_co_settle(mount_of(req)->owed, &get);

	if (r == 0)
		r = mount_co_call_ino(mount_of(req), ino, WIRE_LOCK_GET, &call);
	if (r < 0) {
		ops_reply(req, r);
		return;
	}
	from_wire_lock(&rep.lock, lock);
	fuse_reply_lock(req, lock);
}

static int coroutine_fn co_lock_call(Mount *m, const WireLockReq *req, WireOp op)
{
	RpcCall call = { .req = req, .req_len = sizeof(*req) };

	return mount_co_call_ino(m, req->ino, op, &call);
}

/* ---- waiting ---- */

static void coroutine_fn cancel(void *arg)
{
	LockWait *w = arg;

	while (!w->done) {
		co_lock_call(w->m, &w->req, WIRE_LOCK_CANCEL);
		if (!w->done)
			reactor_co_sleep(w->m->reactor, CANCEL_AGAIN_NS);
	}
	w->cancelling = false;
	if (w->waiter)
		co_wake(g_steal_pointer(&w->waiter));
}

static void on_interrupt(Request *req)
{
	LockWait *w = req->interrupt_arg;

	if (w->done || w->cancelling)
		return;
	w->cancelling = true;
	mount_spawn(w->m, cancel, w);
}

/* A home that stops ends all waits, and whoever has come back to it waits anew.
 * (One that was killed is asked again by the call itself.) */
static int coroutine_fn co_wait_at_home(LockWait *w, const Request *req)
{
	Mount *m = w->m;
	int r = co_lock_call(m, &w->req, WIRE_LOCK_SET);

	while (r == -EINTR && !req->interrupted && !m->stopping && map_home(m->map, w->req.ino) != m->self) {
		/* it may still take a while to stop */
		reactor_co_sleep(m->reactor, CANCEL_AGAIN_NS);
		r = req->interrupted ? -EINTR : co_lock_call(m, &w->req, WIRE_LOCK_SET);
	}
	return r;
}

static int coroutine_fn co_wait_for_lock(Mount *m, const WireLockReq *lock)
{
	Request *req = request_current();
	LockWait w = { .m = m, .req = *lock };

	if (req->interrupted)
		return -EINTR;
	if (m->stopping)
		return -EIO;
	if (m->lock_waits >= WAITS_MAX) {
		m->lock_waits_refused++;
		return -ENOLCK;
	}
	m->lock_waits++;
	w.req.wait = 1;
	w.req.wait_id = req->in->unique;
	req->interrupt_arg = &w;
	req->on_interrupt = on_interrupt;
	int r = co_wait_at_home(&w, req);
	w.done = true;
	req->on_interrupt = NULL;
	while (w.cancelling) {
		w.waiter = co_self();
		co_yield();
	}
	m->lock_waits--;
	/* It may wait there still, and get the lock when nobody wants it any more. */
	if (r == -EIO && !m->stopping)
		owed_add_cancel(m->owed, &w.req);
	/* The kernel starts the call again after a signal; with none there, the
	 * caller would get to see its internal errno for that. */
	return r == -EINTR && !req->interrupted ? -EIO : r;
}

int coroutine_fn ops_co_lock(Mount *m, const WireLockReq *lock, bool wait)
{
	if (lock->lock.type == F_UNLCK)
		return owed_co_release(m->owed, lock);
	/* What needs no waiting needs no place among those who wait. */
	int r = owed_co_settle(m->owed, lock);
	if (r == 0)
		r = co_lock_call(m, lock, WIRE_LOCK_SET);
	return r == -EAGAIN && wait ? co_wait_for_lock(m, lock) : r;
}

/* The lock was granted to a caller that is gone: give it back, or its process
 * would hold what it never got to know of. */
static void coroutine_fn reply_lock(fuse_req_t req, Mount *m, WireLockReq *lock, int r)
{
	if (fuse_reply_err(req, r < 0 ? -r : 0) == 0 || r < 0 || lock->lock.type == F_UNLCK)
		return;
	lock->lock.type = F_UNLCK;
	owed_co_release(m->owed, lock);
}

void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
	Mount *m = mount_of(req);
	WireLockReq set = { .ino = ino, .owner = fi->lock_owner, .lock = to_wire_lock(lock) };

	/* Before the call, so that a close in the meantime releases it. */
	if (lock->l_type != F_UNLCK)
		lock_owners_add(m->lock_owners, ino, fi->lock_owner, fi->fh);
	reply_lock(req, m, &set, ops_co_lock(m, &set, sleep));
}

void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	Mount *m = mount_of(req);
	int kind = op & ~LOCK_NB;
	WireLockReq set = {
		.ino = ino, .owner = fi->lock_owner, .kind = WIRE_LOCK_FLOCK,
		.lock = {
			.end = UINT64_MAX,
			.type = kind == LOCK_SH ? F_RDLCK : kind == LOCK_EX ? F_WRLCK : F_UNLCK,
			.pid = (uint32_t)fuse_req_ctx(req)->pid,
		},
	};

	reply_lock(req, m, &set, ops_co_lock(m, &set, !(op & LOCK_NB)));
}

int coroutine_fn ops_co_unlock_all(Mount *m, uint64_t ino, uint64_t owner, WireLockKind kind)
{
	WireLockReq set = {
		.ino = ino, .owner = owner, .kind = kind,
		.lock = { .end = UINT64_MAX, .type = F_UNLCK },
	};

	return owed_co_release(m->owed, &set);
}
