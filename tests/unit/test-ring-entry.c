/* Entries of FUSE over io_uring: what the kernel writes becomes one message,
 * and replies land where it looks for them. The kernel's part is played here. */
#include <errno.h>
#include <string.h>

#include <glib.h>

#include "fuse/ring-entry.h"

#define PAYLOAD_SIZE (1u << 20)

static RingMemory memory;

static void nothing(UringOp *op, int res, uint32_t flags)
{
}

static RingEnt *entry(void)
{
	static Channel channel;

	memory = (RingMemory) { .payload_size = PAYLOAD_SIZE };
	return ring_ent_new(&memory, &channel, nothing);
}

/* As the kernel does: header, operation and payload apart. */
static void deliver(RingEnt *e, const void *op, size_t op_len, const void *payload, size_t payload_len)
{
	const struct fuse_in_header in = {
		.len = (uint32_t)(sizeof(in) + op_len + payload_len), .opcode = FUSE_WRITE, .unique = 42, .nodeid = 7,
	};

	memcpy(e->header->in_out, &in, sizeof(in));
	memcpy(e->header->op_in, op, op_len);
	memcpy(e->payload, payload, payload_len);
	e->header->ring_ent_in_out = (struct fuse_uring_ent_in_out) {
		.commit_id = 42, .payload_sz = (uint32_t)payload_len,
	};
}

static void assert_message(const RingEnt *e, const void *op, size_t op_len, const void *payload, size_t payload_len)
{
	const char *body = (const char *)(e->req.in + 1);

	g_assert_cmpuint(e->req.len, ==, sizeof(*e->req.in) + op_len + payload_len);
	g_assert_cmpuint((uintptr_t)e->req.in % 8, ==, 0);
	g_assert_cmpuint(e->req.in->unique, ==, 42);
	g_assert_cmpuint(e->req.in->nodeid, ==, 7);
	g_assert_cmpmem(body, op_len, op, op_len);
	g_assert_cmpmem(body + op_len, payload_len, payload, payload_len);
}

static void test_message(gconstpointer arg)
{
	size_t op_len = GPOINTER_TO_UINT(arg);
	g_autofree char *op = g_malloc(128), *payload = g_malloc(70000);
	RingEnt *e = entry();

	memset(op, 'o', 128);
	for (size_t i = 0; i < 70000; i++)
		payload[i] = (char)(i * 31);
	for (size_t payload_len = 0; payload_len < 70000; payload_len = payload_len * 3 + 5) {
		deliver(e, op, op_len, payload, payload_len);
		g_assert_cmpint(ring_ent_receive(e), ==, 0);
		assert_message(e, op, op_len, payload, payload_len);
		/* the parser may look a little behind the message's end */
		g_assert_cmpint(((const char *)e->req.in)[e->req.len], ==, 0);
		g_assert_nonnull(e->req.channel);
	}
	ring_ent_free(e);
}

static void test_full_payload(void)
{
	g_autofree char *payload = g_malloc0(PAYLOAD_SIZE);
	RingEnt *e = entry();

	payload[PAYLOAD_SIZE - 1] = 'x';
	deliver(e, "operation", 8, payload, PAYLOAD_SIZE);
	g_assert_cmpint(ring_ent_receive(e), ==, 0);
	assert_message(e, "operation", 8, payload, PAYLOAD_SIZE);
	g_assert_true(e->bulky);
	ring_ent_free(e);
}

static void test_impossible_lengths(void)
{
	static const struct { uint32_t len, payload; } bad[] = {
		{ 0, 0 }, { sizeof(struct fuse_in_header) - 1, 0 },
		{ sizeof(struct fuse_in_header), 1 },
		{ sizeof(struct fuse_in_header) + 129, 0 },
		{ sizeof(struct fuse_in_header) + PAYLOAD_SIZE + 1, PAYLOAD_SIZE + 1 },
		{ UINT32_MAX, 0 }, { UINT32_MAX, UINT32_MAX },
	};
	RingEnt *e = entry();

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		deliver(e, "", 0, "", 0);
		((struct fuse_in_header *)e->header->in_out)->len = bad[i].len;
		e->header->ring_ent_in_out.payload_sz = bad[i].payload;
		g_assert_cmpint(ring_ent_receive(e), ==, -EPROTO);
		/* it can still be refused */
		ring_ent_reply_error(e, -EIO);
		g_assert_cmpuint(((struct fuse_out_header *)e->header->in_out)->unique, ==, 42);
	}
	ring_ent_free(e);
}

