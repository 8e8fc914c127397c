/*
 * I/O on objects. Reads try the page cache first and writes go out plainly
 * while that is quick (pace.h); what would wait goes through the ring. Bytes
 * that an object lacks (it ends earlier, or there is none) are the caller's
 * zeros.
 */
#include "server/object.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/ino.h"
#include "common/rpc.h"
#include "server/objfd.h"

#define FD_BOUND_MAX 4096u
#define TRUNCATE_BIG_BLOCKS (UINT64_C(16) << 11)

struct Objects {
	Reactor *reactor;
	Uring *uring;
	Counters *counters;
	Space *space;
	ObjFds *fds;
	Pace pace;
	uint16_t process;
	uint32_t cuts;
	uint64_t plain_reads, ring_reads, plain_writes, ring_writes;
};

static uint32_t default_fd_bound(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 256;
	return (uint32_t)CLAMP(limit.rlim_cur / 4, 16, FD_BOUND_MAX);
}

Objects *objects_new_bounded(Reactor *r, Counters *c, Space *space, int dirfd, uint32_t fd_bound)
{
	Objects *o = g_new0(Objects, 1);

	o->reactor = r;
	o->uring = reactor_uring(r);
	o->counters = c;
	o->space = space;
	o->process = (uint16_t)g_random_int_range(1, UINT16_MAX);
	o->fds = objfds_new(r, c, &o->pace, dirfd, fd_bound);
	counters_add(c, "object.plain_reads", &o->plain_reads);
	counters_add(c, "object.ring_reads", &o->ring_reads);
	counters_add(c, "object.plain_writes", &o->plain_writes);
	counters_add(c, "object.ring_writes", &o->ring_writes);
	counters_add(c, "object.slow_calls", &o->pace.slow);
	return o;
}

Objects *objects_new(Reactor *r, Counters *c, Space *space, int dirfd)
{
	return objects_new_bounded(r, c, space, dirfd, default_fd_bound());
}

void objects_free(Objects *o)
{
	if (!o)
		return;
	objfds_free(o->fds);
	counters_remove(o->counters, &o->plain_reads);
	counters_remove(o->counters, &o->ring_reads);
	counters_remove(o->counters, &o->plain_writes);
	counters_remove(o->counters, &o->ring_writes);
	counters_remove(o->counters, &o->pace.slow);
	g_free(o);
}

static int get_blocks(int fd, uint64_t *ret_blocks)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ret_blocks = (uint64_t)st.st_blocks;
	return 0;
}

/* ---- reading ---- */

/* What the page cache has of it; *ret_more: the rest needs the disk. */
static ssize_t read_cached(int fd, void *buf, size_t len, uint64_t off, bool *ret_more)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	ssize_t n = preadv2(fd, &iov, 1, (off_t)off, RWF_NOWAIT);

	if (n < 0 && errno != EAGAIN && errno != EOPNOTSUPP)
		return -errno;
	/* 0: the object ends here. Less than asked for says nothing. */
	*ret_more = n < 0 || (n > 0 && (size_t)n < len);
	return MAX(n, 0);
}

