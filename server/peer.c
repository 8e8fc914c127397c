/* What a peer says of itself. */
#include "server/internal.h"

/* Every inode is a few records in RocksDB: what fits is bounded by the space. */
#define BYTES_PER_INODE 512

static int coroutine_fn ping(void *ctx, RpcReq *r)
{
	return 0;
}

static int coroutine_fn peer_info(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	WirePeerInfoRep *rep = r->rep;
	uint64_t sessions[64];
	WireStatfsRep space;

	space_statfs(s->space, &space);
	*rep = (WirePeerInfoRep) {
		.total = space.total, .free = space.free, .avail = space.avail,
		.uptime_s = (uint64_t)((g_get_monotonic_time() * 1000 - s->started_ns) / 1000000000),
		.slots = map_slots_of_peer(s->map, s->self),
		.sessions = rpc_sessions(s->rpc, sessions, G_N_ELEMENTS(sessions)),
		.has_store = 1,
		.has_mount = s->opts.has_mount,
		.inodes = inodes_count(s), .orphans = orphans_count(s), .locks = locks_count(s),
	};
	return 0;
}

static int coroutine_fn statfs_handler(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	WireStatfsRep *rep = r->rep;

	space_statfs(s->space, rep);
	rep->inodes_used = inodes_count(s);
	rep->inodes_free = rep->avail / BYTES_PER_INODE;
	return 0;
}

void peer_attach(Server *s)
{
	rpc_serve(s->rpc, WIRE_PING, ping, s);
	rpc_serve(s->rpc, WIRE_PEER_INFO, peer_info, s);
	rpc_serve(s->rpc, WIRE_STATFS, statfs_handler, s);
}
