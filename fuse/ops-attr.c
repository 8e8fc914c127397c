/* Attributes, symlinks, and the size of it all. */
#define G_LOG_DOMAIN "fuse"
#include <errno.h>
#include <string.h>

#include "fuse/recall.h"

#define STATFS_LOG_NS INT64_C(60000000000)

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	Mount *m = mount_of(req);
	WireAttr attr;

	recall_asked(m, ino);
	int r = mount_co_getattr(m, ino, &attr);
	if (r < 0) {
		ops_reply(req, r);
		return;
	}
	/* Waits, so only then it is clear whether the kernel may keep them. */
	ops_co_show_attr(m, &attr);
	ops_reply_attr(req, &attr, recall_tell(m, &attr));
}

/* ---- setattr ---- */

static int64_t to_ns(struct timespec ts)
{
	int64_t ns;

	/* Nanoseconds in 64 bits end in the years 1677 and 2262. */
	if (__builtin_mul_overflow((int64_t)ts.tv_sec, INT64_C(1000000000), &ns) ||
	    __builtin_add_overflow(ns, (int64_t)ts.tv_nsec, &ns))
		return ts.tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

static const struct {
	int fuse;
	uint32_t wire;
} set_bits[] = {
	{ FUSE_SET_ATTR_MODE, WIRE_SET_MODE },
	{ FUSE_SET_ATTR_UID, WIRE_SET_UID },
	{ FUSE_SET_ATTR_GID, WIRE_SET_GID },
	{ FUSE_SET_ATTR_SIZE, WIRE_SET_SIZE },
	{ FUSE_SET_ATTR_ATIME, WIRE_SET_ATIME },
	{ FUSE_SET_ATTR_MTIME, WIRE_SET_MTIME },
	{ FUSE_SET_ATTR_ATIME_NOW, WIRE_SET_ATIME_NOW },
	{ FUSE_SET_ATTR_MTIME_NOW, WIRE_SET_MTIME_NOW },
};

static uint32_t to_valid(const Mount *m, int to_set)
{
	uint32_t valid = 0;

	for (size_t i = 0; i < G_N_ELEMENTS(set_bits); i++)
		if (to_set & set_bits[i].fuse)
			valid |= set_bits[i].wire;
	/* With HANDLE_KILLPRIV_V2 a chown clears setuid without being told. */
	if ((uint32_t)to_set & FATTR_KILL_SUIDGID ||
	    (m->agreed & FUSE_HANDLE_KILLPRIV_V2 && to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)))
		valid |= WIRE_SET_KILL_SUIDGID;
	/* A chown to nobody new, or the kernel before a write, whose wish to clear
	 * setuid is not told; nothing else sets nothing. */
	return valid ? valid : WIRE_SET_KILL_SUIDGID;
}

static int coroutine_fn co_setattr(Mount *m, const WireSetattrReq *req, WireAttr *ret_attr)
{
	WireAttrRep rep;
	RpcCall call = { .req = req, .req_len = sizeof(*req) };
	int r = mount_co_change_ino(m, WIRE_SETATTR, &call, pages_writing(m->pages, req->ino, request_thread()), &rep);

	if (r < 0)
		return r;
	*ret_attr = rep.attr;
	return 0;
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	Mount *m = mount_of(req);
	WireSetattrReq set = {
		.ino = ino,
		.size = (uint64_t)st->st_size,
		.atime_ns = to_ns(st->st_atim), .mtime_ns = to_ns(st->st_mtim),
		.valid = to_valid(m, to_set),
		.mode = st->st_mode, .uid = st->st_uid, .gid = st->st_gid,
	};
	WireAttr attr;
	int r = co_setattr(m, &set, &attr);

	if (r < 0)
		ops_reply(req, r);
	else
		ops_reply_attr(req, &attr, m->timeout);
}

int coroutine_fn ops_co_truncate(Mount *m, fuse_ino_t ino, bool kill_suidgid)
{
	WireSetattrReq set = {
		.ino = ino,
		.valid = WIRE_SET_SIZE | (kill_suidgid ? WIRE_SET_KILL_SUIDGID : 0),
	};
	WireAttr attr;

	return co_setattr(m, &set, &attr);
}

int coroutine_fn ops_co_kill_suidgid(Mount *m, fuse_ino_t ino)
{
	WireSetattrReq set = { .ino = ino, .valid = WIRE_SET_KILL_SUIDGID };
	WireAttr attr;
	int r = co_setattr(m, &set, &attr);

	/* The kernel does not expect the mode to change in what it asked for. */
	if (r == 0)
		mount_forget_attr(m, ino);
	return r;
}

/* ---- symlinks ---- */

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	WireInoReq get = { .ino = ino };
	char target[WIRE_SYMLINK_MAX + 1];
	RpcCall call = { .req = &get, .req_len = sizeof(get), .out = target, .out_cap = WIRE_SYMLINK_MAX };
	Mount *m = mount_of(req);
	int r = mount_co_call_ino(m, ino, WIRE_READLINK, &call);

	if (r < 0) {
		ops_reply(req, r);
		return;
	}
	fuse_reply_buf(req, target, call.out_len);
	ops_note_read(m, ino, false, 0);
}

/* ---- statfs ---- */

typedef struct StatfsCall {
	Mount *m;
	uint16_t peer;
} StatfsCall;

/* A peer that does not answer keeps what it last said, without its free space,
 * so that df shows the whole, and that nothing can be written there. */
static void coroutine_fn ask_statfs(void *arg)
{
	StatfsCall *s = arg;
	WireStatfsRep *last = &s->m->statfs[s->peer];
	WireNone none = { 0 };
	WireStatfsRep rep;
	RpcCall call = { .req = &none, .req_len = sizeof(none), .rep = &rep };
	int r = rpc_co_call(s->m->rpc, s->peer, WIRE_STATFS, &call);

	if (r >= 0) {
		*last = rep;
		return;
	}
	if (log_limit(&s->m->statfs_limit, reactor_now_ns(s->m->reactor), STATFS_LOG_NS, NULL))
		g_warning("peer %u does not tell its space: %s, taking what it last said", s->peer, g_strerror(-r));
	last->free = last->avail = last->inodes_free = 0;
}

static void coroutine_fn ask_all(Mount *m)
{
	uint32_t n = map_peer_count(m->map);
	g_autofree StatfsCall *calls = g_new(StatfsCall, n);
	CoGroup group = { .sched = reactor_sched(m->reactor) };

	for (uint32_t i = 0; i < n; i++) {
		calls[i] = (StatfsCall) { m, (uint16_t)i };
		if (i)
			co_group_spawn(&group, ask_statfs, &calls[i]);
	}
	ask_statfs(&calls[0]);
	co_group_wait(&group);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	Mount *m = mount_of(req);
	const uint32_t block = 4096;
	WireStatfsRep sum = { 0 };

	ask_all(m);
	for (uint32_t i = 0; i < map_peer_count(m->map); i++) {
		sum.total += m->statfs[i].total;
		sum.free += m->statfs[i].free;
		sum.avail += m->statfs[i].avail;
		sum.inodes_used += m->statfs[i].inodes_used;
		sum.inodes_free += m->statfs[i].inodes_free;
	}
	struct statvfs st = {
		.f_bsize = block, .f_frsize = block,
		.f_blocks = sum.total / block, .f_bfree = sum.free / block, .f_bavail = sum.avail / block,
		.f_files = sum.inodes_used + sum.inodes_free, .f_ffree = sum.inodes_free,
		.f_namemax = WIRE_NAME_MAX,
	};
	fuse_reply_statfs(req, &st);
}
