/* From options to what a node needs, checked. */
#include "src/plan.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "src/mounts.h"
#include "src/peers.h"

#define CHUNK_SHIFT_MIN 16
#define CHUNK_SHIFT_MAX 30
#define INLINE_MAX 65536u
#define INLINE_DEFAULT 4096u
#define FSNAME_MAX 200u
#define FUSE_CONF "/etc/fuse.conf"

static bool is_client(const Options *o)
{
	return o->client || !g_strcmp0(o->store, "none");
}

static bool check_sizes(RunPlan *p, GError **error)
{
	const Options *o = p->o;

	if (options_given(o, "chunk-size")) {
		uint64_t size = o->chunk_size;
		if (size < UINT64_C(1) << CHUNK_SHIFT_MIN || size > UINT64_C(1) << CHUNK_SHIFT_MAX || size & (size - 1)) {
			options_set_error(error, "--chunk-size must be a power of two from 64K to 1G, not %" G_GUINT64_FORMAT, size);
			return false;
		}
		p->node.chunk_shift = (uint8_t)g_bit_nth_lsf((gulong)size, -1);
	}
	p->node.inline_max = INLINE_DEFAULT;
	if (options_given(o, "inline-max")) {
		if (o->inline_max > INLINE_MAX) {
			options_set_error(error, "--inline-max must be at most 64K, not %" G_GUINT64_FORMAT, o->inline_max);
			return false;
		}
		p->node.inline_max = o->inline_max ? (uint32_t)o->inline_max : UINT32_MAX;
	}
	p->node.reserve_bytes = o->reserve;
	return true;
}

static MountChannel channel_from_word(const char *word)
{
	if (!g_strcmp0(word, "classic"))
		return MOUNT_CHANNEL_CLASSIC;
	if (!g_strcmp0(word, "uring"))
		return MOUNT_CHANNEL_URING;
	return MOUNT_CHANNEL_AUTO;
}

/* ---- peers ---- */

static bool check_alone(const RunPlan *p, GError **error)
{
	const Options *o = p->o;
	const char *what = o->listen ? "--listen" : is_client(o) ? "a mount without a store" : !p->mountpoint ? "serve" : NULL;

	if (!what)
		return true;
	options_set_error(error, "%s needs the list of peers: --peers or --hostfile", what);
	return false;
}

static bool plan_peers(RunPlan *p, GError **error)
{
	const Options *o = p->o;

	p->node.network = o->peers || o->hostfile;
	if (!p->node.network && !check_alone(p, error))
		return false;
	p->map = peers_map(o, error);
	if (!p->map)
		return false;
	if (!p->node.network)
		return true;
	g_autofree char *path = o->secret_file ? g_strdup(o->secret_file) : secret_default_path();
	p->secret = secret_load(path, error);
	p->node.secret = p->secret;
	if (!p->secret)
		return false;
	if (!is_client(o))
		return peers_find_self(p->map, o->listen, &p->node.self, error);
	if (o->listen) {
		options_set_error(error, "--listen is for peers with a store; a client listens nowhere");
		return false;
	}
	p->node.self = PEER_NONE;
	return true;
}

/* ---- the store ---- */

static char *default_store(void)
{
	if (geteuid() == 0)
		return g_strdup("/var/lib/benchfs");
	return g_build_filename(g_get_user_data_dir(), "benchfs", NULL);
}

static bool plan_store(RunPlan *p, GError **error)
{
	if (is_client(p->o)) {
		if (p->mountpoint)
			return true;
		options_set_error(error, "serve needs a store: name its directory with --store");
		return false;
	}
	p->store = p->o->store ? g_strdup(p->o->store) : default_store();
	p->node.store = p->store;
	struct stat st;
	if (stat(p->store, &st) == 0 && !S_ISDIR(st.st_mode)) {
		options_set_error(error, "the store %s is not a directory", p->store);
		return false;
	}
	if (p->mountpoint && (!strcmp(p->store, p->mountpoint) || (g_str_has_prefix(p->store, p->mountpoint) && p->store[strlen(p->mountpoint)] == '/'))) {
		options_set_error(error, "the store %s lies inside the mount point %s; name another directory with --store", p->store, p->mountpoint);
		return false;
	}
	return true;
}

