#define G_LOG_DOMAIN "server"
#include "server/txn.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "server/crashpoint.h"

#define TICK_NS INT64_C(1000000000)
#define AGAIN_MIN_NS INT64_C(500000)
#define AGAIN_MAX_NS INT64_C(32000000)
#define HOMES_MAX 4

typedef struct TxnValue {
	uint8_t version, n, pad[4];
	uint16_t peer;
	int64_t age_ns;
} TxnValue;
static_assert(sizeof(TxnValue) == 16, "no holes");

/* ---- ids and records ---- */

guint txn_id_hash(const void *id)
{
	const WireTxnId *x = id;
	uint64_t h = x->session ^ x->number * UINT64_C(0x9e3779b97f4a7c15);

	return (guint)(h ^ h >> 32);
}

gboolean txn_id_equal(const void *a, const void *b)
{
	const WireTxnId *x = a, *y = b;

	return x->session == y->session && x->number == y->number;
}

void txn_record_put(MetaBatch *b, RecordType type, const TxnRecord *rec)
{
	g_autoptr(GByteArray) buf = g_byte_array_new();
	TxnValue v = { .version = RECORD_VERSION, .n = rec->n, .peer = rec->peer, .age_ns = rec->age_ns };
	Key key = key_txn(type, rec->id.session, rec->id.number);

	g_byte_array_append(buf, (const guint8 *)&v, sizeof(v));
	g_byte_array_append(buf, rec->data, (guint)rec->len);
	if (rec->acl)
		g_byte_array_append(buf, rec->acl->data, rec->acl->len);
	meta_batch_put(b, key.data, key.len, buf->data, buf->len);
}

bool txn_record_get(const uint8_t *key, size_t key_len, const uint8_t *value, size_t len, TxnRecord *ret_rec)
{
	TxnValue v;

	if (key_len != 3 + 2 * sizeof(uint64_t) || len < sizeof(v))
		return false;
	memcpy(&v, value, sizeof(v));
	if (v.version != RECORD_VERSION)
		return false;
	*ret_rec = (TxnRecord) {
		.id = { key_get_num(key, key_len, 3), key_get_num(key, key_len, 11) },
		.peer = v.peer, .age_ns = v.age_ns, .n = v.n,
		.data = value + sizeof(v), .len = len - sizeof(v),
	};
	return true;
}

int coroutine_fn txn_records_co_load(Server *s, RecordType type, TxnLoadFn *load)
{
	Key prefix = key_slot(STORE_SLOT, type);
	g_autoptr(MetaIter) it = meta_iter_new(s->meta, prefix.data, prefix.len, NULL, 0);
	const uint8_t *key, *value;
	size_t key_len, len;
	int r;

	while ((r = meta_iter_co_next(it, &key, &key_len, &value, &len)) > 0) {
		TxnRecord rec;
		int res = txn_record_get(key, key_len, value, len, &rec) ? load(s, &rec) : -EPROTO;

		if (res == -EPROTO)
			g_warning("%s can't be read, ignoring", type == RECORD_PREPARED ? "an unfinished change" : "the decision of a change");
		else if (res < 0)
			return res;
	}
	return r;
}

/* ---- one try ---- */

typedef struct Run {
	TxnCall *call;
	Server *s;
	HoldOwner owner;
	WireStep local[WIRE_STEPS_MAX];
	uint32_t n_local;
	struct RunHome *homes;
	uint32_t n_homes;
} Run;

typedef struct RunHome {
	Run *run;
	uint16_t peer;
	bool commit;
	WireStep steps[WIRE_STEPS_MAX];
	uint32_t n;
	WireAttrRep rep;
	int result;
} RunHome;

static RunHome *run_home(Run *run, uint16_t peer)
{
	for (uint32_t i = 0; i < run->n_homes; i++) {
		if (run->homes[i].peer == peer)
			return &run->homes[i];
	}
	if (run->n_homes == HOMES_MAX)
		return NULL;
	RunHome *h = &run->homes[run->n_homes++];
	*h = (RunHome) { .run = run, .peer = peer };
	return h;
}

static int deal_out(Run *run, const WireStep *steps, uint32_t n)
{
	g_assert(n <= WIRE_STEPS_MAX);
	for (uint32_t i = 0; i < n; i++) {
		uint16_t peer = step_home(run->s, &steps[i]);

		if (peer == PEER_NONE)
			return -EIO;
		if (peer == run->s->self) {
			run->local[run->n_local++] = steps[i];
			continue;
		}
		RunHome *h = run_home(run, peer);
		if (!h)
			return -EIO;
		h->steps[h->n++] = steps[i];
	}
	return 0;
}

typedef void coroutine_fn RunFn(void *home);

/* All at once. */
static void coroutine_fn run_each(Run *run, RunFn *fn)
{
	CoGroup group = { .sched = reactor_sched(run->s->reactor) };

	for (uint32_t i = 1; i < run->n_homes; i++)
		co_group_spawn(&group, fn, &run->homes[i]);
	if (run->n_homes > 0)
		fn(&run->homes[0]);
	co_group_wait(&group);
}

