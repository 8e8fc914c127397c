/* Lock ranges against a model, and waiting: order, cancels, deadlocks, ends. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "server/locks.h"

#define END UINT64_MAX

/* ---- ranges ---- */

static LockRange range(uint64_t owner, uint64_t start, uint64_t end, uint32_t type)
{
	return (LockRange) { .session = 1, .owner = owner, .start = start, .end = end, .type = type, .pid = 77 };
}

static int by_start(const void *a, const void *b)
{
	const LockRange *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* "r0-9 w10-" for the ranges of a set, in order. */
static char *to_text(const LockSet *s)
{
	GString *text = g_string_new(NULL);
	g_autofree LockRange *v = g_memdup2(s->v, s->n * sizeof(LockRange));

	if (v)
		qsort(v, s->n, sizeof(LockRange), by_start);
	for (uint32_t i = 0; i < s->n; i++) {
		g_string_append_printf(text, "%s%c%" G_GUINT64_FORMAT "-", i ? " " : "", v[i].type == F_RDLCK ? 'r' : 'w',
			v[i].start);
		if (v[i].end != END)
			g_string_append_printf(text, "%" G_GUINT64_FORMAT, v[i].end);
	}
	return g_string_free(text, FALSE);
}

typedef struct Step {
	uint64_t start, end;
	uint32_t type;
} Step;

static void test_split_and_merge(void)
{
	const struct { Step steps[4]; uint32_t n; const char *expect; } rows[] = {
		{ { { 0, 9, F_RDLCK } }, 1, "r0-9" },
		{ { { 0, 9, F_RDLCK }, { 10, 19, F_RDLCK } }, 2, "r0-19" },
		{ { { 10, 19, F_RDLCK }, { 0, 9, F_RDLCK } }, 2, "r0-19" },
		{ { { 0, 9, F_RDLCK }, { 10, 19, F_WRLCK } }, 2, "r0-9 w10-19" },
		{ { { 0, 9, F_RDLCK }, { 11, 19, F_RDLCK } }, 2, "r0-9 r11-19" },
		{ { { 0, 9, F_RDLCK }, { 11, 19, F_RDLCK }, { 10, 10, F_RDLCK } }, 3, "r0-19" },
		{ { { 0, 99, F_RDLCK }, { 40, 59, F_WRLCK } }, 2, "r0-39 w40-59 r60-99" },
		{ { { 0, 99, F_RDLCK }, { 40, 59, F_UNLCK } }, 2, "r0-39 r60-99" },
		{ { { 0, 99, F_RDLCK }, { 40, 59, F_WRLCK }, { 40, 59, F_RDLCK } }, 3, "r0-99" },
		{ { { 0, 99, F_WRLCK }, { 0, 49, F_UNLCK } }, 2, "w50-99" },
		{ { { 0, 99, F_WRLCK }, { 50, 99, F_UNLCK } }, 2, "w0-49" },
		{ { { 0, 99, F_WRLCK }, { 0, END, F_UNLCK } }, 2, "" },
		{ { { 5, END, F_WRLCK }, { 0, 4, F_WRLCK } }, 2, "w0-" },
		{ { { 5, END, F_WRLCK }, { 10, END, F_UNLCK } }, 2, "w5-9" },
		{ { { 5, END, F_WRLCK }, { 0, 9, F_RDLCK } }, 2, "r0-9 w10-" },
		{ { { 0, 9, F_RDLCK }, { 20, 29, F_RDLCK }, { 5, 24, F_WRLCK } }, 3, "r0-4 w5-24 r25-29" },
		{ { { 0, 9, F_RDLCK }, { 20, 29, F_RDLCK }, { 0, 29, F_WRLCK }, { 3, 3, F_UNLCK } }, 4, "w0-2 w4-29" },
		{ { { 0, 0, F_WRLCK }, { 0, 0, F_UNLCK } }, 2, "" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		LockSet s = { 0 };

		for (uint32_t k = 0; k < rows[i].n; k++) {
			LockRange r = range(1, rows[i].steps[k].start, rows[i].steps[k].end, rows[i].steps[k].type);

			lockset_apply(&s, &r);
		}
		g_autofree char *text = to_text(&s);
		g_assert_cmpstr(text, ==, rows[i].expect);
		lockset_clear(&s);
	}
}

static void test_conflicts(void)
{
	const struct { Step have, want; uint64_t owner; bool conflict; } rows[] = {
		{ { 0, 9, F_RDLCK }, { 0, 9, F_RDLCK }, 2, false },
		{ { 0, 9, F_RDLCK }, { 9, 20, F_WRLCK }, 2, true },
		{ { 0, 9, F_RDLCK }, { 10, 20, F_WRLCK }, 2, false },
		{ { 0, 9, F_WRLCK }, { 0, 0, F_RDLCK }, 2, true },
		{ { 5, END, F_WRLCK }, { UINT64_C(1) << 60, END, F_RDLCK }, 2, true },
		{ { 0, 9, F_WRLCK }, { 0, 9, F_WRLCK }, 1, false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		LockSet s = { 0 };
		LockRange have = range(1, rows[i].have.start, rows[i].have.end, rows[i].have.type);
		LockRange want = range(rows[i].owner, rows[i].want.start, rows[i].want.end, rows[i].want.type);
		uint32_t at = 0;

		lockset_apply(&s, &have);
		g_assert_cmpint(lockset_conflict(&s, &want, &at) != NULL, ==, rows[i].conflict);
		/* The same owner number of another session is somebody else. */
		want = have;
		want.session = 2, want.type = F_WRLCK, at = 0;
		g_assert_nonnull(lockset_conflict(&s, &want, &at));
		lockset_clear(&s);
	}
}

enum { BYTES = 24 };

static void test_random_ranges(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(11);
	uint32_t model[2][BYTES];
	LockSet s = { 0 };

	for (int o = 0; o < 2; o++)
		for (int b = 0; b < BYTES; b++)
			model[o][b] = F_UNLCK;
	for (int i = 0; i < 20000; i++) {
		const uint32_t types[] = { F_RDLCK, F_WRLCK, F_UNLCK };
		int o = g_rand_int_range(rand, 0, 2), start = g_rand_int_range(rand, 0, BYTES);
		int end = g_rand_int_range(rand, start, BYTES);
		LockRange r = range((uint64_t)o, (uint64_t)start, (uint64_t)end, types[g_rand_int_range(rand, 0, 3)]);
		bool splits = lockset_splits(&s, &r);
		uint32_t before = s.n;

		lockset_apply(&s, &r);
		if (r.type == F_UNLCK)
			g_assert_cmpint(splits, ==, s.n > before);
		for (int b = start; b <= end; b++)
			model[o][b] = r.type;
		for (int b = 0; b < BYTES; b++)
			for (uint64_t k = 0; k < 2; k++) {
				uint32_t found = F_UNLCK, n = 0;

				for (uint32_t e = 0; e < s.n; e++)
					if (s.v[e].owner == k && s.v[e].start <= (uint64_t)b && s.v[e].end >= (uint64_t)b)
						found = s.v[e].type, n++;
				g_assert_cmpuint(n, <=, 1);
				g_assert_cmpuint(found, ==, model[k][b]);
			}
	}
	lockset_clear(&s);
}

/* ---- waiting ---- */

typedef struct Fixture {
	Reactor *reactor;
	Counters *counters;
	Server s;
	LockTable *t;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
	ReactorOptions opts = { 0 };

	f->reactor = reactor_new(&opts, NULL);
	f->counters = counters_new();
	f->s.opts.counters = f->counters;
	f->t = f->s.locks = locks_new(&f->s);
}

static void tear_down(Fixture *f, gconstpointer data)
{
	g_assert_cmpuint(locks_waiting(f->t), ==, 0);
	locks_free(f->t);
	counters_free(f->counters);
	reactor_free(f->reactor);
}

typedef struct Ask {
	LockTable *t;
	uint64_t ino, wait_id;
	LockRange want;
	WireLockKind kind;
	bool done;
	int r;
	GString *order;
} Ask;

static void coroutine_fn ask_co(void *arg)
{
	Ask *a = arg;

	a->r = locks_co_set(a->t, a->ino, &a->want, a->kind, true, a->wait_id);
	a->done = true;
	if (a->order)
		g_string_append_printf(a->order, "%" G_GUINT64_FORMAT " ", a->wait_id);
}

static void settle(Fixture *f)
{
	for (int i = 0; i < 5; i++)
		reactor_iterate(f->reactor, false);
}

static void start(Fixture *f, Ask *a)
{
	a->t = f->t;
	co_spawn(reactor_sched(f->reactor), CO_INTERNAL, ask_co, a);
	settle(f);
}

typedef struct Now {
	Fixture *f;
	uint64_t ino;
	LockRange want;
	WireLockKind kind;
	int r;
} Now;

static void coroutine_fn now_co(void *arg)
{
	Now *n = arg;

	n->r = locks_co_set(n->f->t, n->ino, &n->want, n->kind, false, 0);
}

static int set_now(Fixture *f, uint64_t ino, LockRange want, WireLockKind kind)
{
	Now n = { .f = f, .ino = ino, .want = want, .kind = kind };

	reactor_run_co(f->reactor, now_co, &n);
	return n.r;
}

static void test_wait_in_order(Fixture *f, gconstpointer data)
{
	g_autoptr(GString) order = g_string_new(NULL);
	Ask asks[4];

	g_assert_cmpint(set_now(f, 9, range(100, 0, END, F_WRLCK), WIRE_LOCK_FCNTL), ==, 0);
	g_assert_cmpint(set_now(f, 9, range(101, 5, 5, F_RDLCK), WIRE_LOCK_FCNTL), ==, -EAGAIN);
	for (uint64_t i = 0; i < 4; i++) {
		asks[i] = (Ask) { .ino = 9, .want = range(i, 0, 9, F_RDLCK), .wait_id = i, .order = order };
		start(f, &asks[i]);
		g_assert_false(asks[i].done);
	}
	g_assert_cmpuint(locks_waiting(f->t), ==, 4);
	g_assert_cmpint(set_now(f, 9, range(100, 0, END, F_RDLCK), WIRE_LOCK_FCNTL), ==, 0);
	settle(f);
	g_assert_cmpstr(order->str, ==, "0 1 2 3 ");
	g_assert_cmpint(asks[3].r, ==, 0);
	g_assert_cmpuint(locks_count(&f->s), ==, 5);
}

static void test_get(Fixture *f, gconstpointer data)
{
	LockRange want = range(2, 0, END, F_WRLCK), found;

	locks_get(f->t, 9, &want, WIRE_LOCK_FCNTL, &found);
	g_assert_cmpuint(found.type, ==, F_UNLCK);
	set_now(f, 9, range(1, 10, 19, F_RDLCK), WIRE_LOCK_FCNTL);
	locks_get(f->t, 9, &want, WIRE_LOCK_FCNTL, &found);
	g_assert_cmpuint(found.type, ==, F_RDLCK);
	g_assert_cmpuint(found.start, ==, 10);
	g_assert_cmpuint(found.end, ==, 19);
	g_assert_cmpuint(found.pid, ==, 77);
	/* The kinds don't meet. */
	locks_get(f->t, 9, &want, WIRE_LOCK_FLOCK, &found);
	g_assert_cmpuint(found.type, ==, F_UNLCK);
	locks_get(f->t, 9, &want, WIRE_LOCK_APPEND, &found);
	g_assert_cmpuint(found.type, ==, F_UNLCK);
}

static void test_cancel(Fixture *f, gconstpointer data)
{
	Ask a = { .ino = 9, .want = range(2, 0, 9, F_WRLCK), .wait_id = 42 };
	Ask late = { .ino = 9, .want = range(3, 0, 9, F_WRLCK), .wait_id = 43 };
	Ask again = late;

	set_now(f, 9, range(1, 0, END, F_WRLCK), WIRE_LOCK_FCNTL);
	start(f, &a);
	locks_cancel(f->t, 2, 42); /* another session's 42 */
	settle(f);
	g_assert_false(a.done);
	locks_cancel(f->t, 1, 42);
	settle(f);
	g_assert_cmpint(a.r, ==, -EINTR);
	/* The cancel comes first, once. */
	locks_cancel(f->t, 1, 43);
	start(f, &late);
	g_assert_true(late.done);
	g_assert_cmpint(late.r, ==, -EINTR);
	start(f, &again);
	g_assert_false(again.done);
	set_now(f, 9, range(1, 0, END, F_UNLCK), WIRE_LOCK_FCNTL);
	settle(f);
	g_assert_cmpint(again.r, ==, 0);
	g_assert_cmpuint(locks_count(&f->s), ==, 1);
}

static void test_deadlock(Fixture *f, gconstpointer data)
{
	Ask a = { .ino = 9, .want = range(1, 10, 19, F_WRLCK), .wait_id = 1 };
	Ask b = { .ino = 9, .want = range(2, 20, 29, F_WRLCK), .wait_id = 2 };
	Ask c = { .ino = 8, .want = range(3, 0, 9, F_WRLCK), .wait_id = 3 };

	set_now(f, 8, range(1, 0, 9, F_WRLCK), WIRE_LOCK_FCNTL);
	set_now(f, 9, range(2, 10, 19, F_WRLCK), WIRE_LOCK_FCNTL);
	set_now(f, 9, range(3, 20, 29, F_WRLCK), WIRE_LOCK_FCNTL);
	start(f, &a);
	start(f, &b);
	g_assert_false(a.done || b.done);
	start(f, &c); /* 3 waits for 1, for 2, for 3 */
	g_assert_true(c.done);
	g_assert_cmpint(c.r, ==, -EDEADLK);
	set_now(f, 9, range(3, 0, END, F_UNLCK), WIRE_LOCK_FCNTL);
	settle(f);
	g_assert_cmpint(b.r, ==, 0);
	set_now(f, 9, range(2, 0, END, F_UNLCK), WIRE_LOCK_FCNTL);
	settle(f);
	g_assert_cmpint(a.r, ==, 0);
}

/* Both hold a read lock and both want to write: the second one is told. */
static void test_upgrade_deadlock(Fixture *f, gconstpointer data)
{
	Ask a = { .ino = 9, .want = range(1, 0, 9, F_WRLCK), .wait_id = 1 };
	Ask b = { .ino = 9, .want = range(2, 0, 9, F_WRLCK), .wait_id = 2 };

	set_now(f, 9, range(1, 0, 9, F_RDLCK), WIRE_LOCK_FCNTL);
	set_now(f, 9, range(2, 0, 9, F_RDLCK), WIRE_LOCK_FCNTL);
	start(f, &a);
	start(f, &b);
	g_assert_cmpint(b.r, ==, -EDEADLK);
	set_now(f, 9, range(2, 0, END, F_UNLCK), WIRE_LOCK_FCNTL);
	settle(f);
	g_assert_true(a.done);
	g_assert_cmpint(a.r, ==, 0);
}

/* With flock the same ends well: each gives up what it had before it waits. */
static void test_flock_upgrade(Fixture *f, gconstpointer data)
{
	Ask a = { .ino = 9, .kind = WIRE_LOCK_FLOCK, .want = range(1, 0, END, F_WRLCK), .wait_id = 1 };
	Ask b = { .ino = 9, .kind = WIRE_LOCK_FLOCK, .want = range(2, 0, END, F_WRLCK), .wait_id = 2 };

	set_now(f, 9, range(1, 0, END, F_RDLCK), WIRE_LOCK_FLOCK);
	set_now(f, 9, range(2, 0, END, F_RDLCK), WIRE_LOCK_FLOCK);
	start(f, &a);
	g_assert_false(a.done);
	start(f, &b);
	g_assert_true(b.done);
	g_assert_cmpint(b.r, ==, 0);
	g_assert_false(a.done);
	set_now(f, 9, range(2, 0, END, F_UNLCK), WIRE_LOCK_FLOCK);
	settle(f);
	g_assert_true(a.done);
	g_assert_cmpint(a.r, ==, 0);
	/* Without waiting it is lost, as the manual says. */
	g_assert_cmpint(set_now(f, 8, range(1, 0, END, F_RDLCK), WIRE_LOCK_FLOCK), ==, 0);
	g_assert_cmpint(set_now(f, 8, range(2, 0, END, F_RDLCK), WIRE_LOCK_FLOCK), ==, 0);
	g_assert_cmpint(set_now(f, 8, range(1, 0, END, F_WRLCK), WIRE_LOCK_FLOCK), ==, -EAGAIN);
	g_assert_cmpint(set_now(f, 8, range(2, 0, END, F_WRLCK), WIRE_LOCK_FLOCK), ==, 0);
}

/* One at a time, whatever is locked by fcntl and who waits there. */
static void test_append(Fixture *f, gconstpointer data)
{
	Ask fcntl = { .ino = 9, .want = range(1, 0, END, F_WRLCK), .wait_id = 1 };
	Ask append = { .ino = 9, .kind = WIRE_LOCK_APPEND, .want = range(2, 0, END, F_WRLCK), .wait_id = 2 };

	set_now(f, 9, range(2, 0, END, F_WRLCK), WIRE_LOCK_FCNTL);
	g_assert_cmpint(set_now(f, 9, range(1, 0, END, F_WRLCK), WIRE_LOCK_APPEND), ==, 0);
	start(f, &fcntl);
	start(f, &append);
	g_assert_false(append.done);
	g_assert_cmpint(set_now(f, 9, range(1, 0, END, F_UNLCK), WIRE_LOCK_APPEND), ==, 0);
	settle(f);
	g_assert_true(append.done);
	g_assert_cmpint(append.r, ==, 0);
	g_assert_false(fcntl.done);
	set_now(f, 9, range(2, 0, END, F_UNLCK), WIRE_LOCK_FCNTL);
	settle(f);
	g_assert_cmpint(fcntl.r, ==, 0);
}

static void test_session_end(Fixture *f, gconstpointer data)
{
	LockRange other = range(1, 0, 9, F_WRLCK);
	Ask mine = { .ino = 9, .want = range(5, 0, 9, F_WRLCK), .wait_id = 1 };
	Ask theirs = { .ino = 9, .wait_id = 2 };

	other.session = 2;
	theirs.want = range(6, 0, 9, F_WRLCK);
	theirs.want.session = 3;
	set_now(f, 9, other, WIRE_LOCK_FCNTL);
	set_now(f, 8, other, WIRE_LOCK_FLOCK);
	start(f, &theirs);
	start(f, &mine);
	locks_end_session(f->t, 3);
	settle(f);
	g_assert_cmpint(theirs.r, ==, -EINTR);
	g_assert_false(mine.done);
	locks_end_session(f->t, 2);
	settle(f);
	g_assert_true(mine.done);
	g_assert_cmpint(mine.r, ==, 0);
	g_assert_cmpuint(locks_count(&f->s), ==, 1);
}

static void test_bounded(Fixture *f, gconstpointer data)
{
	g_autofree Ask *asks = g_new0(Ask, LOCK_WAITERS_MAX + 1);

	set_now(f, 9, range(1000000, 0, END, F_WRLCK), WIRE_LOCK_FCNTL);
	for (uint64_t i = 0; i <= LOCK_WAITERS_MAX; i++) {
		asks[i] = (Ask) { .ino = 9, .want = range(i, 0, 9, F_RDLCK), .wait_id = i };
		start(f, &asks[i]);
	}
	g_assert_true(asks[LOCK_WAITERS_MAX].done);
	g_assert_cmpint(asks[LOCK_WAITERS_MAX].r, ==, -ENOLCK);
	set_now(f, 9, range(1000000, 0, END, F_UNLCK), WIRE_LOCK_FCNTL);
	settle(f);
	g_assert_cmpuint(locks_count(&f->s), ==, LOCK_WAITERS_MAX);
}

/* Everyone has a byte and waits for the next one's; the last closes the ring. */
static void test_long_ring(Fixture *f, gconstpointer data)
{
	const uint64_t n = LOCK_WAITERS_MAX;
	g_autofree Ask *asks = g_new0(Ask, n);

	for (uint64_t i = 0; i < n; i++)
		set_now(f, 9, range(i, i, i, F_WRLCK), WIRE_LOCK_FCNTL);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t next = (i + 1) % n;

		asks[i] = (Ask) { .ino = 9, .want = range(i, next, next, F_WRLCK), .wait_id = i };
		start(f, &asks[i]);
		g_assert_cmpint(asks[i].done, ==, i == n - 1);
	}
	g_assert_cmpint(asks[n - 1].r, ==, -EDEADLK);
	locks_end_session(f->t, 1);
	settle(f);
	g_assert_cmpuint(locks_waiting(f->t), ==, 0);
}

static void coroutine_fn stop_co(void *arg)
{
	locks_co_stop(arg);
}

static void test_stop(Fixture *f, gconstpointer data)
{
	Ask a = { .ino = 9, .want = range(2, 0, 9, F_WRLCK), .wait_id = 1 }, b = a;

	set_now(f, 9, range(1, 0, END, F_WRLCK), WIRE_LOCK_FCNTL);
	start(f, &a);
	reactor_run_co(f->reactor, stop_co, &f->s);
	g_assert_cmpint(a.r, ==, -EINTR);
	start(f, &b);
	g_assert_cmpint(b.r, ==, -EINTR);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/locks/split-and-merge", test_split_and_merge);
	g_test_add_func("/locks/conflicts", test_conflicts);
	g_test_add_func("/locks/random-ranges", test_random_ranges);
#define ADD(name, fn) g_test_add("/locks/" name, Fixture, NULL, set_up, fn, tear_down)
	ADD("wait-in-order", test_wait_in_order);
	ADD("get", test_get);
	ADD("cancel", test_cancel);
	ADD("deadlock", test_deadlock);
	ADD("upgrade-deadlock", test_upgrade_deadlock);
	ADD("flock-upgrade", test_flock_upgrade);
	ADD("append", test_append);
	ADD("session-end", test_session_end);
	ADD("bounded", test_bounded);
	ADD("long-ring", test_long_ring);
	ADD("stop", test_stop);
	return g_test_run();
}
