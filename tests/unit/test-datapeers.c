/* Data over two peers in one process: runs, stripes, a target that is away. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ino.h"
#include "server/runs.h"
#include "tests/unit/server-fixture.h"

#define MIB (UINT64_C(1) << 20)
#define SHIFT 16
#define MODEL (1500u << 10)

typedef struct Pair {
	Peer p[2]; /* they share reactor and map */
	uint16_t port[2];
} Pair;

static uint16_t free_port(int *ret_fd)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);

	*ret_fd = socket(AF_INET, SOCK_STREAM, 0);
	g_assert_cmpint(bind(*ret_fd, (struct sockaddr *)&a, sizeof(a)), ==, 0);
	g_assert_cmpint(getsockname(*ret_fd, (struct sockaddr *)&a, &len), ==, 0);
	return ntohs(a.sin_port);
}

static void start_peer(Pair *pair, uint16_t id)
{
	Peer *p = &pair->p[id];
	GError *error = NULL;

	p->counters = counters_new();
	RpcOptions ro = {
		.reactor = p->reactor, .map = p->map, .counters = p->counters, .self = id, .network = true,
		.listen_host = (char *)"127.0.0.1", .listen_port = pair->port[id], .cluster_id = "data over peers",
		.secret = (const uint8_t *)"a secret of thirty-two bytes....", .secret_len = 32,
		.ucx_tls = "tcp", .deadline_ns = INT64_C(1000000000),
	};
	p->rpc = rpc_new(&ro, &error);
	g_assert_no_error(error);
	ServerOptions so = {
		.reactor = p->reactor, .counters = p->counters, .map = p->map, .store_path = p->dir, .self = id,
		.cluster_id = "data over peers", .reserve_bytes = 4096, .default_chunk_shift = SHIFT,
	};
	p->server = server_new(&so, &error);
	g_assert_no_error(error);
	server_attach(p->server, p->rpc);
	rpc_serve(p->rpc, WIRE_FORGET_QUERY, peer_forget_query, p);
	rpc_start(p->rpc);
	server_start(p->server);
}

static void stop_peer(Peer *p)
{
	if (!p->server)
		return;
	reactor_run_co(p->reactor, peer_co_stop, p);
	g_clear_pointer(&p->server, server_free);
	g_clear_pointer(&p->rpc, rpc_free);
	g_clear_pointer(&p->counters, counters_free);
}

static void set_up(Pair *pair, gconstpointer data)
{
	ReactorOptions ro = { 0 };
	Reactor *reactor = reactor_new(&ro, NULL);
	int fd[2];

	for (int i = 0; i < 2; i++)
		pair->port[i] = free_port(&fd[i]);
	for (int i = 0; i < 2; i++)
		close(fd[i]);
	g_autofree char *list = g_strdup_printf("127.0.0.1:%u,127.0.0.1:%u", pair->port[0], pair->port[1]);
	ClusterMap *map = map_new_from_list(list, NULL);

	for (uint16_t i = 0; i < 2; i++) {
		pair->p[i] = (Peer) { .reactor = reactor, .map = map, .dir = g_dir_make_tmp("test-datapeers-XXXXXX", NULL) };
		start_peer(pair, i);
	}
}

static void tear_down(Pair *pair, gconstpointer data)
{
	stop_peer(&pair->p[0]);
	stop_peer(&pair->p[1]);
	map_free(pair->p[0].map);
	reactor_free(pair->p[0].reactor);
	for (int i = 0; i < 2; i++) {
		g_autofree char *command = g_strdup_printf("rm -rf '%s'", pair->p[i].dir);

		g_assert_cmpint(system(command), ==, 0);
		g_free(pair->p[i].dir);
	}
}

/* ---- what a mount does; the home of all files here is peer 0 ---- */

static uint16_t target_of(const WireRun *runs, uint32_t n, uint64_t chunk)
{
	for (uint32_t i = 0; i < n; i++)
		if (run_has(&runs[i], chunk))
			return run_target(&runs[i], chunk);
	return PEER_NONE;
}

