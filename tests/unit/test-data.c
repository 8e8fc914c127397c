/* The data handlers on a real store: inline, objects, holes, sizes, ranges, and
 * a random walk against a plain buffer. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/ino.h"
#include "tests/unit/server-fixture.h"

#define MIB (UINT64_C(1) << 20)

static const char page[4096] = "a page";

/* ---- calls ---- */

static int coroutine_fn do_write(Peer *p, uint64_t ino, const void *data, size_t len, uint64_t off)
{
	WireWriteReq req = { .ino = ino, .off = off, .writer = 0 };
	WireWriteRep rep;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep, .in = data, .in_len = len };
	int r = rpc_co_call(p->rpc, 0, WIRE_WRITE, &call);

	if (r >= 0) {
		g_assert_cmpuint(rep.kind, ==, WIRE_KIND_DATA);
		g_assert_cmpuint(rep.attr.ino, ==, ino);
	}
	return r;
}

static int coroutine_fn do_read(Peer *p, uint64_t ino, void *buf, uint32_t len, uint64_t off)
{
	WireReadReq req = { .ino = ino, .off = off, .len = len };
	WireReadRep rep;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep, .out = buf, .out_cap = len };
	int r = rpc_co_call(p->rpc, 0, WIRE_READ, &call);

	if (r >= 0) {
		g_assert_cmpuint(rep.kind, ==, WIRE_KIND_DATA);
		g_assert_cmpuint(call.out_len, ==, r);
	}
	return r;
}

static int coroutine_fn do_truncate(Peer *p, uint64_t ino, uint64_t size)
{
	return do_setattr(p, (WireSetattrReq) { .ino = ino, .size = size, .valid = WIRE_SET_SIZE }, NULL);
}

static int coroutine_fn do_fallocate(Peer *p, uint64_t ino, uint32_t mode, uint64_t off, uint64_t len)
{
	WireFallocateReq req = { .ino = ino, .off = off, .len = len, .mode = mode, .writer = 0 };
	WireAttrRep rep;

	return peer_call(p, WIRE_FALLOCATE, &req, sizeof(req), &rep);
}

/* The offset, or -errno. */
static int64_t coroutine_fn do_seek(Peer *p, uint64_t ino, uint64_t off, uint32_t whence)
{
	WireSeekReq req = { .ino = ino, .off = off, .whence = whence };
	WireSeekRep rep;
	int r = peer_call(p, WIRE_SEEK, &req, sizeof(req), &rep);

	return r < 0 ? r : (int64_t)rep.off;
}

static int coroutine_fn do_fsync(Peer *p, uint64_t ino)
{
	WireFsyncReq req = { .ino = ino };

	return peer_call(p, WIRE_FSYNC, &req, sizeof(req), NULL);
}

static int coroutine_fn do_layout(Peer *p, WireLayoutReq req, WireLayoutRep *rep, WireRun *runs, uint32_t max)
{
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = rep, .out = runs, .out_cap = max * sizeof(WireRun) };

	return rpc_co_call(p->rpc, 0, WIRE_LAYOUT, &call);
}

static int coroutine_fn do_commit(Peer *p, WireCommitReq req, const WireBlocks *blocks, size_t len)
{
	WireAttrRep rep;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep, .in = blocks, .in_len = len };

	return rpc_co_call(p->rpc, 0, WIRE_COMMIT, &call);
}

static bool coroutine_fn is_inline(Peer *p, uint64_t ino)
{
	WireLayoutRep rep;
	WireRun runs[16];

	g_assert_cmpint(do_layout(p, (WireLayoutReq) { .ino = ino, .count = 1, .writer = 0 }, &rep, runs, 16), ==, 0);
	return rep.is_inline;
}

static void coroutine_fn assert_bytes(Peer *p, uint64_t ino, uint64_t off, const void *expect, size_t len)
{
	g_autofree uint8_t *buf = g_malloc(len + 1);

	memset(buf, 0xee, len + 1);
	g_assert_cmpint(do_read(p, ino, buf, (uint32_t)len, off), ==, (int)len);
	g_assert_cmpmem(buf, len, expect, len);
	g_assert_cmpuint(buf[len], ==, 0xee);
}

