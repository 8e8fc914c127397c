/* The ring: file operations, many at once, time limits, cancellation. */
#include <arpa/inet.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/reactor.h"

#define MS INT64_C(1000000)

typedef struct Fixture {
	Reactor *reactor;
	Uring *uring;
	char *dir;
	int dirfd;
} Fixture;

static int64_t clock_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * (1000 * MS) + ts.tv_nsec;
}

static void setup(Fixture *f, gconstpointer data)
{
	ReactorOptions opts = { .ring_entries = 8 }; /* small: tests fill it */
	GError *error = NULL;
	f->reactor = reactor_new(&opts, &error);
	g_assert_no_error(error);
	f->uring = reactor_uring(f->reactor);
	f->dir = g_dir_make_tmp("test-uring-XXXXXX", &error);
	g_assert_no_error(error);
	f->dirfd = open(f->dir, O_DIRECTORY | O_CLOEXEC);
	g_assert_cmpint(f->dirfd, >=, 0);
}

static void teardown(Fixture *f, gconstpointer data)
{
	reactor_free(f->reactor);
	close(f->dirfd);
	g_assert_cmpint(g_rmdir(f->dir), ==, 0); /* each test leaves it empty */
	g_free(f->dir);
}

static int coroutine_fn make_file(Fixture *f, const char *name)
{
	int fd = uring_co_openat(f->uring, f->dirfd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	g_assert_cmpint(fd, >=, 0);
	return fd;
}

static void coroutine_fn drop_file(Fixture *f, int fd, const char *name)
{
	g_assert_cmpint(uring_co_close(f->uring, fd), ==, 0);
	g_assert_cmpint(uring_co_unlinkat(f->uring, f->dirfd, name, 0), ==, 0);
}

/* ---- files ---- */

static void coroutine_fn file_main(void *arg)
{
	Fixture *f = arg;
	char buf[16] = "";
	int fd = make_file(f, "a");
	g_assert_cmpint(uring_co_pwrite(f->uring, fd, "hello", 5, 100000), ==, 5);
	g_assert_cmpint(uring_co_pread(f->uring, fd, buf, 5, 100000), ==, 5);
	g_assert_cmpmem(buf, 5, "hello", 5);
	/* a hole, the end of the file, behind the end */
	memset(buf, 'x', sizeof(buf));
	g_assert_cmpint(uring_co_pread(f->uring, fd, buf, 4, 50000), ==, 4);
	g_assert_cmpmem(buf, 5, "\0\0\0\0x", 5);
	g_assert_cmpint(uring_co_pread(f->uring, fd, buf, 16, 100003), ==, 2);
	g_assert_cmpint(uring_co_pread(f->uring, fd, buf, 16, 200000), ==, 0);
	g_assert_cmpint(uring_co_fallocate(f->uring, fd, 0, 0, 300000), ==, 0);
	g_assert_cmpint(lseek(fd, 0, SEEK_END), ==, 300000);
	g_assert_cmpint(uring_co_fsync(f->uring, fd, true), ==, 0);
	g_assert_cmpint(uring_co_fsync(f->uring, fd, false), ==, 0);
	drop_file(f, fd, "a");
}

static void test_file(Fixture *f, gconstpointer data)
{
	reactor_run_co(f->reactor, file_main, f);
}

static void coroutine_fn errors_main(void *arg)
{
	Fixture *f = arg;
	Uring *u = f->uring;
	char c = 0;
	g_assert_cmpint(uring_co_openat(u, f->dirfd, "none", O_RDONLY, 0), ==, -ENOENT);
	g_assert_cmpint(uring_co_unlinkat(u, f->dirfd, "none", 0), ==, -ENOENT);
	g_assert_cmpint(uring_co_pread(u, -1, &c, 1, 0), ==, -EBADF);
	g_assert_cmpint(uring_co_close(u, 100000), ==, -EBADF);
	g_assert_cmpint(uring_co_pread(u, f->dirfd, &c, 1, 0), ==, -EISDIR);
	int fd = make_file(f, "a");
	g_assert_cmpint(uring_co_pread(u, fd, &c, 1, UINT64_MAX), ==, -EINVAL);
	g_assert_cmpint(uring_co_pwrite(u, fd, &c, 1, UINT64_MAX), ==, -EINVAL);
	g_assert_cmpint(uring_co_pwrite(u, fd, &c, 1, INT64_MAX - 1), ==, -EFBIG);
	g_assert_cmpint(uring_co_pwrite(u, fd, (void *)8, 1, 0), ==, -EFAULT);
	drop_file(f, fd, "a");
}

static void test_errors(Fixture *f, gconstpointer data)
{
	reactor_run_co(f->reactor, errors_main, f);
}

/* The length of an entry has 32 bits, of which Linux moves 31 at most. */
static void coroutine_fn huge_main(void *arg)
{
	Fixture *f = arg;
	size_t len = UINT64_C(5) << 30;
	char *zeros = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	g_assert_true(zeros != MAP_FAILED);
	int fd = uring_co_openat(f->uring, f->dirfd, "/dev/null", O_WRONLY | O_CLOEXEC, 0);
	ssize_t n = uring_co_pwrite(f->uring, fd, zeros, len, 0);
	g_assert_cmpint(n, >=, 0x7ffff000);
	g_assert_cmpint(n, <=, (gint64)len);
	g_assert_cmpint(uring_co_close(f->uring, fd), ==, 0);
	munmap(zeros, len);
}

static void test_huge_write(Fixture *f, gconstpointer data)
{
	reactor_run_co(f->reactor, huge_main, f);
}

/* ---- many ---- */

enum { MANY = 3000, BLOCK = 512 };

typedef struct Block {
	Fixture *f;
	int fd, number;
} Block;

static void coroutine_fn block_main(void *arg)
{
	Block *b = arg;
	char out[BLOCK], in[BLOCK];
	memset(out, b->number * 7 + 1, BLOCK);
	g_assert_cmpint(uring_co_pwrite(b->f->uring, b->fd, out, BLOCK, (uint64_t)b->number * BLOCK), ==, BLOCK);
	g_assert_cmpint(uring_co_pread(b->f->uring, b->fd, in, BLOCK, (uint64_t)b->number * BLOCK), ==, BLOCK);
	g_assert_cmpmem(out, BLOCK, in, BLOCK);
}

static void coroutine_fn many_main(void *arg)
{
	Fixture *f = arg;
	CoGroup g = { .sched = reactor_sched(f->reactor) };
	Block *blocks = g_new(Block, MANY);
	int fd = make_file(f, "many");
	for (int i = 0; i < MANY; i++) {
		blocks[i] = (Block) { f, fd, i };
		co_group_spawn(&g, block_main, &blocks[i]);
	}
	co_group_wait(&g);
	g_assert_cmpint(lseek(fd, 0, SEEK_END), ==, MANY * BLOCK);
	drop_file(f, fd, "many");
	g_free(blocks);
}

static void test_many_in_flight(Fixture *f, gconstpointer data)
{
	reactor_run_co(f->reactor, many_main, f);
}

typedef struct Waiter {
	UringOp op;
	int calls, res;
} Waiter;

static void waiter_done(UringOp *op, int res, uint32_t flags)
{
	Waiter *w = (Waiter *)op;
	w->calls++;
	w->res = res;
}

static void wait_readable(Uring *u, Waiter *w, int fd)
{
	*w = (Waiter) { .op.done = waiter_done };
	struct io_uring_sqe *sqe = uring_get_sqe(u);
	io_uring_prep_poll_add(sqe, fd, POLLIN);
	uring_sqe_set_op(sqe, &w->op);
}

/* A ring whose completion queue has 32 places gets 2000 completions at once. */
static void test_completion_overflow(Fixture *f, gconstpointer data)
{
	enum { N = 2000 };
	Waiter *w = g_new(Waiter, N);
	uint32_t before = uring_inflight(f->uring);
	int fd = eventfd(0, EFD_CLOEXEC);
	for (int i = 0; i < N; i++)
		wait_readable(f->uring, &w[i], fd);
	g_assert_cmpuint(uring_inflight(f->uring), ==, before + N);
	reactor_iterate(f->reactor, false);
	for (int i = 0; i < N; i++)
		g_assert_cmpint(w[i].calls, ==, 0);
	g_assert_cmpint(eventfd_write(fd, 1), ==, 0);
	for (int i = 0; i < 1000 && w[N - 1].calls == 0; i++)
		reactor_iterate(f->reactor, false);
	for (int i = 0; i < 100; i++)
		reactor_iterate(f->reactor, false);
	for (int i = 0; i < N; i++) {
		g_assert_cmpint(w[i].calls, ==, 1);
		g_assert_cmpint(w[i].res, ==, POLLIN);
	}
	close(fd);
	g_free(w);
}

/* ---- sockets and time limits ---- */

typedef struct Server {
	Fixture *f;
	int listen_fd;
} Server;

static void coroutine_fn echo_main(void *arg)
{
	Server *s = arg;
	char buf[64];
	struct sockaddr_in peer = { .sin_family = 0 };
	socklen_t len = sizeof(peer);
	int fd = uring_co_accept(s->f->uring, s->listen_fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpuint(peer.sin_addr.s_addr, ==, htonl(INADDR_LOOPBACK));
	ssize_t n = uring_co_recv(s->f->uring, fd, buf, sizeof(buf), 0);
	g_assert_cmpint(n, >, 0);
	g_assert_cmpint(uring_co_send(s->f->uring, fd, buf, (size_t)n, MSG_NOSIGNAL), ==, n);
	/* Then silence, until the other side hangs up. */
	g_assert_cmpint(uring_co_recv(s->f->uring, fd, buf, sizeof(buf), 0), ==, 0);
	uring_co_close(s->f->uring, fd);
}

static int listen_loopback(struct sockaddr_in *ret_addr)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, len), ==, 0);
	g_assert_cmpint(listen(fd, 8), ==, 0);
	g_assert_cmpint(getsockname(fd, (struct sockaddr *)ret_addr, &len), ==, 0);
	return fd;
}

