/*
 * The ring: entries, submission, completions.
 *
 * A completion is never lost. The kernel keeps those that do not fit the
 * completion queue and flags that (IORING_SQ_CQ_OVERFLOW); and where the
 * submission queue is full inside a callback or a coroutine, and the kernel
 * wants completions consumed before it takes more, they are put aside and
 * dispatched by the next uring_reap(), from the reactor's stack as always.
 *
 * user_data is the UringOp's address; its low bits are free for a later
 * tagging. 0 marks requests whose result nobody wants, such as cancellations.
 *
 * With IORING_SETUP_SINGLE_ISSUER the thread that makes the ring is the only
 * one that may use it: daemonise first.
 */
#include "common/uring.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* Cancelling at uring_free() is repeated this often, 10 ms apart, before we
 * give up on requests that their owners start again and again. */
#define FREE_ROUNDS 1000

typedef struct Completion {
	uint64_t user_data;
	int res;
	uint32_t flags;
} Completion;

struct Uring {
	struct io_uring ring;
	uint32_t inflight; /* entries handed out whose last completion is to come */
	GArray *aside;     /* of Completion: consumed early, see above */
};

/* From what we want to what any kernel since 5.11 has. DEFER_TASKRUN: the
 * kernel's part of a completion runs when we enter the kernel anyway, not in
 * an interruption of its own. TASKRUN_FLAG: and we can see that there is some. */
static const unsigned setups[] = {
	IORING_SETUP_SQE128 | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
		IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG, /* 6.1 */
	IORING_SETUP_SQE128 | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,  /* 6.0 */
	IORING_SETUP_SQE128 | IORING_SETUP_SUBMIT_ALL |
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,  /* 5.19 */
	IORING_SETUP_SUBMIT_ALL,                                        /* 5.18 */
	0,
};

static int ring_init(struct io_uring *ring, uint32_t entries)
{
	int r = -EINVAL;
	for (size_t i = 0; i < G_N_ELEMENTS(setups) && r == -EINVAL; i++) {
		struct io_uring_params p = {
			.flags = setups[i] | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE,
			.cq_entries = entries * 4,
		};
		r = io_uring_queue_init_params(entries, ring, &p);
	}
	return r;
}

int uring_new(uint32_t entries, Uring **ret_uring)
{
	Uring *u = g_new(Uring, 1);
	*u = (Uring) { .inflight = 0 };
	int r = ring_init(&u->ring, entries);
	if (r < 0) {
		g_free(u);
		return r;
	}
	if (!(u->ring.features & IORING_FEAT_EXT_ARG)) {
		io_uring_queue_exit(&u->ring);
		g_free(u);
		return -ENOSYS;
	}
	io_uring_register_ring_fd(&u->ring); /* saves a look-up a call; fine without */
	u->aside = g_array_new(FALSE, FALSE, sizeof(Completion));
	*ret_uring = u;
	return 0;
}

bool uring_is_sqe128(const Uring *u)
{
	return u->ring.flags & IORING_SETUP_SQE128;
}

uint32_t uring_inflight(const Uring *u)
{
	return u->inflight;
}

bool uring_has_unsubmitted(const Uring *u)
{
	return io_uring_sq_ready(&u->ring) != 0;
}

/* ---- completions ---- */

/* Something that only a system call brings to the completion queue. */
static bool kernel_has_more(const Uring *u)
{
	return IO_URING_READ_ONCE(*u->ring.sq.kflags) & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
}

bool uring_has_completions(const Uring *u)
{
	return u->aside->len || io_uring_cq_ready(&u->ring) || kernel_has_more(u);
}

/* Copied out before its callback runs, which may consume others. */
static bool take_completion(Uring *u, Completion *ret)
{
	struct io_uring_cqe *cqe;
	unsigned head;
	io_uring_for_each_cqe(&u->ring, head, cqe) {
		*ret = (Completion) { cqe->user_data, cqe->res, cqe->flags };
		io_uring_cq_advance(&u->ring, 1);
		return true;
	}
	return false;
}

static void dispatch(Uring *u, const Completion *c)
{
	UringOp *op = (UringOp *)(uintptr_t)c->user_data;
	if (!(c->flags & IORING_CQE_F_MORE))
		u->inflight--;
	if (op)
		op->done(op, c->res, c->flags);
}

