#pragma once
/*
 * A few Rpc objects on one reactor that talk over loopback, each serving the
 * same handful of operations: OBJ_READ and OBJ_WRITE of a known pattern, LOOKUP
 * with a name, CREATE (counted, may take its time), LOCK_SET (waits until it is
 * let go), FORGET_QUERY.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/rpc-internal.h"

#define MS INT64_C(1000000)
#define NODES_MAX 4
#define SECRET "the secret of the tests"

typedef struct Node {
	Reactor *reactor;
	ClusterMap *map;
	Counters *counters;
	Rpc *rpc;
	uint64_t creates, ended, last_ended;
	CoQueue locks;
	bool let_go;
	uint64_t asked_by; /* the session of the last request */
} Node;

typedef struct Fixture {
	Reactor *reactor;
	char *list;
	uint16_t ports[NODES_MAX];
	Node nodes[NODES_MAX];
	const char *tls;
} Fixture;

static inline uint8_t pattern(uint64_t off)
{
	return (uint8_t)(off * 7 + (off >> 8));
}

static inline void pattern_fill(uint8_t *buf, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = pattern(off + i);
}

static inline bool pattern_ok(const uint8_t *buf, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (buf[i] != pattern(off + i))
			return false;
	return true;
}

/* ---- handlers ---- */

static inline int coroutine_fn serve_obj_read(void *ctx, RpcReq *r)
{
	const WireObjReq *q = r->req;

	if (q->len > r->out_cap)
		return -EINVAL;
	pattern_fill(r->out, q->off, q->len);
	r->out_len = q->len;
	((WireObjRep *)r->rep)->off = q->off;
	return (int)q->len;
}

/* mode: milliseconds the disk takes. */
static inline int coroutine_fn serve_obj_write(void *ctx, RpcReq *r)
{
	const WireObjReq *q = r->req;

	if (q->mode)
		reactor_co_sleep(((Node *)ctx)->reactor, q->mode * MS);
	g_assert((r->in == NULL) == (r->in_len == 0));
	if (r->in_len != q->len || !pattern_ok(r->in, q->off, r->in_len))
		return -EIO;
	((WireObjRep *)r->rep)->blocks = r->in_len;
	return 0;
}

static inline int coroutine_fn serve_lookup(void *ctx, RpcReq *r)
{
	const WireNameReq *q = r->req;
	char name[WIRE_NAME_MAX + 1];
	int res = wire_name(r->req, r->req_len, sizeof(*q), 0, q->name_len, name);

	if (res < 0)
		return res;
	((WireEntryRep *)r->rep)->attr.ino = strlen(name);
	((WireEntryRep *)r->rep)->attr.size = g_str_hash(name);
	return 0;
}

/* flags: milliseconds it takes. */
static inline int coroutine_fn serve_create(void *ctx, RpcReq *r)
{
	const WireCreateReq *q = r->req;
	Node *n = ctx;

	((WireEntryRep *)r->rep)->attr.ino = ++n->creates;
	n->asked_by = r->session;
	if (q->flags)
		reactor_co_sleep(n->reactor, q->flags * MS);
	return 0;
}

static inline int coroutine_fn serve_lock_set(void *ctx, RpcReq *r)
{
	Node *n = ctx;

	while (!n->let_go)
		co_queue_wait(&n->locks);
	return 0;
}

static inline int coroutine_fn serve_forget_query(void *ctx, RpcReq *r)
{
	Node *n = ctx;

	n->asked_by = r->session;
	((WireOpenRep *)r->rep)->open = ((const WireForgetReq *)r->req)->ino + 1;
	return 0;
}

static inline void node_session_ended(void *ctx, uint64_t session)
{
	Node *n = ctx;

	n->ended++;
	n->last_ended = session;
	/* whoever waits for it */
	n->let_go = true;
	co_queue_wake_all(&n->locks);
}

static inline void node_serve(Node *n)
{
	rpc_serve(n->rpc, WIRE_OBJ_READ, serve_obj_read, n);
	rpc_serve(n->rpc, WIRE_OBJ_WRITE, serve_obj_write, n);
	rpc_serve(n->rpc, WIRE_LOOKUP, serve_lookup, n);
	rpc_serve(n->rpc, WIRE_CREATE, serve_create, n);
	rpc_serve(n->rpc, WIRE_LOCK_SET, serve_lock_set, n);
	rpc_serve(n->rpc, WIRE_FORGET_QUERY, serve_forget_query, n);
	rpc_on_session_ended(n->rpc, node_session_ended, n);
}

/* ---- nodes ---- */

/* Free while *ret_fd is open, and most likely for a while after that. */
static inline uint16_t take_port(int *ret_fd)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);

	*ret_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(bind(*ret_fd, (struct sockaddr *)&a, sizeof(a)), ==, 0);
	g_assert_cmpint(getsockname(*ret_fd, (struct sockaddr *)&a, &len), ==, 0);
	return ntohs(a.sin_port);
}

