#pragma once
/* What the files rpc*.c share. Nobody else includes it. */
#include "common/rpc.h"

typedef struct RpcService {
	RpcHandler *handler;
	void *ctx;
} RpcService;

struct Rpc {
	Reactor *reactor;
	const ClusterMap *map;
	Counters *counters;
	uint16_t self;
	uint64_t session;
	RpcService services[WIRE_OP_COUNT];
	GArray *ended_fns; /* of RpcEndedFn */

	uint64_t sent[WIRE_OP_COUNT], served[WIRE_OP_COUNT], local[WIRE_OP_COUNT];
};

/* Runs the handler of a request whose sizes are within the table's bounds.
 * rep is zeroed first. -EOPNOTSUPP when nobody serves the operation here. */
int coroutine_fn rpc_co_handle(Rpc *rpc, RpcReq *r);
/* A random number, never 0. */
uint64_t rpc_random(void);
