#pragma once
/*
 * Stackful coroutines. One coroutine carries one FUSE request or one incoming
 * RPC, so an operation reads top to bottom and its state is its locals.
 *
 * Only the scheduler enters a coroutine, from the reactor's own stack. Waking
 * one means putting it on the ready list; waking one that is already on the
 * list, or running, is an assertion that names who woke it first. Everything
 * here belongs to the thread that made the scheduler.
 */
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Marks a function that may yield: call it from a coroutine only. */
#define coroutine_fn

typedef struct Co Co;
typedef struct CoSched CoSched;
typedef void coroutine_fn CoFn(void *arg);

/* Each class has its own bound, so that requests of the kernel waiting for
 * peers can never starve the peers' requests, nor either our own clean-up, nor
 * any of them the homes' questions to our mount, which others wait for. */
typedef enum CoClass { CO_FUSE, CO_RPC, CO_INTERNAL, CO_MOUNT, CO_CLASSES } CoClass;

typedef struct CoStats {
	uint32_t live[CO_CLASSES];   /* started and not ended */
	uint32_t queued[CO_CLASSES]; /* waiting for a stack */
	uint32_t stacks;             /* mapped, in use or pooled */
	uint64_t switches;
} CoStats;

/* stack_size in bytes, rounded up to pages, a guard page is added; 0: 256 KiB
 * (1 MiB under AddressSanitizer). max_live bounds each class; 0, or NULL for
 * all: 8192. */
CoSched *co_sched_new(size_t stack_size, const uint32_t max_live[CO_CLASSES]);
/* No coroutine may be live. NULL is fine. */
void co_sched_free(CoSched *sched);
/* Makes a coroutine that runs fn(arg) and puts it on the ready list; where
 * its class is full it starts, in order, when another one ends. */
void co_spawn(CoSched *sched, CoClass class, CoFn *fn, void *arg);
/* Runs what is on the ready list, including what becomes ready meanwhile, at
 * most budget entries. Returns true when some are left. Not from a coroutine. */
bool co_sched_run(CoSched *sched, uint32_t budget);
bool co_sched_has_ready(const CoSched *sched);
void co_sched_get_stats(const CoSched *sched, CoStats *ret_stats);
/* The same, live: the numbers change as they are, until co_sched_free(). */
const CoStats *co_sched_stats(const CoSched *sched);
/* Gives back the memory of stacks that a burst left behind: all but those
 * that were in use at once since the last call, and a few. To be called every
 * second or so while co_sched_needs_trim(). */
void co_sched_trim(CoSched *sched);
bool co_sched_needs_trim(const CoSched *sched);
/* Called each time the ready list goes from empty to not empty, so that a
 * reactor that is about to sleep knows. May be NULL. */
void co_sched_set_notify(CoSched *sched, void (*notify)(void *arg), void *arg);

/* The running coroutine; NULL outside of any. */
Co *co_self(void);
CoSched *co_get_sched(const Co *co);
/* Gives up the processor until someone calls co_wake() on this coroutine.
 * Always in a loop around a condition. */
void coroutine_fn co_yield(void);
/* Puts co, which must be in co_yield(), on the ready list. `by` names the
 * caller (use co_wake()) for the assertion against waking twice. */
void co_wake_from(Co *co, const char *by);
#define co_wake(co) co_wake_from(co, G_STRLOC)
/* Yields and goes to the end of the ready list. */
void coroutine_fn co_reschedule(void);
/* One pointer per coroutine for whoever started it (the request it serves). */
void co_set_local(void *local);
void *co_get_local(void);

/* A first-in first-out queue of waiting coroutines. Zero-initialised works. */
typedef struct CoWaiter CoWaiter;
typedef struct CoQueue {
	CoWaiter *head, *tail;
} CoQueue;
void coroutine_fn co_queue_wait(CoQueue *q);
/* Both return how many they woke. */
bool co_queue_wake_one(CoQueue *q);
uint32_t co_queue_wake_all(CoQueue *q);
static inline bool co_queue_empty(const CoQueue *q) { return !q->head; }

/* First come, first served; not recursive; ownership is handed over, so no
 * newcomer can overtake. Zero-initialised works. */
typedef struct CoMutex {
	Co *owner;
	CoQueue waiters;
} CoMutex;
void coroutine_fn co_mutex_lock(CoMutex *m);
void co_mutex_unlock(CoMutex *m);

/* A set of coroutines that one waits for: the parallel parts of an operation.
 * Zero-initialise with sched set. */
typedef struct CoGroup {
	CoSched *sched;
	uint32_t running;
	Co *waiter;
} CoGroup;
/* fn(arg) runs as a CO_INTERNAL coroutine of the group. Parts may have groups
 * of their own, as long as all that wait so are fewer than the class holds. */
void co_group_spawn(CoGroup *g, CoFn *fn, void *arg);
void coroutine_fn co_group_wait(CoGroup *g);
