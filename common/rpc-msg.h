#pragma once
/*
 * The headers of UCX active messages, and the checks that make them safe to
 * use. A message is this header, then the request or reply struct (and names),
 * all in the active message's header; bulk is its payload.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "common/wire.h"

/* A ping (seq 0) is answered by another (seq 1). */
enum { RPC_MSG_REQUEST = 0, RPC_MSG_REPLY = 1, RPC_MSG_PING = 2, RPC_MSG_IDS };

#define RPC_MSG_ACKS 4

typedef struct RpcMsg {
	uint64_t token;    /* the receiver's, of this connection */
	uint64_t seq;      /* of the request, unique in the caller's session */
	uint32_t epoch;    /* of the sender's cluster map */
	uint16_t op;
	uint16_t acks;     /* requests: used entries of ack[] */
	uint32_t body_len; /* struct and names behind this header */
	int32_t status;    /* replies */
	uint64_t out_cap;  /* requests: bulk the caller has room for */
	uint64_t ack[RPC_MSG_ACKS]; /* replies that have arrived: to be forgotten */
} RpcMsg;
static_assert(sizeof(RpcMsg) == 72, "packed by hand");

#define RPC_MSG_HEADER_MAX (sizeof(RpcMsg) + WIRE_REQ_MAX)

/* The lowest status: what the kernel calls an error. */
#define RPC_STATUS_MIN (-4095)

/* Copies the header out of a message; -EPROTO when it is too short for one. */
int rpc_msg_get(const void *header, size_t header_len, RpcMsg *ret);
/* Everything that a receiver relies on: the operation is in the table, lengths
 * are in its bounds and the message's. -EPROTO otherwise. */
int rpc_msg_check_request(const RpcMsg *m, size_t header_len, size_t bulk_len);
/* op, out_cap: of the request it answers. */
int rpc_msg_check_reply(const RpcMsg *m, size_t header_len, size_t bulk_len, uint32_t op, size_t out_cap);