static void coroutine_fn socket_main(void *arg)
{
	Fixture *f = arg;
	struct sockaddr_in addr;
	Server server = { f, listen_loopback(&addr) };
	CoGroup g = { .sched = reactor_sched(f->reactor) };
	char buf[64];
	co_group_spawn(&g, echo_main, &server);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	g_assert_cmpint(uring_co_connect_timeout(f->uring, fd, (struct sockaddr *)&addr, sizeof(addr), 5000 * MS), ==, 0);
	g_assert_cmpint(uring_co_send(f->uring, fd, "ping", 4, MSG_NOSIGNAL), ==, 4);
	g_assert_cmpint(uring_co_recv_timeout(f->uring, fd, buf, sizeof(buf), 5000 * MS), ==, 4);
	g_assert_cmpmem(buf, 4, "ping", 4);
	int64_t start = clock_ns();
	g_assert_cmpint(uring_co_recv_timeout(f->uring, fd, buf, sizeof(buf), 30 * MS), ==, -ETIME);
	g_assert_cmpint(clock_ns() - start, >=, 30 * MS);
	g_assert_cmpint(uring_co_recv_timeout(f->uring, fd, buf, sizeof(buf), 0), ==, -ETIME);
	g_assert_cmpint(uring_co_close(f->uring, fd), ==, 0);
	co_group_wait(&g);
	/* Nobody listens there any more. */
	close(server.listen_fd);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(uring_co_connect(f->uring, fd, (struct sockaddr *)&addr, sizeof(addr)), ==, -ECONNREFUSED);
	uring_co_close(f->uring, fd);
}

