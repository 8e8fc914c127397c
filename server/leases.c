/*
 * The table: inode number -> who has a lease. Holders are few, so each inode
 * has a small array. It is bounded; beyond that nothing is granted, which
 * costs those mounts speed and nothing else.
 */
#define G_LOG_DOMAIN "server"
#include "server/leases.h"

#include <errno.h>
#include <string.h>

#include "common/fault.h"
#include "server/record.h"

#define LEASES_MAX (UINT64_C(1) << 20)

typedef struct Holders {
	uint64_t ino;
	uint32_t n, room;
	uint64_t *sessions;
} Holders;

struct Leases {
	Server *s;
	GHashTable *table; /* &Holders.ino -> Holders, owned */
	bool skip_recall;
	int64_t grace_until_ns; /* CLOCK_MONOTONIC; 0: there is none */
	uint64_t held;
	uint64_t grants, refused, recalls, recalls_failed;
};

static void holders_free(void *data)
{
	Holders *h = data;

	g_free(h->sessions);
	g_free(h);
}

static const CounterRow rows[] = {
	{ "lease.held", offsetof(Leases, held) },
	{ "lease.grants", offsetof(Leases, grants) },
	{ "lease.refused", offsetof(Leases, refused) },
	{ "lease.recalls", offsetof(Leases, recalls) },
	{ "lease.recalls_failed", offsetof(Leases, recalls_failed) },
};

Leases *leases_new(Server *s)
{
	Leases *l = g_new0(Leases, 1);

	*l = (Leases) {
		.s = s, .table = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, holders_free),
		.skip_recall = fault("lease.skip_recall"),
	};
	counters_add_rows(s->opts.counters, rows, G_N_ELEMENTS(rows), l);
	return l;
}

void leases_free(Leases *l)
{
	if (!l)
		return;
	counters_remove_rows(l->s->opts.counters, rows, G_N_ELEMENTS(rows), l);
	g_hash_table_destroy(l->table);
	g_free(l);
}

/* ---- granting ---- */

static bool has(const Holders *h, uint64_t session)
{
	for (uint32_t i = 0; i < h->n; i++) {
		if (h->sessions[i] == session)
			return true;
	}
	return false;
}

static Holders *find_or_make(Leases *l, uint64_t ino)
{
	Holders *h = g_hash_table_lookup(l->table, &ino);

	if (h)
		return h;
	h = g_new0(Holders, 1);
	h->ino = ino;
	g_hash_table_insert(l->table, &h->ino, h);
	return h;
}

static void add(Holders *h, uint64_t session)
{
	if (h->n == h->room) {
		h->room = h->room ? h->room * 2 : 1;
		h->sessions = g_renew(uint64_t, h->sessions, h->room);
	}
	h->sessions[h->n++] = session;
}

bool leases_grant(Server *s, const RpcReq *r, Inode *inode)
{
	Leases *l = s->leases;

	if (inode->changing > 0 || inode->gone || l->held >= LEASES_MAX) {
		l->refused++;
		return false;
	}
	Holders *h = find_or_make(l, inode->d.attr.ino);
	if (!has(h, r->session)) {
		add(h, r->session);
		l->held++;
	}
	l->grants++;
	return true;
}

bool leases_grant_since(Server *s, const RpcReq *r, Inode *inode, uint64_t version)
{
	return inode->version == version && leases_grant(s, r, inode);
}

bool leases_grant_own(Server *s, const RpcReq *r, Inode *inode)
{
	bool alone = inode->changer == r->session;

	inode->changer = r->session;
	return alone && !s->opts.embedded && leases_grant(s, r, inode);
}

bool leases_grant_new(Server *s, const RpcReq *r, Inode *inode)
{
	inode->changer = r->session;
	return leases_grant_own(s, r, inode);
}

/* ---- calling back ---- */

typedef struct Recall {
	Server *s;
	uint64_t session;
	WireRecallReq req;
} Recall;

/* No answer: the session is over, or has been away for as long as it may keep
 * anything. */
static void coroutine_fn recall(void *arg)
{
	Recall *rc = arg;
	RpcCall call = { .req = &rc->req, .req_len = sizeof(rc->req), .timeout_ns = RPC_LEASE_GRANTED_NS };
	int r = rpc_co_call_session(rc->s->rpc, rc->session, WIRE_RECALL, &call);

	rc->s->leases->recalls++;
	if (r < 0)
		rc->s->leases->recalls_failed++;
}

static bool is_given_up(const RpcReq *caller, uint64_t session, uint64_t ino)
{
	uint64_t inos[2];

	if (!caller || caller->session != session)
		return false;
	for (uint32_t i = wire_changes(caller->op, caller->req, inos); i > 0; i--) {
		if (inos[i - 1] == ino)
			return true;
	}
	return false;
}

