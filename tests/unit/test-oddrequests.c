/* Requests that no mount of ours would send: every operation with odd numbers,
 * lengths and names. Each gets an answer; afterwards the peer still works, and
 * so does the next process with its store. */
#include <stdlib.h>
#include <unistd.h>

#include "common/ino.h"
#include "tests/unit/server-fixture.h"

#define REQUESTS 60000
#define BULK (1u << 20)

/* What requests are about, so that most get behind the first check. */
typedef struct Odd {
	GRand *rand;
	uint64_t inos[8];
	uint8_t *in, *out;
	uint32_t done[WIRE_OP_COUNT]; /* that succeeded */
} Odd;

static uint64_t odd_number(Odd *o)
{
	static const uint64_t edges[] = {
		0, 1, 2, 15, 16, 255, 4095, 4096, 65535, 65536, 1u << 22, INT32_MAX, UINT32_MAX, UINT64_C(1) << 32,
		INT64_MAX, INT64_MAX - 4095, UINT64_C(1) << 63, UINT64_MAX - 1, UINT64_MAX, INO_SEQ_MASK,
		S_IFREG | 0644, S_IFREG | 0644, S_IFDIR | 0755, S_IFIFO | 0600, S_IFLNK | 0777, SEEK_DATA, SEEK_HOLE,
	};

	switch (g_rand_int_range(o->rand, 0, 10)) {
	default:
		return 0;
	case 0:
		return edges[g_rand_int_range(o->rand, 0, G_N_ELEMENTS(edges))];
	case 1:
		return o->inos[g_rand_int_range(o->rand, 0, G_N_ELEMENTS(o->inos))];
	case 2:
		return (uint64_t)g_rand_int_range(o->rand, 0, 300);
	case 3:
		return (uint64_t)g_rand_int(o->rand) << 32 | g_rand_int(o->rand);
	}
}

/* Numbers of 8, 4 or 2 bytes; behind an inode that is there, mostly. */
static void odd_struct(Odd *o, uint8_t *req, size_t size)
{
	uint64_t ino = o->inos[g_rand_int_range(o->rand, 0, G_N_ELEMENTS(o->inos))];
	size_t width = (size_t)2 << g_rand_int_range(o->rand, 0, 3);

	for (size_t at = 0; at < size;) {
		size_t len = MIN(size - at, width);
		uint64_t n = odd_number(o);

		memcpy(req + at, &n, len);
		at += len;
	}
	if (size >= 8 && g_rand_int_range(o->rand, 0, 8))
		memcpy(req, &ino, 8);
}

/* Where the lengths of an operation's names stand; 0: it has no names. */
static size_t odd_name_at(WireOp op)
{
	switch (op) {
	case WIRE_LOOKUP:
	case WIRE_UNLINK:
		return offsetof(WireNameReq, name_len);
	case WIRE_CREATE:
		return offsetof(WireCreateReq, name_len);
	case WIRE_RENAME:
		return offsetof(WireRenameReq, name_len);
	case WIRE_LINK:
		return offsetof(WireLinkReq, name_len);
	case WIRE_GETXATTR:
	case WIRE_SETXATTR:
	case WIRE_REMOVEXATTR:
		return offsetof(WireXattrReq, name_len);
	default:
		return 0;
	}
}

/* Lengths that fit the bytes behind the struct. */
static void odd_name_lengths(Odd *o, WireOp op, uint8_t *req, uint32_t behind)
{
	uint16_t *len = (uint16_t *)(req + odd_name_at(op));

	if (!odd_name_at(op))
		return;
	len[0] = (uint16_t)behind;
	if (op == WIRE_RENAME) {
		len[1] = (uint16_t)g_rand_int_range(o->rand, 0, (gint32)behind + 1);
		len[0] = (uint16_t)(behind - len[1]);
	}
}

/* Not what waits for ever or takes a disk's worth of space; and files, so that
 * there is more to ask about. */
static void odd_tame(Odd *o, WireOp op, uint8_t *req)
{
	if (op == WIRE_LOCK_SET) {
		((WireLockReq *)req)->wait = 0;
	} else if (op == WIRE_CREATE && g_rand_boolean(o->rand)) {
		((WireCreateReq *)req)->mode = S_IFREG | 0644;
	} else if (op == WIRE_FALLOCATE) {
		WireFallocateReq *f = (WireFallocateReq *)req;
		f->len = f->len > UINT64_C(1) << 50 ? f->len : f->len % BULK;
	} else if (op == WIRE_OBJ_FALLOCATE) {
		WireObjReq *f = (WireObjReq *)req;
		f->len = f->len > UINT64_C(1) << 50 ? f->len : f->len % BULK;
	}
}

