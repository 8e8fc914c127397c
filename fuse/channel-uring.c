/*
 * FUSE over io_uring: requests arrive as completions on the reactor's ring, in
 * our buffers, and the reply is the submission that asks for the next one.
 *
 * The kernel keeps a queue for each possible CPU, and a caller's request goes
 * to the queue of the CPU it runs on. Each queue needs entries (a header and
 * a payload buffer each) before any is used. An entry's states:
 *
 *   KERNEL  submitted; the kernel may write the buffers at any time
 *   USER    its completion came: holds a request, until channel done()
 *   DEAD    the kernel gave it back with an error: the connection ended
 *
 *	KERNEL -(completion, 0)-> USER -(done: COMMIT_AND_FETCH)-> KERNEL
 *	KERNEL -(completion, error)-> DEAD
 *
 * An entry is not free while its request waits, for a lock say, so that a
 * queue of fixed length could fill up with waiters and never let in the unlock
 * that they wait for. Therefore queues grow, and they grow early: the kernel
 * offers requests that it had to hold back only to entries that commit, not to
 * newly registered ones.
 *
 * Entries can't be cancelled one by one: they come back when the connection
 * ends or when the ring is closed. A channel that is freed earlier lives on
 * until they have.
 *
 * See the kernel's Documentation/filesystems/fuse/fuse-io-uring.rst.
 */
#define G_LOG_DOMAIN "fuse"
#include "fuse/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuse/ring-entry.h"

#define ENTRIES_IN_ALL 512u /* aimed at, over all queues, to start with */
#define DEPTH_MIN 8u
#define DEPTH_MAX 32u
#define QUEUE_MAX 1024u /* entries a queue may grow to */
#define PAYLOAD_MIN (32u * 4096u) /* what a kernel without FUSE_MAX_PAGES assumes */
#define STOP_PATIENCE_NS INT64_C(1000000000)

typedef struct ChannelUring ChannelUring;

struct RingQueue {
	ChannelUring *ch;
	uint16_t qid;
	uint32_t total, in_kernel;
	int error; /* why an entry was refused */
	RingEnt *ents;
};

struct ChannelUring {
	Channel base;
	ChannelOptions opts;
	Uring *uring;
	RingMemory memory;
	uint32_t queue_count, depth;
	int fd; /* our own descriptor: entries may outlive the lender's */
	uint32_t in_kernel, in_user;
	bool started, stopping, orphan;
	uint64_t requests, grown; /* counters */
	RingQueue *queues;
};

static ChannelUring *of_channel(Channel *ch)
{
	return (ChannelUring *)ch;
}

static RingEnt *of_request(Request *req)
{
	return (RingEnt *)((char *)req - offsetof(RingEnt, req));
}

static void destroy(ChannelUring *ch)
{
	RingEnt *e;

	for (uint32_t i = 0; i < ch->queue_count; i++) {
		while ((e = ch->queues[i].ents)) {
			ch->queues[i].ents = e->next;
			ring_ent_free(e);
		}
	}
	if (ch->fd >= 0)
		close(ch->fd);
	g_free(ch->queues);
	g_free(ch);
}

/* ---- submitting ---- */

static void ent_done(UringOp *op, int res, uint32_t flags);

static void ent_submit(RingEnt *e, uint32_t cmd)
{
	RingQueue *q = e->queue;

	ring_ent_submit(e, q->ch->uring, q->ch->fd, q->qid, cmd);
	q->in_kernel++;
	q->ch->in_kernel++;
}

static void ent_commit(RingEnt *e)
{
	ent_submit(e, FUSE_IO_URING_CMD_COMMIT_AND_FETCH);
}

static void queue_grow(RingQueue *q)
{
	uint32_t count = MIN(q->ch->depth, QUEUE_MAX - q->total);

	while (count-- > 0) {
		RingEnt *e = ring_ent_new(&q->ch->memory, &q->ch->base, ent_done);

		if (!e) {
			g_warning("no memory for a longer queue %u, ignoring", q->qid);
			return;
		}
		e->queue = q;
		e->next = q->ents;
		q->ents = e;
		q->total++;
		ent_submit(e, FUSE_IO_URING_CMD_REGISTER);
	}
}

