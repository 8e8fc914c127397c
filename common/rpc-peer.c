/*
 * Peers of the map as somebody to call. The first call connects; from then on
 * a coroutine connects again whenever the connection is lost, at once and then
 * at growing intervals, so that the peer is back when it is back and not when
 * somebody next asks for it.
 */
#define G_LOG_DOMAIN "rpc"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net.h"
#include "common/rpc-internal.h"

#define BACKOFF_MIN_NS INT64_C(100000000)
#define BACKOFF_MAX_NS INT64_C(2000000000)
/* A connection that was lost before that had not been worth much. */
#define STABLE_NS INT64_C(5000000000)

/* ---- pausing between attempts ---- */

static void peer_end_pause(RpcPeer *peer)
{
	Co *co = g_steal_pointer(&peer->paused);

	reactor_timer_cancel(peer->rpc->reactor, &peer->timer);
	if (co)
		co_wake(co);
}

static void peer_timer_fire(ReactorTimer *t)
{
	peer_end_pause((RpcPeer *)((char *)t - offsetof(RpcPeer, timer)));
}

static void coroutine_fn peer_co_pause(RpcPeer *peer)
{
	Rpc *rpc = peer->rpc;
	int64_t now = reactor_now_ns(rpc->reactor);
	int64_t until = now + peer->backoff_ns, down = peer->link.away_ns + rpc->deadline_ns;

	if (peer->backoff_ns == 0 || rpc->stopping)
		return;
	/* One attempt decides in time whether it is down. */
	if (down > now && down < until)
		until = down;
	reactor_timer_arm(rpc->reactor, &peer->timer, until);
	peer->paused = co_self();
	while (peer->paused)
		co_yield();
}

static void peer_grow_backoff(RpcPeer *peer)
{
	peer->backoff_ns = CLAMP(peer->backoff_ns * 2, BACKOFF_MIN_NS, BACKOFF_MAX_NS);
}

/* ---- connecting ---- */

static char *peer_explain_connect(const RpcPeer *peer, int error)
{
	switch (error) {
	case -ECONNREFUSED:
		return g_strdup_printf("%s refuses connections: is benchfs running there?", peer->name);
	case -ENXIO:
	case -EAGAIN:
		return g_strdup_printf("%s: its host name can't be resolved", peer->name);
	case -ETIME:
	case -ETIMEDOUT:
		return g_strdup_printf("%s does not answer: is the machine up, or a firewall in between?", peer->name);
	default:
		return g_strdup_printf("%s can't be reached: %s", peer->name, g_strerror(-error));
	}
}

static int coroutine_fn peer_co_greet(RpcPeer *peer, char **ret_reason)
{
	Rpc *rpc = peer->rpc;
	Handshake h;
	int r;

	rpc_handshake_init(rpc, &h, peer->fd, true, peer->id);
	r = handshake_co_prove(&h);
	peer->fd = -1;
	if (r < 0)
		close(h.fd);
	else
		r = rpc_conn_co_establish(rpc, &h, peer);
	if (r == -EHOSTUNREACH)
		*ret_reason = g_strdup_printf("%s has no UCX transport in common with this peer: check the transports and network devices of both", peer->name);
	else if (r < 0)
		*ret_reason = handshake_explain(&h, r, peer->name);
	return r;
}

static int coroutine_fn peer_co_attempt(RpcPeer *peer, char **ret_reason)
{
	const MapPeer *where = map_peer(peer->rpc->map, peer->id);
	Reactor *reactor = peer->rpc->reactor;
	int r = net_co_connect(reactor, where->host, where->port, reactor_now_ns(reactor) + HANDSHAKE_NS, &peer->fd);

	if (r < 0) {
		*ret_reason = peer_explain_connect(peer, r);
		return r;
	}
	return peer_co_greet(peer, ret_reason);
}

static void peer_check_down(RpcPeer *peer)
{
	Rpc *rpc = peer->rpc;

	if (peer->link.down || reactor_now_ns(rpc->reactor) - peer->link.away_ns < rpc->deadline_ns)
		return;
	peer->link.down = true;
	if (!peer->said_down)
		g_warning("%s; calls to it fail until it is back", peer->reason);
	peer->said_down = true;
	rpc_link_wake(&peer->link);
}

static void coroutine_fn peer_co_main(void *arg)
{
	RpcPeer *peer = arg;
	Rpc *rpc = peer->rpc;
	int r = -EAGAIN;

	while (r < 0 && !rpc->stopping) {
		char *reason = NULL;

		peer_co_pause(peer);
		if (rpc->stopping)
			break;
		r = peer_co_attempt(peer, &reason);
		g_free(peer->reason);
		peer->reason = reason;
		peer->error = r;
		peer->attempts++;
		if (r < 0) {
			rpc->stats.connect_failures++;
			peer_check_down(peer);
		}
		peer_grow_backoff(peer);
		co_queue_wake_all(&peer->waiters);
	}
	peer->connecting = false;
	co_queue_wake_all(&peer->waiters);
	/* It may have been lost again before we came here. */
	if (r == 0 && !peer->link.conn)
		rpc_peer_want(peer);
}

void rpc_peer_want(RpcPeer *peer)
{
	if (peer->connecting || peer->link.conn || peer->rpc->stopping)
		return;
	if (peer->link.away_ns == 0)
		peer->link.away_ns = reactor_now_ns(peer->rpc->reactor);
	peer->connecting = true;
	rpc_spawn(peer->rpc, CO_INTERNAL, peer_co_main, peer);
}

