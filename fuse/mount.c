/*
 * A mount's life, and a request's way from the channel to its handler.
 *
 *	mount_new()     mounted; the kernel has queued its INIT
 *	mount_start()   the classic channel reads; INIT is answered: ready. Where
 *	                agreed on, FUSE over io_uring is started beside it
 *	ended           the kernel closed the connection (umount, abort): the owner
 *	                is told, and stops the mount
 *	mount_co_stop() unmounts if need be, waits for the requests under way,
 *	                closes the connection
 *
 * A request runs on a coroutine of its own, which calls libfuse's parser, which
 * calls the handler (ops-*.c), which may yield: libfuse holds no lock and keeps
 * nothing of the request outside of that coroutine's stack and its own request
 * struct. It never sees INTERRUPT and FORGET: interrupts need the requests of
 * both channels, and forgets need nothing, since a node id is an inode number.
 */
#define G_LOG_DOMAIN "fuse"
#include "fuse/mount.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fuse/exclusive.h"
#include "fuse/recall.h"

#define ALONE_TIMEOUT_S 86400.0
#define DEAD_MAX 65536u
#define LAYOUT_RUNS_MAX 262144u
#define READAHEAD_BYTES (2u << 20)

static const char *const opcode_names[OPCODES] = {
	[FUSE_LOOKUP] = "lookup", [FUSE_FORGET] = "forget", [FUSE_GETATTR] = "getattr",
	[FUSE_SETATTR] = "setattr", [FUSE_READLINK] = "readlink", [FUSE_SYMLINK] = "symlink",
	[FUSE_MKNOD] = "mknod", [FUSE_MKDIR] = "mkdir", [FUSE_UNLINK] = "unlink",
	[FUSE_RMDIR] = "rmdir", [FUSE_RENAME] = "rename", [FUSE_LINK] = "link",
	[FUSE_OPEN] = "open", [FUSE_READ] = "read", [FUSE_WRITE] = "write",
	[FUSE_STATFS] = "statfs", [FUSE_RELEASE] = "release", [FUSE_FSYNC] = "fsync",
	[FUSE_SETXATTR] = "setxattr", [FUSE_GETXATTR] = "getxattr", [FUSE_LISTXATTR] = "listxattr",
	[FUSE_REMOVEXATTR] = "removexattr", [FUSE_FLUSH] = "flush", [FUSE_INIT] = "init",
	[FUSE_OPENDIR] = "opendir", [FUSE_READDIR] = "readdir", [FUSE_RELEASEDIR] = "releasedir",
	[FUSE_FSYNCDIR] = "fsyncdir", [FUSE_GETLK] = "getlk", [FUSE_SETLK] = "setlk",
	[FUSE_SETLKW] = "setlkw", [FUSE_ACCESS] = "access", [FUSE_CREATE] = "create",
	[FUSE_INTERRUPT] = "interrupt", [FUSE_BMAP] = "bmap", [FUSE_DESTROY] = "destroy",
	[FUSE_IOCTL] = "ioctl", [FUSE_POLL] = "poll", [FUSE_NOTIFY_REPLY] = "notify_reply",
	[FUSE_BATCH_FORGET] = "batch_forget", [FUSE_FALLOCATE] = "fallocate",
	[FUSE_READDIRPLUS] = "readdirplus", [FUSE_RENAME2] = "rename2", [FUSE_LSEEK] = "lseek",
	[FUSE_COPY_FILE_RANGE] = "copy_file_range", [FUSE_TMPFILE] = "tmpfile", [FUSE_STATX] = "statx",
};

/* ---- calls ---- */

int coroutine_fn mount_co_change(Mount *m, uint64_t ino, WireOp op, RpcCall *call, HeldChange *ret_change)
{
	uint16_t home = map_home(m->map, ino);

	if (home == PEER_NONE)
		return -ESTALE;
	if (m->held) {
		ret_change->n = wire_changes(op, call->req, ret_change->inos);
		held_begin(m->held, home, ret_change);
		if (ret_change->n)
			recall_co_names_gone(m);
	}
	int r = rpc_co_call(m->rpc, home, op, call);
	if (m->held)
		held_end(m->held, ret_change);
	return r == -EPROTO ? -EIO : r;
}

void mount_keep(Mount *m, const HeldChange *c, uint32_t which, bool granted, const WireAttr *attr)
{
	if (m->held && granted && attr->ino == c->inos[which])
		held_grant(m->held, &c->asks[which], attr);
}

