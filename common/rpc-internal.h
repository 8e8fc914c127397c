#pragma once
/*
 * What the files rpc*.c share. Nobody else includes it.
 *
 *	rpc.c          the Rpc itself, calls that stay inside this process
 *	rpc-peer.c     peers of the map: connecting to them, again and again
 *	rpc-accept.c   connections that others make
 *	rpc-conn.c     one connection: its set-up, its life, its end
 *	rpc-session.c  processes that call us, and what we remember for them
 *	rpc-call.c     calls to others
 *	rpc-serve.c    calls from others
 *	rpc-ping.c     does UCX still carry messages?
 *	rpc-worker.c   what UCX holds of ours, and starting it over
 *
 * A connection is a TCP connection, over which both sides have proved who they
 * are and which lives as long as both do, plus a UCX endpoint, over which all
 * requests and replies go. Either side may call over it, but each call has one
 * kind of connection that can carry it: to a peer of the map, those that we
 * opened to its address; to a session, those that its process opened to us. So
 * who opens a connection in the place of a broken one has given up the broken
 * one before, and who accepts it gives it up then (rpc_session_drop_conns()):
 * at no time can two connections deliver copies of one request.
 */
#include "common/handshake.h"
#include "common/log.h"
#include "common/rpc-msg.h"
#include "common/rpc.h"
#include "common/ucx.h"

typedef struct RpcConn RpcConn;
typedef struct RpcSession RpcSession;
typedef struct RpcPending RpcPending;

typedef struct RpcService {
	RpcHandler *handler;
	void *ctx;
} RpcService;

typedef struct RpcEndedFn {
	RpcSessionEnded *fn;
	void *ctx;
} RpcEndedFn;

/* Where calls go. */
typedef struct RpcLink {
	RpcConn *conn;   /* usable now, or NULL */
	GQueue calls;    /* of RpcPending */
	bool down;       /* calls fail at once */
	int64_t away_ns; /* when the connection was lost, or first wanted */
	uint64_t term;   /* ends whenever the other side may have lost touch with us */
	uint64_t serial; /* whose replies the acks are for */
	GArray *acks;    /* of uint64_t: replies that arrived, not yet told */
} RpcLink;

/* A peer of the map, seen as somebody to call. */
typedef struct RpcPeer {
	RpcLink link;
	Rpc *rpc;
	uint16_t id;
	char *name;        /* "peer 2 (10.0.0.2:7460)" */
	bool connecting;   /* its coroutine runs */
	int fd;            /* of the attempt under way, or -1 */
	uint64_t attempts; /* that have ended */
	int error;         /* of the last attempt */
	char *reason;      /* and a sentence */
	bool said_lost, said_down;
	int64_t up_ns, backoff_ns;
	ReactorTimer timer; /* of the back-off */
	Co *paused;         /* in the back-off */
	CoQueue waiters;    /* for the next attempt's end */
} RpcPeer;

struct RpcConn {
	Rpc *rpc;
	uint32_t refs;
	int fd;
	bool connector; /* we opened it */
	bool up, failed;
	bool reading;   /* read_op is under way */
	uint64_t token;      /* in messages to us */
	uint64_t peer_token; /* in messages to them */
	uint64_t serial;     /* of their memory of our session */
	RpcSession *session; /* theirs */
	RpcLink *link;       /* the peer's when connector, else the session's */
	RpcPeer *peer;       /* connector: to whom */
	UcxEp *ep;
	int64_t heard_ns;     /* over TCP */
	int64_t asked_ns;     /* connector: for a sign that is still to come; 0: none */
	int64_t answered_ns;  /* connector: when we asked for the last one that came */
	int64_t ucx_heard_ns; /* over UCX; or since when nobody waits for that */
	uint32_t calls;       /* ours under way over it */
	bool pinging, ponging;
	UringOp read_op;
	uint8_t read_buf[64];
	uint32_t busy;       /* see rpc_ucx_begin() */
	uint32_t generation; /* of the worker */
	ReactorTimer timer;  /* UCX must have let go by then */
	Co *closer;          /* waits */
	UcxOp close_op;
	bool closing;
};

/* A process that is or was connected with us. */
struct RpcSession {
	Rpc *rpc;
	uint32_t refs;
	uint64_t id;
	uint64_t serial; /* of this memory of it */
	uint16_t peer;
	bool caller;     /* it has opened connections to us */
	bool begun;      /* ... or is about to: its end is told */
	bool ended;
	uint32_t conns;  /* that are up */
	RpcLink link;
	ReactorTimer timer; /* ends it */
	GHashTable *memos;  /* of RpcMemo, by seq */
	GQueue done;        /* those that are done, oldest first */
};

