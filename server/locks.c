/*
 * All locks are in memory; those of other peers' mounts are in the store as
 * well (lockrecord.h), where each change is written before it counts. One
 * change of an inode's locks is made at a time (FileLocks.lock), from looking
 * what is in its way until it is made: so what the store has never conflicts
 * but with what sessions had that have ended. Those go behind, and count no more
 * as soon as their session is not recorded (sessions.h), which goes before.
 *
 * A process that starts finds the locks of those mounts that were there when
 * the last one ended, and holds them: their sessions come back, or their time
 * is over (sessions.h), and their locks with it, as with any session.
 *
 * Who must wait sleeps until anything of that inode's locks goes, then looks
 * again; they are woken in the order they came. A cancel may overtake the
 * request that it is meant for (another connection, a retry): a cancel that
 * finds nobody leaves a mark for a while.
 */
#define G_LOG_DOMAIN "server"
#include "server/locks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "server/lockrecord.h"
#include "server/record.h"
#include "server/sessions.h"

#define MARKS 256u
#define MARK_US (INT64_C(10) * 1000 * 1000)

typedef struct FileLocks {
	uint64_t ino;
	LockSet sets[WIRE_LOCK_KINDS];
	CoMutex lock;     /* who changes it; not who waits for a lock */
	uint32_t users;   /* who has it in hand, or waits */
	uint32_t waiters;
} FileLocks;

typedef struct LockWaiter {
	FileLocks *file;
	LockRange want;
	WireLockKind kind;
	bool woken;
	uint64_t wait_id;
	int result;      /* 0: look again; -EINTR */
	uint32_t visit;  /* see would_deadlock() */
	Co *co;
	GList link;
} LockWaiter;

typedef struct Mark {
	uint64_t session, wait_id;
	int64_t until_us;
} Mark;

struct LockTable {
	Server *s;
	Counters *counters;
	GHashTable *files; /* &ino -> FileLocks */
	GQueue waiting;    /* LockWaiter, first come first */
	Mark marks[MARKS];
	uint32_t next_mark, visit;
	bool stopping;
	CoGroup group;      /* of those that delete records */
	uint64_t count, waits, deadlocks, cancels;
};

LockTable *locks_new(Server *s)
{
	LockTable *t = g_new0(LockTable, 1);

	t->s = s;
	t->counters = s->opts.counters;
	t->group.sched = s->reactor ? reactor_sched(s->reactor) : NULL;
	t->files = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, NULL);
	counters_add(t->counters, "lock.held", &t->count);
	counters_add(t->counters, "lock.waits", &t->waits);
	counters_add(t->counters, "lock.deadlocks", &t->deadlocks);
	counters_add(t->counters, "lock.cancels", &t->cancels);
	return t;
}

static void file_free(FileLocks *f)
{
	for (int kind = 0; kind < WIRE_LOCK_KINDS; kind++)
		lockset_clear(&f->sets[kind]);
	g_free(f);
}

void locks_free(LockTable *t)
{
	GHashTableIter it;
	void *f;

	if (!t)
		return;
	g_assert(t->waiting.length == 0);
	g_hash_table_iter_init(&it, t->files);
	while (g_hash_table_iter_next(&it, NULL, &f))
		file_free(f);
	g_hash_table_destroy(t->files);
	counters_remove(t->counters, &t->count);
	counters_remove(t->counters, &t->waits);
	counters_remove(t->counters, &t->deadlocks);
	counters_remove(t->counters, &t->cancels);
	g_free(t);
}

uint64_t locks_count(const Server *s)
{
	return s->locks->count;
}

uint32_t locks_waiting(const LockTable *t)
{
	return t->waiting.length;
}

static FileLocks *get_file(LockTable *t, uint64_t ino)
{
	FileLocks *f = g_hash_table_lookup(t->files, &ino);

	if (!f) {
		f = g_new0(FileLocks, 1);
		f->ino = ino;
		g_hash_table_insert(t->files, &f->ino, f);
	}
	return f;
}

static uint32_t held(const FileLocks *f)
{
	uint32_t n = 0;

	for (int kind = 0; kind < WIRE_LOCK_KINDS; kind++)
		n += f->sets[kind].n;
	return n;
}

static bool is_unused(const FileLocks *f)
{
	return held(f) == 0 && f->users == 0;
}

/* To look at the locks of an inode and change them, alone. */
static FileLocks *coroutine_fn file_co_enter(LockTable *t, uint64_t ino)
{
	FileLocks *f = get_file(t, ino);

	f->users++;
	co_mutex_lock(&f->lock);
	return f;
}

static void file_leave(LockTable *t, FileLocks *f)
{
	co_mutex_unlock(&f->lock);
	f->users--;
	if (!is_unused(f))
		return;
	g_hash_table_remove(t->files, &f->ino);
	file_free(f);
}

