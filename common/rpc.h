#pragma once
/*
 * Calls between peers, and inside one. A call to a peer that is this process
 * runs the handler directly on the caller's coroutine and copies nothing; else
 * it travels over UCX active messages. See wire.h for what is called.
 *
 * Retries and duplicates: a call whose connection breaks is sent again, with
 * the same session and sequence number, on the next connection until its
 * deadline. A server remembers the latest replies of each session for
 * operations that are not WIRE_IDEMPOTENT; where the server's process changed
 * meanwhile (its incarnation differs) such a call ends with -EIO instead.
 *
 * A peer that has been away for as long as a call may take is down: calls to it
 * fail at once until it is back, for which we keep trying.
 *
 * Errors of the transport: -EIO when the peer could not be reached before the
 * deadline, -EPROTO when it answered nonsense. Everything else is the
 * handler's.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/counters.h"
#include "common/map.h"
#include "common/reactor.h"
#include "common/wire.h"

typedef struct Rpc Rpc;

typedef struct RpcOptions {
	Reactor *reactor;
	const ClusterMap *map;
	Counters *counters;
	uint16_t self;            /* my peer id; PEER_NONE: a client */
	bool network;             /* false: embedded, UCX is never touched */
	char *listen_host;        /* where to listen; NULL: nowhere (a client) */
	uint16_t listen_port;
	uint8_t cluster_id[16];
	const uint8_t *secret;    /* not kept */
	size_t secret_len;
	const char *ucx_tls;      /* UCX_TLS; NULL: UCX's default (or its environment), without
	                             shared memory, which must be named to be used */
	const char *ucx_devices;  /* UCX_NET_DEVICES; NULL: those of the listening address */
	int64_t deadline_ns;      /* of a call; 0: 10 s */
	int64_t session_ns;       /* a session whose peer is away this long ends; 0: 15 s */
} RpcOptions;

/* Starts listening (not serving until rpc_start()). The error says what and
 * why: address in use, no such interface, UCX without a usable transport. */
Rpc *rpc_new(const RpcOptions *opts, GError **error);
/* Accepts connections from now on; every handler must be registered. */
void rpc_start(Rpc *rpc);
/* We are about to end: from now on calls wait for no peer that is away, but fail
 * with -EIO at once. */
void rpc_leave(Rpc *rpc);
/* Says good-bye to all peers, so that our session ends there at once; ends all
 * sessions here, whose handlers must then return; waits for what is under way.
 * From a coroutine. */
void coroutine_fn rpc_co_stop(Rpc *rpc);
void rpc_free(Rpc *rpc);

uint16_t rpc_self(const Rpc *rpc);
/* This process's session, random, never 0. */
uint64_t rpc_session(const Rpc *rpc);
Reactor *rpc_reactor(const Rpc *rpc);
const ClusterMap *rpc_map(const Rpc *rpc);

/* ---- serving ---- */

typedef struct RpcReq {
	WireOp op;
	const void *req;  /* at least the operation's struct; unaligned names behind it */
	uint32_t req_len;
	const void *in;   /* bulk from the caller; NULL when in_len is 0 */
	size_t in_len;
	void *out;        /* where bulk for the caller goes: the caller's own buffer when local */
	size_t out_cap;
	size_t out_len;   /* the handler sets it */
	void *rep;        /* zeroed, of the operation's reply size */
	uint64_t session; /* who asks */
	uint16_t peer;    /* its peer id, or PEER_NONE */
} RpcReq;
/* Returns >= 0 or -errno; rep and out travel only with >= 0. May yield. */
typedef int coroutine_fn RpcHandler(void *ctx, RpcReq *r);
/* One handler an operation. */
void rpc_serve(Rpc *rpc, WireOp op, RpcHandler *handler, void *ctx);

/* Called, and waited for, before a connection by which a session may call us is
 * up. From then on its end is told. One. */
