#include "common/rpc-internal.h"

static void add_op(Rpc *rpc, const char *kind, WireOp op, uint64_t *value)
{
	g_autofree char *name = g_strdup_printf("rpc.%s.%s", kind, wire_op_info(op)->name);

	counters_add(rpc->counters, name, value);
}

static const CounterRow rows[] = {
#define ROW(name, field) { name, offsetof(RpcStats, field) }
	ROW("rpc.inflight", inflight),
	ROW("rpc.inflight_max", inflight_max),
	ROW("rpc.obj_read.inflight_max", obj_reads_max),
	ROW("rpc.bad_message", bad_message),
	ROW("rpc.bad_handshake", bad_handshake),
	ROW("rpc.unauthenticated", unauthenticated),
	ROW("rpc.retries", retries),
	ROW("rpc.duplicates", duplicates),
	ROW("rpc.forgotten", forgotten),
	ROW("net.connects", connects),
	ROW("net.accepts", accepts),
	ROW("net.connect_failures", connect_failures),
	ROW("net.lost", lost),
	ROW("net.refused", refused),
	ROW("net.worker_resets", worker_resets),
#undef ROW
};

void rpc_add_counters(Rpc *rpc)
{
	for (uint32_t op = 0; op < WIRE_OP_COUNT; op++) {
		add_op(rpc, "sent", op, &rpc->stats.sent[op]);
		add_op(rpc, "served", op, &rpc->stats.served[op]);
		add_op(rpc, "local", op, &rpc->stats.local[op]);
	}
	counters_add_rows(rpc->counters, rows, G_N_ELEMENTS(rows), &rpc->stats);
}

void rpc_remove_counters(Rpc *rpc)
{
	for (uint32_t op = 0; op < WIRE_OP_COUNT; op++) {
		counters_remove(rpc->counters, &rpc->stats.sent[op]);
		counters_remove(rpc->counters, &rpc->stats.served[op]);
		counters_remove(rpc->counters, &rpc->stats.local[op]);
	}
	counters_remove_rows(rpc->counters, rows, G_N_ELEMENTS(rows), &rpc->stats);
}
