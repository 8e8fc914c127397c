#include "src/node.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/counters.h"
#include "common/fault.h"
#include "common/rpc.h"
#include "server/server.h"
#include "src/peers.h"
#include "src/status.h"

#define CONNECT_SLICE_NS (INT64_C(500) * 1000 * 1000)
#define STATUS_TIMEOUT_NS (INT64_C(2) * 1000 * 1000 * 1000)
/* A peer that refuses us may just be the old process of a cluster that is
 * being restarted with another list; after this long it isn't. */
#define REFUSAL_NS (INT64_C(2) * 1000 * 1000 * 1000)
#define MOUNT_POLL_NS (INT64_C(1) * 1000 * 1000)

struct Node {
	Reactor *reactor;
	ClusterMap *map;
	Counters *counters;
	Server *server; /* NULL: no store */
	Rpc *rpc;
	HeldBack *heldback; /* NULL: no store, or no other peer */
	Mount *mount;   /* NULL: none, or not yet */
	uint16_t self;
	bool network, cancelled;
	uint8_t cluster_id[16];
	int64_t started_ns;

	char *mountpoint, *fsname, *kernel_opts;
	MountChannel channel;
	void (*ended)(void *arg);
	void *ended_arg;
};

/* ---- making ---- */

/* Everyone who knows the secret finds the same id, so nobody has to be first. */
static void cluster_id_from_secret(GBytes *secret, uint8_t ret_id[16])
{
	static const char label[] = "benchfs cluster id";
	uint8_t digest[32];
	size_t len, digest_len = sizeof(digest);
	const uint8_t *key = g_bytes_get_data(secret, &len);
	GHmac *hmac = g_hmac_new(G_CHECKSUM_SHA256, key, len);

	g_hmac_update(hmac, (const uint8_t *)label, sizeof(label) - 1);
	g_hmac_get_digest(hmac, digest, &digest_len);
	g_hmac_unref(hmac);
	memcpy(ret_id, digest, 16);
}

static bool open_store(Node *n, const NodeOptions *o, GError **error)
{
	ServerOptions so = {
		.reactor = n->reactor, .counters = n->counters, .map = n->map,
		.store_path = o->store, .self = n->self, .embedded = !n->network,
		.reserve_bytes = o->reserve_bytes, .default_chunk_shift = o->chunk_shift,
		.inline_max = o->inline_max, .has_mount = o->mountpoint,
	};

	memcpy(so.cluster_id, n->cluster_id, 16);
	n->server = server_new(&so, error);
	if (!n->server)
		return false;
	memcpy(n->cluster_id, server_cluster_id(n->server), 16);
	return true;
}

static bool open_rpc(Node *n, const NodeOptions *o, GError **error)
{
	const MapPeer *me = n->network && n->self != PEER_NONE ? map_peer(n->map, n->self) : NULL;
	RpcOptions ro = {
		.reactor = n->reactor, .map = n->map, .counters = n->counters,
		.self = n->self, .network = n->network,
		.listen_host = me ? me->host : NULL, .listen_port = me ? me->port : 0,
		.ucx_tls = o->ucx_tls, .ucx_devices = o->ucx_devices,
	};

	if (o->secret)
		ro.secret = g_bytes_get_data(o->secret, &ro.secret_len);
	memcpy(ro.cluster_id, n->cluster_id, 16);
	n->rpc = rpc_new(&ro, error);
	return n->rpc;
}

Node *node_new(const NodeOptions *o, GError **error)
{
	g_autoptr(Node) n = g_new0(Node, 1);

	*n = (Node) {
		.reactor = o->reactor, .map = o->map, .counters = counters_new(),
		.self = o->self, .network = o->network, .started_ns = g_get_monotonic_time() * 1000,
		.mountpoint = g_strdup(o->mountpoint), .fsname = g_strdup(o->fsname),
		.kernel_opts = g_strdup(o->kernel_opts), .channel = o->channel,
		.ended = o->ended, .ended_arg = o->ended_arg,
	};
	if (o->network)
		cluster_id_from_secret(o->secret, n->cluster_id);
	if (o->store && !open_store(n, o, error))
		return NULL;
	if (!open_rpc(n, o, error))
		return NULL;
	if (n->server)
		server_attach(n->server, n->rpc);
	if (n->server && n->network && !(n->heldback = heldback_new(n->rpc, n->counters, o->store, error)))
		return NULL;
	return g_steal_pointer(&n);
}

void node_start(Node *n)
{
	rpc_start(n->rpc);
	if (n->server)
		server_start(n->server);
	if (n->heldback)
		heldback_start(n->heldback);
}

