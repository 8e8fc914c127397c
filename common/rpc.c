/*
 * The Rpc as a whole: making and ending it, its operations, and the calls that
 * stay inside this process. rpc-internal.h says where the rest is.
 */
#define G_LOG_DOMAIN "rpc"

#include "common/rpc.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/net.h"
#include "common/rpc-internal.h"

#define DEADLINE_NS INT64_C(10000000000)
#define SESSION_NS INT64_C(15000000000)

uint64_t rpc_random(void)
{
	uint64_t n = 0;

	while (n == 0) {
		ssize_t got = getrandom(&n, sizeof(n), 0);

		g_assert(got == sizeof(n)); /* never less, for so few bytes */
	}
	return n;
}

/* ---- our coroutines, and waiting for them ---- */

typedef struct RpcTask {
	Rpc *rpc;
	CoFn *fn;
	void *arg;
} RpcTask;

static bool rpc_is_idle(const Rpc *rpc)
{
	return rpc->tasks == 0 && rpc->ucx_busy == 0 && g_hash_table_size(rpc->pending) == 0;
}

void rpc_check_idle(Rpc *rpc)
{
	if (rpc->stopper && rpc_is_idle(rpc))
		co_wake(g_steal_pointer(&rpc->stopper));
}

static void coroutine_fn task_co_main(void *arg)
{
	RpcTask *t = arg;

	t->fn(t->arg);
	t->rpc->tasks--;
	rpc_check_idle(t->rpc);
	g_free(t);
}

void rpc_spawn(Rpc *rpc, CoClass class, CoFn *fn, void *arg)
{
	RpcTask *t = g_new(RpcTask, 1);

	*t = (RpcTask) { rpc, fn, arg };
	rpc->tasks++;
	co_spawn(reactor_sched(rpc->reactor), class, task_co_main, t);
}

/* ---- making and ending ---- */

/* By default nothing is reachable but through the interface of the address we
 * listen on; a client's is the one that leads to its peers. */
static char *rpc_pick_devices(const Rpc *rpc, GError **error)
{
	char *name = NULL;

	if (rpc->listen_fd >= 0) {
		name = net_device_of(rpc->listen_fd);
		return name ? name : g_strdup("all");
	}
	for (uint16_t id = 0; !name && id < map_peer_count(rpc->map); id++) {
		const MapPeer *p = map_peer(rpc->map, id);

		name = p->host ? net_device_towards(p->host, p->port) : NULL;
	}
	if (!name)
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "no network interface leads to any peer of the list");
	return name;
}

static bool rpc_open_network(Rpc *rpc, const RpcOptions *opts, GError **error)
{
	g_autofree char *devices = NULL;
	UcxOptions u = {
		.reactor = rpc->reactor,
		.tls = opts->ucx_tls,
		.ids = RPC_MSG_IDS,
		.header_max = RPC_MSG_HEADER_MAX,
		.recv = rpc_receive,
		.arg = rpc,
	};

	if (opts->secret_len == 0) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "peers need a secret");
		return false;
	}
	if (opts->listen_host) {
		rpc->listen_fd = net_listen(opts->listen_host, opts->listen_port ? opts->listen_port : BENCHFS_PORT, error);
		if (rpc->listen_fd < 0)
			return false;
	}
	devices = opts->ucx_devices ? g_strdup(opts->ucx_devices) : rpc_pick_devices(rpc, error);
	if (!devices)
		return false;
	u.devices = devices;
	rpc->ucx = ucx_new(&u, error);
	return rpc->ucx;
}

Rpc *rpc_new(const RpcOptions *opts, GError **error)
{
	Rpc *rpc = g_new0(Rpc, 1);

	*rpc = (Rpc) {
		.reactor = opts->reactor,
		.map = opts->map,
		.counters = opts->counters,
		.self = opts->self,
		.network = opts->network,
		.session = rpc_random(),
		.secret = g_memdup2(opts->secret, opts->secret_len),
		.secret_len = opts->secret_len,
		.deadline_ns = opts->deadline_ns ? opts->deadline_ns : DEADLINE_NS,
		.session_ns = opts->session_ns ? opts->session_ns : SESSION_NS,
		.listen_fd = -1,
		.ended_fns = g_array_new(FALSE, FALSE, sizeof(RpcEndedFn)),
		.conns = g_hash_table_new(g_int64_hash, g_int64_equal),
		.sessions = g_hash_table_new(g_int64_hash, g_int64_equal),
		.pending = g_hash_table_new(g_int64_hash, g_int64_equal),
	};
	memcpy(rpc->cluster_id, opts->cluster_id, sizeof(rpc->cluster_id));
	rpc_peers_init(rpc);
	rpc_add_counters(rpc);
	if (rpc->network && !rpc_open_network(rpc, opts, error)) {
		rpc_free(rpc);
		return NULL;
	}
	return rpc;
}

