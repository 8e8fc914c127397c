/*
 * One connection.
 *
 *	SETUP   in the table by its token; the two sides exchange set-ups
 *	UP      calls go over it; a byte a second each way says that both live.
 *	        The connector's is a question ('Q') while none is open, which is
 *	        answered at once ('a'): leases last by that (rpc.h)
 *	FAILED  out of the table; the endpoint is being closed by force
 *	freed   when nobody holds a reference any more
 *
 * The connector is up when it has the listener's set-up, and says so with a
 * byte ('R'), which makes the listener up. A connection fails when its TCP
 * connection does, when nothing was heard for DEAD_NS, when UCX finds its
 * endpoint broken, on a message that makes no sense, or when somebody must get
 * back memory that UCX holds.
 *
 * rpc_conn_fail() may be called from anywhere, UCX's callbacks included; the
 * endpoint is closed by a coroutine.
 *
 * With shared memory it matters how the other side went: a process that says so
 * ('E', or 'B' when it stops for good) was not half-way through writing to our
 * queue. For one that was, rpc_conn_dead() has the worker replaced.
 */
#define G_LOG_DOMAIN "rpc"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/rpc-internal.h"

#define PULSE_NS INT64_C(1000000000)
#define DEAD_NS (4 * PULSE_NS)
#define LET_GO_NS INT64_C(2000000000)

enum { BYTE_READY = 'R', BYTE_ALIVE = 'A', BYTE_ASK = 'Q', BYTE_ANSWER = 'a', BYTE_END = 'E', BYTE_BYE = 'B' };

RpcConn *rpc_conn_ref(RpcConn *conn)
{
	conn->refs++;
	return conn;
}

void rpc_conn_unref(RpcConn *conn)
{
	if (--conn->refs > 0)
		return;
	g_assert(conn->failed && !conn->ep && !conn->reading && conn->busy == 0);
	reactor_timer_cancel(conn->rpc->reactor, &conn->timer);
	close(conn->fd);
	rpc_session_unref(conn->session);
	g_free(conn);
}

void rpc_conn_drop(RpcConn *conn, void *rendezvous)
{
	Ucx *ucx = conn->rpc->ucx;

	if (ucx_generation(ucx) == conn->generation)
		ucx_drop(ucx, rendezvous);
	rpc_ucx_end(conn);
}

/* ---- the end ---- */

static void conn_wake_closer(RpcConn *conn)
{
	Co *co = g_steal_pointer(&conn->closer);

	if (co)
		co_wake(co);
}

static void coroutine_fn conn_co_wait_closer(RpcConn *conn)
{
	conn->closer = co_self();
	co_yield();
}

static void conn_on_closed(UcxOp *op, int res)
{
	RpcConn *conn = (RpcConn *)((char *)op - offsetof(RpcConn, close_op));

	conn->closing = false;
	conn_wake_closer(conn);
}

static void coroutine_fn conn_co_close_ep(RpcConn *conn)
{
	if (!conn->ep)
		return;
	conn->close_op.done = conn_on_closed;
	conn->closing = true;
	if (ucx_ep_close(conn->ep, &conn->close_op) == 0)
		conn->closing = false;
	while (conn->closing)
		conn_co_wait_closer(conn);
	conn->ep = NULL;
	rpc_ucx_end(conn);
}

static void coroutine_fn conn_co_end(void *arg)
{
	RpcConn *conn = arg;

	conn_co_close_ep(conn);
	while (conn->reading)
		conn_co_wait_closer(conn);
	rpc_conn_unref(conn);
}

static void conn_down(RpcConn *conn, const char *why)
{
	/* What we have granted a session lasts from when we last heard from it. */
	if (conn->link->conn == conn)
		rpc_link_lost(conn->link, conn->connector ? reactor_now_ns(conn->rpc->reactor) : conn->heard_ns);
	rpc_session_conn_lost(conn->session);
	if (conn->connector)
		rpc_peer_lost(conn->peer, why);
}

/* UCX should have let go of everything of a connection that has failed. */
static void conn_timer_fire(ReactorTimer *t)
{
	RpcConn *conn = (RpcConn *)((char *)t - offsetof(RpcConn, timer));

	if (conn->busy > 0 && conn->generation == ucx_generation(conn->rpc->ucx))
		rpc_ucx_dirty(conn->rpc);
}

