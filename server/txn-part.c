/* The participant: TXN_PREPARE, TXN_FINISH, and asking the coordinator. */
#define G_LOG_DOMAIN "server"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "server/crashpoint.h"
#include "server/record.h"
#include "server/txn.h"

/* A coordinator that lives says how it ended well before. */
#define ASK_AFTER_NS INT64_C(3000000000)
#define ASK_AGAIN_NS INT64_C(1000000000)

typedef enum PartState {
	PART_PREPARING, /* waits for older changes, or for the disk */
	PART_PREPARED,
	PART_FINISHING,
} PartState;

struct Part {
	HoldOwner owner; /* first: its id is the table's key */
	PartState state;
	bool broken; /* what it is to change is not in the store as it should be */
	uint16_t coordinator;
	uint32_t n;
	int64_t ask_ns; /* when to ask how it ended */
	GByteArray *acl; /* of its MAKE step, or NULL */
	WireStep steps[];
};

/* Takes over acl. */
static Part *part_new(Server *s, WireTxnId id, int64_t age_ns, uint16_t coordinator, const void *steps, uint32_t n, GByteArray *acl)
{
	Part *p = g_malloc0(sizeof(*p) + n * sizeof(WireStep));

	holds_owner_init(s, &p->owner, id, age_ns);
	p->coordinator = coordinator;
	p->n = n;
	p->acl = acl;
	memcpy(p->steps, steps, n * sizeof(WireStep));
	p->ask_ns = reactor_now_ns(s->reactor) + ASK_AFTER_NS;
	g_hash_table_insert(s->txns->parts, &p->owner.id, p);
	return p;
}

void part_free(void *part)
{
	Part *p = part;

	g_clear_pointer(&p->acl, g_byte_array_unref);
	g_free(p);
}

/* What is not settled when the server goes is in the store. */
void parts_drop_all(Server *s)
{
	GHashTableIter it;
	void *value;

	g_hash_table_iter_init(&it, s->txns->parts);
	while (g_hash_table_iter_next(&it, NULL, &value))
		steps_drop(s, &((Part *)value)->owner);
}

/* With what it holds. */
static void part_drop(Server *s, Part *p)
{
	steps_drop(s, &p->owner);
	g_hash_table_remove(s->txns->parts, &p->owner.id);
	co_queue_wake_all(&s->txns->finished);
}

/* ---- preparing ---- */

static int coroutine_fn record(Server *s, Part *p)
{
	MetaBatch *b = meta_batch_new(s->meta);

	TxnRecord rec = {
		.id = p->owner.id, .peer = p->coordinator, .age_ns = p->owner.age_ns, .n = (uint8_t)p->n,
		.data = p->steps, .len = p->n * sizeof(WireStep), .acl = p->acl,
	};

	txn_record_put(b, RECORD_PREPARED, &rec);
	int r = meta_batch_co_commit(b);
	return r < 0 ? r : meta_co_sync(s->meta);
}

static int coroutine_fn unrecord(Server *s, Part *p)
{
	MetaBatch *b = meta_batch_new(s->meta);
	Key key = key_txn(RECORD_PREPARED, p->owner.id.session, p->owner.id.number);

	meta_batch_delete(b, key.data, key.len);
	return meta_batch_co_commit(b);
}

/* As it will be: the batch is not for the store. */
static void tell_made(Server *s, const Part *p, WireAttrRep *rep)
{
	g_autoptr(MetaBatch) b = meta_batch_new(s->meta);

	for (uint32_t i = 0; i < p->n; i++) {
		g_auto(InodeData) d = { 0 };

		if (p->steps[i].kind != WIRE_STEP_MAKE)
			continue;
		step_made(&p->steps[i], p->acl, b, &d);
		rep->attr = d.attr;
	}
}

