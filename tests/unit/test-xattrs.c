/* Extended attributes: those that are kept, and benchfs.*. */
#include <sys/xattr.h>

#include "common/ino.h"
#include "server/record.h"
#include "tests/unit/server-fixture.h"

static int coroutine_fn call(Peer *p, WireOp op, uint64_t ino, const char *name, uint32_t flags, RpcCall *c)
{
	WireXattrReq req = { .ino = ino, .flags = flags, .name_len = (uint16_t)strlen(name) };
	Message m = { 0 };

	message_add(&m, &req, sizeof(req));
	message_add(&m, name, strlen(name));
	c->req = m.data;
	c->req_len = (uint32_t)m.len;
	return rpc_co_call(p->rpc, rpc_self(p->rpc), op, c);
}

static int coroutine_fn set_flags(Peer *p, uint64_t ino, const char *name, const void *value, size_t len, uint32_t flags)
{
	return call(p, WIRE_SETXATTR, ino, name, flags, &(RpcCall) { .in = value, .in_len = len });
}

static int coroutine_fn set(Peer *p, uint64_t ino, const char *name, const char *value)
{
	return set_flags(p, ino, name, value, strlen(value), 0);
}

static int coroutine_fn get(Peer *p, uint64_t ino, const char *name, char *buf, size_t cap)
{
	RpcCall c = { .out = buf, .out_cap = cap };
	int r = call(p, WIRE_GETXATTR, ino, name, 0, &c);

	if (r >= 0 && cap > 0)
		g_assert_cmpuint(c.out_len, ==, (size_t)r);
	return r;
}

static void coroutine_fn assert_xattr(Peer *p, uint64_t ino, const char *name, const char *value)
{
	char buf[4096];
	int r = get(p, ino, name, buf, sizeof(buf));

	g_assert_cmpint(r, >=, 0);
	g_assert_cmpmem(buf, (size_t)r, value, strlen(value));
}

static int coroutine_fn remove_xattr(Peer *p, uint64_t ino, const char *name)
{
	return call(p, WIRE_REMOVEXATTR, ino, name, 0, &(RpcCall) { 0 });
}

static int coroutine_fn list(Peer *p, uint64_t ino, char *buf, size_t cap)
{
	WireInoReq req = { .ino = ino };
	RpcCall c = { .req = &req, .req_len = sizeof(req), .out = buf, .out_cap = cap };

	return rpc_co_call(p->rpc, rpc_self(p->rpc), WIRE_LISTXATTR, &c);
}