void node_cancel(Node *n)
{
	n->cancelled = true;
}

void coroutine_fn node_co_stop(Node *n)
{
	n->cancelled = true;
	if (n->mount)
		mount_co_stop(n->mount);
	/* What is left to tell others can wait until we are back, or is settled by
	 * the end of our session. */
	if (n->rpc)
		rpc_leave(n->rpc);
	if (n->heldback)
		heldback_co_stop(n->heldback);
	if (n->server)
		server_co_stop(n->server);
	if (n->rpc)
		rpc_co_stop(n->rpc);
}

void node_free(Node *n)
{
	if (!n)
		return;
	mount_free(n->mount);
	heldback_free(n->heldback);
	rpc_free(n->rpc);
	server_free(n->server);
	counters_free(n->counters);
	map_free(n->map);
	g_free(n->mountpoint);
	g_free(n->fsname);
	g_free(n->kernel_opts);
	g_free(n);
}

/* ---- waiting for peers ---- */

typedef struct PeerWait {
	Node *node;
	uint16_t id;
	int64_t until_ns;
	int result;
	char *reason;
} PeerWait;

static bool is_refusal(int r)
{
	return r == -EACCES || r == -EPROTO || r == -EXDEV;
}

static void coroutine_fn wait_peer(void *arg)
{
	PeerWait *w = arg;
	int64_t refused_ns = 0;

	for (;;) {
		int64_t now = reactor_now_ns(w->node->reactor);
		int64_t left = w->until_ns - now;
		g_clear_pointer(&w->reason, g_free);
		w->result = rpc_co_connect(w->node->rpc, w->id, CLAMP(left, 1, CONNECT_SLICE_NS), &w->reason);
		if (w->result >= 0 || w->node->cancelled)
			return;
		now = reactor_now_ns(w->node->reactor);
		if (!is_refusal(w->result))
			refused_ns = 0;
		else if (!refused_ns)
			refused_ns = now;
		else if (now - refused_ns > REFUSAL_NS)
			return;
		if (now >= w->until_ns)
			return;
		if (w->result != -ETIMEDOUT) /* it did not take its time: don't spin */
			reactor_co_sleep(w->node->reactor, MIN(w->until_ns - now, CONNECT_SLICE_NS / 5));
	}
}

/* A reason names its peer. */
static char *describe_missing(const Node *n, const PeerWait *waits, uint32_t count, int64_t waited_ns)
{
	g_autoptr(GString) list = g_string_new(NULL);
	uint32_t missing = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (waits[i].result >= 0)
			continue;
		g_autofree char *address = peers_format(map_peer(n->map, waits[i].id));
		g_string_append(list, missing++ ? "; " : "");
		if (waits[i].reason)
			g_string_append(list, waits[i].reason);
		else
			g_string_append_printf(list, "%s: %s", address, g_strerror(-waits[i].result));
	}
	return g_strdup_printf("after %" G_GINT64_FORMAT " s %u of %u other peers cannot be reached: %s",
			       waited_ns / 1000000000, missing, count, list->str);
}

int coroutine_fn node_co_wait_peers(Node *n, int64_t timeout_ns, char **ret_reason)
{
	uint32_t count = 0, peers = n->network ? map_peer_count(n->map) : 0;
	g_autofree PeerWait *waits = g_new0(PeerWait, peers + 1);
	CoGroup group = { .sched = reactor_sched(n->reactor) };
	int64_t began_ns = reactor_now_ns(n->reactor);
	int result = 0;

	for (uint16_t id = 0; id < peers; id++) {
		if (id == n->self)
			continue;
		PeerWait *w = &waits[count++];
		*w = (PeerWait) { .node = n, .id = id, .until_ns = began_ns + timeout_ns };
		co_group_spawn(&group, wait_peer, w);
	}
	co_group_wait(&group);
	for (uint32_t i = 0; i < count; i++)
		if (waits[i].result < 0 && !is_refusal(result))
			result = waits[i].result;
	if (result < 0 && n->cancelled)
		result = -ECANCELED;
	else if (result < 0) {
		*ret_reason = describe_missing(n, waits, count, reactor_now_ns(n->reactor) - began_ns);
		result = is_refusal(result) ? -EACCES : -ETIMEDOUT;
	}
	for (uint32_t i = 0; i < count; i++)
		g_free(waits[i].reason);
	return result;
}

/* ---- the mount ---- */

static char *coroutine_fn mount_status(void *arg)
{
	return node_co_status(arg);
}

static void mount_ended(void *arg)
{
	Node *n = arg;

	n->cancelled = true;
	if (n->ended)
		n->ended(n->ended_arg);
}