static void wake(LockWaiter *w, int result)
{
	if (result < 0)
		w->result = result;
	if (w->woken)
		return;
	w->woken = true;
	co_wake(w->co);
}

static void wake_file(LockTable *t, const FileLocks *f)
{
	for (GList *l = t->waiting.head; l && f->waiters > 0; l = l->next) {
		LockWaiter *w = l->data;

		if (w->file == f)
			wake(w, 0);
	}
}

static void apply(LockTable *t, FileLocks *f, WireLockKind kind, const LockRange *range)
{
	LockSet *set = &f->sets[kind];
	uint32_t before = set->n;

	lockset_apply(set, range);
	t->count += (uint64_t)set->n - before;
	/* A write lock made a read lock lets others in too. */
	if (range->type != F_WRLCK)
		wake_file(t, f);
}

/* ---- deadlocks ---- */

/*
 * Does any owner that is in the way of `want` wait, however many steps away,
 * for `me`? Each waiter is looked at once, marked with the number of the
 * search; more steps than there are waiters can't be.
 */
static bool would_deadlock(LockTable *t, const FileLocks *f, const LockRange *want, const LockRange *me)
{
	const LockRange *c;

	for (uint32_t at = 0; (c = lockset_conflict(&f->sets[WIRE_LOCK_FCNTL], want, &at)); at++) {
		if (lock_same_owner(c, me))
			return true;
		for (GList *l = t->waiting.head; l; l = l->next) {
			LockWaiter *w = l->data;

			if (w->kind != WIRE_LOCK_FCNTL || w->visit == t->visit || !lock_same_owner(&w->want, c))
				continue;
			w->visit = t->visit;
			if (would_deadlock(t, w->file, &w->want, me))
				return true;
		}
	}
	return false;
}

static bool check_deadlock(LockTable *t, const FileLocks *f, const LockRange *want)
{
	t->visit++;
	return would_deadlock(t, f, want, want);
}

/* ---- cancelling ---- */

static bool take_mark(LockTable *t, uint64_t session, uint64_t wait_id)
{
	for (uint32_t i = 0; i < MARKS; i++) {
		Mark *m = &t->marks[i];

		if (m->session == session && m->wait_id == wait_id && m->until_us > 0) {
			bool fresh = m->until_us > g_get_monotonic_time();

			*m = (Mark) { 0 };
			return fresh;
		}
	}
	return false;
}

void locks_cancel(LockTable *t, uint64_t session, uint64_t wait_id)
{
	t->cancels++;
	for (GList *l = t->waiting.head; l; l = l->next) {
		LockWaiter *w = l->data;

		if (w->want.session == session && w->wait_id == wait_id) {
			wake(w, -EINTR);
			return;
		}
	}
	t->marks[t->next_mark++ % MARKS] = (Mark) {
		.session = session, .wait_id = wait_id, .until_us = g_get_monotonic_time() + MARK_US,
	};
}

/* ---- the store ---- */

/* Outlives this process. */
static bool is_lasting(const LockTable *t, const LockRange *range)
{
	return range->peer != t->s->self;
}

static int coroutine_fn write_change(LockTable *t, const FileLocks *f, WireLockKind kind, const LockRange *range)
{
	g_autoptr(MetaBatch) b = meta_batch_new(t->s->meta);

	if (!lock_records_change(b, f->ino, kind, &f->sets[kind], range))
		return 0;
	return meta_batch_co_commit(g_steal_pointer(&b));
}

/* The caller has entered the file and found nothing in the way. */
static int coroutine_fn change(LockTable *t, FileLocks *f, WireLockKind kind, const LockRange *range)
{
	int r = is_lasting(t, range) ? write_change(t, f, kind, range) : 0;

	if (r < 0)
		return r;
	apply(t, f, kind, range);
	/* It may have ended while its request was on its way here. */
	if (is_lasting(t, range) && range->type != F_UNLCK && !rpc_has_session(t->s->rpc, range->session)) {
		locks_end_session(t, range->session);
		return -EIO;
	}
	return 0;
}

typedef struct Gone {
	LockTable *t;
	uint64_t session;
	GArray *inos;
} Gone;

/* What the store has of a session becomes what memory has: mostly nothing, but
 * one that was cut off may be back and hold others by now. */
static int coroutine_fn rewrite_session(LockTable *t, const FileLocks *f, uint64_t session)
{
	MetaBatch *b = meta_batch_new(t->s->meta);

	lock_records_delete_session(b, f->ino, session);
	for (int kind = 0; kind < WIRE_LOCK_KINDS; kind++) {
		for (uint32_t i = 0; i < f->sets[kind].n; i++)
			if (f->sets[kind].v[i].session == session)
				lock_record_put(b, f->ino, (WireLockKind)kind, &f->sets[kind].v[i]);
	}
	return meta_batch_co_commit(b);
}