static void coroutine_fn test_basic(Peer *p)
{
	uint64_t f = make_file(p, INO_ROOT, "f");
	char buf[256];
	WireAttr before = attr_of(p, f);

	g_assert_cmpint(get(p, f, "user.a", buf, sizeof(buf)), ==, -ENODATA);
	g_assert_cmpint(list(p, f, buf, sizeof(buf)), ==, 0);
	g_assert_cmpint(remove_xattr(p, f, "user.a"), ==, -ENODATA);
	g_assert_cmpint(attr_of(p, f).flags, ==, 0);
	g_assert_cmpint(set(p, f, "user.a", "one"), ==, 0);
	g_assert_cmpint(attr_of(p, f).flags, ==, WIRE_ATTR_HAS_XATTRS);
	g_assert_cmpint(attr_of(p, f).ctime_ns, >, before.ctime_ns);
	g_assert_cmpint(attr_of(p, f).mtime_ns, ==, before.mtime_ns);
	assert_xattr(p, f, "user.a", "one");
	g_assert_cmpint(set(p, f, "user.empty", ""), ==, 0);
	assert_xattr(p, f, "user.empty", "");
	g_assert_cmpint(set(p, f, "trusted.t", "\x01\x02"), ==, 0);
	g_assert_cmpint(set(p, f, "security.s", "s"), ==, 0);
	g_assert_cmpint(set(p, f, "user.with/slash", "s"), ==, 0);
	/* lengths are asked for with no room; too little is an error */
	g_assert_cmpint(get(p, f, "user.a", NULL, 0), ==, 3);
	g_assert_cmpint(get(p, f, "user.a", buf, 2), ==, -ERANGE);
	int all = sizeof("user.a") + sizeof("user.empty") + sizeof("trusted.t") + sizeof("security.s") + sizeof("user.with/slash");
	g_assert_cmpint(list(p, f, NULL, 0), ==, all);
	g_assert_cmpint(list(p, f, buf, (size_t)all - 1), ==, -ERANGE);
	g_assert_cmpint(list(p, f, buf, (size_t)all), ==, all);
	g_assert_cmpmem(buf, sizeof("security.s"), "security.s", sizeof("security.s"));
	g_assert_cmpint(set_flags(p, f, "user.a", "x", 1, XATTR_CREATE), ==, -EEXIST);
	g_assert_cmpint(set_flags(p, f, "user.b", "x", 1, XATTR_REPLACE), ==, -ENODATA);
	g_assert_cmpint(set_flags(p, f, "user.a", "x", 1, 8), ==, -EINVAL);
	g_assert_cmpint(set_flags(p, f, "user.a", "two", 3, XATTR_REPLACE), ==, 0);
	g_assert_cmpint(set_flags(p, f, "user.b", "b", 1, XATTR_CREATE), ==, 0);
	assert_xattr(p, f, "user.a", "two");
	const char *const names[] = { "user.a", "user.b", "user.empty", "trusted.t", "security.s", "user.with/slash" };
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_assert_cmpint(attr_of(p, f).flags, ==, WIRE_ATTR_HAS_XATTRS);
		g_assert_cmpint(remove_xattr(p, f, names[i]), ==, 0);
	}
	g_assert_cmpint(attr_of(p, f).flags, ==, 0);
	g_assert_cmpint(list(p, f, NULL, 0), ==, 0);
}

static void coroutine_fn test_errors(Peer *p)
{
	uint64_t f = make_file(p, INO_ROOT, "f"), fifo;
	g_autofree char *name = g_strdup_printf("user.%0*d", 251, 0);
	g_autofree char *big = g_malloc0(65537);
	WireXattrReq req = { .ino = f, .name_len = 100 };

	g_assert_cmpint(do_create(p, INO_ROOT, "fifo", S_IFIFO, &fifo), ==, 0);
	g_assert_cmpint(set(p, fifo, "user.a", "x"), ==, -EPERM);
	g_assert_cmpint(get(p, fifo, "user.a", NULL, 0), ==, -ENODATA);
	g_assert_cmpint(set(p, fifo, "trusted.a", "x"), ==, 0);
	g_assert_cmpint(set(p, f, "system.posix_acl_access", "x"), ==, -EINVAL);
	g_assert_cmpint(get(p, f, "system.posix_acl_access", NULL, 0), ==, -ENODATA);
	g_assert_cmpint(set(p, f, "system.other", "x"), ==, -EOPNOTSUPP);
	g_assert_cmpint(set(p, f, "what", "x"), ==, -EOPNOTSUPP);
	g_assert_cmpint(set(p, f, "user.", "x"), ==, -EINVAL);
	g_assert_cmpint(set(p, f, "", "x"), ==, -ERANGE);
	g_assert_cmpuint(strlen(name), ==, 256);
	g_assert_cmpint(set(p, f, name, "x"), ==, -ERANGE);
	name[255] = '\0';
	g_assert_cmpint(set(p, f, name, "x"), ==, 0);
	g_assert_cmpint(set_flags(p, f, "user.big", big, 65537, 0), ==, -E2BIG);
	g_assert_cmpint(set_flags(p, f, "user.big", big, 65536, 0), ==, 0);
	g_assert_cmpint(get(p, f, "user.big", NULL, 0), ==, 65536);
	g_assert_cmpint(set(p, 4711, "user.a", "x"), ==, -ENOENT);
	g_assert_cmpint(peer_call(p, WIRE_GETXATTR, &req, sizeof(req), NULL), ==, -EPROTO);
}