static uint64_t chunk_rest(uint64_t off, uint64_t len)
{
	return MIN(len, (UINT64_C(1) << SHIFT) - (off & ((UINT64_C(1) << SHIFT) - 1)));
}

static int coroutine_fn write_objects(Peer *p, uint64_t ino, const uint8_t *data, size_t len, uint64_t off, const WireRun *runs,
	uint32_t n, WireBlocks blocks[2])
{
	for (size_t done = 0; done < len;) {
		WireObjReq req = { .ino = ino, .off = off + done };
		WireObjRep rep;
		size_t part = chunk_rest(off + done, len - done);
		RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep, .in = data + done, .in_len = part };
		uint16_t t = target_of(runs, n, (off + done) >> SHIFT);
		int r;

		g_assert_cmpuint(t, <, 2);
		r = rpc_co_call(p->rpc, t, WIRE_OBJ_WRITE, &call);
		if (r < 0)
			return r;
		blocks[t].blocks = rep.blocks;
		done += part;
	}
	return 0;
}

/* *ret_kind: how the home took it. */
static int coroutine_fn do_write(Peer *p, uint64_t ino, const uint8_t *data, size_t len, uint64_t off, uint32_t *ret_kind)
{
	WireRun runs[64];
	WireWriteReq req = { .ino = ino, .off = off, .writer = rpc_self(p->rpc) };
	WireWriteRep rep;
	RpcCall call = {
		.req = &req, .req_len = sizeof(req), .rep = &rep, .in = data, .in_len = len, .out = runs, .out_cap = sizeof(runs),
	};
	WireBlocks blocks[2] = { { .target = 0 }, { .target = 1 } };
	int r = rpc_co_call(p->rpc, 0, WIRE_WRITE, &call);

	if (ret_kind)
		*ret_kind = r < 0 ? 0 : rep.kind;
	if (r < 0 || rep.kind == WIRE_KIND_DATA)
		return r;
	r = write_objects(p, ino, data, len, off, runs, rep.runs, blocks);
	if (r < 0)
		return r;
	WireCommitReq commit = { .ino = ino, .end = off + len };
	WireBlocks some[2];
	size_t n = 0;
	WireAttrRep arep;

	for (int t = 0; t < 2; t++)
		if (blocks[t].blocks)
			some[n++] = blocks[t];
	RpcCall ccall = { .req = &commit, .req_len = sizeof(commit), .rep = &arep, .in = some, .in_len = n * sizeof(WireBlocks) };
	return rpc_co_call(p->rpc, 0, WIRE_COMMIT, &ccall);
}

static int coroutine_fn do_read(Peer *p, uint64_t ino, uint8_t *buf, size_t len, uint64_t off)
{
	WireReadReq req = { .ino = ino, .off = off, .len = (uint32_t)len };
	WireReadRep rep;
	g_autofree uint8_t *out = g_malloc(len + 4096);
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep, .out = out, .out_cap = len + 4096 };
	int r = rpc_co_call(p->rpc, 0, WIRE_READ, &call);

	if (r < 0)
		return r;
	if (rep.kind == WIRE_KIND_DATA) {
		memcpy(buf, out, call.out_len);
		return (int)call.out_len;
	}
	len = off < rep.size ? MIN(len, rep.size - off) : 0;
	memset(buf, 0, len);
	for (size_t done = 0; done < len;) {
		size_t part = chunk_rest(off + done, len - done);
		WireObjReq oreq = { .ino = ino, .off = off + done, .len = part };
		WireObjRep orep;
		RpcCall ocall = { .req = &oreq, .req_len = sizeof(oreq), .rep = &orep, .out = buf + done, .out_cap = part };
		uint16_t t = target_of((WireRun *)out, rep.runs, (off + done) >> SHIFT);

		if (t != PEER_NONE) {
			r = rpc_co_call(p->rpc, t, WIRE_OBJ_READ, &ocall);
			if (r < 0)
				return r;
		}
		done += part;
	}
	return (int)len;
}

