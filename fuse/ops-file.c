/*
 * Opening and closing. Neither asks a home: the open table counts, and what is
 * open here and loses its last name elsewhere lives on because the home asks
 * (FORGET_QUERY). Handles are numbers that mean nothing but "the same open
 * file": locks of open files need them.
 */
#define G_LOG_DOMAIN "fuse"
#include <errno.h>
#include <fcntl.h>

#include "fuse/internal.h"

#define CREATE_TRIES 8
#define CREATE_PAUSE_NS INT64_C(500000)
#define HOLD_STEP_NS INT64_C(100000000)

void ops_fill_open(Mount *m, uint64_t ino, struct fuse_file_info *fi)
{
	bool good = m->held && held_pages_good(m->held, ino);

	fi->fh = ++m->next_fh;
	/* Otherwise the kernel drops the file's pages now: what other mounts wrote
	 * is then seen at the latest by who opens after they closed, mapped
	 * pages included, whose use asks for no attributes. */
	fi->keep_cache = m->opts.alone || good;
	if (m->pages)
		pages_open(m->pages, ino, good ? held_attr(m->held, ino) : NULL);
	/* Through its pages the kernel cuts a write in two where it starts within a
	 * page, and another mount's could get between the halves. Who also reads
	 * may want to map the file, which this would forbid. */
	fi->direct_io = !m->opts.alone && fi->flags & O_APPEND && (fi->flags & O_ACCMODE) == O_WRONLY;
}

static void coroutine_fn tell_orphan_closed(void *arg)
{
	g_autofree InodeTask *t = arg;
	WireInoReq req = { .ino = t->ino };
	RpcCall call = { .req = &req, .req_len = sizeof(req) };
	int r = mount_co_call(t->m, t->ino, WIRE_ORPHAN_CLOSED, &call);

	if (r < 0 && r != -ENOENT && r != -ESTALE)
		g_debug("inode %" G_GINT64_MODIFIER "x is closed, but its home does not hear it: %s",
			(guint64)t->ino, g_strerror(-r));
}

static void coroutine_fn let_go(void *arg)
{
	g_autofree InodeTask *t = arg;

	/* In steps: the mount's end waits for us. */
	for (int64_t left = PIN_NS; left > 0 && !t->m->stopping; left -= HOLD_STEP_NS)
		reactor_co_sleep(t->m->reactor, HOLD_STEP_NS);
	ops_close(t->m, t->ino);
}

/* Where someone may be about to open it, it counts as open until that is over. */
static void hold_pinned(Mount *m, uint64_t ino)
{
	if (!m->stopping && pins_has(m->pins, ino, reactor_now_ns(m->reactor)) &&
	    open_table_open(m->opens, ino) >= 0)
		mount_spawn_for(m, let_go, ino);
}

void ops_close(Mount *m, uint64_t ino)
{
	if (open_table_is_last(m->opens, ino))
		hold_pinned(m, ino);
	if (!open_table_close(m->opens, ino))
		return;
	layouts_drop(m->layouts, ino);
	/* When our session ends the home gives it up by itself. */
	if (!m->stopping)
		mount_spawn_for(m, tell_orphan_closed, ino);
}

static bool kills_suidgid(void)
{
	const struct fuse_open_in *in = request_arg();

	return in->open_flags & FUSE_OPEN_KILL_SUIDGID;
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	Mount *m = mount_of(req);
	int r = open_table_open(m->opens, ino);

	pins_drop(m->pins, request_thread());
	if (r < 0) {
		ops_reply(req, r);
		return;
	}
	/* The kernel leaves it to us (ATOMIC_O_TRUNC), as one request less. */
	if (fi->flags & O_TRUNC && m->agreed & FUSE_ATOMIC_O_TRUNC) {
		r = ops_co_truncate(m, ino, kills_suidgid());
		if (r == 0 && kills_suidgid())
			mount_forget_attr(m, ino);
	}
	ops_fill_open(m, ino, fi);
	atimes_open(m->atimes, ino);
	if (r < 0)
		ops_reply(req, r);
	if (r < 0 || fuse_reply_open(req, fi) < 0)
		ops_close(m, ino);
}

/* May the caller open it, by what its owner may do? Of groups and lists we
 * know too little. */
static bool may_open_own(fuse_req_t req, const WireAttr *attr, int flags)
{
	int access = flags & O_ACCMODE;
	uint32_t needed = (access != O_WRONLY ? S_IRUSR : 0) | (access != O_RDONLY || flags & O_TRUNC ? S_IWUSR : 0);

	return S_ISREG(attr->mode) && attr->uid == fuse_req_ctx(req)->uid && (attr->mode & needed) == needed;
}

/*
 * The kernel looked and found no such name. When it is there nevertheless,
 * another mount has made it in between, and the kernel has not checked whether
 * the caller may open it. Where it is the caller's own file we can; else the
 * kernel must look again, which ESTALE makes it do, but once only: where names
 * come and go quickly that is too little.
 */
