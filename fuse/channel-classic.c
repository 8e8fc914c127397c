/*
 * The classic channel: requests are read from /dev/fuse and replies written to
 * it.
 *
 * Reading is a chain of two entries on the ring, a poll and a read that is
 * linked behind it: while nothing is there the kernel holds the poll, and when
 * something comes it reads it within the same system call in which the
 * reactor sleeps. The descriptor is nonblocking: a request that was taken back
 * between poll and read (its caller was killed) must not put the reactor to
 * sleep inside the device.
 *
 * A message is read into a buffer that takes the largest one. Small ones are
 * copied out of it; a large one (a write) takes the buffer with it, and the
 * next read gets another. The buffer is read into at an offset that puts the
 * data of a WRITE on a page boundary.
 *
 * While too many buffers are out, or requests queue for a coroutine, nothing
 * is read: the kernel keeps its callers waiting. It goes on when one of this
 * channel's requests is done, or after a while: the coroutines may all be the
 * other channel's, and what stops them (INTERRUPT) comes through this one.
 */
#define G_LOG_DOMAIN "fuse"
#include "fuse/channel.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "fuse/buffers.h"

#define PAGE 4096u
#define WRITE_HEADER (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
#define MESSAGE_OFFSET (PAGE - WRITE_HEADER)
/* Zeros behind a message: libfuse before 3.16 looks for the name in a SETXATTR
 * of an old kernel 8 bytes too far. */
#define TAIL 16u
/* Up to here copying costs less than a cold buffer. */
#define COPY_MAX (16u << 10)
#define IDLE_BYTES (16u << 20)
#define PAUSE_NS INT64_C(10000000)
/* Of this, each of the kernel's requests may use one reply buffer more. */
#define LIVE_BYTES_MAX (64u << 20)

typedef struct ClassicRequest {
	Request r;
	void *message, *reply;
	size_t message_size, reply_size;
	uint64_t small[]; /* the message, unless it has a buffer */
} ClassicRequest;

typedef struct Classic {
	Channel base;
	ChannelOptions opts;
	Uring *uring;
	const CoStats *co_stats;
	Buffers *buffers;
	void *buf;         /* what the next message is read into */
	size_t buf_size;
	UringOp poll_op, read_op;
	ReactorTimer resume; /* armed while paused */
	uint32_t pending;  /* entries of the chain the kernel still has */
	bool reading, paused, stopped, ended;
	Co *stopper;
	uint64_t live_bytes, pauses, reply_errors;
} Classic;

static Classic *classic_of_poll(UringOp *op)
{
	return (Classic *)((char *)op - offsetof(Classic, poll_op));
}

static Classic *classic_of_read(UringOp *op)
{
	return (Classic *)((char *)op - offsetof(Classic, read_op));
}

static uint8_t *message_start(void *buf)
{
	return (uint8_t *)buf + MESSAGE_OFFSET;
}

/* ---- reading ---- */

static void submit_read(Classic *c)
{
	uring_reserve(c->uring, 2);
	struct io_uring_sqe *sqe = uring_get_sqe(c->uring);
	io_uring_prep_poll_add(sqe, c->opts.fd, POLLIN);
	sqe->flags |= IOSQE_IO_LINK;
	uring_sqe_set_op(sqe, &c->poll_op);

	sqe = uring_get_sqe(c->uring);
	io_uring_prep_read(sqe, c->opts.fd, message_start(c->buf),
			   (uint32_t)(c->buf_size - MESSAGE_OFFSET - TAIL), 0);
	uring_sqe_set_op(sqe, &c->read_op);
	c->pending = 2;
	c->reading = true;
}

static bool overloaded(Classic *c)
{
	return c->co_stats->queued[CO_FUSE] ||
	       buffers_live(c->buffers) > MAX(LIVE_BYTES_MAX, 4 * c->buf_size);
}

static void read_more(Classic *c)
{
	if (c->stopped || c->ended || c->reading)
		return;
	c->paused = overloaded(c);
	if (!c->paused) {
		submit_read(c);
		return;
	}
	c->pauses++;
	reactor_timer_arm(c->opts.reactor, &c->resume, reactor_now_ns(c->opts.reactor) + PAUSE_NS);
}

static void on_resume(ReactorTimer *t)
{
	read_more((Classic *)((char *)t - offsetof(Classic, resume)));
}

static ClassicRequest *request_new(Classic *c, size_t len)
{
	uint8_t *message = message_start(c->buf);
	bool copy = len <= COPY_MAX;
	ClassicRequest *cr = g_malloc(sizeof(*cr) + (copy ? len + TAIL : 0));

	*cr = (ClassicRequest) { .r = { .channel = &c->base, .len = len } };
	if (copy) {
		memcpy(cr->small, message, len);
		memset((uint8_t *)cr->small + len, 0, TAIL);
		cr->r.in = (void *)cr->small;
		return cr;
	}
	memset(message + len, 0, TAIL);
	cr->message = c->buf;
	cr->message_size = c->buf_size;
	cr->r.in = (void *)message;
	c->buf = buffers_get(c->buffers, c->buf_size);
	return cr;
}

static bool waits_for_answer(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET &&
	       opcode != FUSE_INTERRUPT && opcode != FUSE_RELEASE;
}