/* A request that is being served or was, and its reply. */
typedef struct RpcMemo {
	uint64_t seq;
	WireOp op;
	uint32_t refs;
	bool done;
	int status;
	size_t out_len;
	uint8_t *out;
	uint64_t rep[WIRE_REP_MAX / 8]; /* 64-bit for its alignment */
	CoQueue waiters; /* for it to be done */
	GList node;
} RpcMemo;

/* A call to another process, on the stack of its caller. */
struct RpcPending {
	Rpc *rpc;
	RpcLink *link;
	RpcCall *call;
	WireOp op;
	const WireOpInfo *info;
	Co *co;
	uint64_t seq;
	RpcConn *conn;   /* where it was sent; a reference */
	uint64_t serial; /* of the memory that may have it; 0: never sent */
	bool waiting, sending, fetching, replied, expired, ended;
	int fetched; /* result of the fetch */
	int status;
	size_t out_len;
	void *rendezvous; /* of the reply's bulk */
	UcxOp send_op, fetch_op;
	ReactorTimer timer;
	GList node;
	uint32_t acks;
	uint8_t header[RPC_MSG_HEADER_MAX];
};

typedef struct RpcStats {
	uint64_t sent[WIRE_OP_COUNT], served[WIRE_OP_COUNT], local[WIRE_OP_COUNT];
	uint64_t inflight, inflight_max, obj_reads, obj_reads_max;
	uint64_t bad_message, bad_handshake, unauthenticated, retries, duplicates, forgotten;
	uint64_t connects, accepts, connect_failures, lost, refused, worker_resets;
} RpcStats;

struct Rpc {
	Reactor *reactor;
	const ClusterMap *map;
	Counters *counters;
	uint16_t self;
	bool network, stopping;
	bool leaving; /* rpc_leave() */
	uint64_t session;
	uint8_t cluster_id[16];
	uint8_t *secret;
	size_t secret_len;
	int64_t deadline_ns, session_ns;
	RpcService services[WIRE_OP_COUNT];
	RpcSessionBegins *begins; /* or NULL */
	void *begins_ctx;
	GArray *ended_fns; /* of RpcEndedFn */

	Ucx *ucx;
	uint32_t ucx_busy; /* of all connections */
	bool dirty;        /* its worker is to be replaced: no new connections */
	CoQueue clean;     /* wait for that */
	Co *cleaner;
	ReactorTimer clean_timer;
	bool clean_now;

	int listen_fd;
	uint32_t handshakes; /* unauthenticated connections */
	GQueue greeted;      /* their descriptors */
	RpcPeer *peers;      /* by id */
	GHashTable *conns;    /* RpcConn by token */
	GHashTable *sessions; /* RpcSession by id */
	GHashTable *pending;  /* RpcPending by seq */
	uint64_t last_seq;
	ReactorTimer pulse;
	uint32_t tasks; /* coroutines of ours */
	Co *stopper;
	LogLimit refused_log;
	RpcStats stats;
};

/* ---- rpc.c ---- */

/* Runs the handler of a request whose sizes are within the table's bounds.
 * rep is zeroed first. -EOPNOTSUPP when nobody serves the operation here. */
int coroutine_fn rpc_co_handle(Rpc *rpc, RpcReq *r);
/* A random number, never 0. */
uint64_t rpc_random(void);
/* A coroutine that rpc_co_stop() waits for. */
void rpc_spawn(Rpc *rpc, CoClass class, CoFn *fn, void *arg);
/* Wakes rpc_co_stop() when nothing is under way any more. */
void rpc_check_idle(Rpc *rpc);
/* Counts reads of objects under way, here and elsewhere. */
void rpc_obj_reads_add(Rpc *rpc, WireOp op, int n);

/* ---- rpc-worker.c ---- */
/* Something of a connection that UCX holds: an endpoint, or memory of ours. */
void rpc_ucx_begin(RpcConn *conn);
void rpc_ucx_end(RpcConn *conn);
/* The worker may be damaged: ends all connections and starts over. */
void rpc_ucx_dirty(Rpc *rpc);

/* ---- rpc-counters.c ---- */
void rpc_add_counters(Rpc *rpc);
void rpc_remove_counters(Rpc *rpc);

