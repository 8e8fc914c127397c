/* The reactor: timers, pollers, threads, GLib's sources, sleeping. */
#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/reactor.h"

#define MS INT64_C(1000000)

static int64_t clock_ns(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return ts.tv_sec * (1000 * MS) + ts.tv_nsec;
}

static Reactor *make(int64_t spin_ns)
{
	ReactorOptions opts = { .spin_ns = spin_ns };
	GError *error = NULL;
	Reactor *r = reactor_new(&opts, &error);
	g_assert_no_error(error);
	return r;
}

/* ---- timers ---- */

typedef struct Alarm {
	ReactorTimer timer;
	Reactor *reactor;
	GArray *order;
	int number, left;
} Alarm;

static void alarm_fire(ReactorTimer *t)
{
	Alarm *a = (Alarm *)t;
	g_array_append_val(a->order, a->number);
	if (--a->left == 0)
		reactor_quit(a->reactor);
}

static void test_timers_in_order(void)
{
	enum { N = 200 };
	Reactor *r = make(0);
	GArray *order = g_array_new(FALSE, FALSE, sizeof(int));
	Alarm alarms[N];
	int64_t now = reactor_now_ns(r);
	for (int i = 0; i < N; i++) {
		/* 77 and 200 have no common factor: every time once, shuffled. */
		int at = i * 77 % N;
		alarms[i] = (Alarm) { .timer.fire = alarm_fire, .reactor = r, .order = order, .number = at, .left = at == N - 1 };
		reactor_timer_arm(r, &alarms[i].timer, now + at * MS / 4);
	}
	for (int i = 0; i < N; i++) /* every third is cancelled, some twice */
		if (alarms[i].number % 3 == 0) {
			reactor_timer_cancel(r, &alarms[i].timer);
			reactor_timer_cancel(r, &alarms[i].timer);
		}
	reactor_run(r);
	int expect = 0;
	for (guint i = 0; i < order->len; i++, expect++) {
		expect += expect % 3 == 0;
		g_assert_cmpint(g_array_index(order, int, i), ==, expect);
	}
	g_assert_cmpint(expect, ==, N);
	g_assert_cmpint(reactor_now_ns(r) - now, >=, (N - 1) * MS / 4);
	g_array_free(order, TRUE);
	reactor_free(r);
}

static void test_timer_moves(void)
{
	Reactor *r = make(0);
	GArray *order = g_array_new(FALSE, FALSE, sizeof(int));
	Alarm a = { .timer.fire = alarm_fire, .reactor = r, .order = order, .number = 1 };
	Alarm b = { .timer.fire = alarm_fire, .reactor = r, .order = order, .number = 2, .left = 1 };
	int64_t now = reactor_now_ns(r);
	reactor_timer_arm(r, &a.timer, now + 3600 * 1000 * MS);
	reactor_timer_arm(r, &b.timer, now + 5 * MS);
	reactor_timer_arm(r, &a.timer, now + 2 * MS);
	reactor_run(r);
	g_assert_cmpuint(order->len, ==, 2);
	g_assert_cmpint(g_array_index(order, int, 0), ==, 1);
	g_array_free(order, TRUE);
	reactor_free(r);
}

typedef struct Nap {
	Reactor *reactor;
	int64_t ns, took_ns;
} Nap;

static void coroutine_fn nap_main(void *arg)
{
	Nap *nap = arg;
	int64_t start = clock_ns(CLOCK_MONOTONIC);
	reactor_co_sleep(nap->reactor, nap->ns);
	nap->took_ns = clock_ns(CLOCK_MONOTONIC) - start;
}

static void test_run_co(void)
{
	Reactor *r = make(0);
	Nap nap = { r, 20 * MS, 0 };
	reactor_run_co(r, nap_main, &nap);
	g_assert_cmpint(nap.took_ns, >=, 20 * MS);
	reactor_quit(r); /* also when asked to end: this is how one shuts down */
	nap = (Nap) { r, 5 * MS, 0 };
	reactor_run_co(r, nap_main, &nap);
	g_assert_cmpint(nap.took_ns, >=, 5 * MS);
	reactor_free(r);
}

