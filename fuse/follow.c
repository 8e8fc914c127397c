/*
 * FREE -> TRIAL: FREE_STREAK samples and FREE_TIME of a single, busy caller,
 *   and not FAST_ENOUGH. Their rate is remembered.
 * TRIAL -> ON: TRIAL_STREAK samples later the rate is at least GAIN times that.
 * TRIAL -> FREE: it is not; the next trial waits twice as long as the last.
 * TRIAL, ON -> FREE: several callers; waiting for the core; silence.
 *
 * All threads that are made while we are pinned (the ring's workers, those of
 * libraries) inherit mask and policy. So a release looks at every thread of
 * the process, not only at ours.
 */
#include "fuse/follow.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <glib.h>

#define MS INT64_C(1000000)
#define FREE_STREAK 4u
#define FREE_TIME (10 * MS) /* longer than callers that take turns on one core */
#define FAST_ENOUGH (1.0 / 15e3) /* requests per ns: no core away costs so little */
#define TRIAL_SETTLE 2u /* the first samples pay for the move itself */
#define TRIAL_STREAK 10u
#define GAIN 1.15
#define CALLER_SWITCHES 3u /* in a stride; more: several callers */
#define SLOW_SAMPLE (16 * MS) /* a stride that takes longer is not worth it */
#define CROWDED_MAX 24u
#define MOVED_MAX 48u
#define DELAY_AT_ONCE (3 * MS)
#define WINDOW (16 * MS)
#define WINDOW_REQUESTS 12u /* fewer in it are not worth following */
#define BACKOFF_MIN (100 * MS)
#define BACKOFF_MAX (10000 * MS)

/* ---- the decision ---- */

static void measure_from(FollowState *s, const FollowSample *p)
{
	s->streak = 0;
	s->counted = 0;
	s->since_ns = p->now_ns;
}

static void open_window(FollowState *s, const FollowSample *p)
{
	s->window_ns = p->now_ns;
	s->window_delay_ns = p->run_delay_ns;
	s->window_requests = 0;
}

static double measured_rate(const FollowState *s, const FollowSample *p)
{
	int64_t ns = p->now_ns - s->since_ns;

	return ns > 0 ? (double)s->counted / (double)ns : 0;
}

static FollowAction let_go(FollowState *s, const FollowSample *p, bool regret)
{
	s->phase = FOLLOW_FREE;
	s->crowded = s->moved = 0;
	measure_from(s, p);
	if (regret) {
		s->backoff_ns = CLAMP(s->backoff_ns * 2, BACKOFF_MIN, BACKOFF_MAX);
		s->not_before_ns = p->now_ns + s->backoff_ns;
	}
	return FOLLOW_RELEASE;
}

/* A counter that rises by 8 with each bad sample and sinks by 1 otherwise. */
static uint32_t decayed(uint32_t level, bool bad)
{
	if (bad)
		return level + 8;
	return level ? level - 1 : 0;
}

static FollowAction decide_free(FollowState *s, const FollowSample *p)
{
	bool good = p->cpu >= 0 && p->requests >= FOLLOW_STRIDE && p->switches <= CALLER_SWITCHES &&
		p->now_ns - s->last_ns < SLOW_SAMPLE;

	if (!good || p->now_ns < s->not_before_ns) {
		measure_from(s, p);
		return FOLLOW_KEEP;
	}
	if (s->streak == 0)
		s->since_ns = s->last_ns;
	s->counted += p->requests;
	if (++s->streak < FREE_STREAK || p->now_ns - s->since_ns < FREE_TIME)
		return FOLLOW_KEEP;
	s->free_rate = measured_rate(s, p);
	if (s->free_rate > FAST_ENOUGH) {
		measure_from(s, p);
		return FOLLOW_KEEP;
	}
	s->phase = FOLLOW_TRIAL;
	s->cpu = p->cpu;
	open_window(s, p);
	measure_from(s, p);
	return FOLLOW_PIN;
}

/* We were ready and had to wait: somebody else has work for this core, the
 * caller itself (which then could run beside us) or a stranger. At once: we
 * starve, and each request may be the last for a while. */
static bool starves(const FollowState *s, const FollowSample *p)
{
	uint64_t waited = p->run_delay_ns - s->last_delay_ns;

	return waited > DELAY_AT_ONCE && waited > (uint64_t)(p->now_ns - s->last_ns) / 2;
}

static FollowAction end_window(FollowState *s, const FollowSample *p)
{
	bool waits = p->run_delay_ns - s->window_delay_ns > (uint64_t)(p->now_ns - s->window_ns) / 2;

	if (waits || s->window_requests < WINDOW_REQUESTS)
		return let_go(s, p, waits);
	open_window(s, p);
	return FOLLOW_KEEP;
}