static void test_sockets(Fixture *f, gconstpointer data)
{
	reactor_run_co(f->reactor, socket_main, f);
}

/* Time limits when the ring is as good as full: a chain must not be torn. */
static void coroutine_fn timed_main(void *arg)
{
	Block *b = arg;
	char c;
	g_assert_cmpint(uring_co_recv_timeout(b->f->uring, b->fd, &c, 1, 20 * MS), ==, -ETIME);
}

static void coroutine_fn timed_all_main(void *arg)
{
	Fixture *f = arg;
	CoGroup g = { .sched = reactor_sched(f->reactor) };
	int fds[2];
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	Block b = { f, fds[0], 0 };
	for (int i = 0; i < 101; i++)
		co_group_spawn(&g, timed_main, &b);
	co_group_wait(&g);
	close(fds[0]);
	close(fds[1]);
}

static void test_many_time_limits(Fixture *f, gconstpointer data)
{
	int64_t start = clock_ns();
	reactor_run_co(f->reactor, timed_all_main, f);
	g_assert_cmpint(clock_ns() - start, <, 5000 * MS);
}

static void coroutine_fn poll_main(void *arg)
{
	Fixture *f = arg;
	int fd = eventfd(0, EFD_CLOEXEC);
	g_assert_cmpint(uring_co_poll(f->uring, fd, POLLIN | POLLOUT), ==, POLLOUT);
	eventfd_write(fd, 1);
	g_assert_cmpint(uring_co_poll(f->uring, fd, POLLIN), ==, POLLIN);
	close(fd);
}