/* Half a second of nothing costs no processor time, nor does it when some
 * answer is expected that takes long, spinning or not. */
static void test_sleep_is_sleep(void)
{
	Reactor *r = make(50 * 1000);
	Nap nap = { r, 500 * MS, 0 };
	reactor_expect_begin(r);
	int64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	reactor_run_co(r, nap_main, &nap);
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	reactor_expect_end(r);
	g_assert_cmpint(nap.took_ns, >=, 500 * MS);
	g_assert_cmpint(cpu, <, 25 * MS);
	reactor_free(r);
}

/* ---- pollers ---- */

typedef struct Fake {
	ReactorPoller poller;
	Reactor *reactor;
	int progressed, armed;
	int busy;      /* how often arm() says no */
	uint64_t seen; /* read from the descriptor */
	uint64_t stop_at;
} Fake;

static bool fake_progress(void *arg)
{
	Fake *f = arg;
	eventfd_t value;
	f->progressed++;
	if (eventfd_read(f->poller.fd, &value) < 0)
		return false;
	f->seen += value;
	if (f->seen >= f->stop_at)
		reactor_quit(f->reactor);
	return true;
}

static bool fake_arm(void *arg)
{
	Fake *f = arg;
	if (f->busy > 0) {
		f->busy--;
		return false;
	}
	f->armed++;
	return true;
}

static void fake_init(Fake *f, Reactor *r, uint64_t stop_at)
{
	*f = (Fake) {
		.poller = { .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .progress = fake_progress, .arm = fake_arm, .arg = f },
		.reactor = r, .stop_at = stop_at,
	};
	reactor_add_poller(r, &f->poller);
}

static void *poke_main(void *arg)
{
	Fake *f = arg;
	for (int i = 0; i < 100; i++) {
		g_usleep(i % 10 ? 100 : 2000);
		eventfd_write(f->poller.fd, 1);
	}
	return NULL;
}

static void test_poller_wakes(void)
{
	Reactor *r = make(0);
	Fake f;
	fake_init(&f, r, 100);
	GThread *thread = g_thread_new("poke", poke_main, &f);
	reactor_run(r);
	g_thread_join(thread);
	g_assert_cmpuint(f.seen, ==, 100);
	g_assert_cmpint(f.armed, >=, 10);
	reactor_remove_poller(r, &f.poller);
	close(f.poller.fd);
	reactor_free(r);
}

/* arm() that says "busy" means progress again, not sleep. */
static void test_poller_busy(void)
{
	Reactor *r = make(0);
	Fake f;
	fake_init(&f, r, 1000);
	f.busy = 5;
	Nap nap = { r, 20 * MS, 0 };
	reactor_run_co(r, nap_main, &nap);
	g_assert_cmpint(f.busy, ==, 0);
	g_assert_cmpint(f.armed, >=, 1);
	g_assert_cmpint(f.progressed, >=, 6);
	g_assert_cmpint(f.progressed, <, 100);
	reactor_remove_poller(r, &f.poller);
	close(f.poller.fd);
	reactor_free(r);
}

static void test_spin_catches(void)
{
	ReactorOptions opts = { .spin_ns = 500 * MS };
	Reactor *r = reactor_new(&opts, NULL);
	Counters *c = counters_new();
	reactor_add_counters(r, c);
	Fake f;
	fake_init(&f, r, 100);
	reactor_expect_begin(r);
	GThread *thread = g_thread_new("poke", poke_main, &f);
	reactor_run(r);
	g_thread_join(thread);
	reactor_expect_end(r);
	g_autofree char *text = counters_to_text(c, true);
	g_assert_nonnull(strstr(text, "reactor.spins_paid "));
	g_assert_null(strstr(text, "reactor.spins_paid 0\n"));
	g_assert_nonnull(strstr(text, "reactor.sleeps 0\n"));
	counters_free(c);
	reactor_remove_poller(r, &f.poller);
	close(f.poller.fd);
	reactor_free(r);
}