static void queue_keep_ahead(RingQueue *q)
{
	if (q->in_kernel >= q->ch->depth / 2 || q->total >= QUEUE_MAX || q->ch->stopping)
		return;
	q->ch->grown++;
	queue_grow(q);
}

/* ---- replies ---- */

/* The reply leaves with done(): what is fetched next overwrites the message. */
static int ring_reply(Request *req, const struct iovec *iov, int count)
{
	RingEnt *e = of_request(req);

	g_assert(e->state == ENT_USER && count > 0 && iov[0].iov_len == sizeof(struct fuse_out_header));
	return ring_ent_reply(e, iov, count);
}

static void *ring_reply_buffer(Request *req, size_t size)
{
	RingEnt *e = of_request(req);

	g_assert(size <= e->memory->payload_size);
	ring_ent_note_use(e, size);
	return e->payload;
}

static void ring_done(Request *req)
{
	RingEnt *e = of_request(req);

	g_assert(e->state == ENT_USER);
	e->queue->ch->in_user--;
	ent_commit(e);
	/* Nothing else to do: let the caller run on its way to the next request,
	 * which then is there when we look. To submit and to wait in one system
	 * call would be a sleep and a wake-up more for each request. */
	if (!e->queue->ch->in_user)
		uring_submit(e->queue->ch->uring);
}

/* ---- requests ---- */

static void refuse(RingEnt *e, int error)
{
	ring_ent_reply_error(e, error);
	ent_commit(e);
}

static void receive(ChannelUring *ch, RingEnt *e)
{
	int r = ring_ent_receive(e);

	if (r < 0 || ch->stopping) {
		if (r < 0)
			g_warning("a request of impossible length on queue %u: refused", e->queue->qid);
		refuse(e, r < 0 ? -EIO : -ENOTCONN);
		return;
	}
	/* what the kernel hears if nobody replies */
	ring_ent_reply_error(e, -EIO);
	e->state = ENT_USER;
	ch->in_user++;
	ch->requests++;
	queue_keep_ahead(e->queue);
	if (ch->opts.follow)
		follow_request(ch->opts.follow, (pid_t)e->req.in->pid, e->queue->qid);
	ch->opts.sink.request(ch->opts.sink.arg, &e->req);
}

static void bury(ChannelUring *ch, RingEnt *e, int error)
{
	e->state = ENT_DEAD;
	e->queue->error = error;
	/* these two: the connection, or the ring, has ended */
	if (error != -ENOTCONN && error != -ECONNABORTED && error != -ECANCELED && ch->started)
		g_warning("queue %u lost an entry: %s, ignoring", e->queue->qid, g_strerror(-error));
	if (ch->orphan && !ch->in_kernel)
		destroy(ch);
}

static void ent_done(UringOp *op, int res, uint32_t flags)
{
	RingEnt *e = (RingEnt *)((char *)op - offsetof(RingEnt, op));
	ChannelUring *ch = e->queue->ch;

	ch->in_kernel--;
	e->queue->in_kernel--;
	if (res >= 0)
		receive(ch, e);
	else if ((res == -EAGAIN || res == -EINTR) && ch->started)
		ent_submit(e, e->cmd);
	else
		bury(ch, e, res);
}

/* ---- life ---- */

typedef struct Barrier {
	UringOp op;
	Co *co;
	bool done;
} Barrier;

static void barrier_done(UringOp *op, int res, uint32_t flags)
{
	Barrier *b = (Barrier *)op;

	b->done = true;
	co_wake(b->co);
}

/* Entries are taken in order, and a refusal completes at once: when the no-op
 * behind them has completed, all refusals are known. */
static void coroutine_fn co_barrier(ChannelUring *ch)
{
	Barrier b = { .op.done = barrier_done, .co = co_self() };
	struct io_uring_sqe *sqe = uring_get_sqe(ch->uring);

	io_uring_prep_nop(sqe);
	uring_sqe_set_op(sqe, &b.op);
	while (!b.done)
		co_yield();
}