static const struct fuse_out_header *reply_of(const RingEnt *e)
{
	return (const struct fuse_out_header *)e->header->in_out;
}

static void test_reply_is_gathered(void)
{
	struct fuse_out_header out = { .len = sizeof(out) + 9, .unique = 42 };
	const struct iovec iov[] = { { &out, sizeof(out) }, { (void *)"abcd", 4 }, { NULL, 0 }, { (void *)"efghi", 5 } };
	RingEnt *e = entry();

	deliver(e, "", 0, "name", 5);
	g_assert_cmpint(ring_ent_receive(e), ==, 0);
	g_assert_cmpint(ring_ent_reply(e, iov, 4), ==, 0);
	g_assert_cmpmem(e->payload, 9, "abcdefghi", 9);
	g_assert_cmpuint(e->header->ring_ent_in_out.payload_sz, ==, 9);
	g_assert_cmpuint(reply_of(e)->unique, ==, 42);
	g_assert_cmpint(reply_of(e)->error, ==, 0);
	ring_ent_free(e);
}

static void test_reply_in_place(void)
{
	struct fuse_out_header out = { .unique = 42 };
	RingEnt *e = entry();
	/* the second piece is where it will stand, too */
	const struct iovec iov[] = { { &out, sizeof(out) }, { e->payload, 4096 }, { e->payload + 4096, 100 } };

	deliver(e, "", 0, "", 0);
	g_assert_cmpint(ring_ent_receive(e), ==, 0);
	memset(e->payload, 'r', 4196);
	g_assert_cmpint(ring_ent_reply(e, iov, 3), ==, 0);
	g_assert_cmpuint(e->header->ring_ent_in_out.payload_sz, ==, 4196);
	for (int i = 0; i < 4196; i++)
		g_assert_cmpint(e->payload[i], ==, 'r');
	ring_ent_free(e);
}

static void test_too_long_a_reply_is_refused(void)
{
	struct fuse_out_header out = { .unique = 42 };
	RingEnt *e = entry();
	const struct iovec iov[] = { { &out, sizeof(out) }, { e->payload, PAYLOAD_SIZE }, { (void *)"x", 1 } };

	deliver(e, "", 0, "", 0);
	g_assert_cmpint(ring_ent_receive(e), ==, 0);
	ring_ent_reply_error(e, -EIO);
	g_assert_cmpint(ring_ent_reply(e, iov, 3), ==, -EINVAL);
	/* what was set before stands */
	g_assert_cmpint(reply_of(e)->error, ==, -EIO);
	g_assert_cmpuint(e->header->ring_ent_in_out.payload_sz, ==, 0);
	ring_ent_free(e);
}

/* Many big buffers are given back as their entries see small requests; what
 * such a request brings is not lost by that. */
static void test_big_buffers_go(void)
{
	RingEnt *ents[100];

	for (size_t i = 0; i < G_N_ELEMENTS(ents); i++) {
		RingMemory before = memory;

		ents[i] = entry();
		if (i)
			memory = before;
		ring_ent_note_use(ents[i], PAYLOAD_SIZE);
	}
	g_assert_cmpuint(memory.bulky, ==, 100);
	for (size_t i = 0; i < G_N_ELEMENTS(ents); i++) {
		deliver(ents[i], "operation", 8, "a name", 7);
		g_assert_cmpint(ring_ent_receive(ents[i]), ==, 0);
		assert_message(ents[i], "operation", 8, "a name", 7);
	}
	g_assert_cmpuint(memory.bulky, ==, 64);
	for (size_t i = 0; i < G_N_ELEMENTS(ents); i++)
		ring_ent_free(ents[i]);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/ring-entry/message/no-operation", GUINT_TO_POINTER(0), test_message);
	g_test_add_data_func("/ring-entry/message/write", GUINT_TO_POINTER(40), test_message);
	g_test_add_data_func("/ring-entry/message/longest", GUINT_TO_POINTER(128), test_message);
	g_test_add_data_func("/ring-entry/message/odd", GUINT_TO_POINTER(13), test_message);
	g_test_add_func("/ring-entry/message/full-payload", test_full_payload);
	g_test_add_func("/ring-entry/impossible-lengths", test_impossible_lengths);
	g_test_add_func("/ring-entry/reply/gathered", test_reply_is_gathered);
	g_test_add_func("/ring-entry/reply/in-place", test_reply_in_place);
	g_test_add_func("/ring-entry/reply/too-long", test_too_long_a_reply_is_refused);
	g_test_add_func("/ring-entry/big-buffers-go", test_big_buffers_go);
	return g_test_run();
}