static void coroutine_fn assert_zeros(Peer *p, uint64_t ino, uint64_t off, size_t len)
{
	g_autofree uint8_t *zeros = g_malloc0(len);

	assert_bytes(p, ino, off, zeros, len);
}

static uint8_t *pattern(size_t len, uint8_t seed)
{
	uint8_t *b = g_malloc(len);

	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)(i * 31 + (i >> 8) + seed);
	return b;
}

static uint32_t count_objects(Peer *p)
{
	g_autofree char *command = g_strdup_printf("find '%s/objects' -type f | wc -l", p->dir);
	FILE *f = popen(command, "r");
	uint32_t n = 0;

	g_assert_cmpint(fscanf(f, "%u", &n), ==, 1);
	pclose(f);
	return n;
}

/* ---- inline and out ---- */

static void coroutine_fn test_inline(Peer *p)
{
	uint64_t ino = make_file(p, INO_ROOT, "f");
	char buf[16];

	g_assert_cmpint(do_read(p, ino, buf, 16, 0), ==, 0);
	g_assert_cmpint(do_write(p, ino, "hello", 5, 3), ==, 0);
	assert_bytes(p, ino, 0, "\0\0\0hello", 8);
	g_assert_cmpint(do_read(p, ino, buf, 16, 6), ==, 2);
	g_assert_cmpint(do_read(p, ino, buf, 16, 8), ==, 0);
	g_assert_cmpint(do_read(p, ino, buf, 16, 1000), ==, 0);
	g_assert_true(is_inline(p, ino));
	g_assert_cmpuint(attr_of(p, ino).size, ==, 8);
	g_assert_cmpuint(attr_of(p, ino).blocks, ==, 1);
	g_assert_cmpint(do_write(p, ino, NULL, 0, 100), ==, 0);
	g_assert_cmpuint(attr_of(p, ino).size, ==, 8);
	g_assert_cmpuint(count_objects(p), ==, 0);
}

static void coroutine_fn test_outgrow(Peer *p)
{
	uint64_t ino = make_file(p, INO_ROOT, "f");
	g_autofree uint8_t *a = pattern(4096, 1), *b = pattern(10000, 2);

	g_assert_cmpint(do_write(p, ino, a, 4096, 0), ==, 0);
	g_assert_true(is_inline(p, ino));
	g_assert_cmpint(do_write(p, ino, b, 1, 4096), ==, 0);
	g_assert_false(is_inline(p, ino));
	assert_bytes(p, ino, 0, a, 4096);
	g_assert_cmpint(do_write(p, ino, b, 10000, 4096), ==, 0);
	assert_bytes(p, ino, 0, a, 4096);
	assert_bytes(p, ino, 4096, b, 10000);
	g_assert_cmpuint(attr_of(p, ino).size, ==, 14096);
	g_assert_cmpuint(attr_of(p, ino).blocks, >=, 14096 / 512);
	g_assert_cmpuint(count_objects(p), ==, 1);
	/* Unlinked: the object goes too. */
	g_assert_cmpint(do_unlink(p, INO_ROOT, "f"), ==, 0);
	for (int i = 0; i < 100 && count_objects(p) > 0; i++)
		reactor_co_sleep(p->reactor, 10000000);
	g_assert_cmpuint(count_objects(p), ==, 0);
}

static void coroutine_fn test_far_write_of_an_inline_file(Peer *p)
{
	uint64_t ino = make_file(p, INO_ROOT, "f");

	g_assert_cmpint(do_write(p, ino, "near", 4, 0), ==, 0);
	g_assert_cmpint(do_write(p, ino, "far", 3, UINT64_C(1) << 40), ==, 0);
	assert_bytes(p, ino, 0, "near\0\0", 6);
	assert_bytes(p, ino, UINT64_C(1) << 40, "far", 3);
	assert_zeros(p, ino, UINT64_C(1) << 39, 8192);
	g_assert_cmpuint(attr_of(p, ino).size, ==, (UINT64_C(1) << 40) + 3);
	g_assert_cmpuint(attr_of(p, ino).blocks, <, 100);
}

