/*
 * The reactor.
 *
 * GLib iterates the context and calls our poll function with the descriptors
 * of its sources and a time limit. The poll function is the event loop proper:
 *
 *	work:  reap completions, progress pollers, fire timers, run coroutines,
 *	       again and again until none of them had anything to do
 *	sleep: spin for a moment if that pays; arm the pollers; one system call
 *	       that submits what was queued and waits for a completion
 *
 * and around again, without going back to GLib, for an iteration of GLib's
 * costs more than a request. We do go back when one of its descriptors is
 * ready, when its time limit has passed, and GLIB_EVERY_NS after any work was
 * done, because that work may have attached or removed sources, of which the
 * poll function sees nothing. With no work done there is nothing to miss, and
 * the sleep is as long as GLib and the timers allow.
 *
 * Everything happens on one thread. Others may call reactor_quit() and GLib's
 * own thread-safe functions on the context (g_main_context_invoke()), which
 * end the sleep through the context's descriptor.
 */
#define G_LOG_DOMAIN "reactor"

#include "common/reactor.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#include "common/timer.h"
#include "common/watch.h"
#include "common/work.h"

#define RING_ENTRIES_DEFAULT 1024u
#define WORK_THREADS_DEFAULT 4u
#define FOREVER INT64_MAX
#define MS INT64_C(1000000)

#define GLIB_EVERY_NS (1 * MS)
#define TRIM_EVERY_NS (1000 * MS)

/* Bounds of one bout of work, so that none of the parties starves another. */
#define ROUNDS_MAX 16
#define RUN_BUDGET 256u
#define PROGRESS_MAX 64
#define TIMERS_MAX 1024

/* Spinning pays when an answer comes within spin_ns in at least one of four
 * cases. Where it has not paid lately we still look every so often. */
#define SPIN_SCORE_MAX 256
#define SPIN_SCORE_WORTH 64
#define SPIN_PROBE_EVERY 32

typedef struct Spin {
	int64_t limit_ns;
	uint32_t expected; /* reactor_expect_begin() less reactor_expect_end() */
	int32_t score;     /* of SPIN_SCORE_MAX: how often it paid, lately */
	uint32_t skipped;
} Spin;

typedef struct ReactorStats {
	uint64_t sleeps, spins, spins_paid, glib_passes;
} ReactorStats;

struct Reactor {
	GMainContext *context;
	CoSched *sched;
	Uring *uring;
	Watches *watches;
	GPtrArray *pollers; /* of ReactorPoller, not owned */
	TimerHeap timers;
	WorkPool *work; /* made when first used */
	uint32_t work_threads;
	int64_t now_ns;
	Spin spin;
	bool stay;  /* this iteration may last: see GLIB_EVERY_NS */
	bool more;  /* the last bout of work stopped at its bound */
	gint quit;  /* atomic */
	ReactorTimer trim_timer;
	ReactorStats stats;
};

/* The ring's side of a ReactorPoller. */
typedef struct PollerWatch {
	UringOp op;
	bool armed;
	bool broken; /* its descriptor can't be polled */
	bool orphan; /* removed; freed by its completion */
} PollerWatch;

/* The poll function of a GMainContext gets no user data. Set while its
 * context iterates, put back afterwards: several reactors can share a thread. */
static __thread Reactor *iterating;

static int64_t clock_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * (1000 * MS) + ts.tv_nsec;
}

/* ---- pollers ---- */

static void poller_watch_done(UringOp *op, int res, uint32_t flags)
{
	PollerWatch *w = (PollerWatch *)op;
	w->armed = false;
	if (w->orphan) {
		g_free(w);
	} else if (res < 0 && res != -ECANCELED) {
		g_warning("A poller's descriptor can't be polled: %s, ignoring", g_strerror(-res));
		w->broken = true;
	}
}

void reactor_add_poller(Reactor *r, ReactorPoller *p)
{
	PollerWatch *w = g_new(PollerWatch, 1);
	*w = (PollerWatch) { .op.done = poller_watch_done };
	p->priv = w;
	g_ptr_array_add(r->pollers, p);
}

