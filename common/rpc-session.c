/*
 * Sessions. A session is a process that is, or lately was, connected with us.
 * It outlives its connections by session_ns, so that a request sent again over
 * a new connection finds what became of it: each request under way or done
 * has a memo, done ones (of operations that can't be done twice) until the
 * caller says that it has the reply.
 */
#define G_LOG_DOMAIN "rpc"

#include <errno.h>
#include <string.h>

#include "common/rpc-internal.h"

/* Replies nobody acknowledged, because the acknowledgements were lost with
 * their connection. Far more than requests can be under way. */
#define MEMOS_DONE_MAX 65536u

/* ---- memos ---- */

static RpcMemo *memo_ref(RpcMemo *m)
{
	m->refs++;
	return m;
}

void rpc_memo_unref(RpcMemo *m)
{
	if (--m->refs > 0)
		return;
	g_free(m->out);
	g_free(m);
}

static void memo_remove(RpcSession *s, RpcMemo *m)
{
	if (m->done)
		g_queue_unlink(&s->done, &m->node);
	g_hash_table_remove(s->memos, &m->seq);
	rpc_memo_unref(m);
}

RpcMemo *coroutine_fn rpc_memo_co_begin(RpcSession *s, uint64_t seq, WireOp op, bool *ret_again)
{
	RpcMemo *m;

	while ((m = g_hash_table_lookup(s->memos, &seq))) {
		memo_ref(m);
		s->rpc->stats.duplicates++;
		if (!m->done)
			co_queue_wait(&m->waiters);
		if (m->done) {
			*ret_again = true;
			return m;
		}
		rpc_memo_unref(m); /* it was not remembered: do it again */
	}
	m = g_new0(RpcMemo, 1);
	*m = (RpcMemo) { .seq = seq, .op = op, .refs = 2, .node.data = m };
	g_hash_table_insert(s->memos, &m->seq, m);
	*ret_again = false;
	return m;
}

void rpc_memo_done(RpcSession *s, RpcMemo *m, bool keep)
{
	if (keep) {
		m->done = true;
		g_queue_push_tail_link(&s->done, &m->node);
	} else {
		memo_remove(s, m);
	}
	co_queue_wake_all(&m->waiters);
	if (s->done.length > MEMOS_DONE_MAX) {
		s->rpc->stats.forgotten++;
		memo_remove(s, s->done.head->data);
	}
}

void rpc_memo_forget(RpcSession *s, uint64_t seq)
{
	RpcMemo *m = g_hash_table_lookup(s->memos, &seq);

	if (m && m->done)
		memo_remove(s, m);
}

/* ---- sessions ---- */

static void session_timer_fire(ReactorTimer *t)
{
	RpcSession *s = (RpcSession *)((char *)t - offsetof(RpcSession, timer));

	rpc_session_end(s);
}

static RpcSession *session_new(Rpc *rpc, uint64_t id, uint16_t peer)
{
	RpcSession *s = g_new0(RpcSession, 1);

	*s = (RpcSession) {
		.rpc = rpc,
		.refs = 1, /* the table's */
		.id = id,
		.serial = rpc_random(),
		.peer = peer,
		.timer.fire = session_timer_fire,
		.memos = g_hash_table_new(g_int64_hash, g_int64_equal),
	};
	rpc_link_init(&s->link);
	g_hash_table_insert(rpc->sessions, &s->id, s);
	/* Until its first connection is up. */
	reactor_timer_arm(rpc->reactor, &s->timer, reactor_now_ns(rpc->reactor) + rpc->session_ns);
	return s;
}

static void session_free(RpcSession *s)
{
	while (s->done.head)
		memo_remove(s, s->done.head->data);
	g_assert(g_hash_table_size(s->memos) == 0);
	g_hash_table_destroy(s->memos);
	rpc_link_deinit(&s->link);
	g_free(s);
}

RpcSession *rpc_session_ref(RpcSession *s)
{
	s->refs++;
	return s;
}

void rpc_session_unref(RpcSession *s)
{
	if (--s->refs == 0)
		session_free(s);
}

