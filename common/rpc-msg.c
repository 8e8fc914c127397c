#include "common/rpc-msg.h"

#include <errno.h>
#include <string.h>

int rpc_msg_get(const void *header, size_t header_len, RpcMsg *ret)
{
	if (header_len < sizeof(*ret))
		return -EPROTO;
	memcpy(ret, header, sizeof(*ret));
	return 0;
}

int rpc_msg_check_request(const RpcMsg *m, size_t header_len, size_t bulk_len)
{
	const WireOpInfo *info = wire_op_info(m->op);

	if (!info || m->seq == 0 || m->acks > RPC_MSG_ACKS)
		return -EPROTO;
	if (m->body_len != header_len - sizeof(*m) || m->body_len < info->req_size || m->body_len > WIRE_REQ_MAX)
		return -EPROTO;
	return bulk_len <= WIRE_BULK_MAX ? 0 : -EPROTO;
}

/* Only a success carries a reply struct and bulk. */
int rpc_msg_check_reply(const RpcMsg *m, size_t header_len, size_t bulk_len, uint32_t op, size_t out_cap)
{
	if (m->op != op || m->status < RPC_STATUS_MIN)
		return -EPROTO;
	if (m->body_len != header_len - sizeof(*m) || m->body_len != (m->status < 0 ? 0 : wire_op_info(op)->rep_size))
		return -EPROTO;
	return bulk_len <= (m->status < 0 ? 0 : out_cap) ? 0 : -EPROTO;
}
