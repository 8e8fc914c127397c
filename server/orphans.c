#define G_LOG_DOMAIN "server"
#include "server/orphans.h"

#include <errno.h>
#include <inttypes.h>

#include "server/change.h"
#include "server/holds.h"
#include "server/record.h"

#define WORKERS 8
#define NAMELESS_NS INT64_C(20000000000) /* until one is asked for */
#define RETRY_MIN_NS INT64_C(1000000000)
#define RETRY_MAX_NS INT64_C(30000000000)

typedef enum OrphanState {
	ORPHAN_QUEUED,  /* waits for a worker */
	ORPHAN_RUNNING,
	ORPHAN_OPEN,    /* someone has it open */
	ORPHAN_HELD,    /* is being given a name */
	ORPHAN_WAITING, /* for its next try */
} OrphanState;

typedef struct Orphan {
	uint64_t ino;
	OrphanState state;
	bool again;      /* asked for while running or held */
	bool asked;      /* others than its maker have been asked */
	int64_t retry_ns, due_ns;
} Orphan;

struct Orphans {
	Server *s;
	GHashTable *table; /* number -> Orphan */
	GQueue queue;      /* of Orphan, borrowed */
	CoGroup group;
	CoQueue settled; /* waits for one that is running or held */
	uint32_t workers;
	bool started;
	ReactorTimer timer;
	int64_t timer_ns; /* 0: not armed */
};

typedef struct OrphanRecord {
	uint8_t version, pad[7];
} OrphanRecord;

static void timer_fired(ReactorTimer *t);

Orphans *orphans_new(Server *s)
{
	Orphans *o = g_new0(Orphans, 1);

	*o = (Orphans) {
		.s = s, .table = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, g_free),
		.group.sched = reactor_sched(s->reactor), .timer.fire = timer_fired,
	};
	g_queue_init(&o->queue);
	return o;
}

void orphans_free(Orphans *o)
{
	if (!o)
		return;
	reactor_timer_cancel(o->s->reactor, &o->timer);
	g_queue_clear(&o->queue);
	g_hash_table_destroy(o->table);
	g_free(o);
}

uint64_t orphans_count(const Server *s)
{
	return g_hash_table_size(s->orphans->table);
}

void orphans_add_to_batch(MetaBatch *b, InodeData *d)
{
	OrphanRecord rec = { .version = RECORD_VERSION };
	Key key = key_ino(d->attr.ino, RECORD_ORPHAN);

	d->flags |= INODE_ORPHAN;
	meta_batch_put(b, key.data, key.len, &rec, sizeof(rec));
}

void orphans_remove_from_batch(MetaBatch *b, InodeData *d)
{
	Key key = key_ino(d->attr.ino, RECORD_ORPHAN);

	d->flags &= ~(uint32_t)(INODE_ORPHAN | INODE_LINKABLE);
	meta_batch_delete(b, key.data, key.len);
}

/* ---- asking ---- */

/* 1: open, 0: not, -errno: not known. A session without a mount serves no such
 * question, and has nothing open. */
static int coroutine_fn ask(Server *s, uint64_t session, uint64_t ino)
{
	WireForgetReq req = { .ino = ino };
	WireOpenRep rep = { 0 };
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep };
	int r = rpc_co_call_session(s->rpc, session, WIRE_FORGET_QUERY, &call);

	if (r == -EOPNOTSUPP || r == -ENOSYS)
		return 0;
	return r < 0 ? r : rep.open != 0;
}

static GArray *all_sessions(Server *s)
{
	GArray *a = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	uint32_t max = 16, n;

	for (;;) {
		g_array_set_size(a, max);
		n = rpc_sessions(s->rpc, (uint64_t *)(void *)a->data, max);
		if (n < max)
			break;
		max *= 2;
	}
	g_array_set_size(a, n);
	return a;
}

