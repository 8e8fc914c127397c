/*
 * TCP tells whether the other process lives, but calls travel over UCX, which
 * has ports of its own that a firewall may close, and some of them have no
 * deadline. So while calls are under way over a connection and UCX has brought
 * nothing for a while, we ask for a sign; when none comes for as long as a call
 * may take, the connection has failed.
 */
#define G_LOG_DOMAIN "rpc"

#include "common/rpc-internal.h"

#define SILENCE_NS INT64_C(2000000000)

static void coroutine_fn ping_co_send(RpcConn *conn, uint64_t seq)
{
	RpcMsg m = { .token = conn->peer_token, .seq = seq };

	rpc_conn_co_send(conn, RPC_MSG_PING, &m, sizeof(m), NULL, 0);
}

static void coroutine_fn ping_co_main(void *arg)
{
	RpcConn *conn = arg;

	ping_co_send(conn, 0);
	conn->pinging = false;
	rpc_conn_unref(conn);
}

static void coroutine_fn pong_co_main(void *arg)
{
	RpcConn *conn = arg;

	ping_co_send(conn, 1);
	conn->ponging = false;
	rpc_conn_unref(conn);
}

bool rpc_ping_check(RpcConn *conn, int64_t now_ns)
{
	int64_t silent_ns = now_ns - conn->ucx_heard_ns;

	if (conn->calls == 0) {
		conn->ucx_heard_ns = now_ns;
		return true;
	}
	if (silent_ns > MAX(conn->rpc->deadline_ns, SILENCE_NS))
		return false;
	if (silent_ns < MIN(conn->rpc->deadline_ns / 2, SILENCE_NS) || conn->pinging)
		return true;
	conn->pinging = true;
	rpc_spawn(conn->rpc, CO_INTERNAL, ping_co_main, rpc_conn_ref(conn));
	return true;
}

void rpc_ping_received(RpcConn *conn, const RpcMsg *m)
{
	if (m->seq != 0 || conn->ponging || conn->rpc->stopping)
		return;
	conn->ponging = true;
	rpc_spawn(conn->rpc, CO_INTERNAL, pong_co_main, rpc_conn_ref(conn));
}