/* ---- rpc-peer.c ---- */
void rpc_peers_init(Rpc *rpc);
void rpc_peers_stop(Rpc *rpc);
void rpc_peers_deinit(Rpc *rpc);
/* Starts to connect unless it is connected or doing so. */
void rpc_peer_want(RpcPeer *peer);
void rpc_peer_up(RpcPeer *peer);
void rpc_peer_lost(RpcPeer *peer, const char *why);

/* ---- rpc-accept.c ---- */
void rpc_accept_start(Rpc *rpc);
void rpc_accept_stop(Rpc *rpc);

/* ---- rpc-conn.c ---- */
void rpc_handshake_init(Rpc *rpc, Handshake *h, int fd, bool connector, uint16_t target);
/* After the proofs: makes the connection and exchanges set-ups. Takes fd. 0, and
 * the connection is on its way, or -errno. */
int coroutine_fn rpc_conn_co_establish(Rpc *rpc, Handshake *h, RpcPeer *peer);
RpcConn *rpc_conn_ref(RpcConn *conn);
/* Gives back bulk that is not to be fetched. */
void rpc_conn_drop(RpcConn *conn, void *rendezvous);
void rpc_conn_unref(RpcConn *conn);
/* Ends it, from anywhere: nothing that comes over it counts any more. */
void rpc_conn_fail(RpcConn *conn, const char *why);
/* The same when the other process may be dead, or UCX's queue be stuck. */
void rpc_conn_dead(RpcConn *conn, const char *why);
/* The same for a message that makes no sense. */
void rpc_conn_bad_message(RpcConn *conn);
void rpc_conns_fail_all(Rpc *rpc, const char *why);
void rpc_conns_say_bye(Rpc *rpc);
void rpc_pulse_start(Rpc *rpc);

/* ---- rpc-ping.c ---- */
/* Each second: makes sure that UCX carries messages while calls wait for some.
 * False: it does not. */
bool rpc_ping_check(RpcConn *conn, int64_t now_ns);
void rpc_ping_received(RpcConn *conn, const RpcMsg *m);

/* ---- rpc-session.c ---- */
/* The session of a process; made when it is new. A reference. Ends sessions of
 * processes that it replaces. */
RpcSession *rpc_session_get(Rpc *rpc, uint64_t id, uint16_t peer);
RpcSession *rpc_session_ref(RpcSession *s);
void rpc_session_unref(RpcSession *s);
void rpc_session_end(RpcSession *s);
void rpc_session_conn_up(RpcSession *s);
void rpc_session_conn_lost(RpcSession *s);
/* Fails the connections it has opened to us, apart from one. */
void rpc_session_drop_conns(RpcSession *s, const RpcConn *except);
void rpc_sessions_end_all(Rpc *rpc);
/* NULL: done before (*ret_memo: its reply) or it is being done and then was
 * (the same). Else a new memo, which one of the next two must take. Either one
 * is a reference. */
RpcMemo *coroutine_fn rpc_memo_co_begin(RpcSession *s, uint64_t seq, WireOp op, bool *ret_again);
void rpc_memo_done(RpcSession *s, RpcMemo *m, bool keep);
void rpc_memo_unref(RpcMemo *m);
void rpc_memo_forget(RpcSession *s, uint64_t seq);

/* ---- rpc-call.c ---- */
int coroutine_fn rpc_call_co_remote(Rpc *rpc, RpcLink *link, WireOp op, RpcCall *call);
void rpc_link_init(RpcLink *link);
void rpc_link_deinit(RpcLink *link);
void rpc_link_set_conn(RpcLink *link, RpcConn *conn);
/* away_ns: since when nothing was heard. */
void rpc_link_lost(RpcLink *link, int64_t away_ns);
/* Its calls end with -ENOTCONN. */
void rpc_link_end(RpcLink *link);
/* Lets every call look again. */
void rpc_link_wake(RpcLink *link);
/* A reply; true: it keeps the rendezvous. */
bool rpc_call_reply(RpcConn *conn, const RpcMsg *m, const UcxMsg *msg);

/* ---- rpc-serve.c ---- */
/* Sends and waits until UCX has let go; a failure ends the connection. */
void coroutine_fn rpc_conn_co_send(RpcConn *conn, uint16_t id, const void *header, size_t header_len, const void *data, size_t len);
bool rpc_serve_request(RpcConn *conn, const RpcMsg *m, const UcxMsg *msg);
/* UcxRecv: finds the connection, tells requests and replies apart. */
bool rpc_receive(void *arg, const UcxMsg *msg);