/* What listxattr(2) could not return is not taken. */
static void coroutine_fn test_many(Peer *p)
{
	uint64_t f = make_file(p, INO_ROOT, "f");
	int r = 0, n;

	for (n = 0; n < 1000 && r == 0; n++) {
		g_autofree char *name = g_strdup_printf("user.%0*d", 249, n);

		r = set(p, f, name, "x");
	}
	g_assert_cmpint(r, ==, -ENOSPC);
	g_assert_cmpint(n - 1, ==, 65536 / 255);
	g_assert_cmpint(list(p, f, NULL, 0), ==, 255 * (n - 1));
	/* replacing one is no new name */
	g_autofree char *name = g_strdup_printf("user.%0*d", 249, 0);
	g_assert_cmpint(set(p, f, name, "other"), ==, 0);
	/* all go with the file */
	g_assert_cmpint(do_unlink(p, INO_ROOT, "f"), ==, 0);
	Key prefix = key_ino(f, RECORD_XATTR);
	g_autoptr(MetaIter) it = meta_iter_new(p->server->meta, prefix.data, prefix.len, NULL, 0);
	const uint8_t *k, *v;
	size_t k_len, v_len;
	g_assert_cmpint(meta_iter_co_next(it, &k, &k_len, &v, &v_len), ==, 0);
}

static void coroutine_fn test_capability(Peer *p)
{
	uint64_t f = make_file(p, INO_ROOT, "f");

	g_assert_cmpint(set(p, f, "security.capability", "cap"), ==, 0);
	g_assert_cmpint(set(p, f, "user.a", "kept"), ==, 0);
	g_assert_cmpint(do_setattr(p, (WireSetattrReq) { .ino = f, .valid = WIRE_SET_MODE, .mode = 0755 }, NULL), ==, 0);
	assert_xattr(p, f, "security.capability", "cap");
	g_assert_cmpint(do_setattr(p, (WireSetattrReq) { .ino = f, .valid = WIRE_SET_UID, .uid = 3 }, NULL), ==, 0);
	g_assert_cmpint(get(p, f, "security.capability", NULL, 0), ==, -ENODATA);
	assert_xattr(p, f, "user.a", "kept");
	g_assert_cmpuint(attr_of(p, f).flags & WIRE_ATTR_HAS_XATTRS, !=, 0);
	g_assert_cmpint(remove_xattr(p, f, "user.a"), ==, 0);
	g_assert_cmpint(set(p, f, "security.capability", "cap"), ==, 0);
	g_assert_cmpint(do_setattr(p, (WireSetattrReq) { .ino = f, .valid = WIRE_SET_UID, .uid = 4 }, NULL), ==, 0);
	g_assert_cmpuint(attr_of(p, f).flags & WIRE_ATTR_HAS_XATTRS, ==, 0);
}

/* ---- benchfs.* ---- */

static void coroutine_fn test_policy(Peer *p)
{
	uint64_t d = make_dir(p, INO_ROOT, "d"), f, sub;

	assert_xattr(p, d, "benchfs.policy", "local");
	assert_xattr(p, d, "benchfs.chunk_size", "4194304");
	g_assert_cmpint(set(p, d, "benchfs.policy", "stripe"), ==, 0);
	g_assert_cmpint(set(p, d, "benchfs.policy", "other"), ==, -EINVAL);
	g_assert_cmpint(set(p, d, "benchfs.policy", ""), ==, -EINVAL);
	g_assert_cmpint(set_flags(p, d, "benchfs.policy", "stripe", 6, XATTR_CREATE), ==, -EEXIST);
	g_assert_cmpint(set_flags(p, d, "benchfs.policy", "stripe", 6, XATTR_REPLACE), ==, 0);
	g_assert_cmpint(set(p, d, "benchfs.chunk_size", "1M"), ==, 0);
	assert_xattr(p, d, "benchfs.chunk_size", "1048576");
	/* inherited, by directories too */
	f = make_file(p, d, "f");
	sub = make_dir(p, d, "sub");
	assert_xattr(p, f, "benchfs.policy", "stripe");
	assert_xattr(p, make_file(p, sub, "f"), "benchfs.chunk_size", "1048576");
	g_assert_cmpint(remove_xattr(p, d, "benchfs.policy"), ==, 0);
	g_assert_cmpint(remove_xattr(p, d, "benchfs.chunk_size"), ==, 0);
	assert_xattr(p, d, "benchfs.policy", "local");
	assert_xattr(p, d, "benchfs.chunk_size", "4194304");
	assert_xattr(p, f, "benchfs.policy", "stripe");
	/* an empty file may still change, one with data not */
	g_assert_cmpint(set(p, f, "benchfs.policy", "local"), ==, 0);
	g_assert_cmpint(do_setattr(p, (WireSetattrReq) { .ino = f, .valid = WIRE_SET_SIZE, .size = 1 }, NULL), ==, 0);
	g_assert_cmpint(set(p, f, "benchfs.policy", "stripe"), ==, -EBUSY);
	/* not listed, and no records */
	g_assert_cmpint(list(p, d, NULL, 0), ==, 0);
	g_assert_cmpint(set(p, d, "benchfs.what", "x"), ==, -EOPNOTSUPP);
	g_assert_cmpint(get(p, d, "benchfs.what", NULL, 0), ==, -ENODATA);
}

