/*
 * Calls from others. A request becomes a coroutine at once, but the bulk of a
 * large one is only fetched when that coroutine runs: what there is no room
 * for waits at its sender.
 */
#define G_LOG_DOMAIN "rpc"

#include <errno.h>
#include <string.h>

#include "common/rpc-internal.h"

typedef struct Incoming {
	Rpc *rpc;
	RpcConn *conn;       /* a reference; so the session lives, too */
	RpcMsg msg;
	void *rendezvous;    /* of the bulk, while it has not been fetched */
	size_t in_len;
	uint8_t *in;
	uint64_t body[];     /* the request; 64-bit for its alignment */
} Incoming;

/* Waits for one operation of UCX. */
typedef struct UcxWait {
	UcxOp op;
	Co *co;
	bool done;
	int res;
} UcxWait;

static void ucx_wait_done(UcxOp *op, int res)
{
	UcxWait *w = (UcxWait *)op;

	w->done = true;
	w->res = res;
	co_wake(w->co);
}

/* started: what the function that took w->op returned. */
static int coroutine_fn ucx_wait_co_finish(RpcConn *conn, UcxWait *w, int started)
{
	if (started != -EINPROGRESS)
		return started;
	rpc_ucx_begin(conn);
	while (!w->done)
		co_yield();
	rpc_ucx_end(conn);
	return w->res;
}

void coroutine_fn rpc_conn_co_send(RpcConn *conn, uint16_t id, const void *header, size_t header_len, const void *data, size_t len)
{
	UcxWait w = { .op.done = ucx_wait_done, .co = co_self() };
	int r;

	if (conn->failed)
		return;
	r = ucx_ep_send(conn->ep, id, header, header_len, data, len, &w.op);
	r = ucx_wait_co_finish(conn, &w, r);
	if (r < 0)
		rpc_conn_dead(conn, g_strerror(-r));
}

/* ---- arriving ---- */

static Incoming *incoming_new(RpcConn *conn, const RpcMsg *m, const UcxMsg *msg)
{
	Incoming *q = g_try_malloc(sizeof(*q) + m->body_len);

	if (!q)
		return NULL;
	*q = (Incoming) { .rpc = conn->rpc, .msg = *m, .in_len = msg->len };
	memcpy(q->body, (const uint8_t *)msg->header + sizeof(*m), m->body_len);
	if (msg->data) {
		q->in = g_try_malloc(msg->len);
		if (!q->in) {
			g_free(q);
			return NULL;
		}
		memcpy(q->in, msg->data, msg->len);
	}
	q->conn = rpc_conn_ref(conn);
	q->rendezvous = msg->rendezvous;
	if (q->rendezvous)
		rpc_ucx_begin(q->conn);
	return q;
}

static void incoming_drop_bulk(Incoming *q)
{
	void *rendezvous = g_steal_pointer(&q->rendezvous);

	if (rendezvous)
		rpc_conn_drop(q->conn, rendezvous);
}

static void incoming_free(Incoming *q)
{
	incoming_drop_bulk(q);
	rpc_conn_unref(q->conn);
	g_free(q->in);
	g_free(q);
}

/* -ENOMEM: the caller is told. Other errors: the connection is gone. */
static int coroutine_fn incoming_co_fetch(Incoming *q)
{
	UcxWait w = { .op.done = ucx_wait_done, .co = co_self() };
	int r;

	if (!q->rendezvous)
		return 0;
	if (q->conn->failed)
		return -ECONNRESET;
	q->in = g_try_malloc(q->in_len);
	if (!q->in)
		return -ENOMEM;
	r = ucx_fetch(q->rpc->ucx, g_steal_pointer(&q->rendezvous), q->in, q->in_len, &w.op);
	r = ucx_wait_co_finish(q->conn, &w, r);
	rpc_ucx_end(q->conn);
	if (r < 0)
		rpc_conn_dead(q->conn, g_strerror(-r));
	return r < 0 ? -ECONNRESET : 0;
}

/* ---- serving ---- */

