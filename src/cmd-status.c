/* What a mount says of itself and its peers; or, given the peers, what they
 * say when asked by a client that mounts nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/commands.h"
#include "src/mounts.h"
#include "src/node.h"
#include "src/peers.h"
#include "src/status.h"

#define STATUS_TIMEOUT_S 10
/* benchfs.status under a name for which the kernel does not ask for the root's
 * attributes first: it works while the root's home is down. */
#define STATUS_XATTR "system.benchfs.status"

static int show(const Options *o, const char *text, const char *whose, GError **error)
{
	g_autoptr(Status) s = status_from_text(text);

	if (!s) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s gave a status that this version does not understand", whose);
		return -1;
	}
	g_autofree char *shown = o->json ? status_to_json(s) : status_to_table(s);
	fputs(shown, stdout);
	return status_is_healthy(s) ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int of_mount(const Options *o, const char *path, GError **error)
{
	g_autofree char *text = mounts_get_xattr(path, STATUS_XATTR, STATUS_TIMEOUT_S);

	if (text)
		return show(o, text, path, error);
	if (errno == ENOTCONN)
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "the daemon of the mount at %s is dead; 'benchfs umount %s' clears it away", path, path);
	else if (errno == ENODATA || errno == ENOTSUP)
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s is not the root of a BenchFS mount", path);
	else
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "cannot ask %s: %s", path, g_strerror(errno));
	return -1;
}

/* ---- asking peers ---- */

typedef struct Ask {
	Node *node;
	char *text;
} Ask;

static void coroutine_fn ask(void *arg)
{
	Ask *a = arg;

	a->text = node_co_status(a->node);
	node_co_stop(a->node);
}

static char *ask_node(const NodeOptions *no, GError **error)
{
	g_autoptr(Node) node = node_new(no, error);
	Ask a = { .node = node };

	if (!node)
		return NULL;
	node_start(node);
	reactor_run_co(no->reactor, ask, &a);
	return a.text;
}

static char *ask_peers(const Options *o, GError **error)
{
	ReactorOptions ro = { 0 };
	g_autofree char *path = o->secret_file ? g_strdup(o->secret_file) : secret_default_path();
	NodeOptions no = {
		.network = true, .self = PEER_NONE, .channel = MOUNT_CHANNEL_AUTO,
		.ucx_tls = o->transport, .ucx_devices = o->net_devices,
	};
	char *text = NULL;

	no.secret = secret_load(path, error);
	if (!no.secret)
		return NULL;
	no.map = peers_map(o, error);
	if (no.map)
		no.reactor = reactor_new(&ro, error);
	if (no.reactor)
		text = ask_node(&no, error);
	else
		map_free(no.map);
	reactor_free(no.reactor);
	g_bytes_unref(no.secret);
	return text;
}

static int of_peers(const Options *o, GError **error)
{
	g_autofree char *text = ask_peers(o, error);

	return text ? show(o, text, "the node", error) : -1;
}

/* ---- which ---- */

static int of_all_mounts(const Options *o, const GPtrArray *mounts, GError **error)
{
	int worst = EXIT_SUCCESS;

	for (uint32_t i = 0; i < mounts->len; i++) {
		const MountEntry *e = g_ptr_array_index(mounts, i);
		if (i && !o->json)
			putchar('\n');
		int status = of_mount(o, e->path, error);
		if (status < 0)
			return status;
		worst = MAX(worst, status);
	}
	return worst;
}

int cmd_status(char **argv, GError **error)
{
	g_auto(Options) o = { 0 };

	options_init(&o);
	if (!options_parse_args(&o, CMD_STATUS, argv, error))
		return -1;
	if (*o.args) {
		const char *arg = options_one_arg(&o, CMD_STATUS, "mount point", error);
		g_autofree char *path = arg ? mounts_resolve(arg) : NULL;
		return path ? of_mount(&o, path, error) : -1;
	}
	g_autoptr(GPtrArray) mounts = mounts_list();
	if (mounts->len && !o.peers && !o.hostfile && !o.config)
		return of_all_mounts(&o, mounts, error);
	if (!options_parse(&o, CMD_STATUS, argv, error))
		return -1;
	if (o.peers || o.hostfile)
		return of_peers(&o, error);
	g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "no BenchFS is mounted here; name the peers to ask with --peers or --hostfile");
	return -1;
}
