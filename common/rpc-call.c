/*
 * Calls to other processes. A call's state lies on its caller's stack, and UCX
 * may hold pieces of it and of the caller's buffers (sending, fetching); the
 * call does not return before UCX has let go of them, if need be by ending the
 * connection.
 *
 *	wait for a connection -> send -> wait for the reply -> fetch its bulk
 *	       ^                                 |
 *	       +------ the connection failed ----+
 */
#define G_LOG_DOMAIN "rpc"

#include <errno.h>
#include <string.h>

#include "common/rpc-internal.h"

/* ---- links ---- */

void rpc_link_init(RpcLink *link)
{
	*link = (RpcLink) { .acks = g_array_new(FALSE, FALSE, sizeof(uint64_t)) };
}

void rpc_link_deinit(RpcLink *link)
{
	g_assert(!link->calls.head);
	g_array_free(link->acks, TRUE);
}

static void call_wake(RpcPending *p)
{
	if (!p->waiting)
		return;
	p->waiting = false;
	co_wake(p->co);
}

void rpc_link_wake(RpcLink *link)
{
	for (GList *l = link->calls.head; l; l = l->next)
		call_wake(l->data);
}

void rpc_link_set_conn(RpcLink *link, RpcConn *conn)
{
	link->conn = conn;
	link->down = false;
	link->away_ns = 0;
	if (link->serial != conn->serial)
		g_array_set_size(link->acks, 0);
	link->serial = conn->serial;
	rpc_link_wake(link);
}

void rpc_link_lost(RpcLink *link, int64_t away_ns)
{
	link->conn = NULL;
	link->term++;
	link->away_ns = away_ns;
	rpc_link_wake(link);
}

void rpc_link_end(RpcLink *link)
{
	for (GList *l = link->calls.head; l; l = l->next)
		((RpcPending *)l->data)->ended = true;
	rpc_link_wake(link);
}

/* No reply is wanted any more. */
static bool call_over(const RpcPending *p)
{
	return p->expired || p->ended || p->rpc->stopping;
}

/* ---- sending ---- */

static void call_on_sent(UcxOp *op, int res)
{
	RpcPending *p = (RpcPending *)((char *)op - offsetof(RpcPending, send_op));

	p->sending = false;
	rpc_ucx_end(p->conn);
	if (res < 0)
		rpc_conn_dead(p->conn, g_strerror(-res));
	call_wake(p);
}

/* A request that is sent again keeps the acks it had. */
static void call_take_acks(RpcPending *p, RpcMsg *m)
{
	GArray *acks = p->link->acks;
	uint32_t n = MIN(acks->len, RPC_MSG_ACKS - p->acks);

	for (uint32_t i = 0; i < n; i++)
		m->ack[p->acks++] = g_array_index(acks, uint64_t, acks->len - 1 - i);
	g_array_set_size(acks, acks->len - n);
	m->acks = (uint16_t)p->acks;
}

static void call_fill_header(RpcPending *p)
{
	RpcMsg m;

	memcpy(&m, p->header, sizeof(m));
	m.token = p->conn->peer_token;
	call_take_acks(p, &m);
	memcpy(p->header, &m, sizeof(m));
}

static void call_send(RpcPending *p)
{
	const RpcCall *call = p->call;
	int r;

	if (p->serial) {
		p->rpc->stats.retries++;
		if (p->serial != p->link->conn->serial)
			p->acks = 0; /* of replies that this one has never given */
	}
	p->conn = rpc_conn_ref(p->link->conn);
	p->conn->calls++;
	p->serial = p->conn->serial;
	call_fill_header(p);
	r = ucx_ep_send(p->conn->ep, RPC_MSG_REQUEST, p->header, sizeof(RpcMsg) + call->req_len, call->in, call->in_len, &p->send_op);
	if (r == -EINPROGRESS) {
		p->sending = true;
		rpc_ucx_begin(p->conn);
	} else if (r < 0) {
		rpc_conn_dead(p->conn, g_strerror(-r));
	}
}

/* ---- the reply ---- */

static void call_on_fetched(UcxOp *op, int res)
{
	RpcPending *p = (RpcPending *)((char *)op - offsetof(RpcPending, fetch_op));

	p->fetching = false;
	p->fetched = res;
	rpc_ucx_end(p->conn);
	call_wake(p);
}

/* Into the caller's buffer. */
static void call_fetch(RpcPending *p)
{
	void *rendezvous = g_steal_pointer(&p->rendezvous);
	int r;

	if (p->conn->failed || call_over(p)) {
		rpc_conn_drop(p->conn, rendezvous);
		p->fetched = -ECANCELED;
		return;
	}
	r = ucx_fetch(p->rpc->ucx, rendezvous, p->call->out, p->out_len, &p->fetch_op);
	if (r == -EINPROGRESS) {
		p->fetching = true;
		return;
	}
	p->fetched = r;
	rpc_ucx_end(p->conn);
}

static void call_take_reply(RpcPending *p, const RpcMsg *m, const UcxMsg *msg)
{
	p->status = m->status;
	p->out_len = msg->len;
	p->replied = true;
	p->fetched = 0;
	if (p->call->rep && m->body_len)
		memcpy(p->call->rep, (const uint8_t *)msg->header + sizeof(*m), m->body_len);
	if (msg->data)
		memcpy(p->call->out, msg->data, msg->len);
	if (msg->rendezvous) {
		p->rendezvous = msg->rendezvous;
		rpc_ucx_begin(p->conn);
	}
	call_wake(p);
}

