/*
 * A small pool of threads for libraries that block.
 *
 * A job lives on its coroutine's stack. It goes, under the lock, through the
 * queue to a thread, and back through the list of done ones to the reactor,
 * which a thread wakes through an event descriptor. The reactor keeps a read
 * of that descriptor on the ring while, and only while, there are jobs.
 */
#include "common/work.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct Job Job;
struct Job {
	Job *next;
	ReactorWork *fn;
	void *arg;
	Co *co;
	int result;
	bool done; /* the reactor's own; threads do not look */
};

typedef struct JobList {
	Job *head, *tail;
} JobList;

struct WorkPool {
	Uring *uring;
	int event_fd;
	UringOp read_op;
	uint64_t read_buf;
	bool reading;
	uint32_t jobs; /* handed in and not yet seen done */

	pthread_mutex_t lock; /* all below */
	pthread_cond_t cond;
	JobList queue, done;
	uint32_t idle, threads, max_threads;
	bool stop;
	pthread_t *handles;
};

static void job_list_push(JobList *l, Job *job)
{
	job->next = NULL;
	if (l->head)
		l->tail->next = job;
	else
		l->head = job;
	l->tail = job;
}

static Job *job_list_pop(JobList *l)
{
	Job *job = l->head;
	if (job)
		l->head = job->next;
	return job;
}

/* ---- on a thread of the pool ---- */

static void pool_finish(WorkPool *p, Job *job)
{
	/* From the unlock on, the job is the reactor's. Who finds the list empty
	 * tells it; the others ride along. */
	bool first = !p->done.head;
	job_list_push(&p->done, job);
	if (first)
		eventfd_write(p->event_fd, 1);
}

static void *pool_main(void *arg)
{
	WorkPool *p = arg;
	pthread_mutex_lock(&p->lock);
	for (;;) {
		Job *job = job_list_pop(&p->queue);
		if (job) {
			pthread_mutex_unlock(&p->lock);
			job->result = job->fn(job->arg);
			pthread_mutex_lock(&p->lock);
			pool_finish(p, job);
		} else if (p->stop) {
			break;
		} else {
			p->idle++;
			pthread_cond_wait(&p->cond, &p->lock);
			p->idle--;
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* ---- on the reactor ---- */

static void pool_read(WorkPool *p)
{
	struct io_uring_sqe *sqe = uring_get_sqe(p->uring);
	io_uring_prep_read(sqe, p->event_fd, &p->read_buf, sizeof(p->read_buf), 0);
	uring_sqe_set_op(sqe, &p->read_op);
	p->reading = true;
}

static void pool_wake_done(WorkPool *p)
{
	pthread_mutex_lock(&p->lock);
	JobList done = p->done;
	p->done = (JobList) { .head = NULL };
	pthread_mutex_unlock(&p->lock);
	for (Job *job; (job = job_list_pop(&done));) {
		job->done = true;
		p->jobs--;
		co_wake(job->co);
	}
}

static void pool_read_done(UringOp *op, int res, uint32_t flags)
{
	WorkPool *p = (WorkPool *)((char *)op - offsetof(WorkPool, read_op));
	p->reading = false;
	pool_wake_done(p);
	if (p->jobs)
		pool_read(p);
}

/* Signals are for the reactor's thread. Without a further thread those that
 * are there do the work; without any there is nobody, which ends here. */
static void pool_add_thread(WorkPool *p)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&p->handles[p->threads], NULL, pool_main, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == 0)
		p->threads++;
	else if (!p->threads)
		g_error("Can't start a thread: %s", g_strerror(r));
}

static void pool_push(WorkPool *p, Job *job)
{
	pthread_mutex_lock(&p->lock);
	job_list_push(&p->queue, job);
	uint32_t waiting = 0;
	for (Job *j = p->queue.head; j && waiting <= p->idle; j = j->next)
		waiting++;
	/* An idle thread that was told but has not yet run still counts as idle,
	 * and its job as waiting. */
	if (waiting > p->idle && p->threads < p->max_threads)
		pool_add_thread(p);
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->lock);
}

int coroutine_fn work_pool_co_run(WorkPool *p, ReactorWork *fn, void *arg)
{
	Job job = { .fn = fn, .arg = arg, .co = co_self() };
	p->jobs++;
	if (!p->reading)
		pool_read(p);
	pool_push(p, &job);
	while (!job.done)
		co_yield();
	return job.result;
}

WorkPool *work_pool_new(Uring *u, uint32_t max_threads)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	if (fd < 0)
		return NULL;
	WorkPool *p = g_new(WorkPool, 1);
	*p = (WorkPool) {
		.uring = u, .event_fd = fd, .read_op.done = pool_read_done,
		.max_threads = max_threads, .handles = g_new0(pthread_t, max_threads),
	};
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->cond, NULL);
	return p;
}

void work_pool_free(WorkPool *p)
{
	if (!p)
		return;
	g_assert(!p->jobs && !p->reading);
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
	for (uint32_t i = 0; i < p->threads; i++)
		pthread_join(p->handles[i], NULL);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->cond);
	close(p->event_fd);
	g_free(p->handles);
	g_free(p);
}