static void coroutine_fn test_times_and_modes(Peer *p)
{
	uint64_t ino = make_file(p, INO_ROOT, "f");
	WireAttr last = attr_of(p, ino);
	WireWriteReq req = { .ino = ino, .flags = WIRE_WRITE_KILL_SUIDGID };
	WireWriteRep rep;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep, .in = "x", .in_len = 1 };

	for (int i = 0; i < 50; i++) {
		g_assert_cmpint(do_write(p, ino, "x", 1, (uint64_t)i * 200), ==, 0);
		WireAttr now = attr_of(p, ino);

		g_assert_cmpint(now.mtime_ns, >, last.mtime_ns);
		g_assert_cmpint(now.ctime_ns, >, last.ctime_ns);
		last = now;
	}
	do_setattr(p, (WireSetattrReq) { .ino = ino, .mode = 06755, .valid = WIRE_SET_MODE }, NULL);
	g_assert_cmpint(do_write(p, ino, "x", 1, 0), ==, 0);
	g_assert_cmpuint(attr_of(p, ino).mode & 07777, ==, 06755);
	g_assert_cmpint(rpc_co_call(p->rpc, 0, WIRE_WRITE, &call), ==, 0);
	g_assert_cmpuint(rep.attr.mode & 07777, ==, 0755);
}

/* ---- sizes ---- */

static void coroutine_fn cut_and_grow(Peer *p, uint64_t ino, size_t size)
{
	g_autofree uint8_t *a = pattern(size, 3);

	g_assert_cmpint(do_write(p, ino, a, size, 0), ==, 0);
	g_assert_cmpint(do_truncate(p, ino, 1000), ==, 0);
	g_assert_cmpuint(attr_of(p, ino).size, ==, 1000);
	g_assert_cmpint(do_truncate(p, ino, size * 2), ==, 0);
	g_assert_cmpuint(attr_of(p, ino).size, ==, size * 2);
	assert_bytes(p, ino, 0, a, 1000);
	assert_zeros(p, ino, 1000, size * 2 - 1000);
	/* and by a write behind the end */
	g_assert_cmpint(do_write(p, ino, a, size, 0), ==, 0);
	g_assert_cmpint(do_truncate(p, ino, 10), ==, 0);
	g_assert_cmpint(do_write(p, ino, "z", 1, size - 1), ==, 0);
	assert_bytes(p, ino, 0, a, 10);
	assert_zeros(p, ino, 10, size - 11);
	g_assert_cmpint(do_truncate(p, ino, 0), ==, 0);
	g_assert_cmpuint(attr_of(p, ino).blocks, ==, 0);
	g_assert_cmpint(do_truncate(p, ino, 3000), ==, 0);
	assert_zeros(p, ino, 0, 3000);
}

static void coroutine_fn test_cut_and_grow(Peer *p)
{
	cut_and_grow(p, make_file(p, INO_ROOT, "inline"), 2000);
	cut_and_grow(p, make_file(p, INO_ROOT, "object"), 300000);
	cut_and_grow(p, make_file(p, INO_ROOT, "chunks"), 5 * MIB);
}

static void coroutine_fn test_grown_inline_costs_nothing(Peer *p)
{
	uint64_t ino = make_file(p, INO_ROOT, "f");

	g_assert_cmpint(do_write(p, ino, "abc", 3, 0), ==, 0);
	g_assert_cmpint(do_truncate(p, ino, UINT64_C(1) << 40), ==, 0);
	g_assert_cmpuint(attr_of(p, ino).blocks, ==, 1);
	assert_bytes(p, ino, 0, "abc\0", 4);
	assert_zeros(p, ino, UINT64_C(1) << 30, 70000);
	g_assert_cmpuint(count_objects(p), ==, 0);
	/* Then it moves out with what it has, and the rest stays zeros. */
	g_assert_cmpint(do_write(p, ino, "far", 3, 50000), ==, 0);
	assert_bytes(p, ino, 0, "abc\0", 4);
	assert_zeros(p, ino, 3, 49997);
	assert_bytes(p, ino, 50000, "far\0", 4);
	g_assert_cmpuint(attr_of(p, ino).size, ==, UINT64_C(1) << 40);
}