int coroutine_fn mount_co_call(Mount *m, uint64_t ino, WireOp op, RpcCall *call)
{
	HeldChange change;

	return mount_co_change(m, ino, op, call, &change);
}

int coroutine_fn mount_co_change_ino(Mount *m, WireOp op, RpcCall *call, uint32_t pages, WireAttrRep *rep)
{
	HeldChange change;
	uint64_t ino;

	memcpy(&ino, call->req, sizeof(ino));
	call->rep = rep;
	int r = mount_co_change(m, ino, op, call, &change);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	mount_keep(m, &change, 0, rep->lease & WIRE_LEASE_INODE, &rep->attr);
	if (m->pages)
		pages_written(m->pages, &rep->attr, rep->prev_mtime_ns, pages);
	layouts_set_size(m->layouts, ino, rep->attr.size);
	return r;
}

int coroutine_fn mount_co_call_ino(Mount *m, uint64_t ino, WireOp op, RpcCall *call)
{
	int r = mount_co_call(m, ino, op, call);

	return r == -ENOENT ? -ESTALE : r;
}

int coroutine_fn mount_co_getattr(Mount *m, uint64_t ino, WireAttr *ret_attr)
{
	WireInoReq req = { .ino = ino, .lease = m->held != NULL };
	WireAttrRep rep;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep };
	const WireAttr *kept = m->held ? held_attr(m->held, ino) : NULL;

	if (kept) {
		*ret_attr = *kept;
		return 0;
	}
	HeldAsk ask = m->held ? held_ask(m->held, map_home(m->map, ino)) : (HeldAsk) { 0 };
	int r = mount_co_call_ino(m, ino, WIRE_GETATTR, &call);
	if (r < 0)
		return r;
	if (rep.lease & WIRE_LEASE_INODE && rep.attr.ino == ino)
		held_grant(m->held, &ask, &rep.attr);
	/* What is kept is what is; it may come from a reply to a later request. */
	kept = m->held ? held_attr(m->held, ino) : NULL;
	*ret_attr = kept ? *kept : rep.attr;
	layouts_set_size(m->layouts, ino, ret_attr->size);
	return 0;
}

void mount_forget_attr(Mount *m, uint64_t ino)
{
	struct fuse_notify_inval_inode_out arg = { .ino = ino, .off = -1 };
	struct fuse_out_header out = {
		.len = sizeof(out) + sizeof(arg),
		.error = FUSE_NOTIFY_INVAL_INODE,
	};
	struct iovec iov[] = { { &out, sizeof(out) }, { &arg, sizeof(arg) } };

	/* -ENOENT: the kernel does not know the inode, so it is stale nowhere. */
	if (m->classic)
		channel_classic_write(m->classic, iov, 2);
}

void mount_spawn(Mount *m, CoFn *fn, void *arg)
{
	co_group_spawn(&m->background, fn, arg);
}

void mount_spawn_for(Mount *m, CoFn *fn, uint64_t ino)
{
	InodeTask *t = g_new(InodeTask, 1);

	*t = (InodeTask) { m, ino };
	mount_spawn(m, fn, t);
}

/* ---- replies ---- */

static void agree(Mount *m, Request *req, struct iovec *arg)
{
	const struct fuse_init_in *in = (void *)(req->in + 1);
	struct fuse_init_out *out = arg->iov_base;

	/* A kernel of another major number only wants to hear ours, and will ask
	 * again. The struct is libfuse's and whole, whatever part of it is sent. */
	if (in->major != FUSE_KERNEL_VERSION)
		return;
	m->agreed = init_reply(in, &m->wishes, out);
	m->kernel_minor = in->minor;
	g_debug("the kernel speaks 7.%u, agreed on flags %" G_GINT64_MODIFIER "x, max_write %u",
		in->minor, (guint64)m->agreed, out->max_write);
}

static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	Mount *m = userdata;
	Request *req = request_current();
	struct fuse_out_header *out = iov[0].iov_base;

	if (req->in->opcode == FUSE_INIT && !out->error && count == 2)
		agree(m, req, &iov[1]);
	req->replied = true;
	if (request_reply(req, iov, count) < 0) {
		/* The channel has said what there is to say; of this one libfuse
		 * makes no message. The handler learns that it was in vain. */
		errno = ENOENT;
		return -1;
	}
	return out->len;
}

static ssize_t io_read(int fd, void *buf, size_t len, void *userdata)
{
	/* libfuse's own loop would call it; there is none. */
	errno = EINVAL;
	return -1;
}

