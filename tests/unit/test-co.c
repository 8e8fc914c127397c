/* Coroutines: switching, waiting, waking, bounds. */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/co.h"

static int64_t clock_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void run_all(CoSched *sched)
{
	while (co_sched_run(sched, 1000))
		;
}

/* ---- switching ---- */

typedef struct Trace {
	Co *co;
	GString *text;
	char name;
	int rounds;
} Trace;

static void coroutine_fn trace_main(void *arg)
{
	Trace *t = arg;
	t->co = co_self();
	for (int i = 0; i < t->rounds; i++) {
		g_string_append_c(t->text, t->name);
		co_reschedule();
	}
}

static void test_turns(void)
{
	CoSched *sched = co_sched_new(0, NULL);
	g_autoptr(GString) text = g_string_new(NULL);
	Trace a = { .text = text, .name = 'a', .rounds = 3 }, b = { .text = text, .name = 'b', .rounds = 2 };
	co_spawn(sched, CO_FUSE, trace_main, &a);
	co_spawn(sched, CO_RPC, trace_main, &b);
	g_assert_cmpstr(text->str, ==, "");
	g_assert_true(co_sched_has_ready(sched));
	run_all(sched);
	g_assert_cmpstr(text->str, ==, "ababa");
	g_assert_null(co_self());
	g_assert_false(co_sched_has_ready(sched));
	co_sched_free(sched);
}

static void test_budget(void)
{
	CoSched *sched = co_sched_new(0, NULL);
	g_autoptr(GString) text = g_string_new(NULL);
	Trace a = { .text = text, .name = 'a', .rounds = 10 };
	co_spawn(sched, CO_FUSE, trace_main, &a);
	g_assert_true(co_sched_run(sched, 4));
	g_assert_cmpstr(text->str, ==, "aaaa");
	run_all(sched);
	g_assert_cmpuint(text->len, ==, 10);
	co_sched_free(sched);
}

typedef struct Deep {
	Co *co;
	uint64_t sum;
	double product;
	bool go;
} Deep;

static uint64_t coroutine_fn deep_sum(Deep *d, int depth)
{
	volatile char frame[512];
	memset((char *)frame, depth, sizeof(frame));
	if (depth == 0) {
		while (!d->go)
			co_yield();
		return 0;
	}
	uint64_t below = deep_sum(d, depth - 1);
	for (size_t i = 0; i < sizeof(frame); i++)
		g_assert_cmpint(frame[i], ==, (char)depth);
	return below + (uint64_t)depth;
}

static void coroutine_fn deep_main(void *arg)
{
	Deep *d = arg;
	d->co = co_self();
	double x = (double)(uintptr_t)arg;
	d->sum = deep_sum(d, 100);
	d->product = x * 3;
}

/* Locals and registers, those of floating point too, survive a yield deep
 * down while others run on theirs. */
static void test_stacks_are_separate(void)
{
	CoSched *sched = co_sched_new(0, NULL);
	Deep deep[50] = { 0 };
	for (int i = 0; i < 50; i++)
		co_spawn(sched, CO_FUSE, deep_main, &deep[i]);
	run_all(sched);
	for (int i = 49; i >= 0; i--) {
		g_assert_cmpuint(deep[i].sum, ==, 0);
		deep[i].go = true;
		co_wake(deep[i].co);
	}
	run_all(sched);
	for (int i = 0; i < 50; i++) {
		g_assert_cmpuint(deep[i].sum, ==, 5050);
		g_assert_true(deep[i].product == (double)(uintptr_t)&deep[i] * 3);
	}
	co_sched_free(sched);
}

static void coroutine_fn local_main(void *arg)
{
	g_assert_null(co_get_local());
	co_set_local(arg);
	co_reschedule();
	g_assert_true(co_get_local() == arg);
}

static void test_local(void)
{
	CoSched *sched = co_sched_new(0, NULL);
	int a, b;
	for (int i = 0; i < 3; i++) { /* a used stack has forgotten */
		co_spawn(sched, CO_FUSE, local_main, &a);
		co_spawn(sched, CO_FUSE, local_main, &b);
		run_all(sched);
	}
	g_assert_null(co_get_local());
	co_sched_free(sched);
}

