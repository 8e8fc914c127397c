/*
 * Waiting for each other: queue, mutex, group. All run on one thread, so what
 * happens between two yields needs no care.
 */
#include "common/co-internal.h"

/* Lives on the waiting coroutine's stack. */
struct CoWaiter {
	CoWaiter *next;
	Co *co;
	bool woken;
};

/* Not inlined: gcc 12 would warn that q keeps a pointer into a frame that ends,
 * as it can't see that the frame only ends once w is off the queue. */
static void __attribute__((noinline)) queue_push(CoQueue *q, CoWaiter *w)
{
	if (q->head)
		q->tail->next = w;
	else
		q->head = w;
	q->tail = w;
}

void coroutine_fn co_queue_wait(CoQueue *q)
{
	CoWaiter w = { .co = co_self() };
	queue_push(q, &w);
	while (!w.woken)
		co_yield();
}

/* Takes the first one off the queue and wakes it. */
static Co *queue_pop(CoQueue *q, const char *by)
{
	CoWaiter *w = q->head;
	if (!w)
		return NULL;
	q->head = w->next;
	if (!q->head)
		q->tail = NULL;
	w->woken = true;
	co_wake_from(w->co, by);
	return w->co;
}

bool co_queue_wake_one(CoQueue *q)
{
	return queue_pop(q, "co_queue_wake_one()") != NULL;
}

uint32_t co_queue_wake_all(CoQueue *q)
{
	uint32_t n = 0;
	while (queue_pop(q, "co_queue_wake_all()"))
		n++;
	return n;
}

void coroutine_fn co_mutex_lock(CoMutex *m)
{
	Co *self = co_self();
	g_assert(self && m->owner != self);
	if (m->owner)
		co_queue_wait(&m->waiters); /* co_mutex_unlock() made us the owner */
	else
		m->owner = self;
	g_assert(m->owner == self);
	co_held_add(self, 1);
}

void co_mutex_unlock(CoMutex *m)
{
	g_assert(m->owner && m->owner == co_self());
	co_held_add(m->owner, -1);
	m->owner = queue_pop(&m->waiters, "co_mutex_unlock()");
}

typedef struct GroupTask {
	CoGroup *group;
	CoFn *fn;
	void *arg;
} GroupTask;

static void coroutine_fn group_main(void *arg)
{
	GroupTask *task = arg;
	CoGroup *g = task->group;
	task->fn(task->arg);
	g_free(task);
	if (--g->running == 0 && g->waiter)
		co_wake(g->waiter);
}

void co_group_spawn(CoGroup *g, CoFn *fn, void *arg)
{
	GroupTask *task = g_new(GroupTask, 1);
	*task = (GroupTask) { g, fn, arg };
	g->running++;
	co_spawn(g->sched, CO_INTERNAL, group_main, task);
}

void coroutine_fn co_group_wait(CoGroup *g)
{
	g_assert(!g->waiter);
	g->waiter = co_self();
	while (g->running)
		co_yield();
	g->waiter = NULL;
}
