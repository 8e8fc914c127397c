/*
 * nullfs: a FUSE file system of the same channels as BenchFS with nothing
 * behind them. What it does in a second is what FUSE itself can carry here.
 *
 * It stays in the foreground until it is unmounted or gets a SIGINT or
 * SIGTERM. Requests are answered on the reactor's own stack: no operation
 * waits for anything.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <glib-unix.h>

#include "fuse/channel.h"
#include "fuse/init.h"
#include "nulltree.h"

typedef struct NullFs {
	Reactor *reactor;
	Counters *counters;
	Follow *follow;
	NullTree *tree;
	struct fuse_session *session;
	Channel *classic, *uring;
	Request *current;        /* the one libfuse works on */
	struct fuse_init_in init; /* as it came */
	InitWishes wishes;
	uint64_t flags;          /* agreed with the kernel */
} NullFs;

typedef struct NullOptions {
	char *channel; /* NULL: auto */
	double timeout_s;
	gboolean no_follow, verbose;
} NullOptions;

/* ---- requests and replies ---- */

static void *reply_buffer(void *arg, fuse_req_t req, size_t size)
{
	NullFs *fs = arg;

	return request_reply_buffer(fs->current, size);
}

static ssize_t session_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	NullFs *fs = null_tree_arg(userdata);
	const struct fuse_out_header *out = iov[0].iov_base;
	int r;

	if (fs->current->in->opcode == FUSE_INIT && !out->error && count == 2)
		fs->flags = init_reply(&fs->init, &fs->wishes, iov[1].iov_base);
	r = request_reply(fs->current, iov, count);
	if (r < 0) {
		errno = -r;
		return -1;
	}
	return out->len;
}

/* libfuse wants one, and has no reason to call it: channels read. */
static ssize_t session_read(int fd, void *buf, size_t len, void *userdata)
{
	errno = ENOTSUP;
	return -1;
}

static void coroutine_fn co_start_uring(void *arg)
{
	NullFs *fs = arg;
	int r = channel_co_start(fs->uring);

	if (r < 0) {
		g_warning("FUSE over io_uring: %s, using /dev/fuse", g_strerror(-r));
		channel_free(g_steal_pointer(&fs->uring));
	}
}

static void limit_init(NullFs *fs, Request *req)
{
	struct fuse_init_in *in = (struct fuse_init_in *)(req->in + 1);
	size_t len = req->len - sizeof(*req->in);

	init_limit(in, len, &fs->wishes);
	memcpy(&fs->init, in, MIN(len, sizeof(fs->init)));
}

static void on_request(void *arg, Request *req)
{
	NullFs *fs = arg;
	struct fuse_buf buf = { .mem = req->in, .size = req->len };
	bool is_init = req->in->opcode == FUSE_INIT;

	if (is_init)
		limit_init(fs, req);
	fs->current = req;
	fuse_session_process_buf(fs->session, &buf);
	fs->current = NULL;
	request_done(req);
	if (is_init && fs->flags & FUSE_OVER_IO_URING)
		co_spawn(reactor_sched(fs->reactor), CO_INTERNAL, co_start_uring, fs);
}

static void on_ended(void *arg, int error)
{
	NullFs *fs = arg;

	reactor_quit(fs->reactor);
}

static gboolean on_signal(gpointer arg)
{
	NullFs *fs = arg;

	reactor_quit(fs->reactor);
	return G_SOURCE_REMOVE;
}

/* ---- life ---- */

static void watch_signal(NullFs *fs, int signum)
{
	GSource *source = g_unix_signal_source_new(signum);

	g_source_set_callback(source, on_signal, fs, NULL);
	g_source_attach(source, reactor_context(fs->reactor));
	g_source_unref(source);
}

