/*
 * The scheduler of coroutines and the switch between their stacks.
 *
 * States:
 *
 *	(backlog) -> READY -> RUNNING -> YIELDED -> READY -> ...
 *	                         |
 *	                         +-> ENDED (pooled) -> READY, for another function
 *
 * READY means: on the ready list, put there by co_spawn(), co_wake() or
 * co_reschedule(). co_sched_run() alone enters a coroutine, from the thread's
 * own stack, and a coroutine only ever leaves to there; so the depth of nested
 * switches is one and a wake is never a call.
 *
 * Switching: sigsetjmp() and siglongjmp() without the signal mask, 13 ns there
 * and back; swapcontext() saves the mask with a system call and takes 25 times
 * as long. Only the very first entry to a stack goes through setcontext(). A
 * stack whose function has ended waits in the pool inside co_main()'s loop, so
 * to use it again is a plain switch too.
 *
 * A coroutine never changes its thread, so an address of a thread-local
 * variable (errno's, say) which the compiler keeps across a switch stays right.
 *
 * A process whose calls run on shadow stacks (x86 CET, in user space) needs
 * another switch than longjmp; glibc leaves them off unless told otherwise.
 */

/* ____longjmp_chk(), which fortified builds get for siglongjmp(), takes a jump
 * to a lower address for one into a frame that is gone, and ends the process. */
#undef _FORTIFY_SOURCE

#include "common/co.h"

#include <pthread.h>
#include <setjmp.h>
#include <string.h>
#include <ucontext.h>

#include "common/co-internal.h"

/* RocksDB and UCX run on these; AddressSanitizer's frames are several times
 * the size of ordinary ones. Untouched pages cost address space only. */
#ifdef CO_ASAN
#include <sanitizer/common_interface_defs.h>
#define STACK_SIZE_DEFAULT (1024u << 10)
#define NO_ASAN __attribute__((no_sanitize_address))
#else
#define STACK_SIZE_DEFAULT (256u << 10)
#define NO_ASAN
#endif

/* Three classes of 8192 stacks are 49152 mappings of the 65530 that Linux
 * allows by default, which leaves room for RocksDB, UCX and the libraries.
 * Past that limit coroutines wait for a stack rather than fail. */
#define MAX_LIVE_DEFAULT 8192u

/* Pooled stacks that co_sched_trim() always leaves. */
#define POOL_KEEP 32u

typedef enum CoState { CO_READY, CO_RUNNING, CO_YIELDED, CO_ENDED } CoState;
static const char *const state_names[] = { "ready", "running", "waiting", "ended" };

/* A stack of control that can be left and entered again. */
typedef struct Fiber {
	sigjmp_buf env;
	const void *stack_base; /* for AddressSanitizer */
	size_t stack_size;
} Fiber;

struct Co {
	Fiber fiber;
	CoSched *sched;
	CoFn *fn;
	void *arg;
	void *local;
	Co *next;             /* in the ready list or the pool */
	const char *woken_by; /* who put it on the ready list last */
	CoState state;
	CoClass class;
	uint32_t held;        /* mutexes */
	bool started;         /* its stack has been entered */
	CoStack stack;
};

/* What is to run once its class has room. */
typedef struct CoTask CoTask;
struct CoTask {
	CoTask *next;
	CoFn *fn;
	void *arg;
};

typedef struct Backlog {
	CoTask *head, **tail;
} Backlog;

struct CoSched {
	Fiber fiber; /* whoever called co_sched_run() */
	pthread_t thread;
	Co *ready_head, **ready_tail;
	Co *pool; /* last in, first out: its pages are warm */
	uint32_t pooled;
	uint32_t peak; /* live at once since co_sched_trim() */
	size_t stack_size;
	uint32_t max_live[CO_CLASSES];
	Backlog backlog[CO_CLASSES];
	CoStats stats;
	void (*notify)(void *arg);
	void *notify_arg;
};

/* co_self() has no argument to find it by. */
static __thread Co *current;

/* ---- the switch ---- */

#ifdef CO_ASAN
/* The bounds of the thread's own stack are learned from the sanitizer, each
 * time a coroutine is entered. */
#define fiber_leave(save, to) \
	__sanitizer_start_switch_fiber(save, (to)->stack_base, (to)->stack_size)
#define fiber_arrive(save, from) \
	__sanitizer_finish_switch_fiber(save, &(from)->stack_base, &(from)->stack_size)
#else
#define fiber_leave(save, to) ((void)(save))
#define fiber_arrive(save, from) ((void)(save))
#endif

/* Leaves `from` until someone switches back to it. ended: its frames are not
 * needed again, apart from those of co_main() and of this function, which for
 * that reason are not AddressSanitizer's to move to its heap. */