static void test_poll(Fixture *f, gconstpointer data)
{
	reactor_run_co(f->reactor, poll_main, f);
}

/* ---- cancellation ---- */

static void test_cancel(Fixture *f, gconstpointer data)
{
	Waiter w, other;
	int fd = eventfd(0, EFD_CLOEXEC);
	wait_readable(f->uring, &w, fd);
	wait_readable(f->uring, &other, fd);
	reactor_iterate(f->reactor, false);
	uring_cancel(f->uring, &w.op);
	for (int i = 0; i < 100 && !w.calls; i++)
		reactor_iterate(f->reactor, false);
	g_assert_cmpint(w.calls, ==, 1);
	g_assert_cmpint(w.res, ==, -ECANCELED);
	g_assert_cmpint(other.calls, ==, 0);
	/* One that has not reached the kernel yet; one that is over. */
	wait_readable(f->uring, &w, fd);
	uring_cancel(f->uring, &w.op);
	for (int i = 0; i < 100 && !w.calls; i++)
		reactor_iterate(f->reactor, false);
	g_assert_cmpint(w.res, ==, -ECANCELED);
	uring_cancel(f->uring, &w.op);
	reactor_iterate(f->reactor, false);
	g_assert_cmpint(w.calls, ==, 1);
	eventfd_write(fd, 1);
	for (int i = 0; i < 100 && !other.calls; i++)
		reactor_iterate(f->reactor, false);
	g_assert_cmpint(other.res, ==, POLLIN);
	close(fd);
}

static void test_free_cancels(void)
{
	Uring *u;
	Waiter w[50];
	int fd = eventfd(0, EFD_CLOEXEC);
	g_assert_cmpint(uring_new(16, &u), ==, 0);
	for (int i = 0; i < 50; i++)
		wait_readable(u, &w[i], fd); /* some submitted, some not */
	int64_t start = clock_ns();
	uring_free(u);
	g_assert_cmpint(clock_ns() - start, <, 2000 * MS);
	for (int i = 0; i < 50; i++) {
		g_assert_cmpint(w[i].calls, ==, 1);
		g_assert_cmpint(w[i].res, ==, -ECANCELED);
	}
	close(fd);
}

static void test_wait_is_limited(void)
{
	Uring *u;
	g_assert_cmpint(uring_new(16, &u), ==, 0);
	int64_t start = clock_ns();
	g_assert_cmpint(uring_submit_and_wait(u, 20 * MS), >=, 0);
	g_assert_cmpint(clock_ns() - start, >=, 20 * MS);
	g_assert_cmpint(clock_ns() - start, <, 2000 * MS);
	g_assert_cmpuint(uring_reap(u), ==, 0);
	uring_free(u);
}

/* What FUSE over io_uring needs; every kernel since 5.19 has it. */
static void test_sqe128(void)
{
	Uring *u;
	g_assert_cmpint(uring_new(16, &u), ==, 0);
	if (!uring_is_sqe128(u)) {
		g_test_skip("this kernel has no 128-byte entries");
	} else {
		uint8_t *sqe = (uint8_t *)uring_get_sqe(u);
		for (int i = 0; i < 128; i++)
			g_assert_cmpint(sqe[i], ==, 0);
		memset(sqe + 64, 0xff, 64); /* must not leak into the next one */
		io_uring_prep_nop((struct io_uring_sqe *)sqe);
		for (int i = 0; i < 40; i++) {
			sqe = (uint8_t *)uring_get_sqe(u);
			io_uring_prep_nop((struct io_uring_sqe *)sqe);
			g_assert_cmpint(sqe[127], ==, 0);
			memset(sqe + 64, 0xff, 64);
		}
	}
	uring_free(u);
}

#define ADD(name, fn) g_test_add("/uring/" name, Fixture, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("file", test_file);
	ADD("errors", test_errors);
	ADD("huge-write", test_huge_write);
	ADD("many-in-flight", test_many_in_flight);
	ADD("completion-overflow", test_completion_overflow);
	ADD("sockets", test_sockets);
	ADD("many-time-limits", test_many_time_limits);
	ADD("poll", test_poll);
	ADD("cancel", test_cancel);
	g_test_add_func("/uring/free-cancels", test_free_cancels);
	g_test_add_func("/uring/wait-is-limited", test_wait_is_limited);
	g_test_add_func("/uring/sqe128", test_sqe128);
	return g_test_run();
}