static int coroutine_fn ring_co_start(Channel *base)
{
	ChannelUring *ch = of_channel(base);

	g_assert(ch->fd < 0);
	ch->fd = fcntl(ch->opts.fd, F_DUPFD_CLOEXEC, 0);
	if (ch->fd < 0)
		return -errno;
	for (uint32_t i = 0; i < ch->queue_count; i++)
		queue_grow(&ch->queues[i]);
	co_barrier(ch);
	for (uint32_t i = 0; i < ch->queue_count; i++)
		if (!ch->queues[i].in_kernel && ch->queues[i].error)
			return ch->queues[i].error;
	ch->started = true;
	return 0;
}

static void coroutine_fn ring_co_stop(Channel *base)
{
	ChannelUring *ch = of_channel(base);
	int64_t give_up = reactor_now_ns(ch->opts.reactor) + STOP_PATIENCE_NS;

	ch->stopping = true;
	while (ch->in_kernel && reactor_now_ns(ch->opts.reactor) < give_up)
		reactor_co_sleep(ch->opts.reactor, 2000000);
	if (ch->in_kernel)
		g_message("the kernel keeps %u entries until the mount point is no longer busy", ch->in_kernel);
}

static void ring_free(Channel *base)
{
	ChannelUring *ch = of_channel(base);

	g_assert(!ch->in_user);
	if (ch->opts.counters) {
		counters_remove(ch->opts.counters, &ch->requests);
		counters_remove(ch->opts.counters, &ch->grown);
	}
	ch->stopping = ch->orphan = true;
	if (!ch->in_kernel)
		destroy(ch);
}

static const ChannelOps ring_ops = {
	.reply = ring_reply,
	.reply_buffer = ring_reply_buffer,
	.done = ring_done,
	.co_start = ring_co_start,
	.co_stop = ring_co_stop,
	.free = ring_free,
};

static char *read_line(const char *path)
{
	g_autofree char *text = NULL;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return NULL;
	return g_strdup(g_strchomp(text));
}

/* The kernel has as many queues as CPUs that may ever be there: "0-3,8". */
static uint32_t count_possible_cpus(void)
{
	g_autofree char *text = read_line("/sys/devices/system/cpu/possible");
	uint32_t count = 0;

	for (char *p = text; p && *p;) {
		unsigned long first = strtoul(p, &p, 10), last = first;

		if (*p == '-')
			last = strtoul(p + 1, &p, 10);
		count += last >= first ? (uint32_t)(last - first) + 1 : 0;
		if (*p++ != ',')
			break;
	}
	return count ? count : (uint32_t)g_get_num_processors();
}

Channel *channel_uring_new(const ChannelOptions *opts)
{
	ChannelUring *ch = g_new(ChannelUring, 1);

	*ch = (ChannelUring) {
		.base.ops = &ring_ops,
		.opts = *opts,
		.uring = reactor_uring(opts->reactor),
		.fd = -1,
		.memory.payload_size = MAX(opts->max_write, PAYLOAD_MIN),
		.queue_count = count_possible_cpus(),
	};
	ch->depth = CLAMP(ENTRIES_IN_ALL / ch->queue_count, DEPTH_MIN, DEPTH_MAX);
	ch->queues = g_new0(RingQueue, ch->queue_count);
	for (uint32_t i = 0; i < ch->queue_count; i++)
		ch->queues[i] = (RingQueue) { .ch = ch, .qid = (uint16_t)i };
	if (opts->counters) {
		counters_add(opts->counters, "fuse.uring.requests", &ch->requests);
		counters_add(opts->counters, "fuse.uring.grown", &ch->grown);
	}
	return &ch->base;
}

bool channel_uring_available(Reactor *r, const char **ret_reason)
{
	g_autofree char *enabled = read_line("/sys/module/fuse/parameters/enable_uring");

	if (!enabled)
		*ret_reason = "this kernel has no FUSE over io_uring";
	else if (enabled[0] != 'Y' && enabled[0] != '1')
		*ret_reason = "the fuse module's parameter enable_uring is off";
	else if (!uring_is_sqe128(reactor_uring(r)))
		*ret_reason = "this kernel's io_uring has no 128-byte submissions";
	else
		return true;
	return false;
}