/* ---- threads ---- */

typedef struct Block {
	Reactor *reactor;
	GThread *main, *ran_on;
	CoGroup *group;
	int value, result;
} Block;

static int block_work(void *arg)
{
	Block *b = arg;
	b->ran_on = g_thread_self();
	g_usleep(b->value == 0 ? 20000 : 100);
	return b->value * 2;
}

static void coroutine_fn block_main(void *arg)
{
	Block *b = arg;
	b->result = reactor_co_work(b->reactor, block_work, b);
}

static void coroutine_fn blocks_main(void *arg)
{
	Block *b = arg;
	CoGroup g = { .sched = reactor_sched(b->reactor) };
	for (int i = 0; i < 200; i++)
		co_group_spawn(&g, block_main, &b[i]);
	co_group_wait(&g);
}

static void test_work(void)
{
	Reactor *r = make(0);
	Block blocks[200];
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 200; i++)
			blocks[i] = (Block) { .reactor = r, .value = i };
		reactor_run_co(r, blocks_main, blocks);
		GHashTable *threads = g_hash_table_new(NULL, NULL);
		for (int i = 0; i < 200; i++) {
			g_assert_cmpint(blocks[i].result, ==, 2 * i);
			g_assert_true(blocks[i].ran_on != g_thread_self());
			g_hash_table_add(threads, blocks[i].ran_on);
		}
		g_assert_cmpuint(g_hash_table_size(threads), >, 1);
		g_assert_cmpuint(g_hash_table_size(threads), <=, 4);
		g_hash_table_unref(threads);
	}
	reactor_free(r);
}

/* ---- GLib's sources ---- */

typedef struct Source {
	Reactor *reactor;
	int fd, calls, until;
} Source;

static gboolean source_ready(gint fd, GIOCondition condition, gpointer arg)
{
	Source *s = arg;
	char c;
	g_assert_cmpint(condition & G_IO_IN, !=, 0);
	/* One byte at a time: what is left must make it ready again. */
	g_assert_cmpint(read(fd, &c, 1), ==, 1);
	if (++s->calls < s->until)
		return G_SOURCE_CONTINUE;
	reactor_quit(s->reactor);
	return G_SOURCE_REMOVE;
}

static void attach(GSource *source, GSourceFunc fn, void *arg, Reactor *r)
{
	g_source_set_callback(source, fn, arg, NULL);
	g_source_attach(source, reactor_context(r));
	g_source_unref(source);
}

static void test_source_fd_is_level_triggered(void)
{
	Reactor *r = make(0);
	int fds[2];
	g_assert_cmpint(pipe(fds), ==, 0);
	Source s = { r, fds[0], 0, 5 };
	attach(g_unix_fd_source_new(fds[0], G_IO_IN), G_SOURCE_FUNC(source_ready), &s, r);
	g_assert_cmpint(write(fds[1], "12345", 5), ==, 5);
	reactor_run(r);
	g_assert_cmpint(s.calls, ==, 5);
	close(fds[0]);
	close(fds[1]);
	reactor_free(r);
}

/* A descriptor's number that comes back as another file. */
static void test_source_fd_number_reused(void)
{
	Reactor *r = make(0);
	int number = -1;
	for (int i = 0; i < 5; i++) {
		int fds[2];
		g_assert_cmpint(pipe(fds), ==, 0);
		if (i > 0)
			g_assert_cmpint(fds[0], ==, number);
		number = fds[0];
		Source s = { r, fds[0], 0, 1 };
		GSource *source = g_unix_fd_source_new(fds[0], G_IO_IN);
		g_source_ref(source);
		attach(source, G_SOURCE_FUNC(source_ready), &s, r);
		reactor_iterate(r, false); /* it is being watched */
		if (i % 2 == 0) {
			g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
			reactor_run(r);
			g_assert_cmpint(s.calls, ==, 1);
		}
		g_source_destroy(source);
		g_source_unref(source);
		close(fds[0]);
		close(fds[1]);
	}
	reactor_free(r);
}