static Recall *recall_of(GArray *recalls, Server *s, uint64_t session)
{
	for (guint i = 0; i < recalls->len; i++) {
		Recall *rc = &g_array_index(recalls, Recall, i);

		if (rc->session == session)
			return rc;
	}
	Recall rc = { .s = s, .session = session };
	g_array_append_val(recalls, rc);
	return &g_array_index(recalls, Recall, recalls->len - 1);
}

/* Takes the holders of an inode out of the table and into `recalls`. */
static void collect(Server *s, uint64_t ino, const RpcReq *caller, GArray *recalls)
{
	Leases *l = s->leases;
	Holders *h = g_hash_table_lookup(l->table, &ino);

	if (!h)
		return;
	for (uint32_t i = 0; i < h->n; i++) {
		if (is_given_up(caller, h->sessions[i], ino))
			continue;
		Recall *rc = recall_of(recalls, s, h->sessions[i]);
		rc->req.inos[rc->req.n++] = ino;
	}
	l->held -= h->n;
	g_hash_table_remove(l->table, &ino);
}

static void coroutine_fn recall_all(Server *s, GArray *recalls)
{
	CoGroup group = { .sched = reactor_sched(s->reactor) };

	for (guint i = 1; i < recalls->len; i++)
		co_group_spawn(&group, recall, &g_array_index(recalls, Recall, i));
	if (recalls->len > 0)
		recall(&g_array_index(recalls, Recall, 0));
	co_group_wait(&group);
}

static void coroutine_fn wait_for_grace(Leases *l)
{
	int64_t now_ns = reactor_now_ns(l->s->reactor);

	if (now_ns < l->grace_until_ns)
		reactor_co_sleep(l->s->reactor, l->grace_until_ns - now_ns);
}

void coroutine_fn leases_co_begin(Server *s, Inode *const inodes[], uint32_t n, const RpcReq *caller)
{
	Leases *l = s->leases;
	bool any = false;

	wait_for_grace(l);
	g_assert(n <= WIRE_RECALL_MAX);
	for (uint32_t i = 0; i < n; i++) {
		if (!inodes[i])
			continue;
		inodes[i]->changing++;
		any = any || g_hash_table_contains(l->table, &inodes[i]->d.attr.ino);
	}
	if (!any || l->skip_recall)
		return;
	g_autoptr(GArray) recalls = g_array_new(FALSE, FALSE, sizeof(Recall));
	for (uint32_t i = 0; i < n; i++) {
		if (inodes[i])
			collect(s, inodes[i]->d.attr.ino, caller, recalls);
	}
	recall_all(s, recalls);
}

void leases_bar(Inode *const inodes[], uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		inodes[i]->changing++;
}

void leases_end(Inode *const inodes[], uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (!inodes[i])
			continue;
		g_assert(inodes[i]->changing > 0);
		inodes[i]->changing--;
	}
}

/* ---- processes that were killed ---- */

static Key running_key(void)
{
	return key_slot_name(STORE_SLOT, RECORD_SEQUENCE, RUNNING);
}

int coroutine_fn leases_co_load(Server *s)
{
	Key key = running_key();
	MetaValue v = { 0 };
	int r = s->opts.embedded ? -ENOENT : meta_co_get(s->meta, key.data, key.len, &v);

	meta_value_clear(&v);
	if (r == -ENOENT)
		return 0;
	s->leases->grace_until_ns = s->started_ns + RPC_LEASE_GRANTED_NS;
	return r < 0 ? r : 0;
}

static int coroutine_fn note_running(Server *s, bool running)
{
	Key key = running_key();
	uint8_t version = RECORD_VERSION;
	MetaBatch *b;

	if (s->opts.embedded)
		return 0;
	b = meta_batch_new(s->meta);
	if (running)
		meta_batch_put(b, key.data, key.len, &version, 1);
	else
		meta_batch_delete(b, key.data, key.len);
	return meta_batch_co_commit(b);
}

int coroutine_fn leases_co_start(Server *s)
{
	return note_running(s, true);
}

void coroutine_fn leases_co_stop(Server *s)
{
	note_running(s, false);
}

/* ---- sessions that end ---- */

static gboolean forget_session(void *key, void *value, void *arg)
{
	Leases *l = ((void **)arg)[0];
	uint64_t session = *(uint64_t *)((void **)arg)[1];
	Holders *h = value;

	for (uint32_t i = 0; i < h->n; i++) {
		if (h->sessions[i] != session)
			continue;
		h->sessions[i] = h->sessions[--h->n];
		l->held--;
		break;
	}
	return h->n == 0;
}

static void session_ended(void *ctx, uint64_t session)
{
	Server *s = ctx;
	void *arg[] = { s->leases, &session };

	g_hash_table_foreach_remove(s->leases->table, forget_session, arg);
}

void leases_attach(Server *s)
{
	rpc_on_session_ended(s->rpc, session_ended, s);
}