static int coroutine_fn ask_all(Server *s, uint64_t ino)
{
	g_autoptr(GArray) sessions = all_sessions(s);

	for (guint i = 0; i < sessions->len; i++) {
		int r = ask(s, g_array_index(sessions, uint64_t, i), ino);

		if (r != 0)
			return r;
	}
	return 0;
}

/* Is this process the only one that could have anything open? */
static bool is_alone(Server *s)
{
	uint64_t sessions[2];

	return s->orphans->started && rpc_sessions(s->rpc, sessions, 2) == 1 && sessions[0] == rpc_session(s->rpc);
}

bool coroutine_fn orphans_co_surely_closed(Server *s, uint64_t ino)
{
	return is_alone(s) && ask(s, rpc_session(s->rpc), ino) == 0;
}

/* A session without a mount has nothing to take back. */
static int coroutine_fn unask(Server *s, uint64_t session, uint64_t ino)
{
	WireForgetReq req = { .ino = ino, .undo = 1 };
	WireOpenRep rep;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep };
	int r = rpc_co_call_session(s->rpc, session, WIRE_FORGET_QUERY, &call);

	return r == -EOPNOTSUPP || r == -ENOSYS || r == -ENOTCONN ? 0 : r;
}

void coroutine_fn orphans_co_unask(Server *s, uint64_t ino)
{
	unask(s, rpc_session(s->rpc), ino);
}

int coroutine_fn orphans_co_unask_all(Server *s, uint64_t ino, uint64_t caller)
{
	Orphan *orphan = g_hash_table_lookup(s->orphans->table, (void *)ino);
	g_autoptr(GArray) sessions = all_sessions(s);
	bool found = caller == 0;
	int r = 0;

	for (guint i = 0; r >= 0 && i < sessions->len; i++) {
		uint64_t session = g_array_index(sessions, uint64_t, i);

		found |= session == caller;
		if (session == caller || orphan->asked)
			r = unask(s, session, ino);
	}
	return r < 0 || found ? r : -EAGAIN;
}

/* ---- deleting ---- */

static int coroutine_fn delete_records(Server *s, Inode *inode)
{
	g_auto(Change) c = { 0 };

	change_begin(&c, s);
	change_delete(&c, inode);
	return change_co_commit(&c);
}

static int coroutine_fn delete_locked(Server *s, Inode *inode)
{
	if (inode->gone || inode->d.attr.nlink > 0)
		return 0;
	if (inode->d.n_blocks > 0) {
		int r = data_co_remove_objects(s, &inode->d);
		if (r < 0)
			return r;
		space_refresh(s->space);
	}
	return delete_records(s, inode);
}

static int coroutine_fn delete_inode(Server *s, uint64_t ino)
{
	Inode *inode;
	int r = inode_co_get_as_is(s, ino, &inode);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	co_mutex_lock(&inode->lock);
	r = delete_locked(s, inode);
	co_mutex_unlock(&inode->lock);
	inode_unref(s, inode);
	return r;
}

/* 0: gone; 1: open somewhere; -errno: try again. */
static int coroutine_fn try_delete(Server *s, uint64_t ino)
{
	int r = ask_all(s, ino);

	return r != 0 ? r : delete_inode(s, ino);
}

/* ---- the queue ---- */

static void arm_timer(Orphans *o, int64_t due_ns)
{
	if (o->s->stopping || (o->timer_ns && o->timer_ns <= due_ns))
		return;
	o->timer_ns = due_ns;
	reactor_timer_arm(o->s->reactor, &o->timer, due_ns);
}

static void settle(Orphans *o, Orphan *orphan, int r)
{
	co_queue_wake_all(&o->settled);
	if (r == 0) {
		g_hash_table_remove(o->table, (void *)orphan->ino);
		return;
	}
	if (orphan->again) {
		orphan->again = false;
		orphan->state = ORPHAN_QUEUED;
		g_queue_push_tail(&o->queue, orphan);
		return;
	}
	if (r > 0) {
		orphan->state = ORPHAN_OPEN;
		orphan->retry_ns = 0;
		return;
	}
	orphan->state = ORPHAN_WAITING;
	orphan->retry_ns = CLAMP(orphan->retry_ns * 2, RETRY_MIN_NS, RETRY_MAX_NS);
	orphan->due_ns = reactor_now_ns(o->s->reactor) + orphan->retry_ns;
	arm_timer(o, orphan->due_ns);
}