void reactor_remove_poller(Reactor *r, ReactorPoller *p)
{
	PollerWatch *w = p->priv;
	bool found = g_ptr_array_remove(r->pollers, p);
	g_assert(found);
	p->priv = NULL;
	if (!w->armed) {
		g_free(w);
		return;
	}
	w->orphan = true;
	uring_cancel(r->uring, &w->op);
}

/* Indices, not pointers: a poller may add or remove one meanwhile. */
static bool pollers_progress(Reactor *r)
{
	bool did = false;
	for (guint i = 0; i < r->pollers->len; i++) {
		ReactorPoller *p = g_ptr_array_index(r->pollers, i);
		for (int n = 0; n < PROGRESS_MAX && p->progress(p->arg); n++) {
			did = true;
			if (i >= r->pollers->len || g_ptr_array_index(r->pollers, i) != p)
				break;
		}
	}
	return did;
}

static void poller_watch(Reactor *r, ReactorPoller *p)
{
	PollerWatch *w = p->priv;
	if (w->armed || w->broken)
		return;
	struct io_uring_sqe *sqe = uring_get_sqe(r->uring);
	io_uring_prep_poll_add(sqe, p->fd, POLLIN);
	uring_sqe_set_op(sqe, &w->op);
	w->armed = true;
}

/* False: one is busy. Those before it stay armed, which does no harm. */
static bool pollers_arm(Reactor *r)
{
	for (guint i = 0; i < r->pollers->len; i++) {
		ReactorPoller *p = g_ptr_array_index(r->pollers, i);
		if (!p->arm(p->arg))
			return false;
		poller_watch(r, p);
	}
	return true;
}

/* ---- timers ---- */

void reactor_timer_arm(Reactor *r, ReactorTimer *t, int64_t at_ns)
{
	reactor_timer_cancel(r, t);
	t->at_ns = at_ns;
	timer_heap_add(&r->timers, t);
}

void reactor_timer_cancel(Reactor *r, ReactorTimer *t)
{
	if (t->index)
		timer_heap_remove(&r->timers, t);
}

static bool timers_fire(Reactor *r)
{
	ReactorTimer *t;
	int n = 0;
	for (; n < TIMERS_MAX && (t = timer_heap_first(&r->timers)) && t->at_ns <= r->now_ns; n++) {
		timer_heap_remove(&r->timers, t);
		t->fire(t);
	}
	return n > 0;
}

typedef struct Sleep {
	ReactorTimer timer;
	Co *co;
	bool over;
} Sleep;

static void sleep_fire(ReactorTimer *t)
{
	Sleep *s = (Sleep *)t;
	s->over = true;
	co_wake(s->co);
}

void coroutine_fn reactor_co_sleep(Reactor *r, int64_t ns)
{
	Sleep s = { .timer.fire = sleep_fire, .co = co_self() };
	reactor_timer_arm(r, &s.timer, clock_ns() + ns);
	while (!s.over)
		co_yield();
}

static void trim_fire(ReactorTimer *t)
{
	Reactor *r = (Reactor *)((char *)t - offsetof(Reactor, trim_timer));
	co_sched_trim(r->sched);
}

/* ---- work ---- */

static void submit(Reactor *r, int64_t wait_ns)
{
	int ret = uring_submit_and_wait(r->uring, wait_ns);
	if (ret < 0)
		g_error("io_uring_enter: %s", g_strerror(-ret));
}

static bool work_round(Reactor *r)
{
	r->now_ns = clock_ns();
	bool did = uring_reap(r->uring) > 0;
	did |= pollers_progress(r);
	did |= timers_fire(r);
	if (co_sched_has_ready(r->sched)) {
		co_sched_run(r->sched, RUN_BUDGET);
		did = true;
	}
	return did;
}

/* True when there was any. What the first round queued is usually submitted
 * by the sleep that follows; with more to do it should not wait for that. */
static bool reactor_work(Reactor *r)
{
	r->more = false;
	for (int round = 0; round < ROUNDS_MAX; round++) {
		if (!work_round(r))
			return round > 0;
		if (round > 0 && uring_has_unsubmitted(r->uring))
			submit(r, 0);
	}
	r->more = true;
	return true;
}

/* ---- spinning ---- */

void reactor_expect_begin(Reactor *r)
{
	r->spin.expected++;
}

void reactor_expect_end(Reactor *r)
{
	g_assert(r->spin.expected > 0);
	r->spin.expected--;
}

