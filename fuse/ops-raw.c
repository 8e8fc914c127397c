/*
 * Operations that this libfuse does not know: answered from the kernel's own
 * structs, before its parser would refuse them. A kernel that does not know
 * them either never sends them.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fuse/recall.h"

#define TMPFILE_TRIES 4

static int coroutine_fn reply(Request *req, int error, const void *arg, size_t len)
{
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + len), .error = error, .unique = req->in->unique,
	};
	struct iovec iov[] = { { &out, sizeof(out) }, { (void *)arg, len } };

	req->replied = true;
	return request_reply(req, iov, len ? 2 : 1);
}

/* ---- O_TMPFILE ---- */

/* An orphan at its home from birth; so it is in the open table, whose last
 * close is what the home waits for. A home that asked before that, for reasons
 * of its own, has been told that nobody has it. */
static int coroutine_fn co_tmpfile(Mount *m, const WireTmpfileReq *make, WireAttr *ret_attr)
{
	int r = -ESTALE;

	for (int tries = 0; r == -ESTALE && tries < TMPFILE_TRIES; tries++) {
		WireAttrRep rep;
		RpcCall call = { .req = make, .req_len = sizeof(*make), .rep = &rep };

		r = mount_co_call(m, make->dir, WIRE_TMPFILE, &call);
		if (r < 0)
			return r;
		r = open_table_open(m->opens, rep.attr.ino);
		*ret_attr = rep.attr;
	}
	if (r == 0)
		open_table_query(m->opens, ret_attr->ino);
	return r;
}

static uint32_t split_timeout(double timeout, uint64_t *ret_seconds)
{
	*ret_seconds = (uint64_t)timeout;
	return (uint32_t)((timeout - (double)*ret_seconds) * 1e9);
}

static void fill_attr(const WireAttr *attr, struct fuse_attr *ret)
{
	struct stat st;

	ops_fill_stat(attr, &st);
	*ret = (struct fuse_attr) {
		.ino = st.st_ino, .size = (uint64_t)st.st_size, .blocks = (uint64_t)st.st_blocks,
		.atime = (uint64_t)st.st_atim.tv_sec, .atimensec = (uint32_t)st.st_atim.tv_nsec,
		.mtime = (uint64_t)st.st_mtim.tv_sec, .mtimensec = (uint32_t)st.st_mtim.tv_nsec,
		.ctime = (uint64_t)st.st_ctim.tv_sec, .ctimensec = (uint32_t)st.st_ctim.tv_nsec,
		.mode = st.st_mode, .nlink = (uint32_t)st.st_nlink, .uid = st.st_uid, .gid = st.st_gid,
		.rdev = attr->rdev, .blksize = (uint32_t)st.st_blksize,
	};
}

typedef struct TmpfileReply {
	struct fuse_entry_out entry;
	struct fuse_open_out open;
} TmpfileReply;

static void fill_tmpfile(Mount *m, const WireAttr *attr, uint32_t flags, TmpfileReply *ret)
{
	struct fuse_entry_param entry;
	struct fuse_file_info fi = { .flags = (int)flags };

	ops_fill_entry(m, attr, &entry);
	ops_fill_open(m, attr->ino, &fi);
	*ret = (TmpfileReply) {
		.entry = { .nodeid = entry.ino, .generation = entry.generation },
		.open = {
			.fh = fi.fh,
			.open_flags = (fi.direct_io ? FOPEN_DIRECT_IO : 0) | (fi.keep_cache ? FOPEN_KEEP_CACHE : 0),
		},
	};
	ret->entry.attr_valid_nsec = split_timeout(entry.attr_timeout, &ret->entry.attr_valid);
	ret->entry.entry_valid_nsec = split_timeout(entry.entry_timeout, &ret->entry.entry_valid);
	fill_attr(attr, &ret->entry.attr);
}

static void coroutine_fn serve_tmpfile(Mount *m, Request *req)
{
	const struct fuse_create_in *in = request_arg();
	WireTmpfileReq make = {
		.dir = req->in->nodeid, .mode = S_IFREG | (in->mode & 07777),
		.uid = req->in->uid, .gid = req->in->gid, .umask = in->umask,
		.linkable = !(in->flags & O_EXCL),
	};
	TmpfileReply out;
	WireAttr attr;
	int r = co_tmpfile(m, &make, &attr);

	if (r < 0) {
		reply(req, r, NULL, 0);
		return;
	}
	ops_note_attr(m, &attr);
	fill_tmpfile(m, &attr, in->flags, &out);
	if (reply(req, 0, &out, sizeof(out)) < 0)
		ops_close(m, attr.ino);
}

/* ---- statx(2), for the time of birth ---- */

static struct fuse_sx_time to_sx_time(int64_t ns)
{
	struct timespec ts = ops_timespec(ns);

	return (struct fuse_sx_time) { .tv_sec = ts.tv_sec, .tv_nsec = (uint32_t)ts.tv_nsec };
}

/* The number of a device as the kernel packs it into 32 bits. */
static uint32_t rdev_major(uint32_t rdev)
{
	return rdev >> 8 & 0xfff;
}

static uint32_t rdev_minor(uint32_t rdev)
{
	return (rdev & 0xff) | (rdev >> 12 & 0xfff00);
}

static void fill_statx(const WireAttr *attr, struct fuse_statx *ret)
{
	struct stat st;

	ops_fill_stat(attr, &st);
	*ret = (struct fuse_statx) {
		.mask = STATX_BASIC_STATS | STATX_BTIME,
		.blksize = (uint32_t)st.st_blksize,
		.nlink = attr->nlink, .uid = attr->uid, .gid = attr->gid, .mode = (uint16_t)attr->mode,
		.ino = attr->ino, .size = attr->size, .blocks = attr->blocks,
		.atime = to_sx_time(attr->atime_ns), .btime = to_sx_time(attr->btime_ns),
		.ctime = to_sx_time(attr->ctime_ns), .mtime = to_sx_time(attr->mtime_ns),
		.rdev_major = rdev_major(attr->rdev), .rdev_minor = rdev_minor(attr->rdev),
	};
}

static void coroutine_fn serve_statx(Mount *m, Request *req)
{
	struct fuse_statx_out out = { 0 };
	WireAttr attr;

	recall_asked(m, req->in->nodeid);
	int r = mount_co_getattr(m, req->in->nodeid, &attr);
	if (r < 0) {
		reply(req, r, NULL, 0);
		return;
	}
	ops_co_show_attr(m, &attr);
	out.attr_valid_nsec = split_timeout(recall_tell(m, &attr), &out.attr_valid);
	fill_statx(&attr, &out.stat);
	reply(req, 0, &out, sizeof(out));
}

bool coroutine_fn ops_raw_serve(Mount *m, Request *req)
{
	static const struct {
		uint32_t opcode;
		size_t arg_size;
		void coroutine_fn (*serve)(Mount *m, Request *req);
	} rows[] = {
		{ FUSE_TMPFILE, sizeof(struct fuse_create_in), serve_tmpfile },
		{ FUSE_STATX, sizeof(struct fuse_statx_in), serve_statx },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		if (req->in->opcode != rows[i].opcode)
			continue;
		if (req->len < sizeof(*req->in) + rows[i].arg_size)
			reply(req, -EIO, NULL, 0);
		else
			rows[i].serve(m, req);
		return true;
	}
	return false;
}