static int coroutine_fn prepare_part(Server *s, Part *p)
{
	crash_point(s, "asked");
	int r = steps_co_prepare(s, p->steps, p->n, &p->owner, NULL);
	if (r < 0)
		return r;
	r = record(s, p);
	/* whatever of it reached the log must not be found by a recovery */
	if (r < 0 || p->owner.cancelled)
		unrecord(s, p);
	crash_point(s, "recorded");
	return r < 0 ? r : p->owner.cancelled ? -EAGAIN : 0;
}

static int coroutine_fn txn_prepare(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireTxnPrepareReq *req = r->req;
	WireStep steps[WIRE_STEPS_MAX];
	GByteArray *acl;

	if (req->steps == 0 || req->steps > WIRE_STEPS_MAX || r->in_len < req->steps * sizeof(WireStep) ||
	    r->peer == PEER_NONE || g_hash_table_contains(s->txns->parts, &req->id))
		return -EPROTO;
	memcpy(steps, r->in, req->steps * sizeof(WireStep));
	int res = steps_check(s, steps, req->steps);
	if (res >= 0)
		res = steps_take_acl(steps, req->steps, r->in, r->in_len, &acl);
	if (res < 0)
		return res;
	Part *p = part_new(s, req->id, req->age_ns, r->peer, steps, req->steps, acl);
	p->owner.session = req->session;
	res = prepare_part(s, p);
	if (res < 0) {
		part_drop(s, p);
		return res;
	}
	p->state = PART_PREPARED;
	p->ask_ns = reactor_now_ns(s->reactor) + ASK_AFTER_NS;
	tell_made(s, p, r->rep);
	co_queue_wake_all(&s->txns->finished);
	txns_need_tick(s);
	return 0;
}

/* ---- finishing ---- */

static void also_unrecord(MetaBatch *b, void *part)
{
	const Part *p = part;
	Key key = key_txn(RECORD_PREPARED, p->owner.id.session, p->owner.id.number);

	meta_batch_delete(b, key.data, key.len);
}

/* Half of it would be lost if the rest were done. So all of it stays as it is,
 * for a start with a store that has been mended. */
static int keep_broken(Server *s, Part *p)
{
	if (!p->owner.stuck)
		g_warning("change %016" PRIx64 ".%" PRIu64 " of peer %u was decided and can't be done with this store: what it is about "
			  "answers EIO", p->owner.id.session, p->owner.id.number, p->coordinator);
	p->owner.stuck = true;
	p->ask_ns = INT64_MAX;
	holds_wake(s);
	return -EIO;
}

static int coroutine_fn finish_part(Server *s, Part *p, bool commit)
{
	const StepsDo how = { .acl = p->acl, .also = also_unrecord, .arg = p };
	int r;

	if (commit && p->broken)
		return keep_broken(s, p);
	p->state = PART_FINISHING;
	r = commit ? steps_co_do(s, p->steps, p->n, &how) : unrecord(s, p);
	if (r >= 0) {
		part_drop(s, p);
		return 0;
	}
	p->state = PART_PREPARED;
	p->ask_ns = reactor_now_ns(s->reactor) + ASK_AGAIN_NS;
	co_queue_wake_all(&s->txns->finished);
	return r;
}

/* Nothing to finish is fine: it was done, or never prepared. */
static int coroutine_fn finish(Server *s, WireTxnId id, bool commit)
{
	Part *p;

	while ((p = g_hash_table_lookup(s->txns->parts, &id))) {
		if (p->state == PART_PREPARED)
			return finish_part(s, p, commit);
		/* an abort that comes before it is prepared is the end of it */
		if (p->state == PART_PREPARING && !commit) {
			p->owner.cancelled = true;
			holds_wake(s);
		}
		co_queue_wait(&s->txns->finished);
	}
	return 0;
}

static int coroutine_fn txn_finish(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireTxnFinishReq *req = r->req;
	int res = finish(s, req->id, req->commit);

	if (req->commit)
		crash_point(s, "done");
	return res;
}