static FollowAction end_trial(FollowState *s, const FollowSample *p)
{
	if (measured_rate(s, p) < s->free_rate * GAIN)
		return let_go(s, p, true);
	s->phase = FOLLOW_ON;
	s->backoff_ns = 0;
	return FOLLOW_KEEP;
}

static FollowAction decide_pinned(FollowState *s, const FollowSample *p)
{
	bool moved = p->cpu >= 0 && p->cpu != s->cpu;

	if (starves(s, p))
		return let_go(s, p, true);
	s->window_requests += p->requests;
	if (p->now_ns - s->window_ns >= WINDOW && end_window(s, p) == FOLLOW_RELEASE)
		return FOLLOW_RELEASE;
	if (!p->requests)
		return FOLLOW_KEEP;
	s->crowded = decayed(s->crowded, p->switches > CALLER_SWITCHES);
	s->moved = decayed(s->moved, moved);
	if (s->crowded > CROWDED_MAX || s->moved > MOVED_MAX)
		return let_go(s, p, true);
	s->counted += p->requests;
	s->streak++;
	if (moved) {
		s->cpu = p->cpu;
		return FOLLOW_PIN;
	}
	if (s->phase == FOLLOW_ON)
		return FOLLOW_KEEP;
	if (s->streak == TRIAL_SETTLE) {
		measure_from(s, p);
		s->streak = TRIAL_SETTLE;
	}
	return s->streak < TRIAL_STREAK ? FOLLOW_KEEP : end_trial(s, p);
}

FollowAction follow_decide(FollowState *s, const FollowSample *p)
{
	FollowAction action = s->phase == FOLLOW_FREE ? decide_free(s, p) : decide_pinned(s, p);

	s->last_ns = p->now_ns;
	s->last_delay_ns = p->run_delay_ns;
	return action;
}

/* ---- the thread ---- */

struct Follow {
	Reactor *reactor;
	FollowState state;
	FollowStats stats;
	ReactorTimer timer;   /* while pinned: notices silence */
	uint32_t requests, switches;
	pid_t last_pid;
	int last_cpu;
	int64_t last_sample_ns;
	int schedstat_fd;     /* this thread's; opened on its first request */
	bool started;
	bool may_idle;        /* this thread may leave SCHED_IDLE again */
	cpu_set_t own;        /* our mask before it was pinned */
};

/* Tries it where nothing is lost: a thread that dies in SCHED_IDLE. */
static void *try_idle(void *arg)
{
	const struct sched_param param = { 0 };

	*(bool *)arg = sched_setscheduler(0, SCHED_IDLE, &param) == 0 &&
		sched_setscheduler(0, SCHED_OTHER, &param) == 0;
	return NULL;
}

static bool may_leave_idle(void)
{
	pthread_t thread;
	bool may = false;

	if (pthread_create(&thread, NULL, try_idle, &may) != 0)
		return false;
	pthread_join(thread, NULL);
	return may;
}

/* "time on the cpu, time waiting for it, slices"; all 0: not counted here. */
static bool read_run_delay(const Follow *f, uint64_t *ret_ns)
{
	char text[96];
	unsigned long long on, waited, slices;
	ssize_t n = f->schedstat_fd < 0 ? -1 : pread(f->schedstat_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return false;
	text[n] = '\0';
	if (sscanf(text, "%llu %llu %llu", &on, &waited, &slices) != 3 || on == 0)
		return false;
	*ret_ns = waited;
	return true;
}

/* On the reactor's thread, which is not the one that made us if the process
 * went to the background in between. */
static void start_here(Follow *f)
{
	char path[64];
	uint64_t ns;

	f->started = true;
	snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", (int)gettid());
	f->schedstat_fd = open(path, O_RDONLY | O_CLOEXEC);
	/* without that number nobody would notice that we starve */
	f->may_idle = read_run_delay(f, &ns) && may_leave_idle();
}

/* The core a thread is on, -1 when that can't be known. */
static int cpu_of(pid_t pid)
{
	char path[40], text[1024], *p;
	int fd, field;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	/* the second field is a name in brackets, and may hold anything */
	p = strrchr(text, ')');
	for (field = 2; p && field < 39; field++)
		p = strchr(p + 1, ' ');
	return p ? atoi(p + 1) : -1;
}

static bool is_bound(pid_t pid)
{
	cpu_set_t set;

	return pid > 0 && sched_getaffinity(pid, sizeof(set), &set) == 0 && CPU_COUNT(&set) == 1;
}

/* Only our own mask's cores, and only callers that stay when we reply. */
static int followable_cpu(const Follow *f, int cpu)
{
	if (cpu < 0 && f->last_pid > 0)
		cpu = cpu_of(f->last_pid);
	if (cpu < 0 || cpu >= CPU_SETSIZE)
		return -1;
	if (f->state.phase != FOLLOW_FREE)
		return CPU_ISSET(cpu, &f->own) ? cpu : -1;
	return f->may_idle || is_bound(f->last_pid) ? cpu : -1;
}

static void reset_thread(pid_t tid, const cpu_set_t *own)
{
	const struct sched_param param = { 0 };

	if (sched_getscheduler(tid) == SCHED_IDLE)
		sched_setscheduler(tid, SCHED_OTHER, &param);
	sched_setaffinity(tid, sizeof(*own), own); /* the ring's workers refuse, and need not */
}

/* Threads that had another mask than ours before: none of ours has. */
static void reset_all_threads(const cpu_set_t *own, int pinned)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *d;
	cpu_set_t set;

	if (!dir) {
		reset_thread(0, own);
		return;
	}
	while ((d = readdir(dir))) {
		pid_t tid = atoi(d->d_name);

		if (tid > 0 && sched_getaffinity(tid, sizeof(set), &set) == 0 &&
		    (sched_getscheduler(tid) == SCHED_IDLE || (CPU_COUNT(&set) == 1 && CPU_ISSET(pinned, &set))))
			reset_thread(tid, own);
	}
	closedir(dir);
}

