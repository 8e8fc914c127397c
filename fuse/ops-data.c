/* Reading, writing, and what else is done with a file's bytes. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fuse/data.h"
#include "fuse/recall.h"

#define COPY_PIECE (1u << 20)
/* A copy_file_range(2) may be long; the kernel holds the file's lock
 * meanwhile, and the caller comes back for the rest. */
#define COPY_MAX (256u << 20)

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	Mount *m = mount_of(req);
	void *buf = request_reply_buffer(request_current(), data_read_room(size));
	/* Under a lease the bytes are as new as that says, or newer. */
	const WireAttr *kept = m->held ? held_attr(m->held, ino) : NULL;
	WireAttr attr = kept ? *kept : (WireAttr) { 0 };
	ssize_t n = data_co_read(m, ino, buf, size, (uint64_t)off);

	if (n < 0) {
		ops_reply(req, (int)n);
		return;
	}
	m->bytes_read += (uint64_t)n;
	if (m->pages)
		pages_read(m->pages, ino, attr.ino ? &attr : NULL);
	recall_pages_read(m, ino);
	fuse_reply_buf(req, buf, (size_t)n);
	ops_note_read(m, ino, false, fi->flags);
}

/* ---- writing ---- */

static bool write_kills_suidgid(void)
{
	const struct fuse_write_in *in = request_arg();

	return in->write_flags & FUSE_WRITE_KILL_SUIDGID;
}

/*
 * The kernel appends at the size it knows, which another mount may have left
 * behind: ask, and let no other mount append before this one has. Pages that
 * the kernel kept at its own offset go with the new mtime. Where data lands
 * before its home knows, a lock is what keeps two from the same place; should
 * the mount that has it stay away, it goes with its session.
 */
static ssize_t coroutine_fn co_append(Mount *m, fuse_ino_t ino, const char *buf, size_t size, uint32_t flags, WireAttr *ret_attr)
{
	WireLockReq lock = {
		.ino = ino, .owner = request_current()->in->unique, .kind = WIRE_LOCK_APPEND,
		.lock = { .end = UINT64_MAX, .type = F_WRLCK },
	};
	/* What is not asked for need not be given up. */
	ssize_t n = owed_co_settle(m->owed, &lock);

	if (n < 0)
		return n;
	n = ops_co_lock(m, &lock, true);
	/* Its home is away and may have given it nevertheless. */
	if (n == -EIO)
		ops_co_unlock_all(m, ino, lock.owner, WIRE_LOCK_APPEND);
	if (n < 0)
		return n;
	n = mount_co_getattr(m, ino, ret_attr);
	if (n == 0)
		n = data_co_write(m, ino, buf, size, ret_attr->size, flags, ret_attr);
	ops_co_unlock_all(m, ino, lock.owner, WIRE_LOCK_APPEND);
	return n;
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	Mount *m = mount_of(req);
	bool kill = write_kills_suidgid();
	bool append = fi->flags & O_APPEND && !fi->writepage && !m->opts.alone;
	uint32_t flags = kill ? WIRE_WRITE_KILL_SUIDGID : 0;
	WireAttr attr;
	ssize_t n = append ? co_append(m, ino, buf, size, flags, &attr) :
			     data_co_write(m, ino, buf, size, (uint64_t)off, flags, &attr);

	if (n < 0) {
		ops_reply(req, (int)n);
		return;
	}
	m->bytes_written += (uint64_t)n;
	if (n > 0)
		atimes_note(m->atimes, &attr);
	/* The kernel does not look for a new mode after a write. */
	if (kill && m->timeout > 0)
		mount_forget_attr(m, ino);
	fuse_reply_write(req, (size_t)n);
}

/* Setuid programs that someone else changes lose that, also where the kernel
 * does not ask for it (it does for write, truncate and chown). We can't see
 * CAP_FSETID; being root stands in for it. */
static int coroutine_fn co_kill_if_needed(fuse_req_t req, fuse_ino_t ino, const WireAttr *attr)
{
	bool armed = attr->mode & S_ISUID || (attr->mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);

	return armed && fuse_req_ctx(req)->uid ? ops_co_kill_suidgid(mount_of(req), ino) : 0;
}

/* ---- holes ---- */

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	Mount *m = mount_of(req);
	WireFallocateReq falloc = {
		.ino = ino, .off = (uint64_t)off, .len = (uint64_t)len,
		.mode = (uint32_t)mode, .writer = m->opts.store_peer,
	};
	WireAttrRep rep;
	RpcCall call = { .req = &falloc, .req_len = sizeof(falloc) };
	int r = mount_co_change_ino(m, WIRE_FALLOCATE, &call, pages_writing(m->pages, ino, request_thread()), &rep);

	if (r >= 0)
		r = co_kill_if_needed(req, ino, &rep.attr);
	ops_reply(req, r);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	WireSeekReq seek = { .ino = ino, .off = (uint64_t)off, .whence = (uint32_t)whence };
	WireSeekRep rep;
	RpcCall call = { .req = &seek, .req_len = sizeof(seek), .rep = &rep };
	int r = mount_co_call_ino(mount_of(req), ino, WIRE_SEEK, &call);

	if (r < 0)
		ops_reply(req, r);
	else
		fuse_reply_lseek(req, (off_t)rep.off);
}

/* ---- copy_file_range ---- */

typedef struct Copy {
	fuse_ino_t in, out;
	uint64_t off_in, off_out, len;
} Copy;

/* One piece. The bytes copied: 0 at the end of the source. */
static ssize_t coroutine_fn copy_piece(fuse_req_t req, const Copy *c, uint64_t done, void *buf)
{
	Mount *m = mount_of(req);
	size_t want = (size_t)MIN(c->len - done, COPY_PIECE);
	WireAttr attr;
	ssize_t n = data_co_read(m, c->in, buf, want, c->off_in + done);

	if (n <= 0)
		return n;
	n = data_co_write(m, c->out, buf, (size_t)n, c->off_out + done, 0, &attr);
	if (n > 0 && !done)
		co_kill_if_needed(req, c->out, &attr);
	return n;
}

/* The kernel has written back and dropped its pages of both ranges, and
 * refuses ranges of one file that overlap, so pieces can go in order. */
static ssize_t coroutine_fn co_copy(fuse_req_t req, const Copy *c)
{
	Mount *m = mount_of(req);
	g_autofree void *buf = g_malloc(data_read_room((size_t)MIN(c->len, COPY_PIECE)));
	uint64_t done = 0;

	while (done < c->len) {
		if (request_current()->interrupted || m->stopping)
			return done ? (ssize_t)done : -EINTR;
		ssize_t n = copy_piece(req, c, done, buf);
		if (n <= 0)
			return done ? (ssize_t)done : n;
		done += (uint64_t)n;
	}
	return (ssize_t)done;
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
	Copy copy = {
		.in = ino_in, .out = ino_out,
		.off_in = (uint64_t)off_in, .off_out = (uint64_t)off_out,
		.len = MIN(len, COPY_MAX),
	};
	ssize_t n = flags ? -EINVAL : co_copy(req, &copy);

	if (n < 0)
		ops_reply(req, (int)n);
	else
		fuse_reply_write(req, (size_t)n);
}