static void conn_end(RpcConn *conn, const char *why)
{
	Rpc *rpc = conn->rpc;

	g_debug("connection %016" G_GINT64_MODIFIER "x with session %016" G_GINT64_MODIFIER "x ends: %s", conn->token, conn->session->id, why);
	conn->failed = true;
	g_hash_table_remove(rpc->conns, &conn->token);
	shutdown(conn->fd, SHUT_RDWR);
	reactor_timer_arm(rpc->reactor, &conn->timer, reactor_now_ns(rpc->reactor) + LET_GO_NS);
	rpc_spawn(rpc, CO_INTERNAL, conn_co_end, conn); /* takes the table's reference */
	if (conn->up) {
		conn->up = false;
		rpc->stats.lost++;
		conn_down(conn, why);
	}
}

/* False: it can't be said. */
static bool conn_say(RpcConn *conn, char byte)
{
	/* A full socket is no news: data that nobody reads ends it by itself. */
	return send(conn->fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 || errno == EAGAIN;
}

void rpc_conn_fail(RpcConn *conn, const char *why)
{
	if (conn->failed)
		return;
	if (conn->reading) /* the handshake is over on both sides */
		conn_say(conn, BYTE_END);
	conn_end(conn, why);
}

void rpc_conn_dead(RpcConn *conn, const char *why)
{
	bool used = conn->ep;

	if (conn->failed)
		return;
	conn_end(conn, why);
	if (used && ucx_is_shared_memory(conn->rpc->ucx) && !conn->rpc->stopping)
		rpc_ucx_dirty(conn->rpc);
}

void rpc_conn_bad_message(RpcConn *conn)
{
	conn->rpc->stats.bad_message++;
	g_warning("session %016" G_GINT64_MODIFIER "x of peer %u sent a message that makes no sense, ending its connection", conn->session->id, conn->session->peer);
	rpc_conn_fail(conn, "a message that makes no sense");
}

/* Those of this moment; valid until the next yield. */
static GList *conns_list(Rpc *rpc)
{
	return g_hash_table_get_values(rpc->conns);
}

void rpc_conns_fail_all(Rpc *rpc, const char *why)
{
	g_autoptr(GList) all = conns_list(rpc);

	for (GList *l = all; l; l = l->next)
		rpc_conn_fail(l->data, why);
}

/* ---- the TCP side ---- */

static void conn_up(RpcConn *conn)
{
	conn->up = true;
	rpc_session_conn_up(conn->session);
	rpc_link_set_conn(conn->link, conn);
	if (conn->connector)
		rpc_peer_up(conn->peer);
	else
		conn->session->caller = true;
}

/* ---- leases ---- */

/* Not the reactor's: that is as old as its last wake-up, and the process may
 * have been stopped since. */
static char conn_next_sign(RpcConn *conn)
{
	if (!conn->connector || conn->asked_ns)
		return BYTE_ALIVE;
	conn->asked_ns = clock_monotonic_ns();
	return BYTE_ASK;
}

/* An answer that comes too late begins another term: the other side may have
 * given away what it granted. */
static void conn_on_answer(RpcConn *conn)
{
	if (clock_monotonic_ns() >= conn->answered_ns + RPC_LEASE_NS)
		conn->link->term++;
	conn->answered_ns = conn->asked_ns;
	conn->asked_ns = 0;
}

uint64_t rpc_lease_term(const Rpc *rpc, uint16_t peer)
{
	return peer == rpc->self || peer >= map_peer_count(rpc->map) ? 0 : rpc->peers[peer].link.term;
}

int64_t rpc_lease_until_ns(const Rpc *rpc, uint16_t peer, uint64_t term)
{
	const RpcLink *link;
	int64_t until_ns;

	if (peer == rpc->self)
		return INT64_MAX;
	if (peer >= map_peer_count(rpc->map))
		return 0;
	link = &rpc->peers[peer].link;
	if (!link->conn || link->term != term)
		return 0;
	until_ns = link->conn->answered_ns + RPC_LEASE_NS;
	return clock_monotonic_ns() < until_ns ? until_ns : 0;
}

static void conn_on_byte(RpcConn *conn, uint8_t byte)
{
	if (byte == BYTE_READY && !conn->connector && !conn->up) {
		conn_up(conn);
	} else if (byte == BYTE_END) {
		conn_end(conn, "the other side has ended it");
	} else if (byte == BYTE_BYE) {
		conn_end(conn, "the other side is stopping");
		rpc_session_end(conn->session);
	} else if (byte == BYTE_ASK && !conn->connector) {
		conn_say(conn, BYTE_ANSWER);
	} else if (byte == BYTE_ANSWER && conn->asked_ns) {
		conn_on_answer(conn);
	} else if (byte != BYTE_ALIVE) {
		rpc_conn_bad_message(conn);
	}
}

static void conn_read(RpcConn *conn)
{
	Uring *u = reactor_uring(conn->rpc->reactor);
	struct io_uring_sqe *sqe = uring_get_sqe(u);

	io_uring_prep_recv(sqe, conn->fd, conn->read_buf, sizeof(conn->read_buf), 0);
	uring_sqe_set_op(sqe, &conn->read_op);
	conn->reading = true;
}

static void conn_on_read(UringOp *op, int res, uint32_t flags)
{
	RpcConn *conn = (RpcConn *)((char *)op - offsetof(RpcConn, read_op));

	conn->reading = false;
	conn->heard_ns = reactor_now_ns(conn->rpc->reactor);
	for (int i = 0; i < res && !conn->failed; i++)
		conn_on_byte(conn, conn->read_buf[i]);
	if (conn->failed) {
		conn_wake_closer(conn);
	} else if (res > 0) {
		conn_read(conn);
	} else {
		rpc_conn_dead(conn, res == 0 ? "the other side is gone" : g_strerror(-res));
	}
}

void rpc_conns_say_bye(Rpc *rpc)
{
	g_autoptr(GList) all = conns_list(rpc);

	for (GList *l = all; l; l = l->next)
		conn_say(l->data, BYTE_BYE);
}

static void pulse_fire(ReactorTimer *t)
{
	Rpc *rpc = (Rpc *)((char *)t - offsetof(Rpc, pulse));
	g_autoptr(GList) all = conns_list(rpc);
	int64_t now = reactor_now_ns(rpc->reactor);

	for (GList *l = all; l; l = l->next) {
		RpcConn *conn = l->data;

		if (conn->failed)
			continue;
		if (now - conn->heard_ns > DEAD_NS && conn->reading)
			rpc_conn_dead(conn, "no sign of life for 4 s");
		else if (conn->up && !conn_say(conn, conn_next_sign(conn)))
			rpc_conn_dead(conn, g_strerror(errno));
		else if (conn->up && !rpc_ping_check(conn, now))
			rpc_conn_dead(conn, "UCX carries no messages: does a firewall close its ports?");
	}
	rpc_pulse_start(rpc);
}

void rpc_pulse_start(Rpc *rpc)
{
	rpc->pulse.fire = pulse_fire;
	reactor_timer_arm(rpc->reactor, &rpc->pulse, reactor_now_ns(rpc->reactor) + PULSE_NS);
}

/* ---- the beginning ---- */

void rpc_handshake_init(Rpc *rpc, Handshake *h, int fd, bool connector, uint16_t target)
{
	HelloIntro *mine;

	*h = (Handshake) {
		.reactor = rpc->reactor,
		.fd = fd,
		.until_ns = reactor_now_ns(rpc->reactor) + HANDSHAKE_NS,
		.connector = connector,
		.peer_count = map_peer_count(rpc->map),
		.stopping = rpc->stopping,
		.talk = { .secret = rpc->secret, .secret_len = rpc->secret_len },
	};
	mine = handshake_mine(h);
	hello_intro_init(mine);
	memcpy(mine->cluster_id, rpc->cluster_id, sizeof(mine->cluster_id));
	map_digest(rpc->map, mine->map_digest);
	mine->session = rpc->session;
	mine->peer = rpc->self;
	mine->target = target;
}

static void conn_on_broken(void *arg, int error)
{
	rpc_conn_dead(arg, g_strerror(-error));
}

static int conn_open_ep(RpcConn *conn, const void *address)
{
	int r = conn->failed ? -ECONNRESET : ucx_ep_new(conn->rpc->ucx, address, conn_on_broken, conn, &conn->ep);

	if (r == 0)
		rpc_ucx_begin(conn);
	return r;
}

static RpcConn *conn_new(Rpc *rpc, const Handshake *h, RpcPeer *peer, const HelloIntro *theirs)
{
	RpcConn *conn = g_new0(RpcConn, 1);

	*conn = (RpcConn) {
		.rpc = rpc,
		.refs = 2, /* the table's and the caller's */
		.fd = h->fd,
		.connector = h->connector,
		.peer = peer,
		.token = rpc_random(),
		.session = rpc_session_get(rpc, theirs->session, theirs->peer),
		.read_op.done = conn_on_read,
		.timer.fire = conn_timer_fire,
		.generation = ucx_generation(rpc->ucx),
		.heard_ns = reactor_now_ns(rpc->reactor),
		.ucx_heard_ns = reactor_now_ns(rpc->reactor),
		.answered_ns = h->until_ns - HANDSHAKE_NS, /* all of the handshake came later */
	};
	conn->link = peer ? &peer->link : &conn->session->link;
	g_hash_table_insert(rpc->conns, &conn->token, conn);
	return conn;
}

static void conn_learn(RpcConn *conn, const HelloSetup *theirs)
{
	conn->peer_token = theirs->token;
	conn->serial = theirs->serial;
}

static int coroutine_fn conn_co_setup_connector(RpcConn *conn, Handshake *h, HelloSetup *mine, GBytes *address)
{
	uint8_t their_address[UCX_ADDRESS_MAX];
	HelloSetup theirs;
	int r = handshake_co_send_setup(h, mine, g_bytes_get_data(address, NULL), g_bytes_get_size(address));

	if (r < 0)
		return r;
	r = handshake_co_recv_setup(h, &theirs, their_address);
	if (r < 0)
		return r;
	conn_learn(conn, &theirs);
	r = conn_open_ep(conn, their_address);
	if (r < 0)
		return r;
	conn_read(conn);
	conn_up(conn);
	conn_say(conn, BYTE_READY);
	return 0;
}

static int coroutine_fn conn_co_setup_listener(RpcConn *conn, Handshake *h, HelloSetup *mine, GBytes *address)
{
	uint8_t their_address[UCX_ADDRESS_MAX];
	HelloSetup theirs;
	int r = handshake_co_recv_setup(h, &theirs, their_address);

	if (r < 0)
		return r;
	conn->session->begun = true;
	if (conn->rpc->begins)
		conn->rpc->begins(conn->rpc->begins_ctx, conn->session->id, conn->session->peer);
	rpc_session_drop_conns(conn->session, conn);
	conn_learn(conn, &theirs);
	r = conn_open_ep(conn, their_address);
	if (r < 0)
		return r;
	r = handshake_co_send_setup(h, mine, g_bytes_get_data(address, NULL), g_bytes_get_size(address));
	if (r < 0 || conn->failed)
		return r < 0 ? r : -ECONNRESET;
	conn->heard_ns = reactor_now_ns(conn->rpc->reactor);
	conn_read(conn);
	return 0;
}

int coroutine_fn rpc_conn_co_establish(Rpc *rpc, Handshake *h, RpcPeer *peer)
{
	g_autoptr(GBytes) address = NULL;
	HelloSetup mine = { .token = 0 };
	const void *own;
	RpcConn *conn;
	size_t len;
	int r;

	while (rpc->dirty && !rpc->stopping)
		co_queue_wait(&rpc->clean);
	if (rpc->stopping) {
		close(h->fd);
		return -ESHUTDOWN;
	}
	/* A copy: the worker may be reset while we wait; the connection has then
	 * failed. */
	own = ucx_address(rpc->ucx, &len);
	address = g_bytes_new(own, len);
	conn = conn_new(rpc, h, peer, handshake_theirs(h));
	mine = (HelloSetup) { .token = conn->token, .serial = conn->session->serial };
	r = h->connector ? conn_co_setup_connector(conn, h, &mine, address) : conn_co_setup_listener(conn, h, &mine, address);
	if (r < 0)
		rpc_conn_fail(conn, g_strerror(-r));
	rpc_conn_unref(conn);
	return r;
}