static void session_fail_conns(RpcSession *s, const RpcConn *except, bool connectors, const char *why)
{
	g_autoptr(GPtrArray) old = g_ptr_array_new();
	GHashTableIter it;
	void *value;

	g_hash_table_iter_init(&it, s->rpc->conns);
	while (g_hash_table_iter_next(&it, NULL, &value)) {
		RpcConn *conn = value;

		if (conn->session == s && conn != except && (connectors || !conn->connector))
			g_ptr_array_add(old, conn);
	}
	for (guint i = 0; i < old->len; i++)
		rpc_conn_fail(old->pdata[i], why);
}

void rpc_session_drop_conns(RpcSession *s, const RpcConn *except)
{
	session_fail_conns(s, except, false, "replaced by a new one");
}

void rpc_session_end(RpcSession *s)
{
	Rpc *rpc = s->rpc;

	if (s->ended)
		return;
	s->ended = true;
	reactor_timer_cancel(rpc->reactor, &s->timer);
	g_hash_table_remove(rpc->sessions, &s->id);
	session_fail_conns(s, NULL, true, "its process has ended");
	rpc_link_end(&s->link);
	for (guint i = 0; s->begun && i < rpc->ended_fns->len; i++) {
		RpcEndedFn *f = &g_array_index(rpc->ended_fns, RpcEndedFn, i);

		f->fn(f->ctx, s->id);
	}
	rpc_session_unref(s);
}

/* A process that starts again as the same peer has another session. */
static void session_end_replaced(Rpc *rpc, uint64_t id, uint16_t peer)
{
	g_autoptr(GPtrArray) old = g_ptr_array_new();
	GHashTableIter it;
	void *value;

	if (peer == PEER_NONE)
		return;
	g_hash_table_iter_init(&it, rpc->sessions);
	while (g_hash_table_iter_next(&it, NULL, &value)) {
		RpcSession *s = value;

		if (s->peer == peer && s->id != id)
			g_ptr_array_add(old, s);
	}
	for (guint i = 0; i < old->len; i++)
		rpc_session_end(old->pdata[i]);
}

RpcSession *rpc_session_get(Rpc *rpc, uint64_t id, uint16_t peer)
{
	RpcSession *s;

	session_end_replaced(rpc, id, peer);
	s = g_hash_table_lookup(rpc->sessions, &id);
	if (!s)
		s = session_new(rpc, id, peer);
	return rpc_session_ref(s);
}

void rpc_expect_session(Rpc *rpc, uint64_t id, uint16_t peer)
{
	RpcSession *s;

	if (id == rpc->session || g_hash_table_contains(rpc->sessions, &id))
		return;
	s = session_new(rpc, id, peer);
	s->caller = s->begun = true;
	/* Calls to it wait as they do for one that was lost just now. */
	s->link.away_ns = reactor_now_ns(rpc->reactor);
}

bool rpc_has_session(const Rpc *rpc, uint64_t id)
{
	return id == rpc->session || g_hash_table_contains(rpc->sessions, &id);
}

void rpc_session_conn_up(RpcSession *s)
{
	s->conns++;
	reactor_timer_cancel(s->rpc->reactor, &s->timer);
}

void rpc_session_conn_lost(RpcSession *s)
{
	Rpc *rpc = s->rpc;

	g_assert(s->conns > 0);
	if (--s->conns == 0 && !s->ended)
		reactor_timer_arm(rpc->reactor, &s->timer, reactor_now_ns(rpc->reactor) + rpc->session_ns);
}

void rpc_sessions_end_all(Rpc *rpc)
{
	g_autoptr(GList) all = g_hash_table_get_values(rpc->sessions);

	for (GList *l = all; l; l = l->next)
		rpc_session_end(l->data);
}

uint32_t rpc_sessions(Rpc *rpc, uint64_t *ret_sessions, uint32_t max)
{
	GHashTableIter it;
	void *value;
	uint32_t n = 0;

	if (n < max)
		ret_sessions[n++] = rpc->session;
	g_hash_table_iter_init(&it, rpc->sessions);
	while (n < max && g_hash_table_iter_next(&it, NULL, &value)) {
		const RpcSession *s = value;

		if (s->caller)
			ret_sessions[n++] = s->id;
	}
	return n;
}