bool node_mount(Node *n, GError **error)
{
	MountOptions mo = {
		.reactor = n->reactor, .counters = n->counters, .rpc = n->rpc,
		.mountpoint = n->mountpoint, .fsname = n->fsname, .kernel_opts = n->kernel_opts,
		.alone = !n->network, .channel = n->channel,
		.max_proto_minor = fault("fuse.protocol_31") ? 31 : 0,
		.store_peer = n->server ? n->self : PEER_NONE, .heldback = n->heldback,
		.status = mount_status, .status_arg = n,
		.ended = mount_ended, .ended_arg = n,
	};

	n->mount = mount_new(&mo, error);
	if (!n->mount)
		return false;
	mount_start(n->mount);
	return true;
}

/* On a thread: the kernel asks us for the answer. */
static int stat_mountpoint(void *arg)
{
	struct stat st;

	return stat(arg, &st) < 0 ? -errno : 0;
}

int coroutine_fn node_co_wait_mount(Node *n, int64_t timeout_ns, char **ret_reason)
{
	int64_t until_ns = reactor_now_ns(n->reactor) + timeout_ns;

	while (!mount_is_ready(n->mount)) {
		if (n->cancelled)
			return -ECANCELED;
		if (reactor_now_ns(n->reactor) > until_ns) {
			*ret_reason = g_strdup_printf("the kernel did not start to use the mount at %s", n->mountpoint);
			return -ETIMEDOUT;
		}
		reactor_co_sleep(n->reactor, MOUNT_POLL_NS);
	}
	int r = reactor_co_work(n->reactor, stat_mountpoint, n->mountpoint);
	if (r < 0)
		*ret_reason = g_strdup_printf("the mount at %s does not answer: %s", n->mountpoint, g_strerror(-r));
	return r < 0 && n->cancelled ? -ECANCELED : r;
}

/* ---- status ---- */

typedef struct PeerAsk {
	Node *node;
	StatusPeer *peer;
} PeerAsk;

static void coroutine_fn ask_peer(void *arg)
{
	PeerAsk *a = arg;
	Node *n = a->node;
	StatusPeer *p = a->peer;
	WireNone req = { 0 };
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &p->info, .timeout_ns = STATUS_TIMEOUT_NS };
	int r = 0;

	if (p->id != n->self)
		r = rpc_co_connect(n->rpc, p->id, STATUS_TIMEOUT_NS, &p->reason);
	if (r >= 0) {
		g_clear_pointer(&p->reason, g_free);
		r = rpc_co_call(n->rpc, p->id, WIRE_PEER_INFO, &call);
	}
	if (r < 0 && !p->reason)
		p->reason = g_strdup(g_strerror(-r));
	p->state = g_strdup(r < 0 ? "down" : p->id == n->self ? "self" : "up");
}

static void coroutine_fn ask_peers(Node *n, Status *s)
{
	uint32_t count = map_peer_count(n->map);
	g_autofree PeerAsk *asks = g_new0(PeerAsk, count);
	CoGroup group = { .sched = reactor_sched(n->reactor) };

	for (uint16_t id = 0; id < count; id++) {
		StatusPeer *p = status_add_peer(s);
		p->id = id;
		p->address = peers_format(map_peer(n->map, id));
		p->slots = map_slots_of_peer(n->map, id);
		asks[id] = (PeerAsk) { .node = n, .peer = p };
		co_group_spawn(&group, ask_peer, &asks[id]);
	}
	co_group_wait(&group);
}

static char *hex_of_id(const uint8_t id[16])
{
	GString *s = g_string_new(NULL);

	for (int i = 0; i < 16; i++)
		g_string_append_printf(s, "%02x", id[i]);
	return g_string_free(s, false);
}

char *coroutine_fn node_co_status(Node *n)
{
	g_autoptr(Status) s = status_new();

	s->version = g_strdup(BENCHFS_VERSION);
	s->mount = n->mount ? g_strdup(n->mountpoint) : NULL;
	s->channel = n->mount ? g_strdup(mount_channel(n->mount) == MOUNT_CHANNEL_URING ? "uring" : "classic") : NULL;
	s->cluster = hex_of_id(n->cluster_id);
	s->pid = (uint64_t)getpid();
	s->uptime_s = (uint64_t)(g_get_monotonic_time() * 1000 - n->started_ns) / 1000000000;
	s->epoch = map_epoch(n->map);
	s->self = n->self == PEER_NONE ? g_strdup("client") : g_strdup_printf("%u", n->self);
	ask_peers(n, s);
	return status_to_text(s);
}
