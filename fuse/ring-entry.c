#include "fuse/ring-entry.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define SLACK 4096u /* in front of the payload */
/* Zeros behind a message: libfuse before 3.16 may look 8 bytes too far. */
#define TAIL 16u
#define KEEP_PAYLOAD (64u << 10) /* of an entry's payload stays in memory in any case, */
#define KEEP_IN_ALL (64u << 20)  /* and of all entries' payloads about this much */

/* ---- memory ---- */

RingEnt *ring_ent_new(RingMemory *memory, Channel *channel, UringDone *done)
{
	char *mem = mmap(NULL, SLACK + memory->payload_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	RingEnt *e;

	if (mem == MAP_FAILED)
		return NULL;
	e = g_new(RingEnt, 1);
	*e = (RingEnt) {
		.op.done = done,
		.req.channel = channel,
		.memory = memory,
		.state = ENT_DEAD,
		.header = (struct fuse_uring_req_header *)mem,
		.payload = mem + SLACK,
		.iov = { { mem, sizeof(*e->header) }, { mem + SLACK, memory->payload_size } },
	};
	return e;
}

void ring_ent_free(RingEnt *e)
{
	munmap(e->header, SLACK + e->memory->payload_size);
	g_free(e);
}

void ring_ent_note_use(RingEnt *e, size_t size)
{
	if (e->bulky || size <= KEEP_PAYLOAD)
		return;
	e->bulky = true;
	e->memory->bulky++;
}

/* A burst of big requests leaves big buffers behind. They go when their entry
 * is next used for something small, whose bytes are all in front of the cut. */
static void trim_payload(RingEnt *e, size_t used)
{
	RingMemory *m = e->memory;

	if (!e->bulky || used + TAIL > KEEP_PAYLOAD || m->bulky * m->payload_size <= KEEP_IN_ALL)
		return;
	madvise(e->payload + KEEP_PAYLOAD, m->payload_size - KEEP_PAYLOAD, MADV_DONTNEED);
	e->bulky = false;
	m->bulky--;
}

/* ---- to the kernel ---- */

void ring_ent_submit(RingEnt *e, Uring *u, int fd, uint16_t qid, uint32_t cmd)
{
	struct io_uring_sqe *sqe = uring_get_sqe(u);
	bool is_register = cmd == FUSE_IO_URING_CMD_REGISTER;

	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, is_register ? e->iov : NULL, is_register ? 2 : 0, 0);
	sqe->cmd_op = cmd;
	sqe->__pad1 = 0;
	/* the command area reaches into the second half of the 128 bytes */
	*(struct fuse_uring_cmd_req *)sqe->cmd = (struct fuse_uring_cmd_req) {
		.commit_id = is_register ? 0 : e->commit_id,
		.qid = qid,
	};
	uring_sqe_set_op(sqe, &e->op);
	e->cmd = cmd;
	e->state = ENT_KERNEL;
}

static void set_reply(RingEnt *e, const struct fuse_out_header *out, size_t payload_len)
{
	memcpy(e->header->in_out, out, sizeof(*out));
	e->header->ring_ent_in_out.payload_sz = (uint32_t)payload_len;
}

/* The unique number is the commit id, too: what is left of a request whose
 * header is overwritten already. */
void ring_ent_reply_error(RingEnt *e, int error)
{
	const struct fuse_out_header out = { .len = sizeof(out), .error = error, .unique = e->commit_id };

	set_reply(e, &out, 0);
}

static ssize_t gather(RingEnt *e, const struct iovec *iov, int count)
{
	size_t len = 0;

	for (int i = 0; i < count; i++) {
		if (iov[i].iov_len > e->memory->payload_size - len)
			return -EINVAL;
		if (iov[i].iov_len && iov[i].iov_base != e->payload + len)
			memmove(e->payload + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	return (ssize_t)len;
}

int ring_ent_reply(RingEnt *e, const struct iovec *iov, int count)
{
	ssize_t len = gather(e, iov + 1, count - 1);

	if (len < 0)
		return (int)len;
	set_reply(e, iov[0].iov_base, (size_t)len);
	ring_ent_note_use(e, (size_t)len);
	return 0;
}

/* ---- from the kernel ---- */

/* Puts in-header and operation struct in front of the payload. The operation's
 * length is what the other two leave of the whole; every struct's length is a
 * multiple of 8 today, and where one's is not, the payload moves up to it. */
int ring_ent_receive(RingEnt *e)
{
	const struct fuse_in_header *in = (const struct fuse_in_header *)e->header->in_out;
	size_t len = in->len, payload_len = e->header->ring_ent_in_out.payload_sz, op_len;
	char *start;

	e->commit_id = e->header->ring_ent_in_out.commit_id;
	if (payload_len > e->memory->payload_size || len < sizeof(*in) + payload_len)
		return -EPROTO;
	op_len = len - sizeof(*in) - payload_len;
	if (op_len > sizeof(e->header->op_in))
		return -EPROTO;
	start = e->payload - sizeof(*in) - (op_len + 7) / 8 * 8;
	if (op_len % 8)
		memmove(start + sizeof(*in) + op_len, e->payload, payload_len);
	memcpy(start + sizeof(*in), e->header->op_in, op_len);
	if (payload_len + TAIL <= e->memory->payload_size)
		memset(start + len, 0, TAIL);
	e->req = (Request) {
		.channel = e->req.channel,
		.in = memcpy(start, in, sizeof(*in)),
		.len = len,
	};
	trim_payload(e, payload_len);
	ring_ent_note_use(e, payload_len);
	return 0;
}