static void count_notify(void *arg)
{
	++*(int *)arg;
}

static void test_notify_on_first_ready(void)
{
	CoSched *sched = co_sched_new(0, NULL);
	int notified = 0, a;
	co_sched_set_notify(sched, count_notify, &notified);
	co_spawn(sched, CO_FUSE, local_main, &a);
	g_assert_cmpint(notified, ==, 1);
	co_spawn(sched, CO_FUSE, local_main, &a);
	g_assert_cmpint(notified, ==, 1);
	co_sched_set_notify(sched, NULL, NULL);
	run_all(sched);
	co_sched_free(sched);
}

/* ---- bounds ---- */

typedef struct Gate {
	CoQueue queue;
	bool open;
	GArray *order;
	uint32_t passed;
} Gate;

typedef struct GateArg {
	Gate *gate;
	int number;
} GateArg;

static void coroutine_fn gate_main(void *arg)
{
	GateArg *a = arg;
	if (a->gate->order)
		g_array_append_val(a->gate->order, a->number);
	while (!a->gate->open)
		co_queue_wait(&a->gate->queue);
	a->gate->passed++;
}

static void test_class_bound_and_backlog(void)
{
	uint32_t max[CO_CLASSES] = { [CO_FUSE] = 4, [CO_RPC] = 2, [CO_INTERNAL] = 1 };
	CoSched *sched = co_sched_new(0, max);
	Gate gate = { .order = g_array_new(FALSE, FALSE, sizeof(int)) };
	GateArg args[10];
	CoStats stats;
	for (int i = 0; i < 10; i++) {
		args[i] = (GateArg) { &gate, i };
		co_spawn(sched, CO_FUSE, gate_main, &args[i]);
	}
	run_all(sched);
	co_sched_get_stats(sched, &stats);
	g_assert_cmpuint(stats.live[CO_FUSE], ==, 4);
	g_assert_cmpuint(stats.queued[CO_FUSE], ==, 6);
	g_assert_cmpuint(gate.order->len, ==, 4);
	/* A full class leaves the others alone. */
	GateArg other = { &gate, 100 };
	co_spawn(sched, CO_INTERNAL, gate_main, &other);
	run_all(sched);
	g_assert_cmpuint(gate.order->len, ==, 5);
	gate.open = true;
	g_assert_cmpuint(co_queue_wake_all(&gate.queue), ==, 5);
	run_all(sched);
	g_assert_cmpuint(gate.passed, ==, 11);
	g_array_remove_index(gate.order, 4);
	for (int i = 0; i < 10; i++)
		g_assert_cmpint(g_array_index(gate.order, int, i), ==, i);
	co_sched_get_stats(sched, &stats);
	g_assert_cmpuint(stats.live[CO_FUSE], ==, 0);
	g_assert_cmpuint(stats.queued[CO_FUSE], ==, 0);
	g_assert_cmpuint(stats.stacks, ==, 5);
	g_array_free(gate.order, TRUE);
	co_sched_free(sched);
}

static void test_thousands(void)
{
	enum { N = 8192 };
	CoSched *sched = co_sched_new(0, NULL);
	Gate gate = { 0 };
	GateArg *args = g_new(GateArg, N);
	CoStats stats;
	for (int i = 0; i < N; i++) {
		args[i] = (GateArg) { &gate, i };
		co_spawn(sched, CO_FUSE, gate_main, &args[i]);
	}
	run_all(sched);
	co_sched_get_stats(sched, &stats);
	g_assert_cmpuint(stats.live[CO_FUSE], ==, N);
	gate.open = true;
	co_queue_wake_all(&gate.queue);
	run_all(sched);
	g_assert_cmpuint(gate.passed, ==, N);
	/* The burst's stacks go back to the kernel, in two steps: those that were
	 * in use since the last look stay at first. */
	co_sched_get_stats(sched, &stats);
	g_assert_cmpuint(stats.stacks, ==, N);
	g_assert_true(co_sched_needs_trim(sched));
	co_sched_trim(sched);
	co_sched_trim(sched);
	g_assert_false(co_sched_needs_trim(sched));
	co_sched_get_stats(sched, &stats);
	g_assert_cmpuint(stats.stacks, <=, 64);
	g_free(args);
	co_sched_free(sched);
}