static void __attribute__((noinline)) NO_ASAN fiber_switch(Fiber *from, Fiber *to, bool ended)
{
	void *save = NULL;
	fiber_leave(ended ? NULL : &save, to);
	if (!sigsetjmp(from->env, 0))
		siglongjmp(to->env, 1);
	fiber_arrive(save, to);
}

/* The first frame of every stack; never returns. makecontext() passes ints. */
static void NO_ASAN co_main(unsigned high, unsigned low)
{
	Co *co = (Co *)((uintptr_t)high << 16 << 16 | low);
	fiber_arrive(NULL, &co->sched->fiber);
	for (;;) {
		co->fn(co->arg);
		co->state = CO_ENDED;
		fiber_switch(&co->fiber, &co->sched->fiber, true);
	}
}

static void __attribute__((noinline)) NO_ASAN co_start(Co *co)
{
	ucontext_t uc;
	void *save = NULL;
	uintptr_t p = (uintptr_t)co;
	getcontext(&uc);
	uc.uc_stack.ss_sp = co->stack.base;
	uc.uc_stack.ss_size = co->stack.size;
	uc.uc_link = NULL;
	makecontext(&uc, (void (*)(void))co_main, 2, (unsigned)(p >> 16 >> 16), (unsigned)p);
	fiber_leave(&save, &co->fiber);
	if (!sigsetjmp(co->sched->fiber.env, 0))
		setcontext(&uc);
	fiber_arrive(save, &co->fiber);
}

static void co_enter(CoSched *sched, Co *co)
{
	co->state = CO_RUNNING;
	current = co;
	sched->stats.switches++;
	if (co->started) {
		fiber_switch(&sched->fiber, &co->fiber, false);
	} else {
		co->started = true;
		co_start(co);
	}
	current = NULL;
}

/* ---- coroutines and their stacks ---- */

static Co *co_new(CoSched *sched)
{
	Co *co = g_new(Co, 1);
	*co = (Co) { .sched = sched, .state = CO_ENDED };
	if (co_stack_init(&co->stack, sched->stack_size) < 0) {
		g_free(co);
		return NULL;
	}
	co->fiber.stack_base = co->stack.base;
	co->fiber.stack_size = co->stack.size;
	sched->stats.stacks++;
	return co;
}

static void co_free(Co *co)
{
	co->sched->stats.stacks--;
	co_stack_deinit(&co->stack);
	g_free(co);
}

/* NULL when the kernel has no more memory or mappings for us. */
static Co *pool_take(CoSched *sched)
{
	Co *co = sched->pool;
	if (!co)
		return co_new(sched);
	sched->pool = co->next;
	sched->pooled--;
	return co;
}

static void pool_give(CoSched *sched, Co *co)
{
	co->next = sched->pool;
	sched->pool = co;
	sched->pooled++;
}

static uint32_t live_count(const CoSched *sched)
{
	uint32_t n = 0;
	for (int i = 0; i < CO_CLASSES; i++)
		n += sched->stats.live[i];
	return n;
}

/* ---- the ready list ---- */

static void ready_push(CoSched *sched, Co *co, const char *by)
{
	bool was_empty = !sched->ready_head;
	co->state = CO_READY;
	co->woken_by = by;
	co->next = NULL;
	*sched->ready_tail = co;
	sched->ready_tail = &co->next;
	if (was_empty && sched->notify)
		sched->notify(sched->notify_arg);
}

static Co *ready_pop(CoSched *sched)
{
	Co *co = sched->ready_head;
	sched->ready_head = co->next;
	if (!co->next)
		sched->ready_tail = &sched->ready_head;
	return co;
}

/* ---- starting ---- */

static bool try_start(CoSched *sched, CoClass class, CoFn *fn, void *arg)
{
	if (sched->stats.live[class] >= sched->max_live[class])
		return false;
	Co *co = pool_take(sched);
	if (!co)
		return false;
	co->fn = fn;
	co->arg = arg;
	co->local = NULL;
	co->class = class;
	sched->stats.live[class]++;
	uint32_t live = live_count(sched);
	sched->peak = MAX(sched->peak, live);
	ready_push(sched, co, "co_spawn()");
	return true;
}

static void backlog_push(CoSched *sched, CoClass class, CoFn *fn, void *arg)
{
	Backlog *backlog = &sched->backlog[class];
	CoTask *task = g_new(CoTask, 1);
	*task = (CoTask) { .fn = fn, .arg = arg };
	*backlog->tail = task;
	backlog->tail = &task->next;
	sched->stats.queued[class]++;
}