static size_t odd_bulk(Odd *o)
{
	static const size_t sizes[] = { 0, 0, 0, 0, 0, 1, 16, 24, 100, 4095, 4096, 4097, 65536, 65537, BULK };

	return sizes[g_rand_int_range(o->rand, 0, G_N_ELEMENTS(sizes))];
}

/* What stands behind the struct: a name that may exist, or any bytes. */
static uint32_t odd_names(Odd *o, WireOp op, uint8_t *req, size_t at)
{
	static const char *const names[] = { "a", "b", "f", "g", "fg", "ab", "x", "user.x", "trusted.t", "benchfs.policy", "benchfs.info" };
	const char *name = names[g_rand_int_range(o->rand, 0, G_N_ELEMENTS(names))];
	uint32_t len = (uint32_t)strlen(name);

	memcpy(req + at, name, len);
	if (!g_rand_int_range(o->rand, 0, 4)) {
		len = (uint32_t)g_rand_int_range(o->rand, 0, 600);
		for (uint32_t i = 0; i < len; i++)
			req[at + i] = g_rand_int_range(o->rand, 0, 200) ? 'a' : (uint8_t)g_rand_int(o->rand);
	}
	if (g_rand_int_range(o->rand, 0, 8))
		odd_name_lengths(o, op, req, len);
	return len;
}

static void coroutine_fn odd_request(Peer *p, Odd *o)
{
	uint64_t buf[WIRE_REQ_MAX / 8] = { 0 }, rep[64];
	uint8_t *req = (uint8_t *)buf;
	WireOp op = (WireOp)g_rand_int_range(o->rand, 0, WIRE_OP_COUNT);
	const WireOpInfo *info = wire_op_info(op);

	g_assert(info->rep_size <= sizeof(rep));
	if (op == WIRE_TREE_LOCK)
		return; /* every second one would wait for the first to end */
	odd_struct(o, req, info->req_size);
	odd_tame(o, op, req);
	uint32_t behind = odd_names(o, op, req, info->req_size);
	RpcCall call = {
		.req = req, .req_len = info->req_size + behind, .rep = rep,
		.in = o->in, .in_len = odd_bulk(o), .out = o->out, .out_cap = odd_bulk(o),
	};
	int r = rpc_co_call(p->rpc, rpc_self(p->rpc), op, &call);
	g_assert_cmpint(r, >, -4096);
	o->done[op] += r >= 0;
}

static void coroutine_fn odd_targets(Peer *p, Odd *o)
{
	o->inos[0] = INO_ROOT;
	o->inos[1] = make_dir(p, INO_ROOT, "a");
	o->inos[2] = make_dir(p, o->inos[1], "b");
	o->inos[3] = make_file(p, INO_ROOT, "f");
	o->inos[4] = make_file(p, o->inos[1], "g");
	g_assert_cmpint(do_create(p, INO_ROOT, "p", S_IFIFO | 0644, &o->inos[5]), ==, 0);
	o->inos[6] = ino_make(77, 12345);
	o->inos[7] = UINT64_MAX;
}

static void coroutine_fn works(Peer *p)
{
	uint64_t ino;

	(void)do_unlink(p, INO_ROOT, "plain");
	ino = make_file(p, INO_ROOT, "plain");
	g_assert_cmpuint(ino_of(p, INO_ROOT, "plain"), ==, ino);
	g_assert_cmpint(do_unlink(p, INO_ROOT, "plain"), ==, 0);
}

static void coroutine_fn ask_oddly(Peer *p)
{
	Odd o = { .rand = g_rand_new_with_seed((guint32)g_test_rand_int()), .in = g_malloc(BULK), .out = g_malloc(BULK) };

	for (uint32_t i = 0; i < BULK; i++)
		o.in[i] = (uint8_t)(i * 7 + (i >> 8));
	odd_targets(p, &o);
	for (uint32_t i = 0; i < REQUESTS; i++)
		odd_request(p, &o);
	for (uint32_t op = 0; op < WIRE_OP_COUNT; op++)
		g_test_message("%s: %u succeeded", wire_op_info(op)->name, o.done[op]);
	works(p);
	g_rand_free(o.rand);
	g_free(o.in);
	g_free(o.out);
}

static void test_odd_requests(Peer *p, gconstpointer data)
{
	peer_run(p, ask_oddly);
	peer_stop(p);
	peer_start(p);
	peer_run(p, works);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add("/odd/requests", Peer, NULL, peer_set_up, test_odd_requests, peer_tear_down);
	return g_test_run();
}