static bool spin_is_worth(Spin *s)
{
	if (!s->expected || !s->limit_ns)
		return false;
	if (s->score >= SPIN_SCORE_WORTH)
		return true;
	if (++s->skipped < SPIN_PROBE_EVERY)
		return false;
	s->skipped = 0;
	return true;
}

/* Looks out for work without sleeping; true when some turned up. */
static bool reactor_spin(Reactor *r, int64_t until_ns)
{
	int64_t end = clock_ns() + r->spin.limit_ns;
	bool paid = false;
	end = MIN(end, until_ns);
	if (uring_has_unsubmitted(r->uring))
		submit(r, 0);
	do {
		paid = uring_has_completions(r->uring) || pollers_progress(r) ||
			co_sched_has_ready(r->sched);
	} while (!paid && clock_ns() < end);
	r->spin.score += ((paid ? SPIN_SCORE_MAX : 0) - r->spin.score) / 8;
	r->stats.spins++;
	r->stats.spins_paid += paid;
	return paid;
}

/* ---- sleeping ---- */

/* Does not return before there is work, the time has come, or a signal: but
 * submits in any case. */
static void reactor_sleep(Reactor *r, int64_t until_ns)
{
	bool block = until_ns > r->now_ns;
	if (block && spin_is_worth(&r->spin) && reactor_spin(r, until_ns))
		return;
	block = block && pollers_arm(r) && !co_sched_has_ready(r->sched);
	if (!block) {
		submit(r, 0);
		return;
	}
	if (co_sched_needs_trim(r->sched) && !r->trim_timer.index) {
		reactor_timer_arm(r, &r->trim_timer, r->now_ns + TRIM_EVERY_NS);
		until_ns = MIN(until_ns, r->trim_timer.at_ns);
	}
	/* Not in one expression with MAX(), which looks at the clock twice. */
	int64_t wait_ns = until_ns == FOREVER ? FOREVER : until_ns - clock_ns();
	r->stats.sleeps++;
	submit(r, wait_ns == FOREVER ? -1 : MAX(wait_ns, 0));
}

/* One call of the poll function. */
typedef struct Pass {
	int64_t start_ns, deadline_ns; /* the deadline is GLib's */
	bool worked;
} Pass;

static int64_t pass_sleep_until(const Reactor *r, const Pass *pass)
{
	if (r->more || (pass->worked && !r->stay))
		return 0;
	const ReactorTimer *first = timer_heap_first(&r->timers);
	int64_t until = pass->deadline_ns;
	if (first)
		until = MIN(until, first->at_ns);
	if (pass->worked)
		until = MIN(until, pass->start_ns + GLIB_EVERY_NS);
	return until;
}

static bool pass_is_over(const Reactor *r, const Pass *pass)
{
	if (watches_fired(r->watches) || r->now_ns >= pass->deadline_ns)
		return true;
	return pass->worked && (!r->stay || r->now_ns >= pass->start_ns + GLIB_EVERY_NS);
}

static gint reactor_poll(GPollFD *fds, guint n, gint timeout_ms)
{
	Reactor *r = iterating;
	g_assert(r); /* the context is iterated by reactor_run() and its like alone */
	int64_t now = clock_ns();
	Pass pass = { now, timeout_ms < 0 ? FOREVER : now + timeout_ms * MS, false };
	r->stats.glib_passes++;
	watches_arm(r->watches, fds, n);
	pass.worked = reactor_work(r);
	do {
		reactor_sleep(r, pass_sleep_until(r, &pass));
		pass.worked |= reactor_work(r);
	} while (!pass_is_over(r, &pass));
	return watches_collect(r->watches, fds, n);
}

/* ---- running ---- */

static void iterate(Reactor *r, bool may_block, bool stay)
{
	Reactor *outer = iterating;
	g_assert(!co_self());
	r->stay = stay;
	iterating = r;
	g_main_context_iteration(r->context, may_block);
	iterating = outer;
}

void reactor_iterate(Reactor *r, bool may_block)
{
	iterate(r, may_block, false);
}