static int coroutine_fn do_truncate(Peer *p, uint64_t ino, uint64_t size)
{
	WireSetattrReq req = { .ino = ino, .size = size, .valid = WIRE_SET_SIZE };
	WireAttrRep rep;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep };

	return rpc_co_call(p->rpc, 0, WIRE_SETATTR, &call);
}

static int coroutine_fn do_fallocate(Peer *p, uint64_t ino, uint32_t mode, uint64_t off, uint64_t len)
{
	WireFallocateReq req = { .ino = ino, .off = off, .len = len, .mode = mode, .writer = rpc_self(p->rpc) };
	WireAttrRep rep;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep };

	return rpc_co_call(p->rpc, 0, WIRE_FALLOCATE, &call);
}

static int64_t coroutine_fn do_seek(Peer *p, uint64_t ino, uint64_t off, uint32_t whence)
{
	WireSeekReq req = { .ino = ino, .off = off, .whence = whence };
	WireSeekRep rep;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep };
	int r = rpc_co_call(p->rpc, 0, WIRE_SEEK, &call);

	return r < 0 ? r : (int64_t)rep.off;
}

static int coroutine_fn do_fsync(Peer *p, uint64_t ino)
{
	WireFsyncReq req = { .ino = ino };
	RpcCall call = { .req = &req, .req_len = sizeof(req) };

	return rpc_co_call(p->rpc, 0, WIRE_FSYNC, &call);
}

static uint64_t coroutine_fn make_striped(Peer *p, const char *name)
{
	uint64_t ino = make_file(p, INO_ROOT, name);
	struct { WireXattrReq req; char name[14]; } q = { .req = { .ino = ino, .name_len = 14 } };

	memcpy(q.name, "benchfs.policy", 14);
	RpcCall call = { .req = &q, .req_len = sizeof(q.req) + 14, .in = "stripe", .in_len = 6 };
	g_assert_cmpint(rpc_co_call(p->rpc, 0, WIRE_SETXATTR, &call), ==, 0);
	return ino;
}

static uint8_t *pattern(size_t len, uint8_t seed)
{
	uint8_t *b = g_malloc(len);

	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)(i * 31 + (i >> 8) + seed);
	return b;
}

static void coroutine_fn assert_bytes(Peer *p, uint64_t ino, uint64_t off, const uint8_t *expect, size_t len)
{
	g_autofree uint8_t *buf = g_malloc0(len);

	g_assert_cmpint(do_read(p, ino, buf, len, off), ==, (int)len);
	g_assert_cmpmem(buf, len, expect, len);
}

static bool has_object(Peer *p, uint64_t ino)
{
	g_autofree char *path = g_strdup_printf("%s/objects/%02x/%016" G_GINT64_MODIFIER "x", p->dir, (uint32_t)(ino & 0xff), ino);

	return access(path, F_OK) == 0;
}

/* ---- the tests ---- */

/* A file of peer 0 that peer 1 writes lies on peer 1. */
static void coroutine_fn co_writer_keeps_its_data(Pair *pair)
{
	Peer *a = &pair->p[0], *b = &pair->p[1];
	uint64_t ino = make_file(a, INO_ROOT, "f");
	g_autofree uint8_t *data = pattern(MIB, 1);
	uint32_t kind;

	g_assert_cmpint(do_write(b, ino, data, 100, 0, &kind), ==, 0);
	g_assert_cmpuint(kind, ==, WIRE_KIND_DATA); /* inline, at the home */
	g_assert_cmpint(do_write(b, ino, data, MIB, 0, &kind), ==, 0);
	g_assert_cmpuint(kind, ==, WIRE_KIND_RUNS);
	g_assert_false(has_object(a, ino));
	g_assert_true(has_object(b, ino));
	assert_bytes(a, ino, 0, data, MIB);
	assert_bytes(b, ino, 1000, data + 1000, 5000);
	g_assert_cmpuint(attr_of(a, ino).blocks, >=, MIB / 512);
	/* What peer 0 then writes behind it lies on peer 0. */
	g_assert_cmpint(do_write(a, ino, data, MIB, 100 * MIB, &kind), ==, 0);
	g_assert_cmpuint(kind, ==, WIRE_KIND_DATA);
	g_assert_true(has_object(a, ino));
	g_assert_cmpint(do_fsync(b, ino), ==, 0);
	g_assert_cmpint(do_truncate(b, ino, 10), ==, 0);
	g_assert_cmpint(do_truncate(b, ino, MIB), ==, 0);
	memset(data + 10, 0, MIB - 10);
	assert_bytes(a, ino, 0, data, MIB);
	g_assert_cmpint(do_unlink(a, INO_ROOT, "f"), ==, 0);
	for (int i = 0; i < 300 && (has_object(a, ino) || has_object(b, ino)); i++)
		reactor_co_sleep(a->reactor, 10000000);
	g_assert_false(has_object(a, ino) || has_object(b, ino));
}