static void coroutine_fn test_limits(Peer *p)
{
	uint64_t ino = make_file(p, INO_ROOT, "f"), dir = make_dir(p, INO_ROOT, "d");
	char c = 0;
	WireLayoutRep lrep;
	WireRun run;

	g_assert_cmpint(do_write(p, ino, "x", 1, INT64_MAX), ==, -EFBIG);
	g_assert_cmpint(do_write(p, ino, "x", 1, UINT64_MAX), ==, -EFBIG);
	g_assert_cmpint(do_write(p, ino, "xy", 2, INT64_MAX - 1), ==, -EFBIG);
	g_assert_cmpint(do_write(p, dir, "x", 1, 0), ==, -EISDIR);
	g_assert_cmpint(do_write(p, ino + 1000, "x", 1, 0), ==, -ENOENT);
	g_assert_cmpint(do_read(p, ino, &c, 1, UINT64_MAX), ==, -EINVAL);
	g_assert_cmpint(do_truncate(p, ino, UINT64_MAX), <, 0);
	g_assert_cmpint(do_fallocate(p, ino, 0, 0, 0), ==, -EINVAL);
	g_assert_cmpint(do_fallocate(p, ino, 0, INT64_MAX, 10), ==, -EFBIG);
	g_assert_cmpint(do_fallocate(p, ino, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), ==, -EOPNOTSUPP);
	g_assert_cmpint(do_fallocate(p, ino, FALLOC_FL_PUNCH_HOLE, 0, 4096), ==, -EOPNOTSUPP);
	g_assert_cmpint(do_seek(p, ino, 0, 77), ==, -EINVAL);
	g_assert_cmpint(do_layout(p, (WireLayoutReq) { .ino = ino }, &lrep, &run, 1), ==, -EINVAL);
	g_assert_cmpint(do_layout(p, (WireLayoutReq) { .ino = ino, .first = UINT64_MAX, .count = 2 }, &lrep, &run, 1), ==, -EFBIG);
	g_assert_cmpint(do_layout(p, (WireLayoutReq) { .ino = ino, .count = 1, .alloc = 1, .writer = 9 }, &lrep, &run, 1), ==, -EINVAL);
	g_assert_cmpint(do_commit(p, (WireCommitReq) { .ino = ino, .end = 5 }, NULL, 0), ==, -EINVAL);
	g_assert_cmpuint(attr_of(p, ino).size, ==, 0);
}

/* ---- LAYOUT and COMMIT ---- */

