#pragma once
/*
 * The reactor's io_uring: file operations a coroutine can wait for, and raw
 * submissions with a completion callback for those who keep requests open
 * (polls, the FUSE channel).
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <liburing.h>

#include "common/co.h"

typedef struct Uring Uring;
typedef struct UringOp UringOp;

/* res is the CQE's result, flags its flags (IORING_CQE_F_MORE: op stays in
 * use). Runs on the reactor's stack; does two things: store, make ready. */
typedef void UringDone(UringOp *op, int res, uint32_t flags);
struct UringOp {
	UringDone *done;
};

/* entries: submission queue size. Tries SQE128 | SINGLE_ISSUER |
 * DEFER_TASKRUN and falls back flag by flag; -errno when there is no ring. */
int uring_new(uint32_t entries, Uring **ret_uring);
/* Cancels what is still under way and waits for it: callbacks run, and must
 * not start anything again. From the thread that made it, like all of this. */
void uring_free(Uring *u);
/* True when entries are 128 bytes long, as FUSE over io_uring needs. */
bool uring_is_sqe128(const Uring *u);
/* An entry to fill, never NULL: submits what is queued when full. The caller
 * then preps it and calls uring_sqe_set_op(). */
struct io_uring_sqe *uring_get_sqe(Uring *u);
/* After the prep. op NULL: nobody wants the result. Every entry must complete:
 * no IOSQE_CQE_SKIP_SUCCESS. */
void uring_sqe_set_op(struct io_uring_sqe *sqe, UringOp *op);
/* The next n entries go to the kernel in one call, as a chain of linked ones
 * must. n: well below the ring's size. */
void uring_reserve(Uring *u, unsigned n);
/* Asks the kernel to cancel op; its own completion still comes (-ECANCELED or
 * its result), and only then may op's memory go. */
void uring_cancel(Uring *u, UringOp *op);
/* Submits what is queued and does not look for completions. For those who know
 * that somebody waits for just this, and that on its way out of the system call
 * the scheduler may let that somebody run, with the next request as the result. */
void uring_submit(Uring *u);
/* Submits; then, when wait_ns != 0, sleeps until a completion comes or wait_ns
 * passed (-1: no limit). Called by the reactor only. */
int uring_submit_and_wait(Uring *u, int64_t wait_ns);
/* Runs the callbacks of what has completed; returns how many. */
uint32_t uring_reap(Uring *u);
/* Requests submitted or queued whose completion is outstanding. */
uint32_t uring_inflight(const Uring *u);
bool uring_has_unsubmitted(const Uring *u);
/* Would uring_reap() find any? Needs no system call. */
bool uring_has_completions(const Uring *u);

/* Awaitable operations: the result of the system call of the same name, or
 * -errno. As there, a read or write may do less than asked for, and never does
 * more than 2 GiB less a page. Buffers stay the caller's and must live until the return, which is
 * always after the kernel is done with them. */
ssize_t coroutine_fn uring_co_pread(Uring *u, int fd, void *buf, size_t len, uint64_t off);
ssize_t coroutine_fn uring_co_pwrite(Uring *u, int fd, const void *buf, size_t len, uint64_t off);
/* For what blocks although the descriptor says otherwise: on a thread of the kernel. */
ssize_t coroutine_fn uring_co_write_blocking(Uring *u, int fd, const void *buf, size_t len);
ssize_t coroutine_fn uring_co_recv(Uring *u, int fd, void *buf, size_t len, int flags);
ssize_t coroutine_fn uring_co_send(Uring *u, int fd, const void *buf, size_t len, int flags);
int coroutine_fn uring_co_accept(Uring *u, int fd, struct sockaddr *addr, socklen_t *addrlen, int flags);
int coroutine_fn uring_co_connect(Uring *u, int fd, const struct sockaddr *addr, socklen_t addrlen);
int coroutine_fn uring_co_openat(Uring *u, int dirfd, const char *path, int flags, mode_t mode);
int coroutine_fn uring_co_close(Uring *u, int fd);
int coroutine_fn uring_co_unlinkat(Uring *u, int dirfd, const char *path, int flags);
int coroutine_fn uring_co_fsync(Uring *u, int fd, bool datasync);
int coroutine_fn uring_co_fallocate(Uring *u, int fd, int mode, uint64_t off, uint64_t len);
int coroutine_fn uring_co_poll(Uring *u, int fd, uint32_t events);
/* The same with a time limit: -ETIME when timeout_ns passed; the kernel has
 * then cancelled the operation. For sockets during a handshake. */
ssize_t coroutine_fn uring_co_recv_timeout(Uring *u, int fd, void *buf, size_t len, int64_t timeout_ns);
int coroutine_fn uring_co_connect_timeout(Uring *u, int fd, const struct sockaddr *addr, socklen_t addrlen, int64_t timeout_ns);