void rpc_start(Rpc *rpc)
{
	if (!rpc->network)
		return;
	rpc_accept_start(rpc);
	rpc_pulse_start(rpc);
}

void rpc_leave(Rpc *rpc)
{
	GHashTableIter it;
	void *session;

	rpc->leaving = true;
	for (uint32_t id = 0; id < map_peer_count(rpc->map); id++)
		rpc_link_wake(&rpc->peers[id].link);
	g_hash_table_iter_init(&it, rpc->sessions);
	while (g_hash_table_iter_next(&it, NULL, &session))
		rpc_link_wake(&((RpcSession *)session)->link);
}

void coroutine_fn rpc_co_stop(Rpc *rpc)
{
	rpc->stopping = true;
	reactor_timer_cancel(rpc->reactor, &rpc->pulse);
	rpc_accept_stop(rpc);
	rpc_conns_say_bye(rpc);
	rpc_conns_fail_all(rpc, "this peer is stopping");
	rpc_peers_stop(rpc);
	/* Handlers that wait on behalf of one end now. */
	rpc_sessions_end_all(rpc);
	co_queue_wake_all(&rpc->clean);
	while (!rpc_is_idle(rpc)) {
		rpc->stopper = co_self();
		co_yield();
	}
}

void rpc_free(Rpc *rpc)
{
	if (!rpc)
		return;
	g_assert(g_hash_table_size(rpc->conns) == 0 && rpc_is_idle(rpc));
	rpc->stopping = true;
	reactor_timer_cancel(rpc->reactor, &rpc->pulse);
	rpc_remove_counters(rpc);
	/* Those that are left were expected by a start that has failed. */
	g_array_set_size(rpc->ended_fns, 0);
	rpc_sessions_end_all(rpc);
	g_hash_table_destroy(rpc->sessions);
	rpc_peers_deinit(rpc);
	ucx_free(rpc->ucx);
	if (rpc->listen_fd >= 0)
		close(rpc->listen_fd);
	g_hash_table_destroy(rpc->conns);
	g_hash_table_destroy(rpc->pending);
	g_array_free(rpc->ended_fns, TRUE);
	if (rpc->secret)
		explicit_bzero(rpc->secret, rpc->secret_len);
	g_free(rpc->secret);
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

void rpc_on_session_begins(Rpc *rpc, RpcSessionBegins *fn, void *ctx)
{
	g_assert(!rpc->begins);
	rpc->begins = fn;
	rpc->begins_ctx = ctx;
}

void rpc_on_session_ended(Rpc *rpc, RpcSessionEnded *fn, void *ctx)
{
	RpcEndedFn f = { fn, ctx };

	g_array_append_val(rpc->ended_fns, f);
}

/* ---- calls ---- */

int coroutine_fn rpc_co_handle(Rpc *rpc, RpcReq *r)
{
	const RpcService *s = &rpc->services[r->op];
	int res;

	memset(r->rep, 0, wire_op_info(r->op)->rep_size);
	r->out_len = 0;
	if (!s->handler)
		return -EOPNOTSUPP;
	res = s->handler(s->ctx, r);
	g_assert(r->out_len <= r->out_cap);
	return res;
}

void rpc_obj_reads_add(Rpc *rpc, WireOp op, int n)
{
	if (op != WIRE_OBJ_READ)
		return;
	rpc->stats.obj_reads += (uint64_t)n;
	rpc->stats.obj_reads_max = MAX(rpc->stats.obj_reads_max, rpc->stats.obj_reads);
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

	rpc->stats.local[op]++;
	rpc_obj_reads_add(rpc, op, 1);
	res = rpc_co_handle(rpc, &r);
	rpc_obj_reads_add(rpc, op, -1);
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
	if (!rpc->network || peer >= map_peer_count(rpc->map))
		return -EIO;
	rpc_peer_want(&rpc->peers[peer]);
	return rpc_call_co_remote(rpc, &rpc->peers[peer].link, op, call);
}

int coroutine_fn rpc_co_call_session(Rpc *rpc, uint64_t session, WireOp op, RpcCall *call)
{
	RpcSession *s;
	int r;

	rpc_check_call(op, call);
	call->out_len = 0;
	if (session == rpc->session)
		return rpc_co_call_local(rpc, op, call);
	s = g_hash_table_lookup(rpc->sessions, &session);
	if (!s || !s->caller)
		return -ENOTCONN;
	rpc_session_ref(s);
	r = rpc_call_co_remote(rpc, &s->link, op, call);
	rpc_session_unref(s);
	return r;
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