static void coroutine_fn worker(void *arg)
{
	Orphans *o = arg;
	Orphan *orphan;

	while (!o->s->stopping && (orphan = g_queue_pop_head(&o->queue))) {
		orphan->state = ORPHAN_RUNNING;
		orphan->asked = true;
		settle(o, orphan, try_delete(o->s, orphan->ino));
	}
	o->workers--;
}

static void start_workers(Orphans *o)
{
	while (o->started && !o->s->stopping && o->workers < MIN(WORKERS, o->queue.length)) {
		o->workers++;
		co_group_spawn(&o->group, worker, o);
	}
}

static void enqueue(Orphans *o, Orphan *orphan)
{
	switch (orphan->state) {
	case ORPHAN_QUEUED:
		break;
	case ORPHAN_RUNNING:
	case ORPHAN_HELD:
		orphan->again = true;
		break;
	case ORPHAN_OPEN:
	case ORPHAN_WAITING:
		orphan->state = ORPHAN_QUEUED;
		g_queue_push_tail(&o->queue, orphan);
		break;
	}
	start_workers(o);
}

static void timer_fired(ReactorTimer *t)
{
	Orphans *o = (Orphans *)((char *)t - G_STRUCT_OFFSET(Orphans, timer));
	int64_t now = reactor_now_ns(o->s->reactor), next = INT64_MAX;
	GHashTableIter it;
	void *value;

	o->timer_ns = 0;
	g_hash_table_iter_init(&it, o->table);
	while (g_hash_table_iter_next(&it, NULL, &value)) {
		Orphan *orphan = value;

		if (orphan->state != ORPHAN_WAITING)
			continue;
		if (orphan->due_ns <= now)
			enqueue(o, orphan);
		else
			next = MIN(next, orphan->due_ns);
	}
	/* at most one pass over the table a second */
	if (next != INT64_MAX)
		arm_timer(o, MAX(next, now + RETRY_MIN_NS));
}

static Orphan *add(Orphans *o, uint64_t ino, OrphanState state)
{
	Orphan *orphan = g_new0(Orphan, 1);

	*orphan = (Orphan) { .ino = ino, .state = state };
	g_hash_table_insert(o->table, (void *)ino, orphan);
	return orphan;
}

static bool is_all_here(Server *s, const InodeData *d)
{
	for (uint32_t i = 0; i < d->n_blocks; i++) {
		if (d->blocks[i].target != s->self)
			return false;
	}
	return is_alone(s);
}

void coroutine_fn orphans_co_reap(Server *s, uint64_t ino)
{
	Orphans *o = s->orphans;
	Inode *inode;
	Orphan *orphan;

	if (g_hash_table_contains(o->table, (void *)ino) || inode_co_get_as_is(s, ino, &inode) < 0)
		return;
	bool here = is_all_here(s, &inode->d);
	inode_unref(s, inode);
	orphan = add(o, ino, here ? ORPHAN_RUNNING : ORPHAN_WAITING);
	if (!here) {
		enqueue(o, orphan);
		return;
	}
	settle(o, orphan, try_delete(s, ino));
	start_workers(o);
}

/* ---- files without a name from birth ---- */

void orphans_add_nameless(Server *s, uint64_t ino)
{
	Orphan *orphan = add(s->orphans, ino, ORPHAN_WAITING);

	orphan->due_ns = reactor_now_ns(s->reactor) + NAMELESS_NS;
	arm_timer(s->orphans, orphan->due_ns);
}

