/* Operations on names: each is one request to the home of its directory. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/recall.h"

#define LOOKUP_TRIES 8
#define LOOKUP_PAUSE_NS INT64_C(1000000)

static_assert(offsetof(NameMsg, name) == sizeof(WireNameReq), "a name follows its struct");
static_assert(offsetof(CreateMsg, name) == sizeof(WireCreateReq), "a name follows its struct");
static_assert(offsetof(RenameMsg, names) == sizeof(WireRenameReq), "names follow their struct");
static_assert(offsetof(LinkMsg, name) == sizeof(WireLinkReq), "a name follows its struct");

/* ---- lookup ---- */

/* What the reply lets us keep. */
static void keep_entry(Mount *m, const HeldAsk *ask, fuse_ino_t parent, const char *name, size_t len, const WireEntryRep *rep)
{
	if (rep->lease & WIRE_LEASE_INODE && rep->have_attr)
		held_grant(m->held, ask, &rep->attr);
	if (rep->lease & WIRE_LEASE_DIR && held_grant_bare(m->held, ask, parent))
		held_put_name(m->held, parent, name, len, rep->attr.ino, rep->attr.mode & S_IFMT);
}

static int coroutine_fn ask_home(Mount *m, fuse_ino_t parent, const char *name, WireEntryRep *ret_rep)
{
	NameMsg msg = { .req = { .dir = parent, .flags = m->held ? WIRE_LOOKUP_LEASE : 0 } };
	RpcCall call = { .req = &msg, .rep = ret_rep };
	HeldAsk ask = m->held ? held_ask(m->held, map_home(m->map, parent)) : (HeldAsk) { 0 };
	int len = ops_put_name(msg.name, name);

	if (len < 0)
		return len;
	msg.req.name_len = (uint16_t)len;
	call.req_len = (uint32_t)(sizeof(msg.req) + (size_t)len);
	int r = mount_co_call(m, parent, WIRE_LOOKUP, &call);
	if (r >= 0 && m->held)
		keep_entry(m, &ask, parent, name, (size_t)len, ret_rep);
	return r;
}

static int coroutine_fn co_lookup_once(Mount *m, fuse_ino_t parent, const char *name, WireEntryRep *ret_rep)
{
	const HeldName *kept = m->held ? held_name(m->held, parent, name, strlen(name)) : NULL;
	int r = 0;

	if (kept)
		*ret_rep = (WireEntryRep) { .attr = { .ino = kept->ino, .mode = kept->mode } };
	else
		r = ask_home(m, parent, name, ret_rep);
	if (r >= 0 && !ret_rep->attr.ino)
		r = -ENOENT;
	if (r < 0)
		return r;
	r = ops_co_complete(m, ret_rep);
	return r == -ENOENT ? -EAGAIN : r;
}

/* What the name stood for may have been removed before its own home was asked, or
 * the home's question whether it is open may have overtaken the answer, or the
 * batch that removes the name is still on its way to the log: soon the name is
 * gone, or stands for something else. */
static int coroutine_fn co_lookup(Mount *m, fuse_ino_t parent, const char *name, WireEntryRep *ret_rep)
{
	int r;

	for (int tries = 0; tries < LOOKUP_TRIES; tries++) {
		r = co_lookup_once(m, parent, name, ret_rep);
		if (r != -EAGAIN && (r < 0 || !open_table_is_dead(m->opens, ret_rep->attr.ino)))
			break;
		reactor_co_sleep(m->reactor, LOOKUP_PAUSE_NS << tries);
	}
	return r == -EAGAIN ? -ENOENT : r;
}

static void reply_negative(fuse_req_t req, double timeout)
{
	struct fuse_entry_param none = { .entry_timeout = timeout };

	/* Number 0: there is no such name, and the kernel may remember that. */
	if (timeout > 0)
		fuse_reply_entry(req, &none);
	else
		fuse_reply_err(req, ENOENT);
}

static void coroutine_fn reply_found(fuse_req_t req, const WireEntryRep *rep, double timeout)
{
	Mount *m = mount_of(req);

	if (S_ISREG(rep->attr.mode))
		pins_set(m->pins, request_thread(), rep->attr.ino, reactor_now_ns(m->reactor));
	ops_reply_entry(req, rep, timeout);
}

/* The kernel has a file handle (open_by_handle_at(2), NFS) of an inode that it
 * does not know: "." is that inode itself, of whatever kind, ".." where a directory
 * is. Neither is a name that anybody keeps. */
static void coroutine_fn lookup_by_handle(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	Mount *m = mount_of(req);
	NameMsg msg = { .req = { .dir = ino } };
	WireEntryRep rep = { .attr = { .ino = ino } };
	RpcCall call = { .req = &msg, .rep = &rep };
	int r = 0;

	if (name[1]) {
		msg.req.name_len = (uint16_t)ops_put_name(msg.name, name);
		call.req_len = (uint32_t)(sizeof(msg.req) + msg.req.name_len);
		r = mount_co_call(m, ino, WIRE_LOOKUP, &call);
	}
	if (r >= 0)
		r = ops_co_complete(m, &rep);
	/* What has no name any more is for those alone who have it open. */
	if (r >= 0 && (rep.attr.nlink == 0 || open_table_is_dead(m->opens, rep.attr.ino)))
		r = -ENOENT;
	if (r < 0)
		ops_reply(req, r);
	else
		ops_reply_entry(req, &rep, 0);
}