static void coroutine_fn test_chunk_size(Peer *p)
{
	const struct { const char *text; const char *value; } rows[] = {
		{ "65536", "65536" }, { "64K", "65536" }, { "1G", "1073741824" }, { "1024M", "1073741824" },
		{ "32K", NULL }, { "2G", NULL }, { "65537", NULL }, { "3M", NULL }, { "", NULL }, { "-1M", NULL }, { " 1M", NULL },
		{ "1Mx", NULL }, { "1m", NULL }, { "M", NULL }, { "0", NULL }, { "18446744073709617152", NULL }, { "17179869185G", NULL },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_assert_cmpint(set(p, INO_ROOT, "benchfs.chunk_size", rows[i].text), ==, rows[i].value ? 0 : -EINVAL);
		if (rows[i].value)
			assert_xattr(p, INO_ROOT, "benchfs.chunk_size", rows[i].value);
	}
}

static void coroutine_fn test_info(Peer *p)
{
	uint64_t f = make_file(p, INO_ROOT, "f"), fifo;
	char buf[1024] = { 0 };
	g_autofree char *line = g_strdup_printf("inode %" G_GUINT64_FORMAT "\n", f);

	g_assert_cmpint(get(p, f, "benchfs.info", buf, sizeof(buf) - 1), >, 0);
	g_assert_nonnull(strstr(buf, line));
	g_assert_nonnull(strstr(buf, "home 0\n"));
	g_assert_nonnull(strstr(buf, "type file\n"));
	g_assert_nonnull(strstr(buf, "data inline\n"));
	memset(buf, 0, sizeof(buf));
	g_assert_cmpint(get(p, INO_ROOT, "benchfs.info", buf, sizeof(buf) - 1), >, 0);
	g_assert_nonnull(strstr(buf, "type directory\n"));
	g_assert_nonnull(strstr(buf, "parent 1\n"));
	g_assert_cmpint(set(p, f, "benchfs.info", "x"), ==, -EPERM);
	g_assert_cmpint(remove_xattr(p, f, "benchfs.info"), ==, -EPERM);
	g_assert_cmpint(do_create(p, INO_ROOT, "fifo", S_IFIFO, &fifo), ==, 0);
	g_assert_cmpint(get(p, fifo, "benchfs.info", NULL, 0), >, 0);
	g_assert_cmpint(get(p, fifo, "benchfs.policy", NULL, 0), ==, -ENODATA);
	g_assert_cmpint(set(p, fifo, "benchfs.policy", "local"), ==, -EPERM);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	PEER_TEST("/xattrs/basic", test_basic);
	PEER_TEST("/xattrs/errors", test_errors);
	PEER_TEST("/xattrs/many", test_many);
	PEER_TEST("/xattrs/capability", test_capability);
	PEER_TEST("/xattrs/policy", test_policy);
	PEER_TEST("/xattrs/chunk-size", test_chunk_size);
	PEER_TEST("/xattrs/info", test_info);
	return g_test_run();
}