int orphans_hold(Server *s, uint64_t ino)
{
	Orphans *o = s->orphans;
	Orphan *orphan = g_hash_table_lookup(o->table, (void *)ino);

	if (!orphan)
		return 0;
	if (orphan->state == ORPHAN_RUNNING || orphan->state == ORPHAN_HELD)
		return -EAGAIN;
	if (orphan->state == ORPHAN_QUEUED)
		g_queue_remove(&o->queue, orphan);
	orphan->state = ORPHAN_HELD;
	return 1;
}

int coroutine_fn orphans_co_hold(Server *s, uint64_t ino)
{
	int64_t until = reactor_now_ns(s->reactor) + HOLDS_WAIT_NS;
	int r;

	while ((r = orphans_hold(s, ino)) == -EAGAIN) {
		/* a change that spans peers lets go of both at once */
		if (!holds_find(s, (HoldKey) { .ino = ino }, NULL)) {
			co_queue_wait(&s->orphans->settled);
			continue;
		}
		r = holds_co_wait_once(s, until);
		if (r < 0)
			break;
	}
	return r;
}

void orphans_release(Server *s, uint64_t ino, bool named)
{
	Orphans *o = s->orphans;
	Orphan *orphan = g_hash_table_lookup(o->table, (void *)ino);

	if (named) {
		g_hash_table_remove(o->table, (void *)ino);
	} else {
		/* Who has it open may have been told that it is no orphan. */
		orphan->state = ORPHAN_OPEN;
		enqueue(o, orphan);
	}
	co_queue_wake_all(&o->settled);
}

/* ---- what happens outside ---- */

static int coroutine_fn orphan_closed(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireInoReq *req = r->req;
	Orphan *orphan = g_hash_table_lookup(s->orphans->table, (void *)req->ino);

	if (orphan)
		enqueue(s->orphans, orphan);
	return 0;
}

static void session_ended(void *ctx, uint64_t session)
{
	Server *s = ctx;
	GHashTableIter it;
	void *value;

	g_hash_table_iter_init(&it, s->orphans->table);
	while (g_hash_table_iter_next(&it, NULL, &value)) {
		Orphan *orphan = value;

		if (orphan->state == ORPHAN_OPEN || orphan->state == ORPHAN_RUNNING)
			enqueue(s->orphans, orphan);
	}
}

void orphans_attach(Server *s)
{
	rpc_serve(s->rpc, WIRE_ORPHAN_CLOSED, orphan_closed, s);
	rpc_on_session_ended(s->rpc, session_ended, s);
}

static int coroutine_fn load_slot(Server *s, uint16_t slot)
{
	Key key = key_slot(slot, RECORD_ORPHAN);
	g_autoptr(MetaIter) it = meta_iter_new(s->meta, key.data, key.len, NULL, 0);
	const uint8_t *k, *v;
	size_t k_len, v_len;
	int r;

	while ((r = meta_iter_co_next(it, &k, &k_len, &v, &v_len)) > 0) {
		uint64_t ino = key_get_num(k, k_len, key.len);

		/* the last process may have asked for it */
		if (ino_valid(ino) && ino_slot(ino) == slot)
			add(s->orphans, ino, ORPHAN_WAITING)->asked = true;
	}
	return r;
}

int coroutine_fn orphans_co_load(Server *s)
{
	for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
		if (map_slot_peer(s->map, (uint16_t)slot) != s->self)
			continue;
		int r = load_slot(s, (uint16_t)slot);
		if (r < 0)
			return r;
	}
	if (orphans_count(s) > 0)
		g_message("unlinked inodes that the last process left: %" PRIu64, orphans_count(s));
	return 0;
}

void orphans_start(Server *s)
{
	Orphans *o = s->orphans;
	GHashTableIter it;
	void *value;

	o->started = true;
	g_hash_table_iter_init(&it, o->table);
	while (g_hash_table_iter_next(&it, NULL, &value))
		enqueue(o, value);
}

void coroutine_fn orphans_co_stop(Server *s)
{
	reactor_timer_cancel(s->reactor, &s->orphans->timer);
	co_group_wait(&s->orphans->group);
}
