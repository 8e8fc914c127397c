/*
 * Connections that others make. Until one has proved the secret it is one of
 * at most HANDSHAKES_MAX, has HANDSHAKE_NS, and costs a descriptor and a
 * coroutine; whatever goes wrong closes it and counts.
 */
#define G_LOG_DOMAIN "rpc"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net.h"
#include "common/rpc-internal.h"

#define HANDSHAKES_MAX 64u
#define ACCEPT_PAUSE_NS INT64_C(100000000)
#define LOG_EVERY_NS INT64_C(10000000000)

typedef struct Greeting {
	Rpc *rpc;
	int fd;
	GList node;
} Greeting;

static void greeting_log(Rpc *rpc, const Handshake *h, int error)
{
	g_autofree char *who = NULL, *text = NULL;
	uint32_t dropped;

	/* Who merely goes away may be looking whether the port is open. */
	if ((error != -EACCES && error != -EXDEV && error != -EPROTO) || !log_limit(&rpc->refused_log, reactor_now_ns(rpc->reactor), LOG_EVERY_NS, &dropped))
		return;
	who = net_remote_name(h->fd);
	if (error == -EACCES)
		text = g_strdup("could not prove the secret");
	else if (error == -EPROTO && !h->version)
		text = g_strdup("what it sends is no BenchFS peer's");
	else
		text = handshake_explain(h, error, "it");
	g_warning("refused a connection from %s: %s (and %u others before)", who, text, dropped);
}

static void coroutine_fn greeting_co_main(void *arg)
{
	Greeting *g = arg;
	Rpc *rpc = g->rpc;
	Handshake h;
	int r;

	net_tune(g->fd);
	rpc_handshake_init(rpc, &h, g->fd, false, PEER_NONE);
	r = handshake_co_prove(&h);
	if (r < 0) {
		rpc->stats.bad_handshake += r != -EXDEV && r != -ESHUTDOWN;
		rpc->stats.refused += r == -EACCES || r == -EXDEV;
		greeting_log(rpc, &h, r);
	}
	rpc->handshakes--;
	g_queue_unlink(&rpc->greeted, &g->node);
	if (r < 0)
		close(h.fd);
	else if (rpc_conn_co_establish(rpc, &h, NULL) == 0)
		rpc->stats.accepts++;
	g_free(g);
}

static void accept_greet(Rpc *rpc, int fd)
{
	Greeting *g;

	if (rpc->handshakes >= HANDSHAKES_MAX) {
		rpc->stats.bad_handshake++;
		close(fd);
		return;
	}
	g = g_new0(Greeting, 1);
	*g = (Greeting) { .rpc = rpc, .fd = fd, .node.data = g };
	rpc->handshakes++;
	g_queue_push_tail_link(&rpc->greeted, &g->node);
	rpc_spawn(rpc, CO_INTERNAL, greeting_co_main, g);
}

static void coroutine_fn accept_co_main(void *arg)
{
	Rpc *rpc = arg;

	while (!rpc->stopping) {
		int fd = uring_co_accept(reactor_uring(rpc->reactor), rpc->listen_fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0 && rpc->stopping)
			close(fd);
		else if (fd >= 0)
			accept_greet(rpc, fd);
		else if (!rpc->stopping && fd != -ECONNABORTED && fd != -EINTR)
			/* No descriptor or memory left: others must give some back. */
			reactor_co_sleep(rpc->reactor, ACCEPT_PAUSE_NS);
	}
}

void rpc_accept_start(Rpc *rpc)
{
	if (rpc->listen_fd >= 0)
		rpc_spawn(rpc, CO_INTERNAL, accept_co_main, rpc);
}

void rpc_accept_stop(Rpc *rpc)
{
	if (rpc->listen_fd >= 0)
		shutdown(rpc->listen_fd, SHUT_RDWR); /* ends the accept */
	for (GList *l = rpc->greeted.head; l; l = l->next)
		shutdown(((Greeting *)l->data)->fd, SHUT_RDWR);
}