static inline RpcOptions node_options(Fixture *f, uint16_t self)
{
	Node *n = &f->nodes[self == PEER_NONE ? NODES_MAX - 1 : self];

	n->reactor = f->reactor;
	n->counters = counters_new();
	n->map = map_new_from_list(f->list, NULL);
	return (RpcOptions) {
		.reactor = f->reactor, .map = n->map, .counters = n->counters,
		.self = self, .network = true,
		.listen_host = self == PEER_NONE ? NULL : (char *)"127.0.0.1",
		.listen_port = self == PEER_NONE ? 0 : f->ports[self],
		.secret = (const uint8_t *)SECRET, .secret_len = strlen(SECRET),
		.ucx_tls = f->tls ? f->tls : "tcp,self",
		.deadline_ns = 1500 * MS, .session_ns = 2500 * MS,
	};
}

static inline Node *node_start_with(Fixture *f, const RpcOptions *o)
{
	Node *n = &f->nodes[o->self == PEER_NONE ? NODES_MAX - 1 : o->self];
	g_autoptr(GError) error = NULL;

	n->rpc = rpc_new(o, &error);
	g_assert_no_error(error);
	node_serve(n);
	rpc_start(n->rpc);
	return n;
}

static inline Node *node_start(Fixture *f, uint16_t self)
{
	RpcOptions o = node_options(f, self);

	return node_start_with(f, &o);
}

static inline void coroutine_fn node_co_stop(void *arg)
{
	rpc_co_stop(((Node *)arg)->rpc);
}

static inline void node_stop(Node *n)
{
	if (!n->rpc)
		return;
	n->let_go = true;
	co_queue_wake_all(&n->locks);
	reactor_run_co(n->reactor, node_co_stop, n);
	rpc_free(n->rpc);
	counters_free(n->counters);
	map_free(n->map);
	*n = (Node) { .reactor = NULL };
}

/* Three addresses in the list, the first `running` of them running. */
static inline void fixture_init(Fixture *f, const char *tls, uint16_t running)
{
	g_autoptr(GString) list = g_string_new(NULL);
	g_autoptr(GError) error = NULL;
	ReactorOptions ro = { 0 };

	*f = (Fixture) { .tls = tls, .reactor = reactor_new(&ro, &error) };
	g_assert_no_error(error);
	int fds[3];
	for (int i = 0; i < 3; i++) {
		f->ports[i] = take_port(&fds[i]);
		g_string_append_printf(list, "127.0.0.1:%u\n", f->ports[i]);
	}
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	f->list = g_string_free(g_steal_pointer(&list), FALSE);
	for (uint16_t i = 0; i < running; i++)
		node_start(f, i);
}

static inline void fixture_deinit(Fixture *f)
{
	for (int i = 0; i < NODES_MAX; i++)
		node_stop(&f->nodes[i]);
	reactor_free(f->reactor);
	g_free(f->list);
}

static inline void fixture_run(Fixture *f, CoFn *fn)
{
	reactor_run_co(f->reactor, fn, f);
}

/* ---- calls ---- */

static inline int coroutine_fn co_create(Node *n, uint16_t peer, uint32_t takes_ms, uint64_t *ret_number)
{
	WireCreateReq q = { .flags = takes_ms };
	WireEntryRep rep;
	RpcCall call = { .req = &q, .req_len = sizeof(q), .rep = &rep };
	int r = rpc_co_call(n->rpc, peer, WIRE_CREATE, &call);

	if (r >= 0 && ret_number)
		*ret_number = rep.attr.ino;
	return r;
}

static inline int coroutine_fn co_obj_read(Node *n, uint16_t peer, uint8_t *buf, size_t len, uint64_t off)
{
	WireObjReq q = { .off = off, .len = len };
	WireObjRep rep;
	RpcCall call = { .req = &q, .req_len = sizeof(q), .rep = &rep, .out = buf, .out_cap = len };
	int r = rpc_co_call(n->rpc, peer, WIRE_OBJ_READ, &call);

	if (r < 0)
		return r;
	g_assert_cmpint(r, ==, len);
	g_assert_cmpuint(call.out_len, ==, len);
	g_assert_cmpuint(rep.off, ==, off);
	return pattern_ok(buf, off, len) ? 0 : -EILSEQ;
}

static inline int coroutine_fn co_obj_write(Node *n, uint16_t peer, const uint8_t *buf, size_t len, uint64_t off)
{
	WireObjReq q = { .off = off, .len = len };
	WireObjRep rep = { .blocks = 1 };
	RpcCall call = { .req = &q, .req_len = sizeof(q), .rep = &rep, .in = buf, .in_len = len };
	int r = rpc_co_call(n->rpc, peer, WIRE_OBJ_WRITE, &call);

	if (r >= 0)
		g_assert_cmpuint(rep.blocks, ==, len);
	return r;
}