/* ---- asking ---- */

static int coroutine_fn ask(Server *s, const Part *p, uint64_t *ret_status)
{
	WireTxnId id = p->owner.id;
	WireTxnStatusRep rep;
	RpcCall call = { .req = &id, .req_len = sizeof(id), .rep = &rep };
	int r = rpc_co_call(s->rpc, p->coordinator, WIRE_TXN_STATUS, &call);

	if (r >= 0)
		*ret_status = rep.status;
	return r;
}

static void coroutine_fn settle(Server *s, Part *p)
{
	WireTxnId id = p->owner.id;
	uint64_t status = WIRE_TXN_PENDING;
	int r = ask(s, p, &status);

	p = g_hash_table_lookup(s->txns->parts, &id);
	if (!p || p->state != PART_PREPARED)
		return;
	p->ask_ns = reactor_now_ns(s->reactor) + ASK_AGAIN_NS;
	if (r < 0 || status == WIRE_TXN_PENDING)
		return;
	g_message("a change that peer %u coordinated was left unfinished: %s", p->coordinator,
		status == WIRE_TXN_COMMITTED ? "doing it" : "it was not decided, dropping it");
	finish(s, id, status == WIRE_TXN_COMMITTED);
}

static GArray *due_parts(Server *s)
{
	GArray *due = g_array_new(FALSE, FALSE, sizeof(WireTxnId));
	int64_t now = reactor_now_ns(s->reactor);
	GHashTableIter it;
	void *value;

	g_hash_table_iter_init(&it, s->txns->parts);
	while (g_hash_table_iter_next(&it, NULL, &value)) {
		const Part *p = value;

		if (p->state == PART_PREPARED && p->ask_ns <= now)
			g_array_append_val(due, p->owner.id);
	}
	return due;
}

/* A coordinator that is down fails a call at once, so that nobody waits long
 * behind it for another. */
void coroutine_fn parts_co_settle(Server *s)
{
	g_autoptr(GArray) due = due_parts(s);

	for (guint i = 0; i < due->len && !s->stopping; i++) {
		Part *p = g_hash_table_lookup(s->txns->parts, &g_array_index(due, WireTxnId, i));

		if (p && p->state == PART_PREPARED)
			settle(s, p);
	}
}

bool parts_unfinished(const Server *s)
{
	return g_hash_table_size(s->txns->parts) > 0;
}

/* ---- recovery ---- */

static int coroutine_fn load_part(Server *s, const TxnRecord *rec)
{
	WireStep steps[WIRE_STEPS_MAX];
	GByteArray *acl;
	int r;

	if (rec->n > WIRE_STEPS_MAX || rec->len < rec->n * sizeof(WireStep))
		return -EPROTO;
	memcpy(steps, rec->data, rec->n * sizeof(WireStep));
	r = steps_check(s, steps, rec->n);
	if (r >= 0)
		r = steps_take_acl(steps, rec->n, rec->data, rec->len, &acl);
	if (r < 0)
		return r;
	Part *p = part_new(s, rec->id, rec->age_ns, rec->peer, steps, rec->n, acl);
	p->state = PART_PREPARED;
	p->ask_ns = 0;
	/* the rest of the store is none the worse for it */
	p->broken = steps_co_hold(s, p->steps, rec->n, &p->owner) < 0;
	return 0;
}

int coroutine_fn parts_co_load(Server *s)
{
	int r = txn_records_co_load(s, RECORD_PREPARED, load_part);

	if (r >= 0 && parts_unfinished(s))
		g_message("changes that other peers coordinate were unfinished when the last process ended: %u", g_hash_table_size(s->txns->parts));
	return r;
}

void parts_attach(Server *s)
{
	rpc_serve(s->rpc, WIRE_TXN_PREPARE, txn_prepare, s);
	rpc_serve(s->rpc, WIRE_TXN_FINISH, txn_finish, s);
}
