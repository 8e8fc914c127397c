/* The table of handlers, and what they share: between the wire's structs and
 * libfuse's. A handler replies exactly once, on its own coroutine. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/internal.h"

/* What stdio and cp choose their buffers by: a few dozen pages a call make a
 * call's fixed cost small. */
#define PREFERRED_BLOCK (64u << 10)
#define UNLOCK_NS INT64_C(1000000) /* from the reply to a change until the kernel has let go of its locks */
#define GENERATION 1 /* numbers are never reused */

/* There are none; isatty(3) asks nevertheless, for every file that Python
 * opens. */
static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_len, size_t out_len)
{
	fuse_reply_err(req, ENOTTY);
}

const struct fuse_lowlevel_ops mount_ops = {
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsync,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.create = op_create,
	.getlk = op_getlk,
	.setlk = op_setlk,
	.flock = op_flock,
	.ioctl = op_ioctl,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
};

void ops_reply(fuse_req_t req, int r)
{
	fuse_reply_err(req, r < 0 ? -r : 0);
}

struct timespec ops_timespec(int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	if (ts.tv_nsec < 0) {
		ts.tv_sec--;
		ts.tv_nsec += 1000000000;
	}
	return ts;
}

void ops_fill_stat(const WireAttr *attr, struct stat *ret_st)
{
	*ret_st = (struct stat) {
		.st_ino = attr->ino,
		.st_mode = attr->mode,
		.st_nlink = attr->nlink,
		.st_uid = attr->uid,
		.st_gid = attr->gid,
		.st_rdev = attr->rdev,
		.st_size = (off_t)attr->size,
		.st_blksize = PREFERRED_BLOCK,
		.st_blocks = (blkcnt_t)attr->blocks,
		.st_atim = ops_timespec(attr->atime_ns),
		.st_mtim = ops_timespec(attr->mtime_ns),
		.st_ctim = ops_timespec(attr->ctime_ns),
	};
}

void ops_fill_entry(const Mount *m, const WireAttr *attr, struct fuse_entry_param *ret_entry)
{
	*ret_entry = (struct fuse_entry_param) {
		.ino = attr->ino,
		.generation = GENERATION,
		.attr_timeout = m->timeout,
		.entry_timeout = m->timeout,
	};
	ops_fill_stat(attr, &ret_entry->attr);
}

void ops_note_attr(Mount *m, const WireAttr *attr)
{
	if (m->held)
		held_show(m->held, attr);
	xattr_hints_note(m->xattr_hints, attr);
	atimes_note(m->atimes, attr);
}

void coroutine_fn ops_co_show_attr(Mount *m, const WireAttr *attr)
{
	ops_note_attr(m, attr);
	if (m->pages)
		pages_co_show(m->pages, attr, request_thread());
	if (m->listings && S_ISDIR(attr->mode))
		listings_co_show(m->listings, attr->ino);
}

/* Is an older request under way for which the kernel can't move dir? Only what
 * is older counts, so nothing waits for ever. */
static bool is_held_in_place(Mount *m, uint64_t dir)
{
	for (GList *link = m->requests.head; link && link->data != request_current(); link = link->next)
		if (places_is_in_the_way(m->places, dir, link->data))
			return true;
	return false;
}

void coroutine_fn ops_co_place(Mount *m, uint64_t parent, const WireAttr *attr)
{
	if (!m->places || !S_ISDIR(attr->mode))
		return;
	if (places_may_differ(m->places, attr->ino, parent, reactor_now_ns(m->reactor)) && is_held_in_place(m, attr->ino)) {
		while (is_held_in_place(m, attr->ino))
			co_queue_wait(&m->changes);
		reactor_co_sleep(m->reactor, UNLOCK_NS);
	}
	places_put(m->places, attr->ino, parent, reactor_now_ns(m->reactor));
}

int coroutine_fn ops_co_complete(Mount *m, WireEntryRep *rep)
{
	if (rep->have_attr)
		return 0;
	int r = mount_co_getattr(m, rep->attr.ino, &rep->attr);
	/* Removed between the two calls; of directories the home still knows what they were. */
	if (r == -ESTALE || (r >= 0 && S_ISDIR(rep->attr.mode) && rep->attr.nlink == 0))
		return -ENOENT;
	return r;
}

void coroutine_fn ops_reply_entry(fuse_req_t req, const WireEntryRep *rep, double timeout)
{
	struct fuse_entry_param entry;

	ops_fill_entry(mount_of(req), &rep->attr, &entry);
	entry.entry_timeout = timeout;
	ops_co_show_attr(mount_of(req), &rep->attr);
	fuse_reply_entry(req, &entry);
}

void ops_reply_attr(fuse_req_t req, const WireAttr *attr, double timeout)
{
	Mount *m = mount_of(req);
	struct stat st;

	ops_fill_stat(attr, &st);
	ops_note_attr(m, attr);
	fuse_reply_attr(req, &st, timeout);
}

int ops_put_name(char *dest, const char *name)
{
	size_t len = strlen(name);

	if (len > WIRE_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(dest, name, len);
	return (int)len;
}