static bool mount_session(NullFs *fs, const char *mountpoint)
{
	static const struct fuse_custom_io io = { .writev = session_writev, .read = session_read };
	char *argv[] = { (char *)"nullfs", (char *)"-ofsname=nullfs,subtype=nullfs,default_permissions", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(2, argv);
	int fd;

	fs->session = fuse_session_new(&args, null_tree_ops(), sizeof(*null_tree_ops()), fs->tree);
	fuse_opt_free_args(&args);
	if (!fs->session || fuse_session_mount(fs->session, mountpoint) < 0)
		return false;
	fd = fuse_session_fd(fs->session);
	return fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && fuse_session_custom_io(fs->session, &io, fd) == 0;
}

static void make_channels(NullFs *fs)
{
	const ChannelOptions opts = {
		.reactor = fs->reactor, .counters = fs->counters, .follow = fs->follow,
		.fd = fuse_session_fd(fs->session), .max_write = fs->wishes.max_write,
		.sink = { .request = on_request, .ended = on_ended, .arg = fs },
	};

	fs->classic = channel_classic_new(&opts);
	if (fs->wishes.uring)
		fs->uring = channel_uring_new(&opts);
}

static void coroutine_fn co_start(void *arg)
{
	NullFs *fs = arg;

	channel_co_start(fs->classic);
}

static void coroutine_fn co_stop(void *arg)
{
	NullFs *fs = arg;

	if (fs->uring)
		channel_co_stop(fs->uring);
	channel_co_stop(fs->classic);
}

static void run(NullFs *fs)
{
	watch_signal(fs, SIGINT);
	watch_signal(fs, SIGTERM);
	reactor_run_co(fs->reactor, co_start, fs);
	reactor_run(fs->reactor);
	fuse_session_unmount(fs->session);
	reactor_run_co(fs->reactor, co_stop, fs);
}

static void nullfs_clear(NullFs *fs)
{
	channel_free(fs->uring);
	if (fs->classic)
		channel_free(fs->classic);
	follow_free(fs->follow);
	if (fs->session)
		fuse_session_destroy(fs->session);
	null_tree_free(fs->tree);
	reactor_free(fs->reactor);
	counters_free(fs->counters);
}

static bool want_uring(const NullOptions *opts, Reactor *r)
{
	bool demanded = g_strcmp0(opts->channel, "uring") == 0;
	const char *reason;

	if (g_strcmp0(opts->channel, "classic") == 0)
		return false;
	if (channel_uring_available(r, &reason))
		return true;
	if (demanded) {
		fprintf(stderr, "nullfs: no FUSE over io_uring: %s\n", reason);
		exit(1);
	}
	return false;
}

static int serve(const NullOptions *opts, const char *mountpoint, GError **error)
{
	const ReactorOptions reactor_opts = { 0 };
	NullFs fs = { .counters = counters_new() };
	NullTreeOptions tree_opts = { .timeout_s = opts->timeout_s, .reply_buffer = reply_buffer, .arg = &fs };
	int r = 1;

	fs.reactor = reactor_new(&reactor_opts, error);
	if (!fs.reactor)
		return 1;
	fs.wishes = (InitWishes) {
		.alone = true, .uring = want_uring(opts, fs.reactor), .max_write = init_max_write(),
	};
	if (!opts->no_follow)
		fs.follow = follow_new(fs.reactor);
	fs.tree = null_tree_new(&tree_opts);
	if (mount_session(&fs, mountpoint)) {
		make_channels(&fs);
		run(&fs);
		r = 0;
	}
	if (opts->verbose) {
		g_autofree char *text = counters_to_text(fs.counters, false);

		fputs(text, stderr);
		if (fs.follow)
			fprintf(stderr, "follow: pins %" G_GUINT64_FORMAT " moves %" G_GUINT64_FORMAT
				" releases %" G_GUINT64_FORMAT "\n", follow_get_stats(fs.follow)->pins,
				follow_get_stats(fs.follow)->moves, follow_get_stats(fs.follow)->releases);
	}
	nullfs_clear(&fs);
	return r;
}

int main(int argc, char **argv)
{
	NullOptions opts = { .timeout_s = 3600 };
	const GOptionEntry entries[] = {
		{ "channel", 0, 0, G_OPTION_ARG_STRING, &opts.channel, "auto, classic or uring", "NAME" },
		{ "timeout", 0, 0, G_OPTION_ARG_DOUBLE, &opts.timeout_s, "how long the kernel may cache", "SECONDS" },
		{ "no-follow", 0, 0, G_OPTION_ARG_NONE, &opts.no_follow, "never share the caller's core", NULL },
		{ "verbose", 'v', 0, G_OPTION_ARG_NONE, &opts.verbose, "print counters at the end", NULL },
		{ 0 },
	};
	g_autoptr(GOptionContext) context = g_option_context_new("MOUNTPOINT");
	g_autoptr(GError) error = NULL;
	int r;

	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse(context, &argc, &argv, &error) || argc != 2) {
		fprintf(stderr, "nullfs: %s\n", error ? error->message : "one mount point is needed");
		return 2;
	}
	if (opts.channel && strcmp(opts.channel, "auto") && strcmp(opts.channel, "classic") && strcmp(opts.channel, "uring")) {
		fprintf(stderr, "nullfs: --channel: there is no %s\n", opts.channel);
		return 2;
	}
	r = serve(&opts, argv[1], &error);
	if (error)
		fprintf(stderr, "nullfs: %s\n", error->message);
	g_free(opts.channel);
	return r;
}
