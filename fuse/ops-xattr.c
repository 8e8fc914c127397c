/* Extended attributes. All are the home's, but two of the root that this
 * process makes up: benchfs.status and benchfs.counters. */
#include <errno.h>
#include <string.h>

#include "fuse/internal.h"

/* Who asks how long a text is may find it a little longer when it comes to
 * fetch it: counters count on. */
#define TEXT_SLACK 4096

static int put_xattr_name(XattrMsg *msg, RpcCall *call, const char *name)
{
	size_t len = strlen(name);

	if (len > WIRE_XATTR_NAME_MAX)
		return -ERANGE;
	memcpy(msg->name, name, len);
	msg->req.name_len = (uint16_t)len;
	call->req = msg;
	call->req_len = (uint32_t)(sizeof(msg->req) + len);
	return 0;
}

/* Under "system." the kernel asks us for the value alone; for other names it
 * first wants the root's attributes, which its home may be unable to give. */
static const char *virtual_name(const char *name)
{
	return g_str_has_prefix(name, "system.benchfs.") ? name + strlen("system.") : name;
}

/* The text of a virtual attribute; NULL: it is none. */
static char *coroutine_fn co_virtual_text(Mount *m, fuse_ino_t ino, const char *name)
{
	if (ino != INO_ROOT)
		return NULL;
	name = virtual_name(name);
	if (!strcmp(name, "benchfs.counters"))
		return counters_to_text(m->opts.counters, true);
	if (!strcmp(name, "benchfs.status") && m->opts.status)
		return m->opts.status(m->opts.status_arg);
	return NULL;
}

static bool is_virtual(fuse_ino_t ino, const char *name)
{
	name = virtual_name(name);
	return ino == INO_ROOT && (!strcmp(name, "benchfs.counters") || !strcmp(name, "benchfs.status"));
}

/* size 0: the caller asks how long it is. */
static void reply_value(fuse_req_t req, const char *value, size_t len, size_t size, size_t slack)
{
	if (!size)
		fuse_reply_xattr(req, len + slack);
	else if (len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, len);
}

/* Is that known, alone or under a lease? */
static bool has_no_xattrs(Mount *m, fuse_ino_t ino)
{
	const WireAttr *kept = m->held ? held_attr(m->held, ino) : NULL;

	return kept ? !(kept->flags & WIRE_ATTR_HAS_XATTRS) : xattr_hints_none(m->xattr_hints, ino);
}

/* ---- ACLs: the kernel keeps what it is told ---- */

static bool is_acl(const char *name)
{
	return g_str_has_prefix(name, "system.posix_acl_");
}

/* Gets a lease, where one is to be had. *ret_attr: what it covers. */
static int coroutine_fn before_acl(Mount *m, fuse_ino_t ino, const char *name, WireAttr *ret_attr)
{
	return m->held && is_acl(name) ? mount_co_getattr(m, ino, ret_attr) : 0;
}

/* After the reply. Where no lease covers what it said the kernel drops it, or
 * does not even keep it. */
static void after_acl(Mount *m, fuse_ino_t ino, const char *name, const WireAttr *before)
{
	const WireAttr *kept;

	if (!m->held || !is_acl(name))
		return;
	kept = held_attr(m->held, ino);
	if (kept && kept->ctime_ns == before->ctime_ns)
		held_tell(m->held, ino);
	else
		mount_forget_attr(m, ino);
}

/* What is answered where there is no such attribute. Labels come to a FUSE mount
 * from policy, never from the file: SELinux does not ask for this one. Where it
 * does not run ls does, for each file, until it hears that such a thing is not
 * known here. Whoever stores a label gets it back. */
static int absent(const char *name)
{
	return strcmp(name, "security.selinux") ? -ENODATA : -EOPNOTSUPP;
}