static void coroutine_fn forget_session(void *arg)
{
	Gone *g = arg;

	for (guint i = 0; i < g->inos->len; i++) {
		FileLocks *f = file_co_enter(g->t, g_array_index(g->inos, uint64_t, i));
		int r = rewrite_session(g->t, f, g->session);

		if (r < 0)
			g_warning("inode %#" PRIx64 ": locks of a mount that is gone stay in the store: %s, ignoring", f->ino, g_strerror(-r));
		file_leave(g->t, f);
	}
	g_array_free(g->inos, TRUE);
	g_free(g);
}

static bool has_lasting(const LockTable *t, const FileLocks *f, uint64_t session)
{
	for (int kind = 0; kind < WIRE_LOCK_KINDS; kind++)
		for (uint32_t i = 0; i < f->sets[kind].n; i++)
			if (f->sets[kind].v[i].session == session && is_lasting(t, &f->sets[kind].v[i]))
				return true;
	return false;
}

static bool drop_session(LockTable *t, FileLocks *f, uint64_t session)
{
	uint32_t before = held(f);
	bool dropped = false;

	for (int kind = 0; kind < WIRE_LOCK_KINDS; kind++)
		dropped = lockset_drop_session(&f->sets[kind], session) || dropped;
	t->count -= before - held(f);
	if (dropped)
		wake_file(t, f);
	return dropped;
}

void locks_end_session(LockTable *t, uint64_t session)
{
	Gone *gone = g_new(Gone, 1);
	GHashTableIter it;
	void *value;

	*gone = (Gone) { .t = t, .session = session, .inos = g_array_new(FALSE, FALSE, sizeof(uint64_t)) };
	for (GList *l = t->waiting.head; l; l = l->next) {
		LockWaiter *w = l->data;

		if (w->want.session == session)
			wake(w, -EINTR);
	}
	g_hash_table_iter_init(&it, t->files);
	while (g_hash_table_iter_next(&it, NULL, &value)) {
		FileLocks *f = value;

		if (has_lasting(t, f, session))
			g_array_append_val(gone->inos, f->ino);
		drop_session(t, f, session);
		if (is_unused(f)) {
			g_hash_table_iter_remove(&it);
			file_free(f);
		}
	}
	/* When this process stops all sessions end here and none really does. */
	if (gone->inos->len > 0 && !t->stopping) {
		co_group_spawn(&t->group, forget_session, gone);
		return;
	}
	g_array_free(gone->inos, TRUE);
	g_free(gone);
}

void locks_delete_records(LockTable *t, MetaBatch *b, uint64_t ino)
{
	const FileLocks *f = g_hash_table_lookup(t->files, &ino);

	if (f && held(f) > 0)
		lock_records_delete_all(b, ino);
}

void coroutine_fn locks_co_stop(Server *s)
{
	LockTable *t = s->locks;

	t->stopping = true;
	for (GList *l = t->waiting.head; l; l = l->next)
		wake(l->data, -EINTR);
	while (t->waiting.length > 0)
		co_reschedule();
	co_group_wait(&t->group);
}

/* ---- setting ---- */

static bool is_blocked(const FileLocks *f, const LockRange *want, WireLockKind kind)
{
	uint32_t at = 0;

	return want->type != F_UNLCK && lockset_conflict(&f->sets[kind], want, &at);
}

/* As flock(2) in Linux: changing a lock's type gives it up first, so that two
 * who hold it shared and both want it alone don't wait for each other. */
static int coroutine_fn give_up_flock(LockTable *t, FileLocks *f, const LockRange *want)
{
	LockRange none = *want;

	none.type = F_UNLCK;
	return change(t, f, WIRE_LOCK_FLOCK, &none);
}

static int coroutine_fn wait_turn(LockTable *t, LockWaiter *w)
{
	FileLocks *f = w->file;

	while (is_blocked(f, &w->want, w->kind)) {
		if (w->kind == WIRE_LOCK_FCNTL && check_deadlock(t, f, &w->want)) {
			t->deadlocks++;
			return -EDEADLK;
		}
		w->woken = false;
		co_mutex_unlock(&f->lock);
		while (!w->woken)
			co_yield();
		co_mutex_lock(&f->lock);
		if (w->result < 0)
			return w->result;
	}
	return 0;
}

static int coroutine_fn wait_for(LockTable *t, FileLocks *f, const LockRange *want, WireLockKind kind, uint64_t wait_id)
{
	if (t->stopping || take_mark(t, want->session, wait_id))
		return -EINTR;
	if (t->waiting.length >= LOCK_WAITERS_MAX)
		return -ENOLCK;
	LockWaiter w = { .file = f, .want = *want, .kind = kind, .woken = true, .wait_id = wait_id, .co = co_self() };

	w.link.data = &w;
	g_queue_push_tail_link(&t->waiting, &w.link);
	f->waiters++;
	t->waits++;
	int r = wait_turn(t, &w);
	f->waiters--;
	g_queue_unlink(&t->waiting, &w.link);
	return r;
}