static void take_message(Classic *c, size_t len)
{
	if (len < sizeof(struct fuse_in_header)) {
		g_warning("short message of %zu bytes from the kernel, ignoring", len);
		return;
	}
	ClassicRequest *cr = request_new(c, len);
	c->live_bytes = buffers_live(c->buffers);
	if (c->opts.follow && waits_for_answer(cr->r.in->opcode))
		follow_request(c->opts.follow, (pid_t)cr->r.in->pid, -1);
	c->opts.sink.request(c->opts.sink.arg, &cr->r);
}

static bool is_transient(int error)
{
	/* EAGAIN: taken back by its caller. ENOENT: the same, later. ECANCELED: the
	 * poll failed or was interrupted. */
	return error == -EAGAIN || error == -ENOENT || error == -EINTR || error == -ECANCELED;
}

static void end(Classic *c, int error)
{
	c->ended = true;
	if (error != -ENODEV && error != -ECONNABORTED)
		g_warning("reading from /dev/fuse: %s", g_strerror(-error));
	c->opts.sink.ended(c->opts.sink.arg, error);
}

static void chain_entry_done(Classic *c)
{
	if (--c->pending)
		return;
	c->reading = false;
	if (c->stopper)
		co_wake(g_steal_pointer(&c->stopper));
	else
		read_more(c);
}

static void on_poll(UringOp *op, int res, uint32_t flags)
{
	chain_entry_done(classic_of_poll(op));
}

static void on_read(UringOp *op, int res, uint32_t flags)
{
	Classic *c = classic_of_read(op);

	if (res >= 0)
		take_message(c, (size_t)res);
	else if (!is_transient(res) && !c->stopped)
		end(c, res);
	chain_entry_done(c);
}

/* ---- replies ---- */

static int write_message(Classic *c, const struct iovec *iov, int count)
{
	ssize_t n;

	do
		n = writev(c->opts.fd, iov, count);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int channel_classic_write(Channel *ch, const struct iovec *iov, int count)
{
	return write_message((Classic *)ch, iov, count);
}

static int classic_reply(Request *req, const struct iovec *iov, int count)
{
	Classic *c = (Classic *)req->channel;
	int r = write_message(c, iov, count);

	/* ENOENT: the caller was interrupted and no longer waits. */
	if (r < 0 && r != -ENOENT && r != -ENODEV) {
		c->reply_errors++;
		g_warning("replying to request %" G_GUINT64_FORMAT " (operation %u): %s",
			  (guint64)req->in->unique, req->in->opcode, g_strerror(-r));
	}
	return r;
}

static void *classic_reply_buffer(Request *req, size_t size)
{
	ClassicRequest *cr = (ClassicRequest *)req;
	Classic *c = (Classic *)req->channel;

	g_assert(!cr->reply);
	cr->reply = buffers_get(c->buffers, size);
	cr->reply_size = size;
	c->live_bytes = buffers_live(c->buffers);
	return cr->reply;
}

static void classic_done(Request *req)
{
	ClassicRequest *cr = (ClassicRequest *)req;
	Classic *c = (Classic *)req->channel;

	buffers_put(c->buffers, cr->reply, cr->reply_size);
	buffers_put(c->buffers, cr->message, cr->message_size);
	c->live_bytes = buffers_live(c->buffers);
	g_free(cr);
	if (c->paused)
		read_more(c);
}

/* ---- life ---- */

static int coroutine_fn classic_co_start(Channel *ch)
{
	read_more((Classic *)ch);
	return 0;
}

static void coroutine_fn classic_co_stop(Channel *ch)
{
	Classic *c = (Classic *)ch;

	c->stopped = true;
	reactor_timer_cancel(c->opts.reactor, &c->resume);
	if (!c->reading || c->stopper)
		return;
	/* Cancelling the poll cancels the read behind it. */
	uring_cancel(c->uring, &c->poll_op);
	c->stopper = co_self();
	while (c->reading)
		co_yield();
}

static void classic_free(Channel *ch)
{
	Classic *c = (Classic *)ch;

	g_assert(!c->reading);
	reactor_timer_cancel(c->opts.reactor, &c->resume);
	counters_remove(c->opts.counters, &c->live_bytes);
	counters_remove(c->opts.counters, &c->pauses);
	counters_remove(c->opts.counters, &c->reply_errors);
	buffers_put(c->buffers, c->buf, c->buf_size);
	buffers_free(c->buffers);
	g_free(c);
}

static const ChannelOps classic_ops = {
	.reply = classic_reply,
	.reply_buffer = classic_reply_buffer,
	.done = classic_done,
	.co_start = classic_co_start,
	.co_stop = classic_co_stop,
	.free = classic_free,
};

Channel *channel_classic_new(const ChannelOptions *opts)
{
	Classic *c = g_new0(Classic, 1);

	c->base.ops = &classic_ops;
	c->opts = *opts;
	c->uring = reactor_uring(opts->reactor);
	c->co_stats = co_sched_stats(reactor_sched(opts->reactor));
	c->poll_op.done = on_poll;
	c->read_op.done = on_read;
	c->resume.fire = on_resume;
	c->buffers = buffers_new(IDLE_BYTES);
	/* The device wants room for the largest WRITE; a SETXATTR of a small
	 * max_write fits into the page behind. */
	c->buf_size = MAX(opts->max_write, 128u << 10) + 2 * PAGE;
	c->buf = buffers_get(c->buffers, c->buf_size);
	counters_add(opts->counters, "fuse.buffer_bytes", &c->live_bytes);
	counters_add(opts->counters, "fuse.read_pauses", &c->pauses);
	counters_add(opts->counters, "fuse.reply_errors", &c->reply_errors);
	return &c->base;
}
