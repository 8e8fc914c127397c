/* GETATTR, SETATTR, ATIME. Who may do what the kernel has checked. */
#include <errno.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "server/acls.h"
#include "server/change.h"
#include "server/holds.h"
#include "server/leases.h"

static int coroutine_fn getattr(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireInoReq *req = r->req;
	WireAttrRep *rep = r->rep;
	Inode *inode;
	int res = holds_co_wait_settled(s, (HoldKey) { .ino = req->ino });

	if (res >= 0)
		res = inode_co_get(s, req->ino, &inode);
	if (res == -ENOENT && removed_get(s->removed, req->ino, &rep->attr))
		return 0;
	if (res < 0)
		return res;
	rep->attr = inode->d.attr;
	if (req->lease && leases_grant(s, r, inode))
		rep->lease = WIRE_LEASE_INODE;
	inode_unref(s, inode);
	return 0;
}

static int check(const WireSetattrReq *req, const InodeData *d)
{
	if (!(req->valid & WIRE_SET_SIZE))
		return 0;
	if (S_ISDIR(d->attr.mode))
		return -EISDIR;
	if (!S_ISREG(d->attr.mode))
		return -EINVAL;
	return req->size > INT64_MAX ? -EFBIG : 0;
}

/* A new owner of a program must not inherit what the old one let it do; nor
 * must new bytes. Of directories the bits mean something else. */
static int coroutine_fn kill_privileges(Server *s, const WireSetattrReq *req, MetaBatch *b, InodeData *d)
{
	bool owner = req->valid & (WIRE_SET_UID | WIRE_SET_GID);

	if (S_ISDIR(d->attr.mode))
		return 0;
	if (owner || (req->valid & WIRE_SET_KILL_SUIDGID))
		inode_data_kill_suidgid(d);
	return owner || (req->valid & WIRE_SET_SIZE) ? xattrs_co_kill_capability(s, b, d) : 0;
}

static void set_owner_and_mode(const WireSetattrReq *req, InodeData *d)
{
	WireAttr *a = &d->attr;

	if (req->valid & WIRE_SET_UID)
		a->uid = req->uid;
	if (req->valid & WIRE_SET_GID)
		a->gid = req->gid;
	if (req->valid & WIRE_SET_MODE)
		a->mode = (a->mode & S_IFMT) | (req->mode & 07777);
}

/* Last: a time that is given wins over the one that a new size brings. */
static void set_times(const WireSetattrReq *req, InodeData *d)
{
	WireAttr *a = &d->attr;

	inode_data_touch(d, req->valid & (WIRE_SET_MTIME_NOW | WIRE_SET_SIZE));
	if (req->valid & WIRE_SET_ATIME_NOW)
		a->atime_ns = a->ctime_ns;
	else if (req->valid & WIRE_SET_ATIME)
		a->atime_ns = req->atime_ns;
	if ((req->valid & (WIRE_SET_MTIME | WIRE_SET_MTIME_NOW)) == WIRE_SET_MTIME)
		a->mtime_ns = req->mtime_ns;
}

static int coroutine_fn setattr_locked(Server *s, Inode *inode, const RpcReq *caller)
{
	const WireSetattrReq *req = caller->req;
	g_auto(Change) c = { .caller = caller };
	int r = inode->gone ? -ENOENT : check(req, &inode->d);

	if (r < 0 || req->valid == 0)
		return r;
	change_begin(&c, s);
	InodeData *d = change_data(&c, inode);
	if (req->valid & WIRE_SET_SIZE) {
		r = data_co_truncate_prepare(s, c.b, d, req->size);
		if (r < 0)
			return r;
	}
	r = kill_privileges(s, req, c.b, d);
	if (r < 0)
		return r;
	set_owner_and_mode(req, d);
	if (req->valid & WIRE_SET_MODE) {
		r = acls_co_chmod(s, c.b, d);
		if (r < 0)
			return r;
	}
	set_times(req, d);
	r = change_co_commit(&c);
	if (r < 0 || !(req->valid & WIRE_SET_SIZE))
		return r;
	return data_co_truncate_finish(s, inode);
}

/* ---- ATIME ---- */

#define ATIME_MAX_AGE_NS (INT64_C(24) * 3600 * 1000000000)

/* As Linux's relatime: so that who asks "read since it was written?" gets the
 * right answer, and else once a day. */
static bool atime_is_due(const WireAttr *a, int64_t now)
{
	return a->atime_ns <= a->mtime_ns || a->atime_ns <= a->ctime_ns || now - a->atime_ns >= ATIME_MAX_AGE_NS;
}

/* No touch: a read is no change. Nor is it worth calling back what all the other
 * readers keep: they may go on showing the atime that they know. */
static int coroutine_fn move_atime(Server *s, Inode *inode, int64_t now)
{
	g_auto(Change) c = { .lazy = true };

	change_begin(&c, s);
	change_data(&c, inode)->attr.atime_ns = now;
	int r = change_co_commit(&c);
	return r < 0 ? r : 1;
}

static int coroutine_fn atime(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireAtimeReq *req = r->req;
	WireAttrRep *rep = r->rep;
	int64_t now = clock_realtime_ns();
	Inode *inode;
	int res = inode_co_get(s, req->ino, &inode);

	if (res < 0)
		return res;
	co_mutex_lock(&inode->lock);
	if (inode->gone)
		res = -ENOENT;
	else if (req->always || atime_is_due(&inode->d.attr, now))
		res = move_atime(s, inode, now);
	rep->attr = inode->d.attr;
	co_mutex_unlock(&inode->lock);
	inode_unref(s, inode);
	return res;
}

static int coroutine_fn setattr(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireSetattrReq *req = r->req;
	WireAttrRep *rep = r->rep;
	Inode *inode;
	int res = inode_co_get(s, req->ino, &inode);

	if (res < 0)
		return res;
	co_mutex_lock(&inode->lock);
	rep->prev_mtime_ns = inode->d.attr.mtime_ns;
	res = setattr_locked(s, inode, r);
	rep->attr = inode->d.attr;
	if (res >= 0 && leases_grant_own(s, r, inode))
		rep->lease = WIRE_LEASE_INODE;
	co_mutex_unlock(&inode->lock);
	inode_unref(s, inode);
	return res;
}

void attrs_attach(Server *s)
{
	rpc_serve(s->rpc, WIRE_GETATTR, getattr, s);
	rpc_serve(s->rpc, WIRE_SETATTR, setattr, s);
	rpc_serve(s->rpc, WIRE_ATIME, atime, s);
}