static ssize_t coroutine_fn read_fd(Objects *o, int fd, uint8_t *buf, size_t len, uint64_t off)
{
	bool more = false;
	ssize_t n = read_cached(fd, buf, len, off, &more);
	if (n < 0)
		return n;
	size_t done = (size_t)n;

	if (more)
		o->ring_reads++;
	else
		o->plain_reads++;
	while (more && done < len) {
		n = uring_co_pread(o->uring, fd, buf + done, len - done, off + done);
		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t coroutine_fn object_co_read(Objects *o, uint64_t ino, void *buf, size_t len, uint64_t off)
{
	ObjFd *f;
	int r = objfd_co_get(o->fds, ino, false, &f);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	ssize_t n = read_fd(o, objfd_fd(f), buf, len, off);
	objfd_co_put(o->fds, f);
	return n;
}

/* ---- writing ---- */

static ssize_t coroutine_fn write_some(Objects *o, int fd, const void *buf, size_t len, uint64_t off)
{
	int64_t start;

	if (len > OBJECT_PLAIN_WRITE_MAX || !pace_begin(&o->pace, &start)) {
		o->ring_writes++;
		return uring_co_pwrite(o->uring, fd, buf, len, off);
	}
	ssize_t n = pwrite(fd, buf, len, (off_t)off);
	int err = errno;
	pace_end(&o->pace, start);
	o->plain_writes++;
	return n < 0 ? -err : n;
}

static int coroutine_fn write_fd(Objects *o, int fd, const uint8_t *buf, size_t len, uint64_t off)
{
	while (len > 0) {
		ssize_t n = write_some(o, fd, buf, len, off);
		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -EIO;
		buf += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Has the range blocks already, so that writing it takes no space? Asked only
 * when there is none left: overwriting and preallocated space go on working. */
static bool is_allocated(int fd, uint64_t off, uint64_t len)
{
	enum { EXTENTS = 64 };
	g_autofree struct fiemap *map = g_malloc0(sizeof(*map) + EXTENTS * sizeof(struct fiemap_extent));
	uint64_t at = off;

	*map = (struct fiemap) { .fm_start = off, .fm_length = len, .fm_extent_count = EXTENTS };
	if (ioctl(fd, FS_IOC_FIEMAP, map) < 0)
		return false;
	for (uint32_t i = 0; i < map->fm_mapped_extents && at < off + len; i++) {
		const struct fiemap_extent *e = &map->fm_extents[i];

		if (e->fe_logical > at)
			return false;
		at = e->fe_logical + e->fe_length;
	}
	return at >= off + len;
}

int coroutine_fn object_co_write(Objects *o, uint64_t ino, const void *buf, size_t len, uint64_t off,
	uint64_t *ret_blocks)
{
	int full = space_take(o->space, len);
	ObjFd *f;
	int r = objfd_co_get(o->fds, ino, full == 0, &f);
	if (r < 0)
		return full < 0 && r == -ENOENT ? full : r;
	if (full < 0 && !is_allocated(objfd_fd(f), off, len))
		r = full;
	else
		r = write_fd(o, objfd_fd(f), buf, len, off);
	if (r == 0)
		r = get_blocks(objfd_fd(f), ret_blocks);
	objfd_co_put(o->fds, f);
	return r;
}

/* ---- size and allocation ---- */

typedef struct Truncate {
	int fd;
	uint64_t size;
} Truncate;

static int truncate_work(void *arg)
{
	Truncate *t = arg;

	return ftruncate(t->fd, (off_t)t->size) < 0 ? -errno : 0;
}

/* Cuts what is behind size; never makes it longer. Freeing much takes long:
 * that is a thread's (IORING_OP_FTRUNCATE is not in liburing 2.3). */
static int coroutine_fn truncate_fd(Objects *o, int fd, uint64_t size)
{
	Truncate t = { .fd = fd, .size = size };
	struct stat st;
	int64_t start;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size <= size)
		return 0;
	if ((uint64_t)st.st_blocks > TRUNCATE_BIG_BLOCKS || !pace_begin(&o->pace, &start))
		return reactor_co_work(o->reactor, truncate_work, &t);
	r = truncate_work(&t);
	pace_end(&o->pace, start);
	return r;
}

uint32_t objects_cuts(const Objects *o, uint16_t *ret_process)
{
	*ret_process = o->process;
	return o->cuts;
}

int coroutine_fn object_co_truncate(Objects *o, uint64_t ino, uint64_t size, uint64_t *ret_blocks)
{
	ObjFd *f;
	int r = objfd_co_get(o->fds, ino, false, &f);
	if (r == -ENOENT) {
		*ret_blocks = 0;
		o->cuts++; /* it may just be made */
		return 0;
	}
	if (r < 0)
		return r;
	r = truncate_fd(o, objfd_fd(f), size);
	o->cuts++;
	if (r == 0)
		r = get_blocks(objfd_fd(f), ret_blocks);
	objfd_co_put(o->fds, f);
	space_refresh(o->space);
	return r;
}

static int coroutine_fn fallocate_fd(Objects *o, int fd, int mode, uint64_t off, uint64_t len)
{
	int r = uring_co_fallocate(o->uring, fd, mode | FALLOC_FL_KEEP_SIZE, off, len);

	/* tmpfs has no ZERO_RANGE: a hole reads the same, and is then filled. */
	if (r == -EOPNOTSUPP && (mode & FALLOC_FL_ZERO_RANGE)) {
		r = uring_co_fallocate(o->uring, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
		if (r >= 0)
			r = uring_co_fallocate(o->uring, fd, FALLOC_FL_KEEP_SIZE, off, len);
	}
	return MIN(r, 0);
}

int coroutine_fn object_co_fallocate(Objects *o, uint64_t ino, int mode, uint64_t off, uint64_t len,
	uint64_t *ret_blocks)
{
	bool punch = mode & FALLOC_FL_PUNCH_HOLE;
	int full = punch ? 0 : space_take(o->space, len);
	ObjFd *f;
	int r = objfd_co_get(o->fds, ino, !punch && full == 0, &f);
	if (r == -ENOENT && punch) {
		*ret_blocks = 0;
		return 0;
	}
	if (r < 0)
		return full < 0 && r == -ENOENT ? full : r;
	if (full < 0 && !is_allocated(objfd_fd(f), off, len))
		r = full;
	else
		r = fallocate_fd(o, objfd_fd(f), mode, off, len);
	if (r == 0)
		r = get_blocks(objfd_fd(f), ret_blocks);
	objfd_co_put(o->fds, f);
	space_refresh(o->space);
	return r;
}

/* ---- the rest ---- */

int coroutine_fn object_co_seek(Objects *o, uint64_t ino, uint64_t off, int whence, uint64_t *ret_off)
{
	ObjFd *f;
	int r = objfd_co_get(o->fds, ino, false, &f);
	if (r < 0)
		return r == -ENOENT ? -ENXIO : r;
	/* Plainly: it walks the extents, which the kernel nearly always has in
	 * memory, and the ring has no such operation. */
	off_t at = lseek(objfd_fd(f), (off_t)off, whence);
	if (at < 0)
		r = -errno;
	else
		*ret_off = (uint64_t)at;
	objfd_co_put(o->fds, f);
	return r;
}

int coroutine_fn object_co_fsync(Objects *o, uint64_t ino, bool datasync)
{
	ObjFd *f;
	int r = objfd_co_get(o->fds, ino, false, &f);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = uring_co_fsync(o->uring, objfd_fd(f), datasync);
	objfd_co_put(o->fds, f);
	return r < 0 ? r : objfd_co_sync_dir(o->fds, ino);
}

int coroutine_fn object_co_remove(Objects *o, uint64_t ino)
{
	int r = objfd_co_remove(o->fds, ino);

	space_refresh(o->space);
	return r;
}