static void apply_release(Follow *f)
{
	reactor_timer_cancel(f->reactor, &f->timer);
	reset_all_threads(&f->own, f->state.cpu);
	f->stats.releases++;
}

static void apply_pin(Follow *f, bool first)
{
	const struct sched_param param = { 0 };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(f->state.cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		return; /* a core that went away: the trial then fails by itself */
	if (first && f->may_idle)
		sched_setscheduler(0, SCHED_IDLE, &param);
	if (first) {
		f->stats.pins++;
		reactor_timer_arm(f->reactor, &f->timer, reactor_now_ns(f->reactor) + WINDOW);
	} else {
		f->stats.moves++;
	}
}

static void take_sample(Follow *f, int cpu)
{
	FollowPhase before = f->state.phase;
	FollowSample sample = {
		.now_ns = reactor_now_ns(f->reactor),
		.requests = f->requests,
		.switches = f->switches,
	};

	if (before == FOLLOW_FREE && sched_getaffinity(0, sizeof(f->own), &f->own) < 0)
		return;
	if (f->requests)
		sample.cpu = followable_cpu(f, cpu);
	read_run_delay(f, &sample.run_delay_ns);
	f->requests = f->switches = 0;
	f->last_sample_ns = sample.now_ns;
	switch (follow_decide(&f->state, &sample)) {
	case FOLLOW_PIN:
		apply_pin(f, before == FOLLOW_FREE);
		break;
	case FOLLOW_RELEASE:
		apply_release(f);
		break;
	case FOLLOW_KEEP:
		break;
	}
}

static void timer_fired(ReactorTimer *t)
{
	Follow *f = (Follow *)((char *)t - offsetof(Follow, timer));

	take_sample(f, f->last_cpu);
	if (f->state.phase != FOLLOW_FREE)
		reactor_timer_arm(f->reactor, &f->timer, reactor_now_ns(f->reactor) + WINDOW);
}

void follow_request(Follow *f, pid_t pid, int cpu)
{
	if (pid <= 0)
		return;
	if (!f->started)
		start_here(f);
	f->requests++;
	f->switches += pid != f->last_pid;
	f->last_pid = pid;
	f->last_cpu = cpu;
	/* starving shows in the time a few requests took: look earlier then */
	if (f->requests >= FOLLOW_STRIDE ||
	    (f->state.phase != FOLLOW_FREE && reactor_now_ns(f->reactor) - f->last_sample_ns > MS))
		take_sample(f, cpu);
}

Follow *follow_new(Reactor *r)
{
	Follow *f = g_new(Follow, 1);

	*f = (Follow) { .reactor = r, .timer.fire = timer_fired, .schedstat_fd = -1, .last_cpu = -1 };
	return f;
}

void follow_free(Follow *f)
{
	if (!f)
		return;
	if (f->state.phase != FOLLOW_FREE)
		apply_release(f);
	reactor_timer_cancel(f->reactor, &f->timer);
	if (f->schedstat_fd >= 0)
		close(f->schedstat_fd);
	g_free(f);
}

const FollowStats *follow_get_stats(const Follow *f)
{
	return &f->stats;
}
