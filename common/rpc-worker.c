/*
 * UCX's worker: what it holds of our connections, and starting over with a new
 * one where the old one is stuck. All connections end then and are made anew;
 * calls are sent again over those, so that nobody notices more than a pause.
 */
#define G_LOG_DOMAIN "rpc"

#include "common/rpc-internal.h"

#define ABANDON_NS INT64_C(200000000)
#define RENEW_RETRY_NS INT64_C(1000000000)

static void rpc_wake_cleaner(Rpc *rpc)
{
	if (rpc->cleaner)
		co_wake(g_steal_pointer(&rpc->cleaner));
}

void rpc_ucx_begin(RpcConn *conn)
{
	conn->busy++;
	conn->rpc->ucx_busy++;
}

void rpc_ucx_end(RpcConn *conn)
{
	Rpc *rpc = conn->rpc;

	g_assert(conn->busy > 0);
	conn->busy--;
	if (--rpc->ucx_busy > 0)
		return;
	rpc_wake_cleaner(rpc);
	rpc_check_idle(rpc);
}

static void clean_timer_fire(ReactorTimer *t)
{
	Rpc *rpc = (Rpc *)((char *)t - offsetof(Rpc, clean_timer));

	rpc->clean_now = true;
	rpc_wake_cleaner(rpc);
}

/* Gives what is under way a moment to end by itself. */
static void coroutine_fn rpc_co_wait_unused(Rpc *rpc)
{
	rpc->clean_now = false;
	rpc->clean_timer.fire = clean_timer_fire;
	reactor_timer_arm(rpc->reactor, &rpc->clean_timer, reactor_now_ns(rpc->reactor) + ABANDON_NS);
	while (rpc->ucx_busy > 0 && !rpc->clean_now) {
		rpc->cleaner = co_self();
		co_yield();
	}
	reactor_timer_cancel(rpc->reactor, &rpc->clean_timer);
}

static void coroutine_fn rpc_co_clean(void *arg)
{
	Rpc *rpc = arg;

	rpc_co_wait_unused(rpc);
	ucx_abandon(rpc->ucx);
	rpc->stats.worker_resets++;
	while (!rpc->stopping) {
		int r = ucx_renew(rpc->ucx);

		if (r == 0)
			break;
		g_warning("UCX gives us no new worker: %s, trying again", g_strerror(-r));
		reactor_co_sleep(rpc->reactor, RENEW_RETRY_NS);
	}
	rpc->dirty = false;
	co_queue_wake_all(&rpc->clean);
}

void rpc_ucx_dirty(Rpc *rpc)
{
	if (rpc->dirty)
		return;
	rpc->dirty = true;
	rpc_conns_fail_all(rpc, "UCX starts over, as another peer's end left it stuck");
	rpc_spawn(rpc, CO_INTERNAL, rpc_co_clean, rpc);
}