static uint32_t reap_aside(Uring *u)
{
	uint32_t n = 0;
	/* Callbacks may put more aside while we go through. */
	for (; n < u->aside->len; n++) {
		Completion c = g_array_index(u->aside, Completion, n);
		dispatch(u, &c);
	}
	g_array_set_size(u->aside, 0);
	return n;
}

static uint32_t reap_queue(Uring *u)
{
	Completion c;
	uint32_t n = 0;
	for (; take_completion(u, &c); n++)
		dispatch(u, &c);
	return n;
}

uint32_t uring_reap(Uring *u)
{
	uint32_t n = u->aside->len ? reap_aside(u) : 0;
	n += reap_queue(u);
	if (G_UNLIKELY(kernel_has_more(u))) {
		io_uring_get_events(&u->ring);
		n += reap_queue(u);
	}
	return n;
}

/* ---- submission ---- */

static void put_aside(Uring *u)
{
	Completion c;
	while (take_completion(u, &c))
		g_array_append_val(u->aside, c);
}

/* Makes room for n entries. */
static void make_room(Uring *u, unsigned n)
{
	while (io_uring_sq_space_left(&u->ring) < n) {
		int r = io_uring_submit(&u->ring);
		if (r >= 0 || r == -EINTR)
			continue;
		/* -EBUSY: completions overflowed, consume some first. -EAGAIN,
		 * -ENOMEM: the kernel is short of memory for the moment. */
		if (r != -EBUSY && r != -EAGAIN && r != -ENOMEM)
			g_error("io_uring_enter: %s", g_strerror(-r));
		put_aside(u);
		io_uring_get_events(&u->ring);
		g_usleep(100);
	}
}

struct io_uring_sqe *uring_get_sqe(Uring *u)
{
	if (G_UNLIKELY(!io_uring_sq_space_left(&u->ring)))
		make_room(u, 1);
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	/* liburing leaves what the last user wrote, and user_data is ours. */
	memset(sqe, 0, uring_is_sqe128(u) ? 2 * sizeof(*sqe) : sizeof(*sqe));
	u->inflight++;
	return sqe;
}

void uring_reserve(Uring *u, unsigned n)
{
	make_room(u, n);
}

void uring_sqe_set_op(struct io_uring_sqe *sqe, UringOp *op)
{
	io_uring_sqe_set_data(sqe, op);
}

void uring_cancel(Uring *u, UringOp *op)
{
	struct io_uring_sqe *sqe = uring_get_sqe(u);
	io_uring_prep_cancel(sqe, op, 0);
	uring_sqe_set_op(sqe, NULL);
}

/* What can't be submitted now goes with the next uring_submit_and_wait(). */
void uring_submit(Uring *u)
{
	io_uring_submit(&u->ring);
}

static int submit_and_wait(Uring *u, int64_t wait_ns)
{
	struct io_uring_cqe *cqe;
	if (wait_ns < 0)
		return io_uring_submit_and_wait(&u->ring, 1);
	struct __kernel_timespec ts = {
		.tv_sec = wait_ns / INT64_C(1000000000),
		.tv_nsec = wait_ns % INT64_C(1000000000),
	};
	return io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
}

int uring_submit_and_wait(Uring *u, int64_t wait_ns)
{
	int r;
	if (wait_ns == 0 || u->aside->len)
		r = io_uring_submit_and_get_events(&u->ring);
	else
		r = submit_and_wait(u, wait_ns);
	/* Interrupted, timed out, or to be tried again after reaping: the entries
	 * that were not taken stay in the queue for the next call. */
	if (r == -EINTR || r == -ETIME || r == -EBUSY || r == -EAGAIN || r == -ENOMEM)
		return 0;
	return r;
}

/* ---- the end ---- */

static void cancel_all(Uring *u)
{
	struct io_uring_sqe *sqe = uring_get_sqe(u);
	io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
	uring_sqe_set_op(sqe, NULL);
}

void uring_free(Uring *u)
{
	if (!u)
		return;
	for (int i = 0; u->inflight && i < FREE_ROUNDS; i++) {
		cancel_all(u);
		uring_submit_and_wait(u, 10 * 1000 * 1000);
		uring_reap(u);
	}
	if (u->inflight)
		g_warning("%u requests of the ring would not end, ignoring", u->inflight);
	g_array_free(u->aside, TRUE);
	io_uring_queue_exit(&u->ring);
	g_free(u);
}
