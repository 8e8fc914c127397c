#include "common/rpc.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "common/rpc-internal.h"

typedef struct RpcEndedFn {
	RpcSessionEnded *fn;
	void *ctx;
} RpcEndedFn;

uint64_t rpc_random(void)
{
	uint64_t n = 0;

	while (n == 0) {
		ssize_t got = getrandom(&n, sizeof(n), 0);

		g_assert(got == sizeof(n)); /* never less, for so few bytes */
	}
	return n;
}

static void rpc_add_op_counters(Rpc *rpc, uint32_t op)
{
	const char *name = wire_op_info(op)->name;
	const struct { const char *kind; uint64_t *value; } rows[] = {
		{ "sent", &rpc->sent[op] }, { "served", &rpc->served[op] }, { "local", &rpc->local[op] },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autofree char *full = g_strdup_printf("rpc.%s.%s", rows[i].kind, name);

		counters_add(rpc->counters, full, rows[i].value);
	}
}

static void rpc_remove_counters(Rpc *rpc)
{
	for (uint32_t op = 0; op < WIRE_OP_COUNT; op++) {
		counters_remove(rpc->counters, &rpc->sent[op]);
		counters_remove(rpc->counters, &rpc->served[op]);
		counters_remove(rpc->counters, &rpc->local[op]);
	}
}

Rpc *rpc_new(const RpcOptions *opts, GError **error)
{
	Rpc *rpc = g_new0(Rpc, 1);

	*rpc = (Rpc) {
		.reactor = opts->reactor,
		.map = opts->map,
		.counters = opts->counters,
		.self = opts->self,
		.session = rpc_random(),
		.ended_fns = g_array_new(FALSE, FALSE, sizeof(RpcEndedFn)),
	};
	for (uint32_t op = 0; op < WIRE_OP_COUNT; op++)
		rpc_add_op_counters(rpc, op);
	return rpc;
}

void rpc_start(Rpc *rpc)
{
}

void coroutine_fn rpc_co_stop(Rpc *rpc)
{
}

void rpc_free(Rpc *rpc)
{
	if (!rpc)
		return;
	rpc_remove_counters(rpc);
	g_array_free(rpc->ended_fns, TRUE);
	g_free(rpc);
}

uint16_t rpc_self(const Rpc *rpc)
{
	return rpc->self;
}

uint64_t rpc_session(const Rpc *rpc)
{
	return rpc->session;
}

Reactor *rpc_reactor(const Rpc *rpc)
{
	return rpc->reactor;
}

const ClusterMap *rpc_map(const Rpc *rpc)
{
	return rpc->map;
}

void rpc_serve(Rpc *rpc, WireOp op, RpcHandler *handler, void *ctx)
{
	g_assert(op < WIRE_OP_COUNT && !rpc->services[op].handler);
	rpc->services[op] = (RpcService) { handler, ctx };
}

void rpc_on_session_ended(Rpc *rpc, RpcSessionEnded *fn, void *ctx)
{
	RpcEndedFn f = { fn, ctx };

	g_array_append_val(rpc->ended_fns, f);
}

uint32_t rpc_sessions(Rpc *rpc, uint64_t *ret_sessions, uint32_t max)
{
	if (max == 0)
		return 0;
	ret_sessions[0] = rpc->session;
	return 1;
}

int coroutine_fn rpc_co_handle(Rpc *rpc, RpcReq *r)
{
	const RpcService *s = &rpc->services[r->op];
	int res;

	if (!s->handler)
		return -EOPNOTSUPP;
	memset(r->rep, 0, wire_op_info(r->op)->rep_size);
	r->out_len = 0;
	res = s->handler(s->ctx, r);
	g_assert(r->out_len <= r->out_cap);
	return res;
}

static int coroutine_fn rpc_co_call_local(Rpc *rpc, WireOp op, RpcCall *call)
{
	uint64_t rep[WIRE_REP_MAX / sizeof(uint64_t)];
	RpcReq r = {
		.op = op,
		.req = call->req, .req_len = call->req_len,
		.in = call->in_len ? call->in : NULL, .in_len = call->in_len,
		.out = call->out, .out_cap = MIN(call->out_cap, WIRE_BULK_MAX),
		.rep = call->rep ? call->rep : rep,
		.session = rpc->session,
		.peer = rpc->self,
	};
	int res;

	rpc->local[op]++;
	res = rpc_co_handle(rpc, &r);
	if (res >= 0)
		call->out_len = r.out_len;
	return res;
}

/* The caller is this program: what it sends is in the table's bounds. */
static void rpc_check_call(WireOp op, const RpcCall *call)
{
	g_assert(op < WIRE_OP_COUNT);
	g_assert(call->req_len >= wire_op_info(op)->req_size && call->req_len <= WIRE_REQ_MAX);
	g_assert(call->in_len <= WIRE_BULK_MAX);
}

int coroutine_fn rpc_co_call(Rpc *rpc, uint16_t peer, WireOp op, RpcCall *call)
{
	rpc_check_call(op, call);
	call->out_len = 0;
	if (peer == rpc->self && peer != PEER_NONE)
		return rpc_co_call_local(rpc, op, call);
	return -EIO;
}

int coroutine_fn rpc_co_call_session(Rpc *rpc, uint64_t session, WireOp op, RpcCall *call)
{
	rpc_check_call(op, call);
	call->out_len = 0;
	if (session == rpc->session)
		return rpc_co_call_local(rpc, op, call);
	return -ENOTCONN;
}

int coroutine_fn rpc_co_connect(Rpc *rpc, uint16_t peer, int64_t timeout_ns, char **ret_reason)
{
	return peer == rpc->self ? 0 : -ETIMEDOUT;
}

RpcPeerState rpc_peer_state(const Rpc *rpc, uint16_t peer)
{
	return peer == rpc->self ? RPC_PEER_SELF : RPC_PEER_IDLE;
}

const char *rpc_peer_state_name(RpcPeerState state)
{
	static const char *const names[] = {
		[RPC_PEER_SELF] = "self",
		[RPC_PEER_UP] = "up",
		[RPC_PEER_CONNECTING] = "connecting",
		[RPC_PEER_DOWN] = "down",
		[RPC_PEER_IDLE] = "idle",
	};

	return names[state];
}
