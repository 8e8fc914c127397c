/*
 * Operations of the ring that a coroutine can wait for. One awaitable serves
 * all: the operation is prepared into an entry on the stack, await() copies it
 * into the ring, adds the time limit where there is one, and yields.
 */
#include "common/uring.h"

#include <errno.h>
#include <stddef.h>

/* Valgrind does not see the kernel write into a buffer on the ring's behalf. */
#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif
#ifndef VALGRIND_MAKE_MEM_DEFINED
#define VALGRIND_MAKE_MEM_DEFINED(p, n) ((void)0)
#endif

#define NO_TIMEOUT (-1)

/* The most that one read or write moves, in Linux, whatever it is asked for;
 * entries have 32 bits for the length. */
#define IO_MAX 0x7ffff000u

/* Lives on the waiting coroutine's stack until every completion has come. */
typedef struct Await {
	UringOp op;    /* the operation */
	UringOp timer; /* the time limit linked to it */
	Co *co;
	int res;
	bool timed_out;
	uint32_t pending;
} Await;

static void await_one_less(Await *a)
{
	if (--a->pending == 0)
		co_wake(a->co);
}

static void await_done(UringOp *op, int res, uint32_t flags)
{
	Await *a = (Await *)((char *)op - offsetof(Await, op));
	a->res = res;
	await_one_less(a);
}

static void await_timer_done(UringOp *op, int res, uint32_t flags)
{
	Await *a = (Await *)((char *)op - offsetof(Await, timer));
	a->timed_out = res == -ETIME;
	await_one_less(a);
}

/* A chain must go to the kernel in one call, hence uring_reserve(). */
static void await_queue(Uring *u, Await *a, const struct io_uring_sqe *prepared,
			struct __kernel_timespec *timeout)
{
	uring_reserve(u, 2);
	struct io_uring_sqe *sqe = uring_get_sqe(u);
	*sqe = *prepared;
	uring_sqe_set_op(sqe, &a->op);
	if (!timeout)
		return;
	sqe->flags |= IOSQE_IO_LINK;
	sqe = uring_get_sqe(u);
	io_uring_prep_link_timeout(sqe, timeout, 0);
	uring_sqe_set_op(sqe, &a->timer);
}

static int coroutine_fn await(Uring *u, const struct io_uring_sqe *prepared, int64_t timeout_ns)
{
	bool timed = timeout_ns != NO_TIMEOUT;
	struct __kernel_timespec ts = {
		.tv_sec = timeout_ns / INT64_C(1000000000),
		.tv_nsec = timeout_ns % INT64_C(1000000000),
	};
	Await a = {
		.op.done = await_done, .timer.done = await_timer_done,
		.co = co_self(), .pending = timed ? 2 : 1,
	};
	await_queue(u, &a, prepared, timed ? &ts : NULL);
	while (a.pending)
		co_yield();
	/* The limit may strike as the operation completes: what was done counts.
	 * -EINTR: it was cancelled in a worker thread of the kernel. */
	if (a.timed_out && (a.res == -ECANCELED || a.res == -EINTR))
		return -ETIME;
	return a.res;
}

/* An operation that writes into buf what its result counts. */
static ssize_t coroutine_fn await_data(Uring *u, const struct io_uring_sqe *prepared,
				       const void *buf, int64_t timeout_ns)
{
	int n = await(u, prepared, timeout_ns);
	if (n > 0)
		VALGRIND_MAKE_MEM_DEFINED(buf, n);
	return n;
}

static uint32_t io_len(size_t len)
{
	return (uint32_t)MIN(len, IO_MAX);
}

/* The ring takes an offset of -1 for "the file's position". */
static bool bad_offset(uint64_t off)
{
	return off > INT64_MAX;
}

ssize_t coroutine_fn uring_co_pread(Uring *u, int fd, void *buf, size_t len, uint64_t off)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	if (bad_offset(off))
		return -EINVAL;
	io_uring_prep_read(&sqe, fd, buf, io_len(len), off);
	return await_data(u, &sqe, buf, NO_TIMEOUT);
}