static void coroutine_fn overflow_main(void *arg)
{
	Deep d = { .go = true };
	deep_sum(&d, 2000); /* a MiB at least */
}

static void test_stack_overflow(void)
{
	if (g_test_subprocess()) {
		CoSched *sched = co_sched_new(64 << 10, NULL);
		co_spawn(sched, CO_FUSE, overflow_main, NULL);
		run_all(sched);
		return;
	}
	/* The guard page, not a neighbour's memory. */
	g_test_trap_subprocess(NULL, 0, 0);
	g_test_trap_assert_failed();
}

/* ---- mutex, queue, group ---- */

typedef struct Locker {
	CoMutex *m;
	GString *text;
	char name;
	int rounds;
} Locker;

static void coroutine_fn locker_main(void *arg)
{
	Locker *l = arg;
	for (int i = 0; i < l->rounds; i++) {
		co_mutex_lock(l->m);
		g_string_append_c(l->text, l->name);
		co_reschedule();
		g_string_append_c(l->text, l->name);
		co_mutex_unlock(l->m);
	}
}

/* Pairs never interleave, and nobody overtakes: a lock that is free again goes
 * to the first in the queue though its last owner asks at once. */
static void test_mutex_is_fair(void)
{
	CoSched *sched = co_sched_new(0, NULL);
	CoMutex m = { 0 };
	g_autoptr(GString) text = g_string_new(NULL);
	Locker l[3] = { { &m, text, 'a', 3 }, { &m, text, 'b', 3 }, { &m, text, 'c', 3 } };
	for (int i = 0; i < 3; i++)
		co_spawn(sched, CO_FUSE, locker_main, &l[i]);
	run_all(sched);
	g_assert_cmpstr(text->str, ==, "aabbccaabbccaabbcc");
	g_assert_null(m.owner);
	g_assert_true(co_queue_empty(&m.waiters));
	co_sched_free(sched);
}

static void test_queue_is_in_order(void)
{
	CoSched *sched = co_sched_new(0, NULL);
	Gate gate = { 0 };
	GateArg args[3] = { { &gate, 0 }, { &gate, 1 }, { &gate, 2 } };
	g_assert_false(co_queue_wake_one(&gate.queue));
	for (int i = 0; i < 3; i++)
		co_spawn(sched, CO_FUSE, gate_main, &args[i]);
	run_all(sched);
	gate.open = true;
	for (uint32_t i = 1; i <= 3; i++) {
		g_assert_true(co_queue_wake_one(&gate.queue));
		run_all(sched);
		g_assert_cmpuint(gate.passed, ==, i);
	}
	g_assert_true(co_queue_empty(&gate.queue));
	co_sched_free(sched);
}

typedef struct Parts {
	CoSched *sched;
	int done;
	int seen; /* by the waiter, afterwards */
	bool yield;
} Parts;

static void coroutine_fn part_main(void *arg)
{
	Parts *p = arg;
	if (p->yield)
		co_reschedule();
	p->done++;
}

static void coroutine_fn parts_main(void *arg)
{
	Parts *p = arg;
	CoGroup g = { .sched = p->sched };
	co_group_wait(&g); /* of nobody: at once */
	for (int i = 0; i < 20; i++)
		co_group_spawn(&g, part_main, p);
	if (!p->yield)
		co_reschedule(); /* all are done before we wait */
	co_group_wait(&g);
	p->seen = p->done;
}

static void test_group(void)
{
	uint32_t max[CO_CLASSES] = { 0, 0, 3 }; /* fewer than the parts */
	CoSched *sched = co_sched_new(0, max);
	for (int yield = 0; yield < 2; yield++) {
		Parts p = { .sched = sched, .yield = yield };
		co_spawn(sched, CO_FUSE, parts_main, &p);
		run_all(sched);
		g_assert_cmpint(p.seen, ==, 20);
	}
	co_sched_free(sched);
}

/* ---- broken rules end the process and say who broke them ---- */

static void coroutine_fn sleeper_main(void *arg)
{
	*(Co **)arg = co_self();
	co_yield();
}

static void trap(const char *pattern)
{
	g_test_trap_subprocess(NULL, 0, 0);
	g_test_trap_assert_failed();
	g_test_trap_assert_stderr(pattern);
}