static bool makes(const WireStep *steps, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (steps[i].kind == WIRE_STEP_MAKE)
			return true;
	}
	return false;
}

static void coroutine_fn ask_prepare(void *arg)
{
	RunHome *h = arg;
	const GByteArray *acl = h->run->call->acl;
	g_autoptr(GByteArray) in = g_byte_array_new();
	WireTxnPrepareReq req = { .id = h->run->owner.id, .age_ns = h->run->owner.age_ns, .session = h->run->owner.session, .steps = h->n };

	g_byte_array_append(in, (const guint8 *)h->steps, h->n * (guint)sizeof(WireStep));
	if (acl && makes(h->steps, h->n))
		g_byte_array_append(in, acl->data, acl->len);
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &h->rep, .in = in->data, .in_len = in->len };

	h->result = rpc_co_call(h->run->s->rpc, h->peer, WIRE_TXN_PREPARE, &call);
}

/* One that had not answered may yet be prepared, and asks by itself then. */
static void coroutine_fn tell_abort(void *arg)
{
	RunHome *h = arg;
	WireTxnFinishReq req = { .id = h->run->owner.id };
	RpcCall call = { .req = &req, .req_len = sizeof(req) };

	if (h->result == 0)
		rpc_co_call(h->run->s->rpc, h->peer, WIRE_TXN_FINISH, &call);
}

/* What matters most: that there is no use in trying again. */
static int prepare_result(const Run *run)
{
	int r = 0;

	for (uint32_t i = 0; i < run->n_homes; i++) {
		int res = run->homes[i].result;

		if (res < 0 && (r == 0 || r == -EAGAIN))
			r = res == -EPROTO || res == -ESTALE ? -EIO : res;
	}
	return r;
}

/* What another home has made gets its name here. */
static int take_made(Run *run, WireAttr *ret_made)
{
	for (uint32_t i = 0; i < run->n_homes; i++) {
		const RunHome *h = &run->homes[i];

		for (uint32_t j = 0; j < h->n; j++) {
			if (h->steps[j].kind != WIRE_STEP_MAKE)
				continue;
			if (!S_ISDIR(h->rep.attr.mode) || map_home(run->s->map, h->rep.attr.ino) != h->peer)
				return -EIO;
			*ret_made = h->rep.attr;
			for (uint32_t k = 0; k < run->n_local; k++) {
				if (run->local[k].kind == WIRE_STEP_NAME)
					run->local[k].new_ino = h->rep.attr.ino;
			}
		}
	}
	return 0;
}

static bool is_late(const TxnCall *call)
{
	return call->decide_by_ns && reactor_now_ns(call->s->reactor) >= call->decide_by_ns;
}

static int coroutine_fn do_local(Run *run, Decision *d)
{
	const StepsDo how = {
		.acl = run->call->acl, .caller = run->call->caller, .also = d ? decision_put : NULL, .arg = d,
	};

	return steps_co_do(run->s, run->local, run->n_local, &how);
}

/* The batch that is the decision. NULL in *ret_decision: nobody else to tell. */
static int coroutine_fn decide(Run *run, Decision **ret_decision)
{
	Server *s = run->s;
	uint16_t peers[HOMES_MAX];
	Decision *d = NULL;
	int r = 0;

	for (uint32_t i = 0; i < run->n_homes; i++)
		peers[i] = run->homes[i].peer;
	if (run->n_homes > 0)
		d = decision_new(s, run->owner.id, peers, run->n_homes);
	/* whoever has the lock of the tree now may have looked already */
	if (is_late(run->call))
		r = -EAGAIN;
	if (r >= 0)
		r = do_local(run, d);
	if (r < 0) {
		decision_free(d);
		return r;
	}
	if (d)
		g_hash_table_insert(s->txns->decisions, decision_id(d), d);
	*ret_decision = d;
	return 0;
}

static int coroutine_fn run_held(Run *run, Decision **ret_decision, WireAttr *ret_made)
{
	Server *s = run->s;

	if (run->n_homes > 0)
		crash_point(s, "holding");
	run_each(run, ask_prepare);
	int r = prepare_result(run);
	if (r >= 0 && run->n_homes > 0)
		crash_point(s, "prepared");
	if (r >= 0)
		r = take_made(run, ret_made);
	if (r >= 0)
		r = decide(run, ret_decision);
	if (r < 0)
		run_each(run, tell_abort);
	return r;
}

static int coroutine_fn run_numbered(Run *run, Decision **ret_decision, WireAttr *ret_made)
{
	Server *s = run->s;
	int r = run->n_local > 0 ? steps_check(s, run->local, run->n_local) : -EIO;

	if (r >= 0)
		r = steps_co_prepare(s, run->local, run->n_local, &run->owner, run->call->caller);
	if (r < 0)
		return r == -EPROTO ? -EIO : r;
	r = run_held(run, ret_decision, ret_made);
	steps_drop(s, &run->owner);
	return r;
}