static gboolean count_and_go(gpointer arg)
{
	Source *s = arg;
	if (++s->calls == s->until)
		reactor_quit(s->reactor);
	return s->calls < s->until;
}

static void coroutine_fn attach_main(void *arg)
{
	Source *s = arg;
	attach(g_timeout_source_new(5), count_and_go, s, s->reactor);
}

/* A source attached by a coroutine, whose poll function is running then. */
static void test_source_attached_by_coroutine(void)
{
	Reactor *r = make(0);
	Source s = { r, -1, 0, 3 };
	co_spawn(reactor_sched(r), CO_INTERNAL, attach_main, &s);
	reactor_run(r);
	g_assert_cmpint(s.calls, ==, 3);
	reactor_free(r);
}

typedef struct Busy {
	bool stop;
	uint64_t rounds;
} Busy;

static void coroutine_fn busy_main(void *arg)
{
	Busy *b = arg;
	for (; !b->stop; b->rounds++)
		co_reschedule();
}

/* Coroutines that never let go starve neither GLib nor the timers. */
static void test_busy_coroutines_starve_nobody(void)
{
	Reactor *r = make(0);
	Busy busy = { 0 };
	Source s = { r, -1, 0, 10 };
	Nap nap = { r, 10 * MS, 0 };
	co_spawn(reactor_sched(r), CO_FUSE, busy_main, &busy);
	attach(g_timeout_source_new(2), count_and_go, &s, r);
	reactor_run_co(r, nap_main, &nap);
	g_assert_cmpint(nap.took_ns, <, 2000 * MS);
	while (s.calls < s.until)
		reactor_iterate(r, true);
	busy.stop = true;
	reactor_iterate(r, false);
	reactor_free(r);
}

static gboolean got_signal(gpointer arg)
{
	return count_and_go(arg);
}

static void test_signal(void)
{
	Reactor *r = make(0);
	Source s = { r, -1, 0, 1 };
	attach(g_unix_signal_source_new(SIGUSR1), got_signal, &s, r);
	reactor_iterate(r, false);
	kill(getpid(), SIGUSR1);
	reactor_run(r);
	g_assert_cmpint(s.calls, ==, 1);
	reactor_free(r);
}

static gboolean quit_it(gpointer arg)
{
	reactor_quit(arg);
	return G_SOURCE_REMOVE;
}

static void *invoke_main(void *arg)
{
	g_usleep(20000);
	g_main_context_invoke(reactor_context(arg), quit_it, arg);
	return NULL;
}

static void *quit_main(void *arg)
{
	g_usleep(20000);
	reactor_quit(arg);
	return NULL;
}

static void test_other_threads_wake(void)
{
	Reactor *r = make(0);
	for (int i = 0; i < 3; i++) {
		GThread *thread = g_thread_new("invoke", invoke_main, r);
		reactor_run(r);
		g_thread_join(thread);
		thread = g_thread_new("quit", quit_main, r);
		reactor_run(r);
		g_thread_join(thread);
	}
	reactor_quit(r); /* before it runs */
	reactor_run(r);
	reactor_free(r);
}

static void test_two_reactors_on_a_thread(void)
{
	Reactor *a = make(0), *b = make(0);
	Nap nap_a = { a, 5 * MS, 0 }, nap_b = { b, 5 * MS, 0 };
	reactor_run_co(a, nap_main, &nap_a);
	reactor_run_co(b, nap_main, &nap_b);
	reactor_free(a);
	reactor_run_co(b, nap_main, &nap_b);
	g_assert_cmpint(nap_b.took_ns, >=, 5 * MS);
	reactor_free(b);
}

/* ---- memory ---- */

static void coroutine_fn crowd_main(void *arg)
{
	Reactor *r = arg;
	CoGroup g = { .sched = reactor_sched(r) };
	Nap naps[500];
	for (int i = 0; i < 500; i++) {
		naps[i] = (Nap) { r, 10 * MS, 0 };
		co_group_spawn(&g, nap_main, &naps[i]);
	}
	co_group_wait(&g);
}