static void test_double_wake(void)
{
	if (g_test_subprocess()) {
		CoSched *sched = co_sched_new(0, NULL);
		Co *co = NULL;
		co_spawn(sched, CO_FUSE, sleeper_main, &co);
		run_all(sched);
		co_wake_from(co, "the first");
		co_wake_from(co, "the second");
		return;
	}
	trap("*the second wakes a coroutine that is ready; the first woke it before*");
}

static void coroutine_fn self_waker(void *arg)
{
	co_wake_from(co_self(), "itself");
}

static void test_wake_of_running(void)
{
	if (g_test_subprocess()) {
		CoSched *sched = co_sched_new(0, NULL);
		co_spawn(sched, CO_FUSE, self_waker, NULL);
		run_all(sched);
		return;
	}
	trap("*itself wakes a coroutine that is running*");
}

static void coroutine_fn keeps_mutex(void *arg)
{
	co_mutex_lock(arg);
}

static void test_end_with_mutex(void)
{
	if (g_test_subprocess()) {
		CoSched *sched = co_sched_new(0, NULL);
		CoMutex m = { 0 };
		co_spawn(sched, CO_FUSE, keeps_mutex, &m);
		run_all(sched);
		return;
	}
	trap("*ended with 1 mutexes locked*");
}

static void coroutine_fn locks_twice(void *arg)
{
	co_mutex_lock(arg);
	co_mutex_lock(arg);
}

static void test_mutex_is_not_recursive(void)
{
	if (g_test_subprocess()) {
		CoSched *sched = co_sched_new(0, NULL);
		CoMutex m = { 0 };
		co_spawn(sched, CO_FUSE, locks_twice, &m);
		run_all(sched);
		return;
	}
	trap("*owner != self*");
}

/* ---- cost ---- */

static void coroutine_fn spin_main(void *arg)
{
	int *rounds = arg;
	while (*rounds > 0) {
		--*rounds;
		co_reschedule();
	}
}

static void coroutine_fn empty_main(void *arg)
{
}

static void test_cost(void)
{
	if (!g_test_perf()) {
		g_test_skip("only with -m perf");
		return;
	}
	enum { ROUNDS = 5 * 1000 * 1000, SPAWNS = 1000 * 1000 };
	CoSched *sched = co_sched_new(0, NULL);
	int rounds = ROUNDS;
	co_spawn(sched, CO_FUSE, spin_main, &rounds);
	int64_t start = clock_ns();
	run_all(sched);
	double ns = (double)(clock_ns() - start) / ROUNDS;
	g_test_minimized_result(ns, "switch there and back: %.1f ns", ns);
	start = clock_ns();
	for (int i = 0; i < SPAWNS; i++) {
		co_spawn(sched, CO_FUSE, empty_main, NULL);
		co_sched_run(sched, 1);
	}
	ns = (double)(clock_ns() - start) / SPAWNS;
	g_test_minimized_result(ns, "start and end of a coroutine: %.1f ns", ns);
	co_sched_free(sched);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/co/turns", test_turns);
	g_test_add_func("/co/budget", test_budget);
	g_test_add_func("/co/stacks-are-separate", test_stacks_are_separate);
	g_test_add_func("/co/local", test_local);
	g_test_add_func("/co/notify", test_notify_on_first_ready);
	g_test_add_func("/co/class-bound-and-backlog", test_class_bound_and_backlog);
	g_test_add_func("/co/thousands", test_thousands);
	g_test_add_func("/co/stack-overflow", test_stack_overflow);
	g_test_add_func("/co/mutex-is-fair", test_mutex_is_fair);
	g_test_add_func("/co/mutex-is-not-recursive", test_mutex_is_not_recursive);
	g_test_add_func("/co/queue-is-in-order", test_queue_is_in_order);
	g_test_add_func("/co/group", test_group);
	g_test_add_func("/co/double-wake", test_double_wake);
	g_test_add_func("/co/wake-of-running", test_wake_of_running);
	g_test_add_func("/co/end-with-mutex", test_end_with_mutex);
	g_test_add_func("/co/cost", test_cost);
	return g_test_run();
}