static void coroutine_fn ask_value(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	XattrMsg msg = { .req = { .ino = ino } };
	g_autofree char *value = g_malloc(WIRE_XATTR_SIZE_MAX);
	RpcCall call = { .out = value, .out_cap = WIRE_XATTR_SIZE_MAX };
	int r = put_xattr_name(&msg, &call, name);

	if (r == 0)
		r = mount_co_call_ino(mount_of(req), ino, WIRE_GETXATTR, &call);
	if (r < 0)
		ops_reply(req, r == -ENODATA ? absent(name) : r);
	else
		reply_value(req, value, call.out_len, size, 0);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	Mount *m = mount_of(req);
	WireAttr attr = { 0 };

	if (fsck_is_asked(ino, name)) {
		fsck_co_reply(m, req, name, size);
		return;
	}
	g_autofree char *text = co_virtual_text(m, ino, name);

	if (text) {
		reply_value(req, text, strlen(text), size, TEXT_SLACK);
		return;
	}
	int r = before_acl(m, ino, name, &attr);
	if (r < 0)
		ops_reply(req, r);
	else if (has_no_xattrs(m, ino) && xattr_hints_is_stored(name))
		ops_reply(req, absent(name));
	else
		ask_value(req, ino, name, size);
	after_acl(m, ino, name, &attr);
}

/* As other file systems: only root, who may read trusted.*, sees that there are
 * any. (We can't see CAP_SYS_ADMIN; being root stands in for it.) Returns what
 * is left of the list. */
static size_t drop_trusted(char *names, size_t len)
{
	size_t kept = 0;

	for (size_t at = 0, n; at < len; at += n) {
		n = strnlen(names + at, len - at);
		n += at + n < len;
		if (n >= strlen("trusted.") && !memcmp(names + at, "trusted.", strlen("trusted.")))
			continue;
		memmove(names + kept, names + at, n);
		kept += n;
	}
	return kept;
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	Mount *m = mount_of(req);
	WireInoReq list = { .ino = ino };

	if (has_no_xattrs(m, ino)) {
		reply_value(req, NULL, 0, size, 0);
		return;
	}
	g_autofree char *names = g_malloc(WIRE_XATTR_SIZE_MAX);
	RpcCall call = {
		.req = &list, .req_len = sizeof(list),
		.out = names, .out_cap = WIRE_XATTR_SIZE_MAX,
	};
	int r = mount_co_call_ino(m, ino, WIRE_LISTXATTR, &call);
	if (r < 0) {
		ops_reply(req, r);
		return;
	}
	if (fuse_req_ctx(req)->uid)
		call.out_len = drop_trusted(names, call.out_len);
	reply_value(req, names, call.out_len, size, 0);
}

/*
 * libfuse before 3.16 takes every SETXATTR for one of the newer, longer form,
 * so name and value are taken from the message itself: which form it has was
 * agreed on at INIT.
 */
static const char *setxattr_name(const Mount *m)
{
	const char *arg = request_arg();

	return arg + (m->agreed & FUSE_SETXATTR_EXT ? sizeof(struct fuse_setxattr_in) : FUSE_COMPAT_SETXATTR_IN_SIZE);
}

static uint32_t setxattr_flags(const Mount *m, int flags)
{
	const struct fuse_setxattr_in *in = request_arg();
	bool kill = m->agreed & FUSE_SETXATTR_EXT && in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID;

	return (uint32_t)flags | (kill ? WIRE_XATTR_KILL_SGID : 0);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *libfuse_name, const char *libfuse_value, size_t size, int flags)
{
	Mount *m = mount_of(req);
	const char *name = setxattr_name(m);
	XattrMsg msg = { .req = { .ino = ino, .flags = setxattr_flags(m, flags) } };
	RpcCall call = { .in = size ? name + strlen(name) + 1 : NULL, .in_len = size };
	int r = is_virtual(ino, name) ? -EPERM : put_xattr_name(&msg, &call, name);

	if (r == 0 && size > WIRE_XATTR_SIZE_MAX)
		r = -E2BIG;
	if (r == 0) {
		/* After the call as well: attributes from before it may have come in
		 * the meantime. */
		xattr_hints_forget(m->xattr_hints, ino);
		r = mount_co_call_ino(m, ino, WIRE_SETXATTR, &call);
		xattr_hints_forget(m->xattr_hints, ino);
	}
	ops_reply(req, r);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	XattrMsg msg = { .req = { .ino = ino } };
	RpcCall call = { 0 };
	int r = is_virtual(ino, name) ? -EPERM : put_xattr_name(&msg, &call, name);

	if (r == 0)
		r = mount_co_call_ino(mount_of(req), ino, WIRE_REMOVEXATTR, &call);
	ops_reply(req, r);
}