bool rpc_call_reply(RpcConn *conn, const RpcMsg *m, const UcxMsg *msg)
{
	RpcPending *p = g_hash_table_lookup(conn->rpc->pending, &m->seq);

	/* Nobody waits any more, or not for this one. */
	if (!p || p->conn != conn || p->replied)
		return false;
	if (rpc_msg_check_reply(m, msg->header_len, msg->len, p->op, p->call->out_cap) < 0) {
		rpc_conn_bad_message(conn);
		return false;
	}
	call_take_reply(p, m, msg);
	return msg->rendezvous;
}

/* ---- waiting ---- */

static void call_timer_fire(ReactorTimer *t)
{
	RpcPending *p = (RpcPending *)((char *)t - offsetof(RpcPending, timer));

	p->expired = true;
	call_wake(p);
}

/* A call that may wait long has a limit only while its peer is away. */
static void call_set_limit(RpcPending *p)
{
	Rpc *rpc = p->rpc;
	int64_t away_ns = p->call->timeout_ns ? p->call->timeout_ns : rpc->deadline_ns;

	if (!(p->info->flags & WIRE_WAITS))
		return;
	if (p->link->conn)
		reactor_timer_cancel(rpc->reactor, &p->timer);
	else if (!p->timer.index && !p->expired)
		reactor_timer_arm(rpc->reactor, &p->timer, p->link->away_ns + away_ns);
}

static void coroutine_fn call_co_wait(RpcPending *p)
{
	call_set_limit(p);
	p->waiting = true;
	while (p->waiting)
		co_yield();
}

/* Until there is a reply and all of it, or the connection has failed, or time
 * is over; and nothing of ours is UCX's any more. */
static void coroutine_fn call_co_wait_reply(RpcPending *p)
{
	reactor_expect_begin(p->rpc->reactor);
	for (;;) {
		if (p->rendezvous)
			call_fetch(p);
		if (p->sending || p->fetching) {
			if (call_over(p))
				rpc_conn_dead(p->conn, "a call's time is over while its data is under way");
		} else if (p->replied || p->conn->failed || call_over(p)) {
			break;
		}
		call_co_wait(p);
	}
	reactor_expect_end(p->rpc->reactor);
}

/* True when the call is done. */
static bool call_finish(RpcPending *p)
{
	RpcConn *conn = g_steal_pointer(&p->conn);
	bool done = p->replied && p->fetched == 0;

	if (p->replied && p->fetched < 0 && p->fetched != -ECANCELED)
		rpc_conn_dead(conn, g_strerror(-p->fetched));
	if (done && !(p->info->flags & WIRE_IDEMPOTENT) && p->link->serial == conn->serial)
		g_array_append_val(p->link->acks, p->seq);
	conn->calls--;
	rpc_conn_unref(conn);
	p->replied = false;
	return done;
}

static int coroutine_fn call_co_run(RpcPending *p)
{
	RpcLink *link = p->link;

	for (;;) {
		if (p->ended)
			return -ENOTCONN;
		if (call_over(p) || link->down)
			return -EIO;
		if (!link->conn && p->rpc->leaving)
			return -EIO;
		if (!link->conn) {
			call_co_wait(p);
			continue;
		}
		/* Who remembers what it did is gone. */
		if (p->serial && p->serial != link->conn->serial && !(p->info->flags & WIRE_IDEMPOTENT))
			return -EIO;
		call_send(p);
		call_co_wait_reply(p);
		if (call_finish(p))
			return p->status;
	}
}

/* ---- a call ---- */

static void call_begin(RpcPending *p, const RpcCall *call)
{
	Rpc *rpc = p->rpc;
	RpcMsg m = {
		.seq = p->seq,
		.epoch = map_epoch(rpc->map),
		.op = (uint16_t)p->op,
		.body_len = call->req_len,
		.out_cap = MIN(call->out_cap, WIRE_BULK_MAX),
	};
	int64_t timeout_ns = call->timeout_ns ? call->timeout_ns : rpc->deadline_ns;

	memcpy(p->header, &m, sizeof(m));
	memcpy(p->header + sizeof(m), call->req, call->req_len);
	g_hash_table_insert(rpc->pending, &p->seq, p);
	g_queue_push_tail_link(&p->link->calls, &p->node);
	if (!(p->info->flags & WIRE_WAITS))
		reactor_timer_arm(rpc->reactor, &p->timer, reactor_now_ns(rpc->reactor) + timeout_ns);
	rpc->stats.sent[p->op]++;
	rpc->stats.inflight++;
	rpc->stats.inflight_max = MAX(rpc->stats.inflight_max, rpc->stats.inflight);
	rpc_obj_reads_add(rpc, p->op, 1);
}

static void call_end(RpcPending *p)
{
	Rpc *rpc = p->rpc;

	reactor_timer_cancel(rpc->reactor, &p->timer);
	g_queue_unlink(&p->link->calls, &p->node);
	g_hash_table_remove(rpc->pending, &p->seq);
	rpc->stats.inflight--;
	rpc_obj_reads_add(rpc, p->op, -1);
	rpc_check_idle(rpc);
}

int coroutine_fn rpc_call_co_remote(Rpc *rpc, RpcLink *link, WireOp op, RpcCall *call)
{
	RpcPending p;
	int r;

	/* Not all of it: the header is large. */
	memset(&p, 0, offsetof(RpcPending, header));
	p.rpc = rpc;
	p.link = link;
	p.call = call;
	p.op = op;
	p.info = wire_op_info(op);
	p.co = co_self();
	p.seq = ++rpc->last_seq;
	p.send_op.done = call_on_sent;
	p.fetch_op.done = call_on_fetched;
	p.timer.fire = call_timer_fire;
	p.node.data = &p;
	call_begin(&p, call);
	r = call_co_run(&p);
	call_end(&p);
	if (r >= 0)
		call->out_len = p.out_len;
	return r;
}