void reactor_run(Reactor *r)
{
	/* Once for all: each iteration would take it and give it back. */
	bool acquired = g_main_context_acquire(r->context);
	g_assert(acquired);
	while (!g_atomic_int_get(&r->quit))
		iterate(r, true, true);
	g_atomic_int_set(&r->quit, 0);
	g_main_context_release(r->context);
}

void reactor_quit(Reactor *r)
{
	g_atomic_int_set(&r->quit, 1);
	g_main_context_wakeup(r->context);
}

typedef struct RunCo {
	CoFn *fn;
	void *arg;
	bool ended;
} RunCo;

static void coroutine_fn run_co_main(void *arg)
{
	RunCo *run = arg;
	run->fn(run->arg);
	run->ended = true;
}

void reactor_run_co(Reactor *r, CoFn *fn, void *arg)
{
	RunCo run = { .fn = fn, .arg = arg };
	co_spawn(r->sched, CO_INTERNAL, run_co_main, &run);
	while (!run.ended)
		iterate(r, true, false);
}

int coroutine_fn reactor_co_work(Reactor *r, ReactorWork *fn, void *arg)
{
	if (!r->work)
		r->work = work_pool_new(r->uring, r->work_threads);
	/* No descriptor left for the pool: late is better than never. */
	if (!r->work)
		return fn(arg);
	return work_pool_co_run(r->work, fn, arg);
}

/* ---- making and ending ---- */

/* A context without sources asks for its own descriptor alone. */
static int context_wake_fd(GMainContext *context)
{
	GPollFD fd = { .fd = -1 };
	gint timeout, priority;
	bool acquired = g_main_context_acquire(context);
	g_assert(acquired);
	g_main_context_prepare(context, &priority);
	gint n = g_main_context_query(context, G_MAXINT, &timeout, &fd, 1);
	g_main_context_release(context);
	g_assert(n == 1);
	return fd.fd;
}

Reactor *reactor_new(const ReactorOptions *opts, GError **error)
{
	Uring *uring;
	int ret = uring_new(opts->ring_entries ? opts->ring_entries : RING_ENTRIES_DEFAULT, &uring);
	if (ret < 0) {
		g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-ret),
			"Can't set up io_uring: %s%s", g_strerror(-ret),
			ret == -EPERM ? " (see /proc/sys/kernel/io_uring_disabled)" : "");
		return NULL;
	}
	Reactor *r = g_new(Reactor, 1);
	*r = (Reactor) {
		.context = g_main_context_new(),
		.sched = co_sched_new(opts->stack_size, opts->max_live),
		.uring = uring,
		.pollers = g_ptr_array_new(),
		.work_threads = opts->work_threads ? opts->work_threads : WORK_THREADS_DEFAULT,
		.now_ns = clock_ns(),
		.spin = { .limit_ns = opts->spin_ns, .score = SPIN_SCORE_MAX },
		.trim_timer.fire = trim_fire,
	};
	r->watches = watches_new(uring, context_wake_fd(r->context));
	g_main_context_set_poll_func(r->context, reactor_poll);
	return r;
}

void reactor_free(Reactor *r)
{
	if (!r)
		return;
	reactor_timer_cancel(r, &r->trim_timer);
	g_assert(!r->pollers->len && !r->timers.count);
	work_pool_free(r->work);
	/* First the ring: completions of what it cancels still arrive. */
	uring_free(r->uring);
	watches_free(r->watches);
	co_sched_free(r->sched);
	timer_heap_deinit(&r->timers);
	g_ptr_array_free(r->pollers, TRUE);
	g_main_context_unref(r->context);
	g_free(r);
}

void reactor_add_counters(Reactor *r, Counters *c)
{
	counters_add(c, "reactor.sleeps", &r->stats.sleeps);
	counters_add(c, "reactor.spins", &r->stats.spins);
	counters_add(c, "reactor.spins_paid", &r->stats.spins_paid);
	counters_add(c, "reactor.glib_passes", &r->stats.glib_passes);
	counters_add(c, "co.switches", &co_sched_stats(r->sched)->switches);
}

GMainContext *reactor_context(Reactor *r)
{
	return r->context;
}

CoSched *reactor_sched(Reactor *r)
{
	return r->sched;
}

Uring *reactor_uring(Reactor *r)
{
	return r->uring;
}

int64_t reactor_now_ns(const Reactor *r)
{
	return r->now_ns;
}