static void test_stacks_go_back(void)
{
	Reactor *r = make(0);
	CoStats stats;
	reactor_run_co(r, crowd_main, r);
	co_sched_get_stats(reactor_sched(r), &stats);
	g_assert_cmpuint(stats.stacks, >=, 500);
	Nap nap = { r, 2500 * MS, 0 };
	reactor_run_co(r, nap_main, &nap);
	co_sched_get_stats(reactor_sched(r), &stats);
	g_assert_cmpuint(stats.stacks, <, 100);
	reactor_free(r);
}

/* ---- cost ---- */

typedef struct Ping {
	Reactor *reactor;
	int fd, left;
} Ping;

static void coroutine_fn ping_main(void *arg)
{
	Ping *p = arg;
	char c;
	for (; p->left; p->left--)
		g_assert_cmpint(uring_co_pread(reactor_uring(p->reactor), p->fd, &c, 1, 0), ==, 1);
}

static void test_cost(void)
{
	if (!g_test_perf()) {
		g_test_skip("only with -m perf");
		return;
	}
	enum { ROUNDS = 1000000 };
	Reactor *r = make(0);
	/* Not a memory file: the ring hands those to a thread of the kernel's. */
	g_autofree char *name = NULL;
	Ping p = { r, g_file_open_tmp("test-reactor-XXXXXX", &name, NULL), ROUNDS };
	unlink(name);
	g_assert_cmpint(write(p.fd, "x", 1), ==, 1);
	int64_t start = clock_ns(CLOCK_MONOTONIC);
	reactor_run_co(r, ping_main, &p);
	double ns = (double)(clock_ns(CLOCK_MONOTONIC) - start) / ROUNDS;
	g_test_minimized_result(ns, "one ring operation, with an iteration of GLib: %.0f ns", ns);
	p.left = ROUNDS;
	co_spawn(reactor_sched(r), CO_FUSE, ping_main, &p);
	start = clock_ns(CLOCK_MONOTONIC);
	attach(g_timeout_source_new(500), quit_it, r, r);
	reactor_run(r);
	ns = (double)(clock_ns(CLOCK_MONOTONIC) - start) / (ROUNDS - p.left);
	g_test_minimized_result(ns, "one ring operation in reactor_run(): %.0f ns", ns);
	while (p.left)
		reactor_iterate(r, true);
	reactor_iterate(r, false);
	close(p.fd);
	reactor_free(r);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/reactor/timers-in-order", test_timers_in_order);
	g_test_add_func("/reactor/timer-moves", test_timer_moves);
	g_test_add_func("/reactor/run-co", test_run_co);
	g_test_add_func("/reactor/sleep-is-sleep", test_sleep_is_sleep);
	g_test_add_func("/reactor/poller-wakes", test_poller_wakes);
	g_test_add_func("/reactor/poller-busy", test_poller_busy);
	g_test_add_func("/reactor/spin-catches", test_spin_catches);
	g_test_add_func("/reactor/work", test_work);
	g_test_add_func("/reactor/source-fd-is-level-triggered", test_source_fd_is_level_triggered);
	g_test_add_func("/reactor/source-fd-number-reused", test_source_fd_number_reused);
	g_test_add_func("/reactor/source-attached-by-coroutine", test_source_attached_by_coroutine);
	g_test_add_func("/reactor/busy-coroutines-starve-nobody", test_busy_coroutines_starve_nobody);
	g_test_add_func("/reactor/signal", test_signal);
	g_test_add_func("/reactor/other-threads-wake", test_other_threads_wake);
	g_test_add_func("/reactor/two-reactors-on-a-thread", test_two_reactors_on_a_thread);
	g_test_add_func("/reactor/stacks-go-back", test_stacks_go_back);
	g_test_add_func("/reactor/cost", test_cost);
	return g_test_run();
}
