#include <errno.h>
#include <glib.h>
#include <string.h>

#include "common/hello.h"
#include "common/map.h"
#include "common/rpc-msg.h"
#include "common/wire.h"

static void test_table(void)
{
	g_assert_null(wire_op_info(WIRE_OP_COUNT));
	g_assert_null(wire_op_info(UINT32_MAX));
	for (uint32_t op = 0; op < WIRE_OP_COUNT; op++) {
		const WireOpInfo *info = wire_op_info(op);

		for (const char *c = info->name; *c; c++)
			g_assert_true(g_ascii_islower(*c) || *c == '_');
		g_assert_cmpuint(info->req_size, <=, WIRE_REQ_MAX);
		g_assert_cmpuint(info->rep_size, <=, WIRE_REP_MAX);
	}
	g_assert_cmpstr(wire_op_info(WIRE_OBJ_READ)->name, ==, "obj_read");
	g_assert_cmpuint(wire_op_info(WIRE_CREATE)->req_size, ==, sizeof(WireCreateReq));
	g_assert_cmpuint(wire_op_info(WIRE_CREATE)->flags & WIRE_IDEMPOTENT, ==, 0);
	g_assert_cmpuint(wire_op_info(WIRE_FORGET_QUERY)->flags & WIRE_TO_MOUNT, !=, 0);
}

