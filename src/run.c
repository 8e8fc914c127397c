/* The life of a daemon: from a checked plan to its end. */
#include "src/run.h"

#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/log.h"
#include "src/daemon.h"
#include "src/plan.h"
#include "src/predecessor.h"
#include "src/runlock.h"

typedef struct Run {
	RunPlan *plan;
	Daemon *daemon; /* NULL: in the foreground */
	Log *log;
	Reactor *reactor;
	Node *node;
	Runlock *runlock;
	bool ending;
	GSource *signals[3];
} Run;

/* ---- what ends it ---- */

static void run_end(Run *run)
{
	run->ending = true;
	if (run->node)
		node_cancel(run->node);
	reactor_quit(run->reactor);
}

static gboolean on_terminate(void *arg)
{
	g_message("asked to end");
	run_end(arg);
	return G_SOURCE_CONTINUE;
}

static gboolean on_hangup(void *arg)
{
	Run *run = arg;

	if (!run->daemon) /* its terminal is gone */
		return on_terminate(run);
	log_reopen(run->log);
	return G_SOURCE_CONTINUE;
}

static void on_mount_ended(void *arg)
{
	g_message("unmounted");
	run_end(arg);
}

static GSource *watch_signal(Run *run, int number, GSourceFunc fn)
{
	GSource *s = g_unix_signal_source_new(number);

	g_source_set_callback(s, fn, run, NULL);
	g_source_attach(s, reactor_context(run->reactor));
	return s;
}

static void watch_signals(Run *run)
{
	signal(SIGPIPE, SIG_IGN);
	run->signals[0] = watch_signal(run, SIGTERM, on_terminate);
	run->signals[1] = watch_signal(run, SIGINT, on_terminate);
	run->signals[2] = watch_signal(run, SIGHUP, on_hangup);
}

/* From here on a second signal ends the process the hard way. */
static void unwatch_signals(Run *run)
{
	for (uint32_t i = 0; i < G_N_ELEMENTS(run->signals); i++) {
		if (!run->signals[i])
			continue;
		g_source_destroy(run->signals[i]);
		g_clear_pointer(&run->signals[i], g_source_unref);
	}
}

/* ---- starting ---- */

typedef struct Wait {
	Node *node;
	int64_t timeout_ns;
	int result;
	char *reason;
} Wait;

static void coroutine_fn wait_peers(void *arg)
{
	Wait *w = arg;

	w->result = node_co_wait_peers(w->node, w->timeout_ns, &w->reason);
}

static void coroutine_fn wait_mount(void *arg)
{
	Wait *w = arg;

	w->result = node_co_wait_mount(w->node, w->timeout_ns, &w->reason);
}

static bool run_wait(Run *run, CoFn *fn, GError **error)
{
	Wait w = { .node = run->node, .timeout_ns = (int64_t)run->plan->o->wait_s * 1000000000 };

	reactor_run_co(run->reactor, fn, &w);
	g_autofree char *reason = w.reason;
	if (w.result >= 0)
		return true;
	g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
			    reason ? reason : run->ending ? "ended before it was ready" : g_strerror(-w.result));
	return false;
}

/* Everything that serves is in place when this returns true. */
static bool run_start(Run *run, GError **error)
{
	RunPlan *p = run->plan;

	p->node.reactor = run->reactor;
	p->node.map = g_steal_pointer(&p->map);
	p->node.ended = on_mount_ended;
	p->node.ended_arg = run;
	if (p->store) {
		g_autofree char *parent = g_path_get_dirname(p->store);
		g_mkdir_with_parents(parent, 0755); /* opening the store tells what failed */
		if (p->mountpoint)
			predecessor_wait(p->mountpoint, p->store);
	}
	run->node = node_new(&p->node, error);
	if (!run->node)
		return false;
	node_start(run->node);
	if (!p->mountpoint)
		return true;
	if (!run_wait(run, wait_peers, error))
		return false;
	run->runlock = runlock_take(p->mountpoint);
	return node_mount(run->node, error) && run_wait(run, wait_mount, error);
}

static bool run_publish(Run *run, GError **error)
{
	const Options *o = run->plan->o;

	if (o->pid_file && !daemon_write_pid(o->pid_file, error))
		return false;
	g_message("version " BENCHFS_VERSION " is ready: %s%s%s%s", run->plan->mountpoint ? "mounted at " : "serving",
		  run->plan->mountpoint ? run->plan->mountpoint : "",
		  run->plan->store ? ", store " : ", no store", run->plan->store ? run->plan->store : "");
	daemon_ready(run->daemon);
	return true;
}

/* ---- the whole of it ---- */

static void coroutine_fn stop_node(void *arg)
{
	node_co_stop(arg);
}

static bool run_open(Run *run, GError **error)
{
	const Options *o = run->plan->o;
	const char *path = o->log_file ? o->log_file : run->daemon ? "syslog" : NULL;
	ReactorOptions ro = { 0 };

	daemon_raise_nofile();
	run->log = log_setup(o->log, path, error);
	if (!run->log)
		return false;
	run->reactor = reactor_new(&ro, error);
	return run->reactor;
}

static bool run_serve(Run *run, GError **error)
{
	watch_signals(run);
	bool ok = run_start(run, error) && run_publish(run, error);
	if (ok && !run->ending)
		reactor_run(run->reactor);
	if (run->node)
		reactor_run_co(run->reactor, stop_node, run->node);
	if (ok && run->plan->o->pid_file)
		unlink(run->plan->o->pid_file);
	return ok;
}

static void run_close(Run *run)
{
	node_free(run->node);
	unwatch_signals(run);
	reactor_free(run->reactor);
	runlock_release(run->runlock);
	log_free(run->log);
	daemon_free(run->daemon);
}

int run_plan_execute(RunPlan *plan)
{
	Run run = { .plan = plan };
	g_autoptr(GError) error = NULL;
	int status;

	if (!plan->o->foreground && !daemon_fork(&run.daemon, &status))
		return status;
	if (run.daemon && chdir("/") < 0)
		g_message("cannot leave the working directory, ignoring");
	bool ok = run_open(&run, &error) && run_serve(&run, &error);
	if (!ok) {
		fprintf(stderr, "benchfs: %s\n", error->message);
		if (run.log)
			g_warning("%s", error->message);
	} else {
		g_message("ended");
	}
	run_close(&run);
	return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
