/* The coordinator's decisions, from their batch until every participant has
 * done its part for good. */
#define G_LOG_DOMAIN "server"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "server/crashpoint.h"
#include "server/record.h"
#include "server/txn.h"

#define PEERS_MAX 4

struct Decision {
	WireTxnId id; /* first: the table's key */
	uint16_t peers[PEERS_MAX];
	uint32_t n, told; /* told: a bit for each that has done it */
	bool telling; /* or about to be told, by the call that it is of */
};

static bool is_told(const Decision *d)
{
	return d->told == (1u << d->n) - 1;
}

Decision *decision_new(Server *s, WireTxnId id, const uint16_t *peers, uint32_t n)
{
	Decision *d = g_new0(Decision, 1);

	g_assert(n > 0 && n <= PEERS_MAX);
	*d = (Decision) { .id = id, .n = n, .telling = true };
	memcpy(d->peers, peers, n * sizeof(peers[0]));
	return d;
}

WireTxnId *decision_id(Decision *d)
{
	return &d->id;
}

void decision_free(void *decision)
{
	g_free(decision);
}

void decision_put(MetaBatch *b, void *decision)
{
	const Decision *d = decision;

	TxnRecord rec = { .id = d->id, .n = (uint8_t)d->n, .data = d->peers, .len = d->n * sizeof(d->peers[0]) };

	txn_record_put(b, RECORD_DECISION, &rec);
}

/* ---- telling ---- */

typedef struct Tell {
	Server *s;
	WireTxnId id;
	uint16_t peer;
	uint32_t bit;
	bool done;
} Tell;

static void coroutine_fn tell(void *arg)
{
	Tell *t = arg;
	WireTxnFinishReq req = { .id = t->id, .commit = 1 };
	RpcCall call = { .req = &req, .req_len = sizeof(req) };

	t->done = rpc_co_call(t->s->rpc, t->peer, WIRE_TXN_FINISH, &call) >= 0;
}

void coroutine_fn decision_co_tell(Server *s, Decision *d)
{
	CoGroup group = { .sched = reactor_sched(s->reactor) };
	Tell tells[PEERS_MAX];
	uint32_t n = 0;

	d->telling = true;
	for (uint32_t i = 0; i < d->n; i++) {
		if (!(d->told & 1u << i))
			tells[n++] = (Tell) { .s = s, .id = d->id, .peer = d->peers[i], .bit = 1u << i };
	}
	for (uint32_t i = 1; i < n; i++)
		co_group_spawn(&group, tell, &tells[i]);
	if (n > 0)
		tell(&tells[0]);
	co_group_wait(&group);
	for (uint32_t i = 0; i < n; i++) {
		if (tells[i].done)
			d->told |= tells[i].bit;
	}
	d->telling = false;
	txns_need_tick(s);
}

/* ---- forgetting ---- */

static int coroutine_fn sync_peer(Server *s, uint16_t peer)
{
	WireNone none = { 0 };
	RpcCall call = { .req = &none, .req_len = sizeof(none) };

	return rpc_co_call(s->rpc, peer, WIRE_TXN_SYNC, &call);
}

static int coroutine_fn txn_sync(void *ctx, RpcReq *r)
{
	Server *s = ctx;

	return meta_co_sync(s->meta);
}

static GPtrArray *collect(Server *s, bool told)
{
	GPtrArray *a = g_ptr_array_new();
	GHashTableIter it;
	void *value;

	g_hash_table_iter_init(&it, s->txns->decisions);
	while (g_hash_table_iter_next(&it, NULL, &value)) {
		const Decision *d = value;

		if (!d->telling && is_told(d) == told)
			g_ptr_array_add(a, value);
	}
	return a;
}

static bool takes_part(const Decision *d, uint16_t peer)
{
	for (uint32_t i = 0; i < d->n; i++) {
		if (d->peers[i] == peer)
			return true;
	}
	return false;
}

/* Leaves out those of a peer that can't sync now. */
static void coroutine_fn sync_all(Server *s, GPtrArray *told)
{
	for (uint16_t peer = 0; peer < map_peer_count(s->map) && told->len > 0; peer++) {
		bool asked = false, synced = false;

		for (guint i = told->len; i > 0; i--) {
			if (!takes_part(told->pdata[i - 1], peer))
				continue;
			if (!asked)
				synced = sync_peer(s, peer) >= 0;
			asked = true;
			if (!synced)
				g_ptr_array_remove_index_fast(told, i - 1);
		}
	}
}

static void coroutine_fn forget(Server *s)
{
	g_autoptr(GPtrArray) told = collect(s, true);

	sync_all(s, told);
	if (told->len == 0)
		return;
	MetaBatch *b = meta_batch_new(s->meta);
	for (guint i = 0; i < told->len; i++) {
		const Decision *d = told->pdata[i];
		Key key = key_txn(RECORD_DECISION, d->id.session, d->id.number);

		meta_batch_delete(b, key.data, key.len);
	}
	if (meta_batch_co_commit(b) < 0)
		return;
	for (guint i = 0; i < told->len; i++)
		g_hash_table_remove(s->txns->decisions, told->pdata[i]);
	crash_point(s, "forgotten");
}

void coroutine_fn decisions_co_drive(Server *s)
{
	g_autoptr(GPtrArray) untold = collect(s, false);

	/* Only this coroutine forgets any, so they stay. */
	for (guint i = 0; i < untold->len && !s->stopping; i++)
		decision_co_tell(s, untold->pdata[i]);
	if (!s->stopping)
		forget(s);
}

/* ---- status ---- */

static int coroutine_fn txn_status(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireTxnId *id = r->req;
	WireTxnStatusRep *rep = r->rep;

	if (id->session == rpc_session(s->rpc) && g_hash_table_contains(s->txns->running, &id->number))
		rep->status = WIRE_TXN_PENDING;
	else
		rep->status = g_hash_table_contains(s->txns->decisions, id) ? WIRE_TXN_COMMITTED : WIRE_TXN_ABORTED;
	return 0;
}

void decisions_attach(Server *s)
{
	rpc_serve(s->rpc, WIRE_TXN_STATUS, txn_status, s);
	rpc_serve(s->rpc, WIRE_TXN_SYNC, txn_sync, s);
}

static int coroutine_fn load_decision(Server *s, const TxnRecord *rec)
{
	uint16_t peers[PEERS_MAX];

	if (rec->n == 0 || rec->n > PEERS_MAX || rec->len != rec->n * sizeof(peers[0]))
		return -EPROTO;
	memcpy(peers, rec->data, rec->len);
	Decision *d = decision_new(s, rec->id, peers, rec->n);
	d->telling = false;
	g_hash_table_insert(s->txns->decisions, &d->id, d);
	return 0;
}

int coroutine_fn decisions_co_load(Server *s)
{
	int r = txn_records_co_load(s, RECORD_DECISION, load_decision);

	if (r >= 0 && g_hash_table_size(s->txns->decisions) > 0)
		g_message("changes that this peer had decided but not seen finished: %u", g_hash_table_size(s->txns->decisions));
	return r;
}