typedef void coroutine_fn RpcSessionBegins(void *ctx, uint64_t session, uint16_t peer);
void rpc_on_session_begins(Rpc *rpc, RpcSessionBegins *fn, void *ctx);
/* Told, on the reactor's stack, when a session has ended: its connections were
 * away for session_ns, or its process was replaced by a new one. Any number. */
typedef void RpcSessionEnded(void *ctx, uint64_t session);
void rpc_on_session_ended(Rpc *rpc, RpcSessionEnded *fn, void *ctx);
/* The sessions that may call us and have not ended, my own first (some may be
 * away for the moment); returns how many were written. */
uint32_t rpc_sessions(Rpc *rpc, uint64_t *ret_sessions, uint32_t max);
/* One that has not ended; my own is one. */
bool rpc_has_session(const Rpc *rpc, uint64_t session);
/* Before rpc_start(): a session that called the process before this one, and
 * from which things are kept here. It counts as away: it ends unless it comes
 * back within session_ns. peer: its id, or PEER_NONE. */
void rpc_expect_session(Rpc *rpc, uint64_t session, uint16_t peer);

/* ---- calling ---- */

typedef struct RpcCall {
	const void *req;
	uint32_t req_len;
	const void *in;   /* must stay until the return */
	size_t in_len;
	void *out;        /* received straight into it */
	size_t out_cap;
	size_t out_len;   /* set on success */
	void *rep;        /* NULL, or of the operation's reply size; set on success */
	int64_t timeout_ns; /* 0: the default. Of a WIRE_WAITS operation: how long its peer may stay away */
} RpcCall;
int coroutine_fn rpc_co_call(Rpc *rpc, uint16_t peer, WireOp op, RpcCall *call);
/* To the process behind a session, over the connection it has opened to us; one
 * that is away is waited for. -ENOTCONN when there is no such session or it has
 * ended meanwhile. My own session is served locally. */
int coroutine_fn rpc_co_call_session(Rpc *rpc, uint64_t session, WireOp op, RpcCall *call);

/* Waits until a handshake with peer succeeded. -ETIMEDOUT; -EACCES: the peer
 * refused us or could not prove the secret; -EPROTO: another version; -EXDEV:
 * another cluster or another peer list. *ret_reason, when not NULL, is a
 * sentence for people, to be freed; it may be set whatever the result. */
int coroutine_fn rpc_co_connect(Rpc *rpc, uint16_t peer, int64_t timeout_ns, char **ret_reason);

/*
 * Leases: what a peer lets this process keep until it calls it back lasts as
 * long as the two are in touch. Each second we ask the peer for a sign; an
 * answer makes everything last RPC_LEASE_NS from when we asked. Whoever granted
 * a lease may take it that it has run out RPC_LEASE_GRANTED_NS after it last
 * heard from the session, which is later whatever the clocks do.
 *
 * A term is an unbroken stretch of being in touch: when it ends, all that was
 * granted in it is gone. Take the term before sending what may bring a grant.
 */
#define RPC_LEASE_NS INT64_C(4000000000)
#define RPC_LEASE_GRANTED_NS INT64_C(5000000000)
uint64_t rpc_lease_term(const Rpc *rpc, uint16_t peer);
/* Until when what was granted in a term lasts at least, CLOCK_MONOTONIC in ns;
 * 0: that term is over. INT64_MAX where the peer is this process. */
int64_t rpc_lease_until_ns(const Rpc *rpc, uint16_t peer, uint64_t term);

typedef enum RpcPeerState { RPC_PEER_SELF, RPC_PEER_UP, RPC_PEER_CONNECTING, RPC_PEER_DOWN, RPC_PEER_IDLE } RpcPeerState;
RpcPeerState rpc_peer_state(const Rpc *rpc, uint16_t peer);
/* A word for each state: "self", "up", ... */
const char *rpc_peer_state_name(RpcPeerState state);
