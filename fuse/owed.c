#include "fuse/owed.h"

#include <errno.h>
#include <string.h>

#include "fuse/internal.h"

#define ROUND_NS INT64_C(100000000)

typedef struct Debt {
	WireLockReq req;
	WireOp op;
	uint16_t home;
	bool owed;      /* it could not be told; else that is being tried */
	uint64_t round, failed; /* of the last try, and the last that has failed */
	GList link;
} Debt;

struct Owed {
	Mount *m;
	GQueue debts;  /* of Debt, owned */
	uint64_t count, round;
	bool telling;  /* tell_later() runs */
	CoQueue told;  /* waits for a debt to go, or for a round to be over */
};

Owed *owed_new(Mount *m)
{
	Owed *o = g_new0(Owed, 1);

	o->m = m;
	g_queue_init(&o->debts);
	counters_add(m->opts.counters, "fuse.lock_releases_owed", &o->count);
	return o;
}

static void remove_debt(Owed *o, Debt *d)
{
	o->count -= d->owed;
	g_queue_unlink(&o->debts, &d->link);
	g_free(d);
	co_queue_wake_all(&o->told);
}

void owed_free(Owed *o)
{
	if (!o)
		return;
	counters_remove(o->m->opts.counters, &o->count);
	while (o->debts.head)
		remove_debt(o, o->debts.head->data);
	g_free(o);
}

static Debt *add_debt(Owed *o, const WireLockReq *req, WireOp op)
{
	Debt *d = g_new0(Debt, 1);

	*d = (Debt) { .req = *req, .op = op, .home = map_home(o->m->map, req->ino), .link.data = d };
	g_queue_push_tail_link(&o->debts, &d->link);
	return d;
}

/* ---- what must come first ---- */

/* round: when the wait began. A home that is there and can't do it, for its disk
 * is full or broken, is not waited for either. */
static bool is_hopeless(const Owed *o, const Debt *d, uint64_t round)
{
	return o->m->stopping || (d->owed && d->failed > round) || rpc_peer_state(o->m->rpc, d->home) == RPC_PEER_DOWN;
}

static bool comes_first(const Debt *d, uint16_t home, const WireLockReq *req)
{
	return d->owed ? d->home == home : d->req.ino == req->ino && d->req.owner == req->owner;
}

/* Waits for all debts up to `end` (NULL: all) that come before req. */
static int coroutine_fn co_settle(Owed *o, const WireLockReq *req, const Debt *end)
{
	uint16_t home = map_home(o->m->map, req->ino);
	uint64_t round = o->round;
	GList *l = o->debts.head;

	while (l && l->data != end) {
		if (!comes_first(l->data, home, req)) {
			l = l->next;
			continue;
		}
		if (is_hopeless(o, l->data, round))
			return -EIO;
		co_queue_wait(&o->told);
		l = o->debts.head;
	}
	return 0;
}

int coroutine_fn owed_co_settle(Owed *o, const WireLockReq *lock)
{
	return co_settle(o, lock, NULL);
}

/* ---- telling ---- */

/* An inode that is gone has no locks, and what the home can't make sense of it
 * won't later. */
static bool is_settled(int r)
{
	return r >= 0 || r == -ESTALE || r == -EINVAL;
}

static int coroutine_fn tell(Owed *o, const Debt *d)
{
	RpcCall call = { .req = &d->req, .req_len = sizeof(d->req) };

	return mount_co_call_ino(o->m, d->req.ino, d->op, &call);
}

static bool can_be_told(const Owed *o, const Debt *d)
{
	RpcPeerState state = rpc_peer_state(o->m->rpc, d->home);

	return d->owed && d->round != o->round && (state == RPC_PEER_UP || state == RPC_PEER_SELF);
}

static Debt *next_to_tell(Owed *o)
{
	for (GList *l = o->debts.head; l; l = l->next)
		if (can_be_told(o, l->data))
			return l->data;
	return NULL;
}

static void coroutine_fn tell_later(void *arg)
{
	Owed *o = arg;
	Debt *d;

	while (o->count > 0 && !o->m->stopping) {
		reactor_co_sleep(o->m->reactor, ROUND_NS);
		o->round++;
		while (!o->m->stopping && (d = next_to_tell(o))) {
			d->round = o->round;
			if (is_settled(tell(o, d)))
				remove_debt(o, d);
			else
				d->failed = o->round;
		}
		co_queue_wake_all(&o->told);
	}
	o->telling = false;
	co_queue_wake_all(&o->told);
}

static void owe(Owed *o, Debt *d)
{
	d->owed = true;
	o->count++;
	co_queue_wake_all(&o->told);
	if (o->telling || o->m->stopping)
		return;
	o->telling = true;
	mount_spawn(o->m, tell_later, o);
}

/* No lock call has come between: they wait for what is owed. */
static bool is_owed_already(const Owed *o, const Debt *d)
{
	for (const GList *l = o->debts.head; l; l = l->next) {
		const Debt *other = l->data;

		if (other->owed && other->op == d->op && !memcmp(&other->req, &d->req, sizeof(d->req)))
			return true;
	}
	return false;
}

int coroutine_fn owed_co_release(Owed *o, const WireLockReq *release)
{
	Debt *d = add_debt(o, release, WIRE_LOCK_SET);
	int r = co_settle(o, release, d);

	if (r == 0)
		r = tell(o, d);
	if (is_settled(r)) {
		remove_debt(o, d);
		return r == -ESTALE ? 0 : r;
	}
	/* Who tries again and again owes it once. */
	if (is_owed_already(o, d))
		remove_debt(o, d);
	else
		owe(o, d);
	return r;
}

void owed_add_cancel(Owed *o, const WireLockReq *wait)
{
	owe(o, add_debt(o, wait, WIRE_LOCK_CANCEL));
}