/* Starts what has waited for a stack, as far as there is room now. */
static void backlog_start(CoSched *sched, CoClass class)
{
	Backlog *backlog = &sched->backlog[class];
	CoTask *task;
	while ((task = backlog->head) && try_start(sched, class, task->fn, task->arg)) {
		backlog->head = task->next;
		if (!task->next)
			backlog->tail = &backlog->head;
		sched->stats.queued[class]--;
		g_free(task);
	}
}

void co_spawn(CoSched *sched, CoClass class, CoFn *fn, void *arg)
{
	g_assert(pthread_equal(sched->thread, pthread_self()));
	if (!sched->backlog[class].head && try_start(sched, class, fn, arg))
		return;
	/* Someone who ends starts it. */
	g_assert(live_count(sched) > 0);
	backlog_push(sched, class, fn, arg);
}

/* Its stack goes to the next of its class; or, where mappings are what was
 * short, to the first class that has someone waiting. */
static void co_ended(CoSched *sched, Co *co)
{
	if (co->held)
		g_error("A coroutine, woken last by %s, ended with %u mutexes locked", co->woken_by, co->held);
	sched->stats.live[co->class]--;
	pool_give(sched, co);
	backlog_start(sched, co->class);
	for (int i = 0; i < CO_CLASSES; i++)
		backlog_start(sched, (CoClass)i);
}

/* ---- the scheduler ---- */

CoSched *co_sched_new(size_t stack_size, const uint32_t max_live[CO_CLASSES])
{
	CoSched *sched = g_new(CoSched, 1);
	*sched = (CoSched) {
		.thread = pthread_self(),
		.stack_size = co_stack_round(stack_size ? stack_size : STACK_SIZE_DEFAULT),
	};
	sched->ready_tail = &sched->ready_head;
	for (int i = 0; i < CO_CLASSES; i++) {
		sched->max_live[i] = max_live && max_live[i] ? max_live[i] : MAX_LIVE_DEFAULT;
		sched->backlog[i].tail = &sched->backlog[i].head;
	}
	return sched;
}

void co_sched_free(CoSched *sched)
{
	if (!sched)
		return;
	g_assert(live_count(sched) == 0);
	while (sched->pool)
		co_free(pool_take(sched));
	g_free(sched);
}

bool co_sched_run(CoSched *sched, uint32_t budget)
{
	g_assert(!current);
	for (; budget && sched->ready_head; budget--) {
		Co *co = ready_pop(sched);
		co_enter(sched, co);
		if (co->state == CO_ENDED)
			co_ended(sched, co);
	}
	return sched->ready_head != NULL;
}

bool co_sched_has_ready(const CoSched *sched)
{
	return sched->ready_head != NULL;
}

void co_sched_get_stats(const CoSched *sched, CoStats *ret_stats)
{
	*ret_stats = sched->stats;
}

const CoStats *co_sched_stats(const CoSched *sched)
{
	return &sched->stats;
}

void co_sched_set_notify(CoSched *sched, void (*notify)(void *arg), void *arg)
{
	sched->notify = notify;
	sched->notify_arg = arg;
}

bool co_sched_needs_trim(const CoSched *sched)
{
	return sched->pooled > POOL_KEEP;
}

void co_sched_trim(CoSched *sched)
{
	uint32_t live = live_count(sched);
	uint32_t keep = MAX(POOL_KEEP, sched->peak - live);
	sched->peak = live;
	/* The cold ones are at the far end. */
	Co **end = &sched->pool;
	for (uint32_t i = 0; i < keep && *end; i++)
		end = &(*end)->next;
	Co *cold = *end;
	*end = NULL;
	while (cold) {
		Co *next = cold->next;
		sched->pooled--;
		co_free(cold);
		cold = next;
	}
}

/* ---- seen from inside ---- */

Co *co_self(void)
{
	return current;
}

CoSched *co_get_sched(const Co *co)
{
	return co->sched;
}

void coroutine_fn co_yield(void)
{
	Co *co = current;
	g_assert(co);
	co->state = CO_YIELDED;
	fiber_switch(&co->fiber, &co->sched->fiber, false);
}

void co_wake_from(Co *co, const char *by)
{
	g_assert(pthread_equal(co->sched->thread, pthread_self()));
	if (G_UNLIKELY(co->state != CO_YIELDED))
		g_error("%s wakes a coroutine that is %s; %s woke it before",
			by, state_names[co->state], co->woken_by);
	ready_push(co->sched, co, by);
}

void coroutine_fn co_reschedule(void)
{
	Co *co = current;
	g_assert(co);
	ready_push(co->sched, co, "co_reschedule()");
	fiber_switch(&co->fiber, &co->sched->fiber, false);
}

void co_set_local(void *local)
{
	current->local = local;
}

void *co_get_local(void)
{
	return current ? current->local : NULL;
}

void co_held_add(Co *co, int change)
{
	co->held += (uint32_t)change;
}