/* ---- interrupts ---- */

static Request *request_of_link(GList *link)
{
	return link->data;
}

static void interrupt_request(Request *req)
{
	if (req->on_interrupt)
		req->on_interrupt(req);
}

/* The mount ends: what waits for long waits no more. */
static void interrupt_all(Mount *m)
{
	for (GList *link = m->requests.head; link; link = link->next)
		interrupt_request(request_of_link(link));
}

/* An interrupt always comes through /dev/fuse, so it can overtake a request
 * that comes through the ring: then it is kept for a while. One for a request
 * that has just been answered is kept for nothing, which does no harm. */
static void interrupt(Mount *m, uint64_t unique)
{
	for (GList *link = m->requests.head; link; link = link->next) {
		Request *req = request_of_link(link);
		if (req->in->unique == unique) {
			req->interrupted = true;
			interrupt_request(req);
			return;
		}
	}
	m->early[m->early_next++ % EARLY_INTERRUPTS] = unique;
}

static bool was_interrupted_early(Mount *m, const Request *req)
{
	if (req->in->opcode != FUSE_SETLKW && req->in->opcode != FUSE_COPY_FILE_RANGE)
		return false;
	for (uint32_t i = 0; i < EARLY_INTERRUPTS; i++)
		if (m->early[i] == req->in->unique)
			return true;
	return false;
}

/* ---- requests ---- */

static void coroutine_fn serve_init(Mount *m, Request *req)
{
	bool uring = m->agreed & FUSE_OVER_IO_URING;

	/* Another major number, or an error: it has been said, or comes again. */
	if (!m->agreed)
		return;
	kmount_set_readahead(m->kmount, READAHEAD_BYTES);
	if (m->uring && (!uring || channel_co_start(m->uring) < 0)) {
		g_message("FUSE over io_uring is not to be had, using /dev/fuse alone");
		channel_free(g_steal_pointer(&m->uring));
	}
	m->ready = true;
}

static void coroutine_fn serve(void *arg)
{
	Request *req = arg;
	Mount *m = req->owner;
	bool init = req->in->opcode == FUSE_INIT;
	struct fuse_buf buf = { .size = req->len, .mem = req->in, .fd = -1 };

	co_set_local(req);
	if (init)
		init_limit((void *)(req->in + 1), req->len - sizeof(*req->in), &m->wishes);
	if (!ops_raw_serve(m, req))
		fuse_session_process_buf(m->se, &buf);
	if (init)
		serve_init(m, req);
	g_queue_unlink(&m->requests, &req->link);
	m->inflight--;
	request_done(req);
	co_queue_wake_all(&m->changes);
	if (!m->inflight)
		co_queue_wake_all(&m->idle);
}

static void count_request(Mount *m, uint32_t opcode)
{
	if (opcode < OPCODES && opcode_names[opcode])
		m->requests_of[opcode]++;
	else
		m->other_requests++;
}

/* Between looking a name up and opening what it found, a thread asks for these
 * at most; a RELEASE of what it closed before may come late. */
static bool may_be_opening(uint32_t opcode)
{
	return opcode == FUSE_GETATTR || opcode == FUSE_STATX || opcode == FUSE_GETXATTR || opcode == FUSE_OPEN ||
	       opcode == FUSE_RELEASE || opcode == FUSE_RELEASEDIR;
}

/* Whoever sends these is at the beginning of a system call, or between two: all
 * that was answered before is dealt with. Others a thread may send from within
 * one, when it needs memory or touches a mapping. */
static bool begins_anew(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_LOOKUP: case FUSE_GETATTR: case FUSE_STATX: case FUSE_ACCESS: case FUSE_READLINK:
	case FUSE_GETXATTR: case FUSE_LISTXATTR: case FUSE_OPEN: case FUSE_READDIR: case FUSE_READDIRPLUS:
	case FUSE_CREATE: case FUSE_MKNOD: case FUSE_MKDIR: case FUSE_SYMLINK: case FUSE_TMPFILE:
	case FUSE_UNLINK: case FUSE_RMDIR: case FUSE_RENAME: case FUSE_RENAME2: case FUSE_LINK: case FUSE_STATFS:
		return true;
	}
	return false;
}

