#pragma once
/*
 * The reactor: one thread, one GMainContext whose poll function submits and
 * waits on the io_uring. It owns the coroutine scheduler, the ring, timers and
 * the pool of threads for what blocks. UCX and others that want to be
 * progressed register a ReactorPoller.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/co.h"
#include "common/counters.h"
#include "common/uring.h"

typedef struct Reactor Reactor;

typedef struct ReactorOptions {
	uint32_t ring_entries;            /* 0: 1024 */
	size_t stack_size;                /* bytes; 0: the default */
	uint32_t max_live[CO_CLASSES];    /* 0: the default of each class */
	uint32_t work_threads;            /* at most; 0: 4 */
	int64_t spin_ns;                  /* upper bound of adaptive spinning; 0: none */
} ReactorOptions;

/* The thread that makes it is the one that runs it, without a fork between. */
Reactor *reactor_new(const ReactorOptions *opts, GError **error);
/* Everything registered must be gone. NULL is fine. */
void reactor_free(Reactor *r);
/* Runs until reactor_quit(), which any thread may call, also before. */
void reactor_run(Reactor *r);
void reactor_quit(Reactor *r);
/* One iteration, for tests and for start-up code that drives the reactor
 * itself; may_block as for g_main_context_iteration(). */
void reactor_iterate(Reactor *r, bool may_block);
/* Runs fn(arg) as a coroutine and iterates until it has ended. For start-up
 * and shut-down, outside of any coroutine. */
void reactor_run_co(Reactor *r, CoFn *fn, void *arg);

/* Names its counters in c, from which the caller removes them or which it
 * frees before the reactor: "reactor.sleeps", "co.switches", ... */
void reactor_add_counters(Reactor *r, Counters *c);

/* For sources of GLib's: signals, say. A source that is attached while the
 * reactor runs is noticed within a millisecond. */
GMainContext *reactor_context(Reactor *r);
CoSched *reactor_sched(Reactor *r);
Uring *reactor_uring(Reactor *r);
/* CLOCK_MONOTONIC in ns, read once per wake-up. */
int64_t reactor_now_ns(const Reactor *r);

/* Someone who is progressed on each wake-up and has a descriptor that becomes
 * readable when there is more to do. */
typedef struct ReactorPoller {
	int fd;
	bool (*progress)(void *arg); /* true: did something, call again; never yields */
	bool (*arm)(void *arg);      /* before sleeping; false: busy, progress again */
	void *arg;
	/* private */
	void *priv;
} ReactorPoller;
void reactor_add_poller(Reactor *r, ReactorPoller *p);
void reactor_remove_poller(Reactor *r, ReactorPoller *p);

/* One-shot timers in a heap; embed and zero-initialise. */
typedef struct ReactorTimer ReactorTimer;
struct ReactorTimer {
	void (*fire)(ReactorTimer *t); /* on the reactor's stack */
	/* private */
	int64_t at_ns;
	uint32_t index; /* in the heap, from 1; 0: not armed */
};
/* (Re-)arms for the given reactor_now_ns() time. */
void reactor_timer_arm(Reactor *r, ReactorTimer *t, int64_t at_ns);
void reactor_timer_cancel(Reactor *r, ReactorTimer *t);
void coroutine_fn reactor_co_sleep(Reactor *r, int64_t ns);

/* Runs fn(arg) on a thread of the pool and waits for it; returns its result. */
typedef int ReactorWork(void *arg);
int coroutine_fn reactor_co_work(Reactor *r, ReactorWork *fn, void *arg);

/* Counts who waits for an answer that may come within microseconds (an RPC
 * reply): while any does, the reactor may spin before it sleeps. */
void reactor_expect_begin(Reactor *r);
void reactor_expect_end(Reactor *r);