static void coroutine_fn incoming_co_handle(Incoming *q, RpcMemo *m)
{
	RpcReq r = {
		.op = m->op,
		.req = q->body, .req_len = q->msg.body_len,
		.in = q->in, .in_len = q->in_len,
		.out_cap = MIN(q->msg.out_cap, WIRE_BULK_MAX),
		.rep = m->rep,
		.session = q->conn->session->id,
		.peer = q->conn->session->peer,
	};

	if (r.out_cap && !(m->out = g_try_malloc(r.out_cap))) {
		m->status = -ENOMEM;
		return;
	}
	r.out = m->out;
	q->rpc->stats.served[m->op]++;
	m->status = rpc_co_handle(q->rpc, &r);
	m->out_len = m->status < 0 ? 0 : r.out_len;
}

/* A memo lasts: it should not hold a buffer of the size the caller had room
 * for. */
static void memo_shrink(RpcMemo *m)
{
	if (m->out_len == 0)
		g_clear_pointer(&m->out, g_free);
	else
		m->out = g_realloc(m->out, m->out_len);
}

/* False: there is nothing to answer, for the connection is gone. */
static bool coroutine_fn incoming_co_do(Incoming *q, RpcMemo *m)
{
	RpcSession *s = q->conn->session;
	int r = incoming_co_fetch(q);
	bool keep = !(wire_op_info(m->op)->flags & WIRE_IDEMPOTENT);

	if (r == -ECONNRESET) {
		rpc_memo_done(s, m, false);
		return false;
	}
	if (r < 0)
		m->status = r;
	else
		incoming_co_handle(q, m);
	if (keep)
		memo_shrink(m);
	rpc_memo_done(s, m, keep);
	return true;
}

static void coroutine_fn incoming_co_reply(Incoming *q, const RpcMemo *m)
{
	struct {
		RpcMsg msg;
		uint8_t rep[WIRE_REP_MAX];
	} header;
	uint32_t rep_len = m->status < 0 ? 0 : wire_op_info(m->op)->rep_size;

	header.msg = (RpcMsg) {
		.token = q->conn->peer_token,
		.seq = m->seq,
		.epoch = map_epoch(q->rpc->map),
		.op = (uint16_t)m->op,
		.body_len = rep_len,
		.status = m->status,
	};
	memcpy(header.rep, m->rep, rep_len);
	rpc_conn_co_send(q->conn, RPC_MSG_REPLY, &header, sizeof(header.msg) + rep_len, m->out, m->out_len);
}

static void coroutine_fn incoming_co_main(void *arg)
{
	Incoming *q = arg;
	RpcSession *s = q->conn->session;
	bool again;
	RpcMemo *m;

	for (uint32_t i = 0; i < q->msg.acks; i++)
		rpc_memo_forget(s, q->msg.ack[i]);
	m = rpc_memo_co_begin(s, q->msg.seq, (WireOp)q->msg.op, &again);
	if (again && m->op != (WireOp)q->msg.op) {
		rpc_conn_bad_message(q->conn);
	} else if (again) {
		incoming_drop_bulk(q);
		incoming_co_reply(q, m);
	} else if (incoming_co_do(q, m)) {
		incoming_co_reply(q, m);
	}
	rpc_memo_unref(m);
	incoming_free(q);
}

/* True: it keeps the rendezvous. */
bool rpc_serve_request(RpcConn *conn, const RpcMsg *m, const UcxMsg *msg)
{
	Incoming *q;

	if (rpc_msg_check_request(m, msg->header_len, msg->len) < 0) {
		rpc_conn_bad_message(conn);
		return false;
	}
	if (conn->rpc->stopping)
		return false;
	q = incoming_new(conn, m, msg);
	if (!q) {
		rpc_conn_fail(conn, "out of memory");
		return false;
	}
	rpc_spawn(conn->rpc, wire_op_info(m->op)->flags & WIRE_TO_MOUNT ? CO_MOUNT : CO_RPC, incoming_co_main, q);
	return msg->rendezvous;
}

bool rpc_receive(void *arg, const UcxMsg *msg)
{
	Rpc *rpc = arg;
	RpcConn *conn;
	RpcMsg m;

	if (rpc_msg_get(msg->header, msg->header_len, &m) < 0 || !(conn = g_hash_table_lookup(rpc->conns, &m.token))) {
		rpc->stats.unauthenticated++;
		return false;
	}
	conn->ucx_heard_ns = reactor_now_ns(rpc->reactor);
	switch (msg->id) {
	case RPC_MSG_REQUEST:
		return rpc_serve_request(conn, &m, msg);
	case RPC_MSG_REPLY:
		return rpc_call_reply(conn, &m, msg);
	default:
		rpc_ping_received(conn, &m);
		return false;
	}
}