static void coroutine_fn co_stripe(Pair *pair)
{
	Peer *a = &pair->p[0], *b = &pair->p[1];
	uint64_t ino = make_striped(a, "s");
	g_autofree uint8_t *data = pattern(MIB, 7);

	g_assert_cmpint(do_write(b, ino, data, MIB, 0, NULL), ==, 0);
	g_assert_true(has_object(a, ino) && has_object(b, ino));
	assert_bytes(a, ino, 0, data, MIB);
	assert_bytes(b, ino, 0, data, MIB);
	g_assert_cmpint(do_seek(b, ino, 0, SEEK_HOLE), ==, MIB);
	g_assert_cmpint(do_fallocate(b, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, MIB / 2, 2 << SHIFT), ==, 0);
	g_assert_cmpint(do_seek(b, ino, 0, SEEK_HOLE), ==, MIB / 2);
	g_assert_cmpint(do_seek(b, ino, MIB / 2, SEEK_DATA), ==, MIB / 2 + (2 << SHIFT));
	g_assert_cmpint(do_fallocate(b, ino, FALLOC_FL_KEEP_SIZE, 4 * MIB, 4 * MIB), ==, 0);
	g_assert_cmpuint(attr_of(a, ino).blocks, >=, 4 * MIB / 512);
	g_assert_cmpuint(attr_of(a, ino).size, ==, MIB);
	g_assert_cmpint(do_truncate(a, ino, 0), ==, 0);
	g_assert_cmpint(do_write(a, ino, data, 1, MIB, NULL), ==, 0);
	memset(data, 0, MIB);
	assert_bytes(b, ino, 0, data, MIB);
}

typedef struct Model {
	uint64_t ino, size;
	uint8_t *bytes;
} Model;

static void coroutine_fn step(Pair *pair, Model *m, GRand *rand)
{
	Peer *p = &pair->p[g_rand_int_range(rand, 0, 2)];
	uint64_t off = (uint64_t)g_rand_int_range(rand, 0, MODEL);
	uint64_t len = 1 + (uint64_t)g_rand_int_range(rand, 0, (int)MIN(MODEL - off, 300000));
	g_autofree uint8_t *buf = pattern(len, (uint8_t)off);
	uint64_t expect = off < m->size ? MIN(len, m->size - off) : 0;

	switch (g_rand_int_range(rand, 0, 6)) {
	case 0 ... 1:
		g_assert_cmpint(do_write(p, m->ino, buf, len, off, NULL), >=, 0);
		memcpy(m->bytes + off, buf, len);
		m->size = MAX(m->size, off + len);
		break;
	case 2:
		g_assert_cmpint(do_truncate(p, m->ino, off), ==, 0);
		memset(m->bytes + off, 0, MODEL - off);
		m->size = off;
		break;
	case 3:
		g_assert_cmpint(do_fallocate(p, m->ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len), ==, 0);
		memset(m->bytes + off, 0, len);
		break;
	default:
		g_assert_cmpint(do_read(p, m->ino, buf, len, off), ==, (int)expect);
		g_assert_cmpmem(buf, expect, m->bytes + off, expect);
	}
}