void rpc_peer_up(RpcPeer *peer)
{
	peer->up_ns = reactor_now_ns(peer->rpc->reactor);
	peer->rpc->stats.connects++;
	if (peer->said_lost || peer->said_down)
		g_message("%s is back", peer->name);
	else
		g_info("connected to %s", peer->name);
	peer->said_lost = peer->said_down = false;
}

void rpc_peer_lost(RpcPeer *peer, const char *why)
{
	Rpc *rpc = peer->rpc;

	if (rpc->stopping)
		return;
	if (!peer->said_lost)
		g_message("connection to %s lost: %s", peer->name, why);
	peer->said_lost = true;
	if (reactor_now_ns(rpc->reactor) - peer->up_ns > STABLE_NS)
		peer->backoff_ns = 0;
	rpc_peer_want(peer);
}

/* ---- what others ask ---- */

static bool peer_refused(int error)
{
	return error == -EACCES || error == -EPROTO || error == -EXDEV;
}

/* Wakes who waits for an attempt, when their time is over. */
typedef struct ConnectWait {
	ReactorTimer timer;
	RpcPeer *peer;
	bool over;
} ConnectWait;

static void connect_wait_fire(ReactorTimer *t)
{
	ConnectWait *w = (ConnectWait *)((char *)t - offsetof(ConnectWait, timer));

	w->over = true;
	co_queue_wake_all(&w->peer->waiters);
}

static int coroutine_fn peer_co_wait(RpcPeer *peer, int64_t timeout_ns)
{
	Rpc *rpc = peer->rpc;
	ConnectWait w = { .timer.fire = connect_wait_fire, .peer = peer };
	uint64_t seen = peer->attempts;

	reactor_timer_arm(rpc->reactor, &w.timer, reactor_now_ns(rpc->reactor) + timeout_ns);
	while (!peer->link.conn && !w.over && !rpc->stopping) {
		if (peer->attempts != seen && peer_refused(peer->error))
			break;
		rpc_peer_want(peer);
		co_queue_wait(&peer->waiters);
	}
	reactor_timer_cancel(rpc->reactor, &w.timer);
	if (peer->link.conn)
		return 0;
	return peer_refused(peer->error) ? peer->error : -ETIMEDOUT;
}

int coroutine_fn rpc_co_connect(Rpc *rpc, uint16_t id, int64_t timeout_ns, char **ret_reason)
{
	RpcPeer *peer;
	int r;

	if (id == rpc->self && id != PEER_NONE)
		return 0;
	if (!rpc->network || id >= map_peer_count(rpc->map)) {
		if (ret_reason)
			*ret_reason = g_strdup_printf("there is no peer %u", id);
		return -ETIMEDOUT;
	}
	peer = &rpc->peers[id];
	peer_end_pause(peer);
	r = peer_co_wait(peer, timeout_ns);
	if (r < 0 && ret_reason)
		*ret_reason = peer->reason ? g_strdup(peer->reason) : g_strdup_printf("%s did not answer in time", peer->name);
	return r;
}

RpcPeerState rpc_peer_state(const Rpc *rpc, uint16_t id)
{
	const RpcPeer *peer;

	if (id == rpc->self && id != PEER_NONE)
		return RPC_PEER_SELF;
	if (!rpc->network || id >= map_peer_count(rpc->map))
		return RPC_PEER_IDLE;
	peer = &rpc->peers[id];
	if (peer->link.conn)
		return RPC_PEER_UP;
	if (peer->link.down)
		return RPC_PEER_DOWN;
	return peer->connecting ? RPC_PEER_CONNECTING : RPC_PEER_IDLE;
}

/* ---- making and ending ---- */

void rpc_peers_init(Rpc *rpc)
{
	uint32_t n = map_peer_count(rpc->map);

	rpc->peers = g_new0(RpcPeer, n);
	for (uint16_t id = 0; id < n; id++) {
		RpcPeer *peer = &rpc->peers[id];
		const MapPeer *where = map_peer(rpc->map, id);

		*peer = (RpcPeer) { .rpc = rpc, .id = id, .fd = -1, .timer.fire = peer_timer_fire };
		if (where->host)
			peer->name = g_strdup_printf(strchr(where->host, ':') ? "peer %u ([%s]:%u)" : "peer %u (%s:%u)", id, where->host, where->port);
		rpc_link_init(&peer->link);
	}
}

void rpc_peers_stop(Rpc *rpc)
{
	for (uint32_t id = 0; id < map_peer_count(rpc->map); id++) {
		RpcPeer *peer = &rpc->peers[id];

		peer_end_pause(peer);
		if (peer->fd >= 0)
			shutdown(peer->fd, SHUT_RDWR);
		rpc_link_wake(&peer->link);
		co_queue_wake_all(&peer->waiters);
	}
}

void rpc_peers_deinit(Rpc *rpc)
{
	for (uint32_t id = 0; id < map_peer_count(rpc->map); id++) {
		RpcPeer *peer = &rpc->peers[id];

		rpc_link_deinit(&peer->link);
		g_free(peer->name);
		g_free(peer->reason);
	}
	g_free(rpc->peers);
}
