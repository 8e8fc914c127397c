/* Headers of messages: what passes the checks is safe to use. */
#include <glib.h>
#include <string.h>

#include "common/rpc-msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* As a handler does. */
static void fuzz_names(const RpcMsg *m, const uint8_t *body)
{
	char name[WIRE_NAME_MAX + 1];
	uint16_t len1 = (uint16_t)m->seq, len2 = (uint16_t)m->token;
	size_t fixed = wire_op_info(m->op)->req_size;

	if (wire_name(body, m->body_len, fixed, 0, len1, name) == 0)
		g_assert(strlen(name) == len1 && !strchr(name, '/'));
	if (wire_name(body, m->body_len, fixed, len1, len2, name) == 0)
		g_assert(strlen(name) == len2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	RpcMsg m;

	if (rpc_msg_get(data, len, &m) < 0)
		return 0;
	if (rpc_msg_check_request(&m, len, m.out_cap) == 0) {
		/* A copy of just that size, so that a sanitizer sees its end. */
		g_autofree uint8_t *body = g_memdup2(data + sizeof(m), m.body_len);

		g_assert(m.body_len == len - sizeof(m) && m.body_len >= wire_op_info(m.op)->req_size);
		g_assert(m.out_cap <= WIRE_BULK_MAX && m.acks <= RPC_MSG_ACKS);
		fuzz_names(&m, body);
	}
	if (m.op < WIRE_OP_COUNT && rpc_msg_check_reply(&m, len, m.token, m.op, 4096) == 0) {
		g_assert(m.token <= 4096 && m.status >= RPC_STATUS_MIN);
		g_assert(m.body_len == len - sizeof(m) && m.body_len <= WIRE_REP_MAX);
	}
	return 0;
}