static void coroutine_fn walk(Pair *pair, uint64_t ino, uint32_t seed)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
	Model m = { .ino = ino, .bytes = g_malloc0(MODEL) };

	for (int i = 0; i < 300; i++)
		step(pair, &m, rand);
	g_assert_cmpuint(attr_of(&pair->p[0], ino).size, ==, m.size);
	assert_bytes(&pair->p[0], ino, 0, m.bytes, m.size);
	g_free(m.bytes);
}

static void coroutine_fn co_walk(Pair *pair)
{
	walk(pair, make_file(&pair->p[0], INO_ROOT, "local"), 1);
	walk(pair, make_striped(&pair->p[0], "stripe"), 2);
}

typedef struct Run {
	Pair *pair;
	void coroutine_fn (*fn)(Pair *pair);
} Run;

static void coroutine_fn run_co(void *arg)
{
	Run *r = arg;

	r->fn(r->pair);
}

static void run(Pair *pair, void coroutine_fn (*fn)(Pair *pair))
{
	Run r = { pair, fn };

	reactor_run_co(pair->p[0].reactor, run_co, &r);
}

static void test_writer_keeps_its_data(Pair *pair, gconstpointer data)
{
	run(pair, co_writer_keeps_its_data);
}

static void test_stripe(Pair *pair, gconstpointer data)
{
	run(pair, co_stripe);
}

static void test_walk(Pair *pair, gconstpointer data)
{
	run(pair, co_walk);
}

/* ---- a target that is away while its object should be cut ---- */

/* The truncation fails, yet says what size there is; nothing may grow over the
 * bytes that should be gone, and when the target is back they are. */
static void coroutine_fn co_fill(Pair *pair)
{
	g_autofree uint8_t *data = pattern(MIB, 1);
	uint64_t ino = make_file(&pair->p[0], INO_ROOT, "f");

	g_assert_cmpint(do_write(&pair->p[1], ino, data, MIB, 0, NULL), ==, 0);
}

static void coroutine_fn co_cut_while_away(Pair *pair)
{
	Peer *a = &pair->p[0];
	uint64_t ino = ino_of(a, INO_ROOT, "f");

	g_assert_cmpint(do_truncate(a, ino, 1000), ==, -EIO);
	g_assert_cmpuint(attr_of(a, ino).size, ==, 1000);
	g_assert_cmpint(do_truncate(a, ino, MIB), ==, -EIO);
	g_assert_cmpint(do_write(a, ino, (const uint8_t *)"x", 1, 200 * MIB, NULL), ==, -EIO);
	g_assert_cmpuint(attr_of(a, ino).size, ==, 1000);
}

static void coroutine_fn co_grow_when_back(Pair *pair)
{
	Peer *a = &pair->p[0];
	uint64_t ino = ino_of(a, INO_ROOT, "f");
	g_autofree uint8_t *data = pattern(MIB, 1);
	int r;

	/* Calls fail until the connection is back. */
	for (int i = 0; (r = do_truncate(a, ino, MIB)) == -EIO && i < 100; i++)
		reactor_co_sleep(a->reactor, INT64_C(100000000));
	g_assert_cmpint(r, ==, 0);
	memset(data + 1000, 0, MIB - 1000);
	assert_bytes(a, ino, 0, data, MIB);
}

static void test_cut_while_away(Pair *pair, gconstpointer data)
{
	run(pair, co_fill);
	stop_peer(&pair->p[1]);
	run(pair, co_cut_while_away);
	start_peer(pair, 1);
	run(pair, co_grow_when_back);
}

/* The same, and the home does not even live to see it. */
static void test_cut_is_remembered(Pair *pair, gconstpointer data)
{
	run(pair, co_fill);
	stop_peer(&pair->p[1]);
	run(pair, co_cut_while_away);
	stop_peer(&pair->p[0]);
	start_peer(pair, 0);
	start_peer(pair, 1);
	run(pair, co_grow_when_back);
}

