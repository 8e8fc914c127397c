#pragma once
/*
 * Following the caller: lets the reactor's thread share the core of the one
 * caller that keeps it busy, because waking another, idle core costs more than
 * a whole small operation (in virtual machines 100 us against 15).
 *
 * Being on the caller's core is not enough: the scheduler, seeing the core
 * taken by us at the moment we reply, wakes the caller on an idle one. Only
 * when our thread has the policy SCHED_IDLE does its core count as free. So a
 * thread that follows is pinned and SCHED_IDLE, and both end at once when it
 * is made to wait for its core, when callers interleave, when calls stop, or
 * when following turns out not to be faster (which is tried, not assumed).
 * Who may not come back from SCHED_IDLE (an ordinary user) follows only
 * callers that are bound to one core, as the ranks of an MPI job are.
 *
 * follow_decide() is the decision alone: a pure function of its state and the
 * samples. Follow applies it to the thread it runs on.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/reactor.h"

#define FOLLOW_STRIDE 16 /* requests to a sample */

/* What is known every FOLLOW_STRIDE requests, or from a timer. */
typedef struct FollowSample {
	int64_t now_ns;
	uint64_t run_delay_ns; /* total: how long our thread was ready and waited */
	uint32_t requests;     /* since the last sample */
	uint32_t switches;     /* of these, with another caller than the one before */
	int cpu;               /* where the caller is; -1: not known, or may not be followed */
} FollowSample;

typedef enum FollowAction { FOLLOW_KEEP, FOLLOW_PIN, FOLLOW_RELEASE } FollowAction;
typedef enum FollowPhase { FOLLOW_FREE, FOLLOW_TRIAL, FOLLOW_ON } FollowPhase;

/* Zero-initialise. */
typedef struct FollowState {
	FollowPhase phase;
	int cpu;              /* TRIAL, ON: where we are pinned */
	uint32_t streak;      /* samples in the running measurement */
	uint64_t counted;     /* requests in it */
	int64_t since_ns;     /* when it began */
	double free_rate;     /* requests per ns before the trial */
	uint32_t crowded;     /* recent samples with several callers, decaying */
	uint32_t moved;       /* recent samples on another core, decaying */
	int64_t last_ns;      /* the last sample's time ... */
	uint64_t last_delay_ns; /* ... and run delay */
	int64_t window_ns;    /* when the window began in which waiting is weighed, */
	uint64_t window_delay_ns; /* the run delay then, */
	uint32_t window_requests; /* and the requests since */
	int64_t backoff_ns;
	int64_t not_before_ns;
} FollowState;

/* FOLLOW_PIN: go to s->cpu. */
FollowAction follow_decide(FollowState *s, const FollowSample *sample);

typedef struct Follow Follow;

typedef struct FollowStats {
	uint64_t pins, moves, releases;
} FollowStats;

/* Belongs to the thread that runs the reactor. */
Follow *follow_new(Reactor *r);
/* Releases the thread first. NULL is fine. Same thread. */
void follow_free(Follow *f);
/* Once for each request. pid: the calling thread as FUSE names it; nothing
 * happens where it has no name here (0). cpu: where it runs, -1: not known,
 * then it is looked up now and then. */
void follow_request(Follow *f, pid_t pid, int cpu);
const FollowStats *follow_get_stats(const Follow *f);