static void coroutine_fn test_layout(Peer *p)
{
	uint64_t ino = make_file(p, INO_ROOT, "f");
	WireLayoutRep rep;
	WireRun runs[16];
	WireBlocks blocks = { .blocks = 64, .target = 0 };

	g_assert_cmpint(do_write(p, ino, "abc", 3, 0), ==, 0);
	g_assert_cmpint(do_layout(p, (WireLayoutReq) { .ino = ino, .first = 10, .count = 5, .alloc = 1, .writer = 0 }, &rep, runs, 16), ==, 0);
	g_assert_cmpuint(rep.is_inline, ==, 0);
	g_assert_cmpuint(rep.chunk_shift, ==, 22);
	g_assert_cmpuint(rep.size, ==, 3);
	g_assert_cmpuint(rep.runs, ==, 1);
	g_assert_cmpuint(runs[0].first, ==, 10);
	g_assert_cmpuint(runs[0].count, >=, 5);
	assert_bytes(p, ino, 0, "abc", 3);
	g_assert_cmpint(do_layout(p, (WireLayoutReq) { .ino = ino, .first = 0, .count = 20, .writer = 0 }, &rep, runs, 16), ==, 0);
	g_assert_cmpuint(rep.runs, ==, 2);
	g_assert_cmpuint(runs[0].first, ==, 0);
	g_assert_cmpint(do_layout(p, (WireLayoutReq) { .ino = ino, .first = 0, .count = 20, .writer = 0 }, &rep, runs, 1), ==, -ENOBUFS);
	g_assert_cmpint(do_commit(p, (WireCommitReq) { .ino = ino, .end = 5000 }, &blocks, sizeof(blocks)), ==, 0);
	g_assert_cmpuint(attr_of(p, ino).size, ==, 5000);
	g_assert_cmpuint(attr_of(p, ino).blocks, ==, 64);
	g_assert_cmpint(do_commit(p, (WireCommitReq) { .ino = ino, .end = 5 }, NULL, 0), ==, 0);
	g_assert_cmpuint(attr_of(p, ino).size, ==, 5000);
	g_assert_cmpint(do_commit(p, (WireCommitReq) { .ino = ino, .end = 6 }, &blocks, 7), ==, -EINVAL);
	blocks.target = 500;
	g_assert_cmpint(do_commit(p, (WireCommitReq) { .ino = ino, .end = 6 }, &blocks, sizeof(blocks)), ==, -EINVAL);
	g_assert_cmpint(do_commit(p, (WireCommitReq) { .ino = ino, .end = UINT64_MAX }, NULL, 0), ==, -EFBIG);
	g_assert_cmpint(do_commit(p, (WireCommitReq) { .ino = ino, .flags = 0x80 }, NULL, 0), ==, -EINVAL);
}

/* ---- ranges ---- */

static void coroutine_fn test_fallocate(Peer *p)
{
	uint64_t ino = make_file(p, INO_ROOT, "f");
	g_autofree uint8_t *a = pattern(2 * MIB, 5);

	g_assert_cmpint(do_fallocate(p, ino, 0, 0, 4096), ==, 0);
	g_assert_true(is_inline(p, ino));
	g_assert_cmpuint(attr_of(p, ino).size, ==, 4096);
	g_assert_cmpint(do_fallocate(p, ino, FALLOC_FL_KEEP_SIZE, 0, 8 * MIB), ==, 0);
	g_assert_false(is_inline(p, ino));
	g_assert_cmpuint(attr_of(p, ino).size, ==, 4096);
	g_assert_cmpuint(attr_of(p, ino).blocks, >=, 8 * MIB / 512);
	g_assert_cmpint(do_write(p, ino, a, 2 * MIB, 0), ==, 0);
	g_assert_cmpint(do_fallocate(p, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, MIB, 4096), ==, 0);
	assert_bytes(p, ino, 0, a, MIB);
	assert_zeros(p, ino, MIB, 4096);
	assert_bytes(p, ino, MIB + 4096, a + MIB + 4096, 4096);
	g_assert_cmpint(do_fallocate(p, ino, FALLOC_FL_ZERO_RANGE, 2 * MIB - 10, 20), ==, 0);
	g_assert_cmpuint(attr_of(p, ino).size, ==, 2 * MIB + 10);
	assert_zeros(p, ino, 2 * MIB - 10, 20);
	g_assert_cmpint(do_fallocate(p, ino, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 2 * MIB, MIB), ==, 0);
	g_assert_cmpuint(attr_of(p, ino).size, ==, 2 * MIB + 10);
	g_assert_cmpint(do_fallocate(p, ino, 0, 0, UINT64_C(1) << 60), ==, -ENOSPC);
	g_assert_cmpuint(attr_of(p, ino).size, ==, 2 * MIB + 10);
}