static void on_request(void *arg, Request *req)
{
	Mount *m = arg;

	count_request(m, req->in->opcode);
	if (!may_be_opening(req->in->opcode))
		pins_drop(m->pins, req->in->pid);
	if (m->listings && begins_anew(req->in->opcode))
		listings_went_on(m->listings, req->in->pid);
	switch (req->in->opcode) {
	case FUSE_INTERRUPT:
		interrupt(m, ((struct fuse_interrupt_in *)(req->in + 1))->unique);
		request_done(req);
		return;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		request_done(req);
		return;
	}
	req->owner = m;
	req->interrupted = was_interrupted_early(m, req);
	req->link = (GList) { .data = req };
	g_queue_push_tail_link(&m->requests, &req->link);
	m->inflight++;
	co_spawn(reactor_sched(m->reactor), CO_FUSE, serve, req);
}

static void on_ended(void *arg, int error)
{
	Mount *m = arg;

	m->ended = true;
	fuse_session_exit(m->se);
	interrupt_all(m);
	if (m->stopping)
		return;
	if (kmount_is_mounted(m->kmount))
		g_warning("the mount at %s was cut off: %s", kmount_path(m->kmount), g_strerror(-error));
	else
		g_message("%s was unmounted", kmount_path(m->kmount));
	if (m->opts.ended)
		m->opts.ended(m->opts.ended_arg);
}

/* ---- life ---- */

static bool make_wishes(Mount *m, GError **error)
{
	g_autofree char *unknown = NULL;
	const char *reason = NULL;

	m->wishes = (InitWishes) {
		.alone = m->opts.alone,
		.max_write = init_max_write(),
		.max_proto_minor = m->opts.max_proto_minor,
	};
	if (m->opts.disable_features &&
	    !init_parse_features(m->opts.disable_features, &m->wishes.disabled, &unknown)) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "there is no FUSE feature %s to do without", unknown);
		return false;
	}
	if (m->opts.channel == MOUNT_CHANNEL_CLASSIC)
		return true;
	m->wishes.uring = channel_uring_available(m->reactor, &reason);
	if (m->wishes.uring || m->opts.channel == MOUNT_CHANNEL_AUTO)
		return true;
	g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSYS, "FUSE over io_uring is not available: %s", reason);
	return false;
}

static bool make_session(Mount *m, GError **error)
{
	static const struct fuse_custom_io io = { .writev = io_writev, .read = io_read };
	char *argv[] = { (char *)"benchfs", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);

	m->se = fuse_session_new(&args, &mount_ops, sizeof(mount_ops), m);
	fuse_opt_free_args(&args); /* libfuse has added one and keeps none */
	if (m->se && fuse_session_custom_io(m->se, &io, m->fd) == 0)
		return true;
	g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "libfuse could not make a session");
	return false;
}

static void make_channels(Mount *m)
{
	m->follow = follow_new(m->reactor);
	ChannelOptions opts = {
		.reactor = m->reactor,
		.counters = m->opts.counters,
		.fd = m->fd,
		.max_write = m->wishes.max_write,
		.sink = { .request = on_request, .ended = on_ended, .arg = m },
		.follow = m->follow,
	};

	m->classic = channel_classic_new(&opts);
	if (m->wishes.uring)
		m->uring = channel_uring_new(&opts);
}

static void add_counters(Mount *m)
{
	const FollowStats *follow = follow_get_stats(m->follow);
	Counters *c = m->opts.counters;

	for (uint32_t i = 0; i < OPCODES; i++) {
		if (!opcode_names[i])
			continue;
		g_autofree char *name = g_strdup_printf("fuse.requests.%s", opcode_names[i]);
		counters_add(c, name, &m->requests_of[i]);
	}
	counters_add(c, "fuse.requests.other", &m->other_requests);
	counters_add(c, "fuse.inflight", &m->inflight);
	counters_add(c, "fuse.bytes_read", &m->bytes_read);
	counters_add(c, "fuse.bytes_written", &m->bytes_written);
	counters_add(c, "fuse.lock_waits_refused", &m->lock_waits_refused);
	counters_add(c, "follow.pins", &follow->pins);
	counters_add(c, "follow.moves", &follow->moves);
	counters_add(c, "follow.releases", &follow->releases);
}

static void remove_counters(Mount *m)
{
	const FollowStats *follow = follow_get_stats(m->follow);
	Counters *c = m->opts.counters;

	for (uint32_t i = 0; i < OPCODES; i++)
		if (opcode_names[i])
			counters_remove(c, &m->requests_of[i]);
	counters_remove(c, &m->other_requests);
	counters_remove(c, &m->inflight);
	counters_remove(c, &m->bytes_read);
	counters_remove(c, &m->bytes_written);
	counters_remove(c, &m->lock_waits_refused);
	counters_remove(c, &follow->pins);
	counters_remove(c, &follow->moves);
	counters_remove(c, &follow->releases);
}