static bool is_dot(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	Mount *m = mount_of(req);
	WireEntryRep rep;

	if (is_dot(name)) {
		lookup_by_handle(req, parent, name);
		return;
	}
	int r = co_lookup(m, parent, name, &rep);
	if (r >= 0)
		ops_co_place(m, parent, &rep.attr);
	if (r == -ENOENT)
		reply_negative(req, recall_tell_name(m, parent, name, 0));
	else if (r < 0)
		ops_reply(req, r);
	else
		reply_found(req, &rep, recall_tell_name(m, parent, name, rep.attr.ino));
}

/* ---- new names ---- */

int coroutine_fn ops_co_create(fuse_req_t req, fuse_ino_t parent, const char *name, uint32_t mode, uint32_t rdev, uint32_t flags, const char *target, WireEntryRep *ret_rep)
{
	Mount *m = mount_of(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	CreateMsg msg = { .req = {
		.dir = parent, .mode = mode, .uid = ctx->uid, .gid = ctx->gid,
		.rdev = rdev, .flags = flags, .peer = m->opts.store_peer, .umask = (uint32_t)ctx->umask,
	} };
	RpcCall call = {
		.req = &msg, .rep = ret_rep,
		.in = target, .in_len = target ? strlen(target) : 0,
	};
	int len = ops_put_name(msg.name, name);

	if (len < 0)
		return len;
	msg.req.name_len = (uint16_t)len;
	call.req_len = (uint32_t)(sizeof(msg.req) + (size_t)len);
	HeldAsk ask = m->held ? held_ask(m->held, map_home(m->map, parent)) : (HeldAsk) { 0 };
	HeldChange change;
	int r = mount_co_change(m, parent, WIRE_CREATE, &call, &change);
	if (r < 0)
		return r;
	if (ret_rep->lease & WIRE_LEASE_INODE)
		held_grant(m->held, &ask, &ret_rep->attr);
	mount_keep(m, &change, 0, ret_rep->lease & WIRE_LEASE_DIR, &ret_rep->dir);
	return ops_co_complete(m, ret_rep);
}

static void coroutine_fn reply_new(fuse_req_t req, fuse_ino_t parent, const WireEntryRep *rep)
{
	Mount *m = mount_of(req);

	if (m->places && S_ISDIR(rep->attr.mode))
		places_put_new(m->places, rep->attr.ino, parent);
	ops_reply_entry(req, rep, m->timeout);
}

static void coroutine_fn create_and_reply(fuse_req_t req, fuse_ino_t parent, const char *name, uint32_t mode, uint32_t rdev, const char *target)
{
	WireEntryRep rep;
	int r = ops_co_create(req, parent, name, mode, rdev, WIRE_CREATE_EXCL, target, &rep);

	if (r < 0)
		ops_reply(req, r);
	else
		reply_new(req, parent, &rep);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	create_and_reply(req, parent, name, mode, (uint32_t)rdev, NULL);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	create_and_reply(req, parent, name, S_IFDIR | (mode & 07777), 0, NULL);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	if (strlen(target) > WIRE_SYMLINK_MAX)
		ops_reply(req, -ENAMETOOLONG);
	else
		create_and_reply(req, parent, name, S_IFLNK | 0777, 0, target);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	Mount *m = mount_of(req);
	LinkMsg msg = { .req = { .ino = ino, .newdir = newparent } };
	WireEntryRep rep;
	RpcCall call = { .req = &msg, .rep = &rep };
	int len = ops_put_name(msg.name, newname);
	int r = len;

	if (r >= 0) {
		msg.req.name_len = (uint16_t)len;
		call.req_len = (uint32_t)(sizeof(msg.req) + (size_t)len);
		r = mount_co_call(m, newparent, WIRE_LINK, &call);
	}
	if (r >= 0)
		r = ops_co_complete(m, &rep);
	if (r < 0)
		ops_reply(req, r);
	else
		ops_reply_entry(req, &rep, mount_of(req)->timeout);
}

/* ---- names that go ---- */

static void coroutine_fn remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, uint32_t flags)
{
	Mount *m = mount_of(req);
	NameMsg msg = { .req = { .dir = parent, .flags = flags } };
	WireAttrRep rep;
	RpcCall call = { .req = &msg, .rep = &rep };
	HeldChange change;
	int r = ops_put_name(msg.name, name);

	if (r >= 0) {
		msg.req.name_len = (uint16_t)r;
		call.req_len = (uint32_t)(sizeof(msg.req) + (size_t)r);
		r = mount_co_change(m, parent, WIRE_UNLINK, &call, &change);
	}
	if (r >= 0)
		mount_keep(m, &change, 0, rep.lease & WIRE_LEASE_INODE, &rep.attr);
	ops_reply(req, r);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, 0);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, WIRE_UNLINK_RMDIR);
}

static int coroutine_fn co_rename(Mount *m, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags)
{
	RenameMsg msg = { .req = { .dir = parent, .newdir = newparent, .flags = flags } };
	RpcCall call = { .req = &msg };
	int len, newlen;

	if ((len = ops_put_name(msg.names, name)) < 0)
		return len;
	if ((newlen = ops_put_name(msg.names + len, newname)) < 0)
		return newlen;
	msg.req.name_len = (uint16_t)len;
	msg.req.newname_len = (uint16_t)newlen;
	call.req_len = (uint32_t)(sizeof(msg.req) + (size_t)len + (size_t)newlen);
	return mount_co_call(m, parent, WIRE_RENAME, &call);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags)
{
	ops_reply(req, co_rename(mount_of(req), parent, name, newparent, newname, flags));
}