static int coroutine_fn co_open_found(fuse_req_t req, WireEntryRep *rep, int flags)
{
	Mount *m = mount_of(req);
	uint64_t ino = rep->attr.ino;
	int r = may_open_own(req, &rep->attr, flags) ? open_table_open(m->opens, ino) : -EACCES;

	if (r < 0 || !(flags & O_TRUNC))
		return r;
	r = ops_co_truncate(m, ino, fuse_req_ctx(req)->uid);
	if (r == 0)
		r = mount_co_getattr(m, ino, &rep->attr);
	if (r < 0)
		ops_close(m, ino);
	return r;
}

static int coroutine_fn co_create_file(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, int flags, WireEntryRep *ret_rep)
{
	uint32_t create_flags = flags & O_EXCL ? WIRE_CREATE_EXCL : 0;
	int r = -ESTALE;

	/* -ESTALE: it is gone again, or still on its way out (co_lookup()). */
	for (int tries = 0; r == -ESTALE && tries < CREATE_TRIES; tries++) {
		if (tries)
			reactor_co_sleep(mount_of(req)->reactor, CREATE_PAUSE_NS << tries);
		r = ops_co_create(req, parent, name, S_IFREG | (mode & 07777), 0, create_flags, NULL, ret_rep);
		if (r < 0)
			break;
		if (ret_rep->created)
			r = open_table_open(mount_of(req)->opens, ret_rep->attr.ino);
		else
			r = co_open_found(req, ret_rep, flags);
	}
	return r == -EACCES ? -ESTALE : r;
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	Mount *m = mount_of(req);
	struct fuse_entry_param entry;
	WireEntryRep rep;
	int r = co_create_file(req, parent, name, mode, fi->flags, &rep);

	if (r < 0) {
		ops_reply(req, r);
		return;
	}
	ops_note_attr(m, &rep.attr);
	ops_fill_open(m, rep.attr.ino, fi);
	ops_fill_entry(m, &rep.attr, &entry);
	if (fuse_reply_create(req, &entry, fi) < 0)
		ops_close(m, rep.attr.ino);
}

/* Called for each close(2): a process gives up its fcntl locks on a file with
 * any of its descriptors. Where the home is away it hears of that later, which
 * is no error: nobody can have them before. */
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	Mount *m = mount_of(req);

	if (lock_owners_take(m->lock_owners, ino, fi->lock_owner))
		ops_co_unlock_all(m, ino, fi->lock_owner, WIRE_LOCK_FCNTL);
	ops_reply(req, 0);
}

typedef struct Unlock {
	Mount *m;
	uint64_t ino, owner;
	WireLockKind kind;
} Unlock;

static void coroutine_fn unlock_behind(void *arg)
{
	g_autofree Unlock *u = arg;

	ops_co_unlock_all(u->m, u->ino, u->owner, u->kind);
}

static void spawn_unlock(Mount *m, uint64_t ino, uint64_t owner, WireLockKind kind)
{
	Unlock *u = g_new(Unlock, 1);

	*u = (Unlock) { m, ino, owner, kind };
	mount_spawn(m, unlock_behind, u);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	Mount *m = mount_of(req);
	uint64_t owner;

	if (fi->flock_release)
		spawn_unlock(m, ino, fi->lock_owner, WIRE_LOCK_FLOCK);
	while (lock_owners_take_by_handle(m->lock_owners, ino, fi->fh, &owner))
		spawn_unlock(m, ino, owner, WIRE_LOCK_FCNTL);
	ops_close(m, ino);
	ops_reply(req, 0);
}

/* Of a file or a directory. */
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	WireFsyncReq sync = { .ino = ino, .datasync = datasync != 0 };
	RpcCall call = { .req = &sync, .req_len = sizeof(sync) };

	ops_reply(req, mount_co_call_ino(mount_of(req), ino, WIRE_FSYNC, &call));
}

/* ---- what homes ask ---- */

static int coroutine_fn serve_forget_query(void *ctx, RpcReq *r)
{
	Mount *m = ctx;
	const WireForgetReq *req = r->req;
	WireOpenRep *rep = r->rep;

	if (!ino_valid(req->ino) || req->undo > 1)
		return -EINVAL;
	if (req->undo) {
		open_table_undo(m->opens, req->ino);
		return 0;
	}
	if (!open_table_is_open(m->opens, req->ino))
		hold_pinned(m, req->ino);
	rep->open = open_table_query(m->opens, req->ino);
	if (!rep->open)
		layouts_drop(m->layouts, req->ino);
	return 0;
}

void ops_file_attach(Mount *m)
{
	rpc_serve(m->rpc, WIRE_FORGET_QUERY, serve_forget_query, m);
}