static void coroutine_fn test_fallocate_inline(Peer *p)
{
	uint64_t ino = make_file(p, INO_ROOT, "f");

	g_assert_cmpint(do_write(p, ino, "0123456789", 10, 0), ==, 0);
	g_assert_cmpint(do_fallocate(p, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 3), ==, 0);
	assert_bytes(p, ino, 0, "01\0\0\0" "56789", 10);
	g_assert_cmpint(do_fallocate(p, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8, 1 << 30), ==, 0);
	assert_bytes(p, ino, 0, "01\0\0\0" "567\0\0", 10);
	g_assert_cmpint(do_fallocate(p, ino, FALLOC_FL_ZERO_RANGE, 6, 10), ==, 0);
	assert_bytes(p, ino, 0, "01\0\0\0" "5\0\0\0\0\0\0\0\0\0\0", 16);
	g_assert_true(is_inline(p, ino));
	g_assert_cmpint(do_fallocate(p, ino, FALLOC_FL_ZERO_RANGE, 1, 10000), ==, 0);
	g_assert_false(is_inline(p, ino));
	assert_bytes(p, ino, 0, "0\0", 2);
	assert_zeros(p, ino, 1, 10000);
}

static void coroutine_fn test_seek(Peer *p)
{
	uint64_t ino = make_file(p, INO_ROOT, "f"), small = make_file(p, INO_ROOT, "s");
	g_autofree uint8_t *a = pattern(65536, 5);

	g_assert_cmpint(do_seek(p, ino, 0, SEEK_DATA), ==, -ENXIO);
	g_assert_cmpint(do_seek(p, ino, 0, SEEK_HOLE), ==, -ENXIO);
	g_assert_cmpint(do_write(p, ino, a, 65536, 10 * MIB), ==, 0);
	g_assert_cmpint(do_write(p, ino, a, 65536, 30 * MIB), ==, 0);
	g_assert_cmpint(do_truncate(p, ino, 100 * MIB), ==, 0);
	g_assert_cmpint(do_seek(p, ino, 0, SEEK_DATA), ==, 10 * MIB);
	g_assert_cmpint(do_seek(p, ino, 0, SEEK_HOLE), ==, 0);
	g_assert_cmpint(do_seek(p, ino, 10 * MIB + 5, SEEK_DATA), ==, 10 * MIB + 5);
	g_assert_cmpint(do_seek(p, ino, 10 * MIB + 5, SEEK_HOLE), ==, 10 * MIB + 65536);
	g_assert_cmpint(do_seek(p, ino, 10 * MIB + 65536, SEEK_DATA), ==, 30 * MIB);
	g_assert_cmpint(do_seek(p, ino, 31 * MIB, SEEK_DATA), ==, -ENXIO);
	g_assert_cmpint(do_seek(p, ino, 31 * MIB, SEEK_HOLE), ==, 31 * MIB);
	g_assert_cmpint(do_seek(p, ino, 100 * MIB, SEEK_HOLE), ==, -ENXIO);
	g_assert_cmpint(do_truncate(p, ino, 30 * MIB + 65536), ==, 0);
	g_assert_cmpint(do_seek(p, ino, 30 * MIB, SEEK_HOLE), ==, 30 * MIB + 65536);

	g_assert_cmpint(do_write(p, small, "abc", 3, 0), ==, 0);
	g_assert_cmpint(do_seek(p, small, 1, SEEK_DATA), ==, 1);
	g_assert_cmpint(do_seek(p, small, 1, SEEK_HOLE), ==, 3);
	g_assert_cmpint(do_seek(p, small, 3, SEEK_DATA), ==, -ENXIO);
	g_assert_cmpint(do_truncate(p, small, 1000), ==, 0);
	g_assert_cmpint(do_seek(p, small, 2, SEEK_HOLE), ==, 3);
	g_assert_cmpint(do_seek(p, small, 500, SEEK_HOLE), ==, 500);
	g_assert_cmpint(do_seek(p, small, 500, SEEK_DATA), ==, -ENXIO);
}

static void coroutine_fn test_fsync(Peer *p)
{
	uint64_t ino = make_file(p, INO_ROOT, "f");

	g_assert_cmpint(do_fsync(p, INO_ROOT), ==, 0);
	g_assert_cmpint(do_fsync(p, ino), ==, 0);
	g_assert_cmpint(do_write(p, ino, "x", 1, 100000), ==, 0);
	g_assert_cmpint(do_fsync(p, ino), ==, 0);
	g_assert_cmpint(do_fsync(p, ino + 999), ==, -ENOENT);
}

/* ---- a random walk ---- */

