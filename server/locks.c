/*
 * Who must wait sleeps until anything of that inode's locks goes, then looks
 * again; they are woken in the order they came. A cancel may overtake the
 * request that it is meant for (another connection, a retry): a cancel that
 * finds nobody leaves a mark for a while.
 */
#include "server/locks.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define MARKS 256u
#define MARK_US (INT64_C(10) * 1000 * 1000)

typedef struct FileLocks {
	uint64_t ino;
	LockSet sets[WIRE_LOCK_KINDS];
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
	Counters *counters;
	GHashTable *files; /* &ino -> FileLocks */
	GQueue waiting;    /* LockWaiter, first come first */
	Mark marks[MARKS];
	uint32_t next_mark, visit;
	bool stopping;
	uint64_t count, waits, deadlocks, cancels;
};

LockTable *locks_new(Server *s)
{
	LockTable *t = g_new0(LockTable, 1);

	t->counters = s->opts.counters;
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
	return held(f) == 0 && f->waiters == 0;
}

static void drop_if_unused(LockTable *t, FileLocks *f)
{
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

void locks_end_session(LockTable *t, uint64_t session)
{
	GHashTableIter it;
	void *value;

	for (GList *l = t->waiting.head; l; l = l->next) {
		LockWaiter *w = l->data;

		if (w->want.session == session)
			wake(w, -EINTR);
	}
	g_hash_table_iter_init(&it, t->files);
	while (g_hash_table_iter_next(&it, NULL, &value)) {
		FileLocks *f = value;
		uint32_t before = held(f);
		bool dropped = false;

		for (int kind = 0; kind < WIRE_LOCK_KINDS; kind++)
			dropped = lockset_drop_session(&f->sets[kind], session) || dropped;
		t->count -= before - held(f);
		if (dropped)
			wake_file(t, f);
		if (is_unused(f)) {
			g_hash_table_iter_remove(&it);
			file_free(f);
		}
	}
}

void coroutine_fn locks_co_stop(Server *s)
{
	LockTable *t = s->locks;

	t->stopping = true;
	for (GList *l = t->waiting.head; l; l = l->next)
		wake(l->data, -EINTR);
	while (t->waiting.length > 0)
		co_reschedule();
}

/* ---- setting ---- */

static bool is_blocked(const FileLocks *f, const LockRange *want, WireLockKind kind)
{
	uint32_t at = 0;

	return want->type != F_UNLCK && lockset_conflict(&f->sets[kind], want, &at);
}

/* As flock(2) in Linux: changing a lock's type gives it up first, so that two
 * who hold it shared and both want it alone don't wait for each other. */
static void give_up_flock(LockTable *t, FileLocks *f, const LockRange *want)
{
	LockRange none = *want;

	none.type = F_UNLCK;
	apply(t, f, WIRE_LOCK_FLOCK, &none);
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
		while (!w->woken)
			co_yield();
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

int coroutine_fn locks_co_set(LockTable *t, uint64_t ino, const LockRange *want, WireLockKind kind, bool wait, uint64_t wait_id)
{
	FileLocks *f = get_file(t, ino);
	int r = 0;

	if (kind == WIRE_LOCK_FLOCK && is_blocked(f, want, kind))
		give_up_flock(t, f, want);
	if (want->type != F_UNLCK && t->count >= LOCKS_MAX)
		r = -ENOLCK;
	else if (is_blocked(f, want, kind))
		r = wait ? wait_for(t, f, want, kind, wait_id) : -EAGAIN;
	if (r == 0)
		apply(t, f, kind, want);
	drop_if_unused(t, f);
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