/* Until then the answer to who asks is "pending". */
static void coroutine_fn sync_decision(Server *s)
{
	crash_point(s, "decided");
	int r = meta_co_sync(s->meta);
	if (r < 0)
		g_warning("can't sync the log: %s, ignoring", g_strerror(-r));
}

int coroutine_fn txn_co_run(TxnCall *t, WireStep *steps, uint32_t n, WireAttr *ret_made)
{
	Server *s = t->s;
	g_autofree RunHome *homes = g_new0(RunHome, HOMES_MAX);
	Run run = { .call = t, .s = s, .homes = homes };
	WireTxnId id = { rpc_session(s->rpc), ++s->txns->number };
	Decision *d = NULL;
	int r;

	holds_owner_init(s, &run.owner, id, t->age_ns);
	run.owner.decides = true;
	run.owner.session = t->caller->session;
	r = deal_out(&run, steps, n);
	if (r < 0)
		return r;
	g_hash_table_add(s->txns->running, &run.owner.id.number);
	r = run_numbered(&run, &d, ret_made);
	if (d)
		sync_decision(s);
	g_hash_table_remove(s->txns->running, &run.owner.id.number);
	if (d) {
		decision_co_tell(s, d);
		crash_point(s, "told");
	}
	return r;
}

void txn_call_init(TxnCall *t, Server *s, const RpcReq *caller)
{
	*t = (TxnCall) {
		.s = s, .caller = caller, .age_ns = clock_realtime_ns(), .until_ns = reactor_now_ns(s->reactor) + TXN_TRY_NS,
	};
}

int coroutine_fn txn_call_co_again(TxnCall *t)
{
	int64_t max = MIN(AGAIN_MIN_NS << MIN(t->tries, 10), AGAIN_MAX_NS);

	t->tries++;
	if (t->s->stopping || reactor_now_ns(t->s->reactor) >= t->until_ns)
		return -EIO;
	reactor_co_sleep(t->s->reactor, g_random_int_range((gint32)(max / 2), (gint32)max));
	return 0;
}

/* ---- the tick ---- */

static void coroutine_fn settle(void *arg)
{
	Server *s = arg;

	parts_co_settle(s);
	s->txns->settling = false;
}

static void coroutine_fn drive(void *arg)
{
	Server *s = arg;

	decisions_co_drive(s);
	s->txns->driving = false;
}

static void tick(ReactorTimer *timer)
{
	Txns *t = (Txns *)((char *)timer - G_STRUCT_OFFSET(Txns, timer));
	Server *s = t->s;

	if (parts_unfinished(s) && !t->settling) {
		t->settling = true;
		co_group_spawn(&t->group, settle, s);
	}
	if (g_hash_table_size(t->decisions) > 0 && !t->driving) {
		t->driving = true;
		co_group_spawn(&t->group, drive, s);
	}
	bool more = parts_unfinished(s) || g_hash_table_size(t->decisions) > 0 || holds_have_waiters(s);
	holds_wake(s); /* for who has waited long enough */
	if (more)
		txns_need_tick(s);
}

void txns_need_tick(Server *s)
{
	if (!s->stopping && s->txns->timer.index == 0)
		reactor_timer_arm(s->reactor, &s->txns->timer, reactor_now_ns(s->reactor) + TICK_NS);
}

/* ---- life ---- */

Txns *txns_new(Server *s)
{
	Txns *t = g_new0(Txns, 1);

	*t = (Txns) {
		.s = s,
		.running = g_hash_table_new(g_int64_hash, g_int64_equal),
		.decisions = g_hash_table_new_full(txn_id_hash, txn_id_equal, NULL, decision_free),
		.parts = g_hash_table_new_full(txn_id_hash, txn_id_equal, NULL, part_free),
		.group.sched = reactor_sched(s->reactor), .timer.fire = tick,
	};
	return t;
}

void txns_free(Txns *t)
{
	if (!t)
		return;
	reactor_timer_cancel(t->s->reactor, &t->timer);
	parts_drop_all(t->s);
	g_hash_table_destroy(t->running);
	g_hash_table_destroy(t->decisions);
	g_hash_table_destroy(t->parts);
	g_free(t);
}

void txns_attach(Server *s)
{
	parts_attach(s);
	decisions_attach(s);
}

int coroutine_fn txns_co_load(Server *s)
{
	int r = parts_co_load(s);

	return r < 0 ? r : decisions_co_load(s);
}

void txns_start(Server *s)
{
	if (parts_unfinished(s) || g_hash_table_size(s->txns->decisions) > 0)
		reactor_timer_arm(s->reactor, &s->txns->timer, reactor_now_ns(s->reactor));
}

void coroutine_fn txns_co_stop(Server *s)
{
	reactor_timer_cancel(s->reactor, &s->txns->timer);
	holds_wake(s);
	co_group_wait(&s->txns->group);
}