#define MODEL (600u << 10)

typedef struct Model {
	uint64_t ino, size;
	uint8_t *bytes;
} Model;

static void coroutine_fn model_write(Peer *p, Model *m, GRand *rand, uint64_t off, uint64_t len)
{
	g_autofree uint8_t *data = pattern(len, (uint8_t)g_rand_int(rand));

	g_assert_cmpint(do_write(p, m->ino, data, len, off), ==, 0);
	memcpy(m->bytes + off, data, len);
	m->size = MAX(m->size, off + len);
}

static void coroutine_fn model_truncate(Peer *p, Model *m, uint64_t size)
{
	g_assert_cmpint(do_truncate(p, m->ino, size), ==, 0);
	memset(m->bytes + size, 0, MODEL - size);
	m->size = size;
}

static void coroutine_fn model_fallocate(Peer *p, Model *m, uint32_t mode, uint64_t off, uint64_t len)
{
	g_assert_cmpint(do_fallocate(p, m->ino, mode, off, len), ==, 0);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		memset(m->bytes + off, 0, len);
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		m->size = MAX(m->size, off + len);
}

static void coroutine_fn model_check(Peer *p, Model *m, uint64_t off, uint64_t len)
{
	g_autofree uint8_t *buf = g_malloc(len);
	uint64_t expect = off < m->size ? MIN(len, m->size - off) : 0;

	g_assert_cmpint(do_read(p, m->ino, buf, (uint32_t)len, off), ==, (int)expect);
	g_assert_cmpmem(buf, expect, m->bytes + off, expect);
}

static void coroutine_fn model_step(Peer *p, Model *m, GRand *rand, uint64_t limit)
{
	static const uint32_t modes[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	};
	uint64_t off = (uint64_t)g_rand_int_range(rand, 0, (int)limit);
	uint64_t len = 1 + (uint64_t)g_rand_int_range(rand, 0, (int)(limit - off));

	if (g_rand_int_range(rand, 0, 3))
		len = MIN(len, 5000);
	switch (g_rand_int_range(rand, 0, 8)) {
	case 0 ... 2:
		model_write(p, m, rand, off, len);
		break;
	case 3:
		model_truncate(p, m, off);
		break;
	case 4:
		model_fallocate(p, m, modes[g_rand_int_range(rand, 0, 5)], off, len);
		break;
	default:
		model_check(p, m, off, len);
	}
	WireAttr attr = attr_of(p, m->ino);
	g_assert_cmpuint(attr.size, ==, m->size);
}

/* limit: how far it goes; small ones stay inline for a while. */
static void coroutine_fn walk(Peer *p, const char *name, uint32_t seed, uint64_t limit, int steps)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
	Model m = { .ino = make_file(p, INO_ROOT, name), .bytes = g_malloc0(MODEL) };

	for (int i = 0; i < steps; i++) {
		model_step(p, &m, rand, limit);
		if (i % 50 == 0)
			model_check(p, &m, 0, limit);
	}
	model_check(p, &m, 0, limit);
	g_free(m.bytes);
}

static void coroutine_fn test_walk(Peer *p)
{
	for (uint32_t i = 0; i < 20; i++) {
		g_autofree char *inl = g_strdup_printf("inline%u", i), *out = g_strdup_printf("out%u", i);

		walk(p, inl, i, 4000, 150);
		walk(p, out, 100 + i, 6000, 150);
	}
	walk(p, "large", 7, MODEL, 2000);
}

/* ---- what is there after a restart ---- */

typedef struct Kept {
	uint64_t small, large;
	uint8_t *bytes;
} Kept;

static Kept kept;

static void coroutine_fn write_kept(Peer *p)
{
	kept.small = make_file(p, INO_ROOT, "small");
	kept.large = make_file(p, INO_ROOT, "large");
	g_assert_cmpint(do_write(p, kept.small, "small", 5, 0), ==, 0);
	g_assert_cmpint(do_write(p, kept.large, kept.bytes, 5 * MIB, 0), ==, 0);
	g_assert_cmpint(do_write(p, kept.large, kept.bytes, 10, 90 * MIB), ==, 0);
	g_assert_cmpint(do_truncate(p, kept.large, 80 * MIB), ==, 0);
}