static void test_name(void)
{
	static const struct {
		const char *bytes;
		uint32_t len, fixed, skip;
		uint16_t name_len;
		int result;
		const char *name;
	} rows[] = {
		{ "12345678abc", 11, 8, 0, 3, 0, "abc" },
		{ "12345678abcd", 12, 8, 1, 3, 0, "bcd" },
		{ "12345678abc", 11, 8, 0, 4, -EPROTO, NULL },
		{ "12345678abc", 11, 8, 3, 1, -EPROTO, NULL },
		{ "12345678abc", 11, 8, 4, 0, -EPROTO, NULL },
		{ "12345678abc", 11, 12, 0, 0, -EPROTO, NULL },
		{ "12345678abc", 11, 8, 0, UINT16_MAX, -EPROTO, NULL },
		{ "12345678abc", 11, 8, SIZE_MAX >> 32, 3, -EPROTO, NULL },
		{ "12345678abc", 11, 8, 3, 0, -EINVAL, NULL },
		{ "12345678a/c", 11, 8, 0, 3, -EINVAL, NULL },
		{ "12345678a\0c", 11, 8, 0, 3, -EINVAL, NULL },
		{ "12345678.", 9, 8, 0, 1, 0, "." },
		{ "12345678\xff\x01\n", 11, 8, 0, 3, 0, "\xff\x01\n" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		char buf[WIRE_NAME_MAX + 1];
		int r = wire_name(rows[i].bytes, rows[i].len, rows[i].fixed, rows[i].skip, rows[i].name_len, buf);

		g_assert_cmpint(r, ==, rows[i].result);
		if (r == 0)
			g_assert_cmpstr(buf, ==, rows[i].name);
	}
}

static void test_name_length(void)
{
	char bytes[300], buf[WIRE_NAME_MAX + 1];

	memset(bytes, 'x', sizeof(bytes));
	g_assert_cmpint(wire_name(bytes, sizeof(bytes), 8, 0, 255, buf), ==, 0);
	g_assert_cmpuint(strlen(buf), ==, 255);
	g_assert_cmpint(wire_name(bytes, sizeof(bytes), 8, 0, 256, buf), ==, -ENAMETOOLONG);
	g_assert_cmpint(wire_name(bytes, 100, 8, 0, 256, buf), ==, -EPROTO);
}

static void test_request_message(void)
{
	const RpcMsg good = { .token = 1, .seq = 1, .op = WIRE_GETATTR, .body_len = sizeof(WireInoReq) };
	size_t len = sizeof(good) + sizeof(WireInoReq);
	RpcMsg m;

	g_assert_cmpint(rpc_msg_get(&good, sizeof(good) - 1, &m), ==, -EPROTO);
	g_assert_cmpint(rpc_msg_get(&good, sizeof(good), &m), ==, 0);
	g_assert_cmpint(rpc_msg_check_request(&good, len, 0), ==, 0);
	g_assert_cmpint(rpc_msg_check_request(&good, len, WIRE_BULK_MAX), ==, 0);
	g_assert_cmpint(rpc_msg_check_request(&good, len, WIRE_BULK_MAX + 1), ==, -EPROTO);
	g_assert_cmpint(rpc_msg_check_request(&good, len - 1, 0), ==, -EPROTO);
	g_assert_cmpint(rpc_msg_check_request(&good, len + 1, 0), ==, -EPROTO);
	m = good, m.op = WIRE_OP_COUNT;
	g_assert_cmpint(rpc_msg_check_request(&m, len, 0), ==, -EPROTO);
	m = good, m.seq = 0;
	g_assert_cmpint(rpc_msg_check_request(&m, len, 0), ==, -EPROTO);
	m = good, m.acks = RPC_MSG_ACKS + 1;
	g_assert_cmpint(rpc_msg_check_request(&m, len, 0), ==, -EPROTO);
	m = good, m.body_len = sizeof(WireInoReq) - 1;
	g_assert_cmpint(rpc_msg_check_request(&m, len - 1, 0), ==, -EPROTO);
	m = good, m.body_len = WIRE_REQ_MAX + 1;
	g_assert_cmpint(rpc_msg_check_request(&m, sizeof(m) + WIRE_REQ_MAX + 1, 0), ==, -EPROTO);
}

static void test_reply_message(void)
{
	const RpcMsg good = { .seq = 1, .op = WIRE_GETATTR, .body_len = sizeof(WireAttrRep) };
	size_t len = sizeof(good) + sizeof(WireAttrRep);
	RpcMsg m;

	g_assert_cmpint(rpc_msg_check_reply(&good, len, 0, WIRE_GETATTR, 0), ==, 0);
	g_assert_cmpint(rpc_msg_check_reply(&good, len, 10, WIRE_GETATTR, 10), ==, 0);
	g_assert_cmpint(rpc_msg_check_reply(&good, len, 11, WIRE_GETATTR, 10), ==, -EPROTO);
	g_assert_cmpint(rpc_msg_check_reply(&good, len, 0, WIRE_SETATTR, 0), ==, -EPROTO);
	g_assert_cmpint(rpc_msg_check_reply(&good, len - 1, 0, WIRE_GETATTR, 0), ==, -EPROTO);
	m = good, m.status = -ENOENT;
	g_assert_cmpint(rpc_msg_check_reply(&m, len, 0, WIRE_GETATTR, 0), ==, -EPROTO);
	m.body_len = 0;
	g_assert_cmpint(rpc_msg_check_reply(&m, sizeof(m), 0, WIRE_GETATTR, 0), ==, 0);
	g_assert_cmpint(rpc_msg_check_reply(&m, sizeof(m), 1, WIRE_GETATTR, 100), ==, -EPROTO);
	m.status = RPC_STATUS_MIN - 1;
	g_assert_cmpint(rpc_msg_check_reply(&m, sizeof(m), 0, WIRE_GETATTR, 0), ==, -EPROTO);
}

static HelloTalk talk_new(const char *secret)
{
	HelloTalk t = { .secret = (const uint8_t *)secret, .secret_len = strlen(secret) };

	hello_intro_init(&t.connector);
	hello_intro_init(&t.listener);
	t.connector.peer = PEER_NONE;
	return t;
}

static void test_proofs(void)
{
	HelloTalk talk = talk_new("a secret"), other = talk;
	HelloProof proof = { .refusal = HELLO_OK }, changed;

	hello_proof_sign(&talk, true, &proof);
	g_assert_true(hello_proof_check(&talk, true, &proof));
	g_assert_false(hello_proof_check(&talk, false, &proof)); /* not to be reflected */
	other.secret = (const uint8_t *)"b secret";
	g_assert_false(hello_proof_check(&other, true, &proof));
	other = talk;
	other.listener.nonce[31] ^= 1; /* nor replayed */
	g_assert_false(hello_proof_check(&other, true, &proof));
	changed = proof, changed.refusal = HELLO_CLUSTER;
	g_assert_false(hello_proof_check(&talk, true, &changed));
	changed = proof, changed.mac[0] ^= 0x80;
	g_assert_false(hello_proof_check(&talk, true, &changed));
}

static void test_setups(void)
{
	HelloTalk talk = talk_new("a secret");
	HelloSetup setup = { .token = 5, .serial = 6, .address_len = 4 };

	hello_setup_sign(&talk, true, &setup, "addr");
	g_assert_true(hello_setup_check(&talk, true, &setup, "addr"));
	g_assert_false(hello_setup_check(&talk, true, &setup, "eddr"));
	g_assert_false(hello_setup_check(&talk, false, &setup, "addr"));
	g_assert_true(hello_setup_plausible(&setup, 4));
	g_assert_false(hello_setup_plausible(&setup, 3));
	setup.token = 7;
	g_assert_false(hello_setup_check(&talk, true, &setup, "addr"));
	setup.token = 0;
	g_assert_false(hello_setup_plausible(&setup, 4));
}

static void test_judge(void)
{
	HelloTalk talk = talk_new("s");
	HelloIntro c;
	uint32_t version;

	talk.connector.target = 0;
	g_assert_cmpint(hello_judge(&talk.listener, &talk.connector, 3), ==, HELLO_OK);
	c = talk.connector, c.cluster_id[15] = 1;
	g_assert_cmpint(hello_judge(&talk.listener, &c, 3), ==, HELLO_CLUSTER);
	c = talk.connector, c.map_digest[0] = 1;
	g_assert_cmpint(hello_judge(&talk.listener, &c, 3), ==, HELLO_LIST);
	c = talk.connector, c.target = 1;
	g_assert_cmpint(hello_judge(&talk.listener, &c, 3), ==, HELLO_PEER);
	c = talk.connector, c.peer = 0;
	g_assert_cmpint(hello_judge(&talk.listener, &c, 3), ==, HELLO_DUPLICATE);
	c = talk.connector, c.peer = 3;
	g_assert_cmpint(hello_judge(&talk.listener, &c, 3), ==, HELLO_LIST);
	c = talk.connector, c.head.version++;
	g_assert_cmpint(hello_check_head(&c.head, &version), ==, -EPROTO);
	g_assert_cmpuint(version, ==, WIRE_VERSION + 1);
	c = talk.connector, c.head.magic[0] ^= 1;
	g_assert_cmpint(hello_check_head(&c.head, &version), ==, -EPROTO);
	g_assert_cmpuint(version, ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/wire/table", test_table);
	g_test_add_func("/wire/name", test_name);
	g_test_add_func("/wire/name-length", test_name_length);
	g_test_add_func("/wire/request-message", test_request_message);
	g_test_add_func("/wire/reply-message", test_reply_message);
	g_test_add_func("/wire/proofs", test_proofs);
	g_test_add_func("/wire/setups", test_setups);
	g_test_add_func("/wire/judge", test_judge);
	return g_test_run();
}