/* A mount that knows where the chunks are writes before it tells the home: the
 * cut that is still to be made must not take the new bytes with it. */
static void coroutine_fn co_write_over_cut(Pair *pair)
{
	Peer *b = &pair->p[1];
	uint64_t ino = ino_of(&pair->p[0], INO_ROOT, "f");
	const WireRun run = { .count = MIB >> SHIFT, .target = 1, .width = 1 };
	WireCommitReq commit = { .ino = ino, .end = MIB };
	WireAttrRep rep;
	RpcCall call = { .req = &commit, .req_len = sizeof(commit), .rep = &rep };
	WireBlocks blocks[2];
	g_autofree uint8_t *data = pattern(MIB, 9);
	int r = -EAGAIN;

	for (int i = 0; (r == -EAGAIN || r == -EIO) && i < 100; i++) {
		if (i > 0)
			reactor_co_sleep(b->reactor, INT64_C(100000000));
		g_assert_cmpint(write_objects(b, ino, data, MIB, 0, &run, 1, blocks), ==, 0);
		r = rpc_co_call(b->rpc, 0, WIRE_COMMIT, &call);
	}
	g_assert_cmpint(r, ==, 0);
	assert_bytes(&pair->p[0], ino, 0, data, MIB);
}

static void test_write_over_cut(Pair *pair, gconstpointer data)
{
	run(pair, co_fill);
	stop_peer(&pair->p[1]);
	run(pair, co_cut_while_away);
	start_peer(pair, 1);
	run(pair, co_write_over_cut);
}

/* ---- a target that is away while an inline file should move there ---- */

static void coroutine_fn co_move_out_while_away(Pair *pair)
{
	Peer *a = &pair->p[0];
	g_autofree uint8_t *data = pattern(100, 1);
	uint64_t ino = make_file(a, INO_ROOT, "f");
	WireFallocateReq req = { .ino = ino, .len = MIB, .writer = 1 };
	WireAttrRep rep;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep };

	g_assert_cmpint(do_write(a, ino, data, 100, 0, NULL), ==, 0);
	g_assert_cmpint(rpc_co_call(a->rpc, 0, WIRE_FALLOCATE, &call), ==, -EIO);
}

/* Chunks that were assigned stay where they are. */
static void coroutine_fn co_still_assigned(Pair *pair)
{
	Peer *a = &pair->p[0];
	uint64_t ino = ino_of(a, INO_ROOT, "f");
	g_autofree uint8_t *data = pattern(MIB, 3);
	uint32_t kind = 0;
	int r;

	for (int i = 0; (r = do_write(a, ino, data, MIB, 0, &kind)) == -EIO && i < 100; i++)
		reactor_co_sleep(a->reactor, INT64_C(100000000));
	g_assert_cmpint(r, ==, 0);
	g_assert_cmpuint(kind, ==, WIRE_KIND_RUNS);
	g_assert_true(has_object(&pair->p[1], ino));
	assert_bytes(a, ino, 0, data, MIB);
}

static void test_move_out_while_away(Pair *pair, gconstpointer data)
{
	stop_peer(&pair->p[1]);
	run(pair, co_move_out_while_away);
	stop_peer(&pair->p[0]);
	start_peer(pair, 0);
	start_peer(pair, 1);
	run(pair, co_still_assigned);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	/* A peer that is away is worth a warning, which must not end the test. */
	g_log_set_always_fatal(G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
#define ADD(name, fn) g_test_add("/datapeers/" name, Pair, NULL, set_up, fn, tear_down)
	ADD("writer-keeps-its-data", test_writer_keeps_its_data);
	ADD("stripe", test_stripe);
	ADD("walk", test_walk);
	ADD("cut-while-away", test_cut_while_away);
	ADD("cut-is-remembered", test_cut_is_remembered);
	ADD("write-over-cut", test_write_over_cut);
	ADD("move-out-while-away", test_move_out_while_away);
	return g_test_run();
}