static int coroutine_fn set(LockTable *t, FileLocks *f, const LockRange *want, WireLockKind kind, bool wait, uint64_t wait_id)
{
	int r = 0;

	if (kind == WIRE_LOCK_FLOCK && is_blocked(f, want, kind))
		r = give_up_flock(t, f, want);
	if (r == 0 && t->count >= LOCKS_MAX && (want->type != F_UNLCK || lockset_splits(&f->sets[kind], want)))
		r = -ENOLCK;
	if (r == 0 && is_blocked(f, want, kind))
		r = wait ? wait_for(t, f, want, kind, wait_id) : -EAGAIN;
	return r == 0 ? change(t, f, kind, want) : r;
}

int coroutine_fn locks_co_set(LockTable *t, uint64_t ino, const LockRange *want, WireLockKind kind, bool wait, uint64_t wait_id)
{
	FileLocks *f = file_co_enter(t, ino);
	int r = set(t, f, want, kind, wait, wait_id);

	file_leave(t, f);
	return r;
}

void locks_get(LockTable *t, uint64_t ino, const LockRange *want, WireLockKind kind, LockRange *ret)
{
	FileLocks *f = g_hash_table_lookup(t->files, &ino);
	const LockRange *first = NULL, *c;

	/* The set is in no order, and who asks means to go through the file. */
	for (uint32_t at = 0; f && (c = lockset_conflict(&f->sets[kind], want, &at)); at++)
		if (!first || c->start < first->start)
			first = c;
	*ret = first ? *first : *want;
	if (!first)
		ret->type = F_UNLCK;
}

/* ---- what the last process left ---- */

static int coroutine_fn inode_is_there(Server *s, uint64_t ino)
{
	Key key = key_ino(ino, RECORD_INODE);
	MetaValue v = { 0 };
	int r = meta_co_get(s->meta, key.data, key.len, &v);

	meta_value_clear(&v);
	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

typedef struct Loading {
	LockTable *t;
	MetaBatch *dead; /* records to be deleted */
	uint64_t ino;    /* the last one's */
	int there;       /* is that inode? */
} Loading;

/* A request that came while the inode or the session went may have left a
 * record. */
static int coroutine_fn load_record(Loading *l, uint64_t ino, const uint8_t *k, size_t k_len, const uint8_t *v, size_t v_len)
{
	WireLockKind kind;
	LockRange range;

	if (!lock_record_decode(k, k_len, v, v_len, &kind, &range)) {
		g_warning("inode %#" PRIx64 ": the record of a lock can't be read, ignoring", ino);
		return 0;
	}
	if (l->ino != ino)
		l->there = inode_is_there(l->t->s, ino);
	l->ino = ino;
	if (l->there < 0)
		return l->there;
	if (l->there && sessions_loaded(l->t->s, range.session))
		apply(l->t, get_file(l->t, ino), kind, &range);
	else
		meta_batch_delete(l->dead, k, k_len);
	return 0;
}

static int coroutine_fn load_slot(Loading *l, uint16_t slot)
{
	Key key = key_slot(slot, RECORD_LOCK);
	g_autoptr(MetaIter) it = meta_iter_new(l->t->s->meta, key.data, key.len, NULL, 0);
	const uint8_t *k, *v;
	size_t k_len, v_len;
	int r;

	while ((r = meta_iter_co_next(it, &k, &k_len, &v, &v_len)) > 0) {
		uint64_t ino = key_get_num(k, k_len, key.len);

		r = ino_valid(ino) && ino_slot(ino) == slot ? load_record(l, ino, k, k_len, v, v_len) : 0;
		if (r < 0)
			break;
	}
	return r;
}

int coroutine_fn locks_co_load(Server *s)
{
	LockTable *t = s->locks;
	Loading l = { .t = t };
	int r = 0;

	/* No peers, no mounts of theirs. */
	if (s->opts.embedded)
		return 0;
	l.dead = meta_batch_new(s->meta);
	for (uint32_t slot = 0; r >= 0 && slot < SLOT_COUNT; slot++) {
		if (map_slot_peer(s->map, (uint16_t)slot) == s->self)
			r = load_slot(&l, (uint16_t)slot);
	}
	if (r < 0) {
		meta_batch_free(l.dead);
		return r;
	}
	if (t->count > 0)
		g_message("locks that mounts of other peers had when the last process ended: %" PRIu64, t->count);
	return meta_batch_co_commit(l.dead);
}