ssize_t coroutine_fn uring_co_pwrite(Uring *u, int fd, const void *buf, size_t len, uint64_t off)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	if (bad_offset(off))
		return -EINVAL;
	io_uring_prep_write(&sqe, fd, buf, io_len(len), off);
	return await(u, &sqe, NO_TIMEOUT);
}

ssize_t coroutine_fn uring_co_recv_timeout(Uring *u, int fd, void *buf, size_t len, int64_t timeout_ns)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	io_uring_prep_recv(&sqe, fd, buf, io_len(len), 0);
	return await_data(u, &sqe, buf, MAX(timeout_ns, 0));
}

ssize_t coroutine_fn uring_co_write_blocking(Uring *u, int fd, const void *buf, size_t len)
{
	struct io_uring_sqe sqe;

	io_uring_prep_write(&sqe, fd, buf, io_len(len), 0);
	sqe.flags |= IOSQE_ASYNC;
	return await(u, &sqe, NO_TIMEOUT);
}

ssize_t coroutine_fn uring_co_recv(Uring *u, int fd, void *buf, size_t len, int flags)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	io_uring_prep_recv(&sqe, fd, buf, io_len(len), flags);
	return await_data(u, &sqe, buf, NO_TIMEOUT);
}

ssize_t coroutine_fn uring_co_send(Uring *u, int fd, const void *buf, size_t len, int flags)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	io_uring_prep_send(&sqe, fd, buf, io_len(len), flags);
	return await(u, &sqe, NO_TIMEOUT);
}

int coroutine_fn uring_co_accept(Uring *u, int fd, struct sockaddr *addr, socklen_t *addrlen, int flags)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	io_uring_prep_accept(&sqe, fd, addr, addrlen, flags);
	return await(u, &sqe, NO_TIMEOUT);
}

int coroutine_fn uring_co_connect(Uring *u, int fd, const struct sockaddr *addr, socklen_t addrlen)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	io_uring_prep_connect(&sqe, fd, addr, addrlen);
	return await(u, &sqe, NO_TIMEOUT);
}

int coroutine_fn uring_co_connect_timeout(Uring *u, int fd, const struct sockaddr *addr,
					  socklen_t addrlen, int64_t timeout_ns)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	io_uring_prep_connect(&sqe, fd, addr, addrlen);
	return await(u, &sqe, MAX(timeout_ns, 0));
}

int coroutine_fn uring_co_openat(Uring *u, int dirfd, const char *path, int flags, mode_t mode)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	io_uring_prep_openat(&sqe, dirfd, path, flags, mode);
	return await(u, &sqe, NO_TIMEOUT);
}

int coroutine_fn uring_co_close(Uring *u, int fd)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	io_uring_prep_close(&sqe, fd);
	return await(u, &sqe, NO_TIMEOUT);
}

int coroutine_fn uring_co_unlinkat(Uring *u, int dirfd, const char *path, int flags)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	io_uring_prep_unlinkat(&sqe, dirfd, path, flags);
	return await(u, &sqe, NO_TIMEOUT);
}

int coroutine_fn uring_co_fsync(Uring *u, int fd, bool datasync)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	io_uring_prep_fsync(&sqe, fd, datasync ? IORING_FSYNC_DATASYNC : 0);
	return await(u, &sqe, NO_TIMEOUT);
}

int coroutine_fn uring_co_fallocate(Uring *u, int fd, int mode, uint64_t off, uint64_t len)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	io_uring_prep_fallocate(&sqe, fd, mode, (off_t)off, (off_t)len);
	return await(u, &sqe, NO_TIMEOUT);
}

int coroutine_fn uring_co_poll(Uring *u, int fd, uint32_t events)
{
	struct io_uring_sqe sqe = { .fd = 0 };
	io_uring_prep_poll_add(&sqe, fd, events);
	return await(u, &sqe, NO_TIMEOUT);
}