Mount *mount_new(const MountOptions *opts, GError **error)
{
	Mount *m = g_new0(Mount, 1);

	m->opts = *opts;
	m->reactor = opts->reactor;
	m->rpc = opts->rpc;
	m->map = rpc_map(opts->rpc);
	m->self = rpc_self(opts->rpc);
	m->fd = -1;
	m->timeout = opts->alone ? ALONE_TIMEOUT_S : 0;
	m->background.sched = reactor_sched(opts->reactor);
	g_queue_init(&m->requests);
	m->opens = open_table_new(DEAD_MAX);
	m->pins = pins_new();
	m->lock_owners = lock_owners_new();
	m->owed = owed_new(m);
	m->layouts = layouts_new(LAYOUT_RUNS_MAX, map_peer_count(m->map));
	m->xattr_hints = xattr_hints_new(opts->alone);
	m->atimes = atimes_new(opts->kernel_opts);
	m->statfs = g_new0(WireStatfsRep, map_peer_count(m->map));
	if (!opts->alone)
		recall_attach(m);
	exclusive_attach_mount(m);
	if (make_wishes(m, error))
		m->kmount = kmount_new(opts->mountpoint, opts->fsname ? opts->fsname : "benchfs",
				       opts->kernel_opts, &m->fd, error);
	if (!m->kmount || !make_session(m, error)) {
		mount_free(m);
		return NULL;
	}
	make_channels(m);
	if (!opts->alone) {
		m->pages = recall_make_pages(m);
		m->places = places_new();
		m->submounts = submounts_new(kmount_dev(m->kmount));
	}
	add_counters(m);
	ops_file_attach(m);
	return m;
}

static void coroutine_fn start(void *arg)
{
	Mount *m = arg;

	channel_co_start(m->classic);
}

void mount_start(Mount *m)
{
	co_group_spawn(&m->background, start, m);
}

bool mount_is_ready(const Mount *m)
{
	return m->ready;
}

MountChannel mount_channel(const Mount *m)
{
	return m->uring ? MOUNT_CHANNEL_URING : MOUNT_CHANNEL_CLASSIC;
}

static int unmount(void *arg)
{
	Mount *m = arg;

	/* The ring's entries come back when the connection ends, no sooner. */
	return kmount_unmount(m->kmount, m->uring);
}

static void close_connection(Mount *m)
{
	channel_free(g_steal_pointer(&m->uring));
	if (m->classic) {
		remove_counters(m);
		channel_free(g_steal_pointer(&m->classic));
		follow_free(g_steal_pointer(&m->follow));
	}
	if (m->se)
		fuse_session_destroy(g_steal_pointer(&m->se)); /* closes m->fd */
	else if (m->fd >= 0)
		close(m->fd);
	m->fd = -1;
}

void coroutine_fn mount_co_stop(Mount *m)
{
	if (m->stopping)
		return;
	m->stopping = true;
	interrupt_all(m);
	/* On a thread, since the kernel may want dirty pages written first. */
	int r = reactor_co_work(m->reactor, unmount, m);
	if (r < 0)
		g_warning("unmounting %s: %s, ignoring", kmount_path(m->kmount), g_strerror(-r));
	if (m->uring)
		channel_co_stop(m->uring);
	channel_co_stop(m->classic);
	interrupt_all(m);
	while (m->inflight)
		co_queue_wait(&m->idle);
	co_group_wait(&m->background);
	close_connection(m);
	m->stopped = true;
}

void mount_free(Mount *m)
{
	if (!m)
		return;
	g_assert(!m->inflight);
	close_connection(m);
	/* Never stopped: the connection is closed, so nobody can be asked. */
	if (m->kmount && !m->stopped)
		kmount_unmount(m->kmount, false);
	kmount_free(m->kmount);
	exclusive_detach_mount(m);
	recall_detach(m);
	open_table_free(m->opens);
	pins_free(m->pins);
	places_free(m->places);
	submounts_free(m->submounts);
	owed_free(m->owed);
	lock_owners_free(m->lock_owners);
	layouts_free(m->layouts);
	xattr_hints_free(m->xattr_hints);
	atimes_free(m->atimes);
	g_free(m->statfs);
	g_free(m);
}