static void coroutine_fn read_kept(Peer *p)
{
	g_autoptr(GString) text = g_string_new(NULL);
	Inode *inode;

	assert_bytes(p, kept.small, 0, "small", 5);
	assert_bytes(p, kept.large, 0, kept.bytes, 5 * MIB);
	assert_zeros(p, kept.large, 5 * MIB, MIB);
	g_assert_cmpuint(attr_of(p, kept.large).size, ==, 80 * MIB);
	g_assert_cmpint(inode_co_get(p->server, kept.large, &inode), ==, 0);
	data_co_describe(p->server, inode, text);
	inode_unref(p->server, inode);
	g_assert_nonnull(strstr(text->str, "chunks 0-"));
	g_assert_nonnull(strstr(text->str, "on peer 0"));
}

static void test_restart(Peer *p, gconstpointer data)
{
	kept.bytes = pattern(5 * MIB, 9);
	peer_run(p, (gconstpointer)write_kept);
	peer_stop(p);
	peer_start(p);
	peer_run(p, (gconstpointer)read_kept);
	g_free(kept.bytes);
}

/* Bytes are at their target, and a truncation takes them along before the home is
 * told of them. */
static void coroutine_fn test_cut_before_commit(Peer *p)
{
	uint64_t ino = make_file(p, INO_ROOT, "f");
	WireObjReq req = { .ino = ino, .off = 2 * sizeof(page) };
	WireCommitReq commit = { .ino = ino, .end = 3 * sizeof(page) };
	WireObjRep rep;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep, .in = page, .in_len = sizeof(page) };

	g_assert_cmpint(do_write(p, ino, page, sizeof(page), 0), ==, 0);
	g_assert_cmpint(do_write(p, ino, page, sizeof(page), sizeof(page)), ==, 0);
	for (int cut = 1; cut >= 0; cut--) {
		g_assert_cmpint(rpc_co_call(p->rpc, 0, WIRE_OBJ_WRITE, &call), ==, 0);
		WireBlocks blocks = { .blocks = rep.blocks, .process = rep.process, .cuts = rep.cuts };
		if (cut)
			g_assert_cmpint(do_truncate(p, ino, 0), ==, 0);
		g_assert_cmpint(do_commit(p, commit, &blocks, sizeof(blocks)), ==, cut ? -EAGAIN : 0);
	}
	/* of another process: not known, once */
	WireBlocks other = { .blocks = rep.blocks, .process = rep.process ^ 1, .cuts = 0 };
	other.process = other.process ? other.process : 2;
	g_assert_cmpint(do_commit(p, commit, &other, sizeof(other)), ==, -EAGAIN);
	g_assert_cmpint(do_commit(p, commit, &other, sizeof(other)), ==, 0);
	g_assert_cmpuint(attr_of(p, ino).size, ==, commit.end);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	PEER_TEST("/data/inline", test_inline);
	PEER_TEST("/data/outgrow", test_outgrow);
	PEER_TEST("/data/far-write-of-an-inline-file", test_far_write_of_an_inline_file);
	PEER_TEST("/data/times-and-modes", test_times_and_modes);
	PEER_TEST("/data/cut-and-grow", test_cut_and_grow);
	PEER_TEST("/data/grown-inline-costs-nothing", test_grown_inline_costs_nothing);
	PEER_TEST("/data/limits", test_limits);
	PEER_TEST("/data/layout", test_layout);
	PEER_TEST("/data/fallocate", test_fallocate);
	PEER_TEST("/data/fallocate-inline", test_fallocate_inline);
	PEER_TEST("/data/seek", test_seek);
	PEER_TEST("/data/fsync", test_fsync);
	PEER_TEST("/data/cut-before-commit", test_cut_before_commit);
	PEER_TEST("/data/walk", test_walk);
	g_test_add("/data/restart", Peer, NULL, peer_set_up, test_restart, peer_tear_down);
	return g_test_run();
}