/* ---- the mount ---- */

static bool fuse_conf_allows_other(void)
{
	g_autofree char *text = NULL;

	if (!g_file_get_contents(FUSE_CONF, &text, NULL, NULL))
		return false;
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	for (char **l = lines; *l; l++)
		if (!strcmp(g_strstrip(*l), "user_allow_other"))
			return true;
	return false;
}

static bool plan_kernel_opts(RunPlan *p, Options *o, GError **error)
{
	if (geteuid() == 0)
		options_set_default_flag(o, "allow_other");
	else if (options_has_flag(o, "allow_other") && !fuse_conf_allows_other()) {
		options_set_error(error, "-o allow_other is for root, unless " FUSE_CONF " says user_allow_other");
		return false;
	}
	p->kernel_opts = options_kernel_list(o);
	p->node.kernel_opts = p->kernel_opts;
	p->node.channel = channel_from_word(o->channel);
	return true;
}

static bool check_mountpoint(const char *path, GError **error)
{
	struct stat st;
	g_autoptr(MountEntry) e = mounts_find(path);

	if (e && e->is_benchfs) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_EXIST, "%s is a BenchFS mount already; 'benchfs umount %s' ends it", path, path);
		return false;
	}
	if (stat(path, &st) < 0) {
		options_set_error(error, "cannot mount at %s: %s", path, g_strerror(errno));
		return false;
	}
	if (!S_ISDIR(st.st_mode)) {
		options_set_error(error, "cannot mount at %s: it is not a directory", path);
		return false;
	}
	return true;
}

/* First column of /proc/mounts: says whose mount it is, in a length that
 * people and the kernel bear. */
static char *make_fsname(const RunPlan *p, const char *source)
{
	g_autofree char *list = NULL;

	if (source)
		return g_strdup(source);
	if (p->o->hostfile)
		return g_strdup(p->o->hostfile);
	if (p->o->peers) {
		g_auto(GStrv) words = g_strsplit_set(p->o->peers, ", \t\n", -1);
		g_autoptr(GString) s = g_string_new(NULL);
		for (char **w = words; *w; w++)
			if (**w)
				g_string_append_printf(s, "%s%s", s->len ? "," : "", *w);
		list = g_string_free(g_steal_pointer(&s), false);
	}
	return g_strdup(list && strlen(list) <= FSNAME_MAX ? list : "benchfs");
}

static bool plan_mount(RunPlan *p, Options *o, const char *mountpoint, const char *source, GError **error)
{
	if (!mountpoint)
		return true;
	p->mountpoint = mounts_resolve(mountpoint);
	p->node.mountpoint = p->mountpoint;
	p->fsname = make_fsname(p, source);
	p->node.fsname = p->fsname;
	return plan_kernel_opts(p, o, error) && check_mountpoint(p->mountpoint, error);
}

/* The log itself is opened by the daemon. */
static bool check_log(const Options *o, GError **error)
{
	g_autoptr(GError) why = NULL;
	g_autoptr(Log) log = log_setup(o->log, NULL, &why);

	if (!log)
		options_set_error(error, "--log: %s", why->message);
	return log;
}

RunPlan *run_plan_new(Options *o, const char *mountpoint, const char *source, GError **error)
{
	g_autoptr(RunPlan) p = g_new0(RunPlan, 1);

	p->o = o;
	if (!plan_mount(p, o, mountpoint, source, error) || !check_sizes(p, error) || !check_log(o, error) ||
	    !plan_peers(p, error) || !plan_store(p, error))
		return NULL;
	return g_steal_pointer(&p);
}

void run_plan_free(RunPlan *p)
{
	if (!p)
		return;
	map_free(p->map);
	g_clear_pointer(&p->secret, g_bytes_unref);
	g_free(p->store);
	g_free(p->mountpoint);
	g_free(p->fsname);
	g_free(p->kernel_opts);
	g_free(p);
}
