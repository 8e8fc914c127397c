/*
 * Puts a peer together: store, space guard, metadata, objects, and the parts
 * that serve them. Taken apart in the opposite order.
 */
#define G_LOG_DOMAIN "server"
#include "server/server.h"

#include <string.h>
#include <unistd.h>

#include "server/crashpoint.h"
#include "server/exclusive.h"
#include "server/filemap.h"
#include "server/internal.h"
#include "server/leases.h"
#include "server/seq.h"
#include "server/sessions.h"
#include "server/store.h"

#define DEFAULT_CHUNK_SHIFT 22
#define DEFAULT_INLINE_MAX 4096u
#define REMOVED_MAX 1024
#define INLINE_MAX_MAX 65536u

static bool normalise(ServerOptions *o, GError **error)
{
	if (o->default_chunk_shift == 0)
		o->default_chunk_shift = DEFAULT_CHUNK_SHIFT;
	if (o->default_chunk_shift < 12 || o->default_chunk_shift > 30) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "chunk size: must be from 4 KiB to 1 GiB");
		return false;
	}
	if (o->inline_max == 0)
		o->inline_max = DEFAULT_INLINE_MAX;
	else if (o->inline_max == UINT32_MAX)
		o->inline_max = 0;
	if (o->inline_max > INLINE_MAX_MAX) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "inline size: must be at most 64 KiB");
		return false;
	}
	return true;
}

static bool open_store(Server *s, GError **error)
{
	StoreOptions so = { .path = s->opts.store_path, .peer = s->self, .peers = map_peer_count(s->map),
		.embedded = s->opts.embedded };

	memcpy(so.cluster_id, s->opts.cluster_id, sizeof(so.cluster_id));
	map_digest(s->map, so.digest);
	s->store = store_open(&so, error);
	return s->store != NULL;
}

static void add_counters(Server *s)
{
	counters_add(s->opts.counters, "data.inline_reads", &s->stats.inline_reads);
	counters_add(s->opts.counters, "data.inline_writes", &s->stats.inline_writes);
	counters_add(s->opts.counters, "data.object_writes", &s->stats.object_writes);
}

static void remove_counters(Server *s)
{
	counters_remove(s->opts.counters, &s->stats.inline_reads);
	counters_remove(s->opts.counters, &s->stats.inline_writes);
	counters_remove(s->opts.counters, &s->stats.object_writes);
}

static bool open_parts(Server *s, GError **error)
{
	s->space = space_new(store_dirfd(s->store), s->opts.reserve_bytes);
	g_autofree char *meta_path = store_meta_path(s->store);
	s->meta = meta_open(s->reactor, s->opts.counters, meta_path, error);
	if (!s->meta)
		return false;
	int objects_fd = store_open_objects(s->store, error);
	if (objects_fd < 0)
		return false;
	s->objects = objects_new(s->reactor, s->opts.counters, s->space, objects_fd);
	s->seqs = sequences_new(s);
	s->inodes = inode_cache_new(s);
	s->holds = holds_new();
	s->orphans = orphans_new(s);
	s->txns = txns_new(s);
	s->tree = tree_new();
	s->removed = removed_new(REMOVED_MAX);
	s->sessions = sessions_new(s);
	s->locks = locks_new(s);
	s->leases = leases_new(s);
	s->maps = filemaps_new(s);
	add_counters(s);
	s->cuts = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	return true;
}

typedef struct Load {
	Server *s;
	int r;
} Load;

static void coroutine_fn load(void *arg)
{
	Load *l = arg;

	l->r = names_co_make_root(l->s);
	if (l->r >= 0)
		l->r = leases_co_load(l->s);
	if (l->r >= 0)
		l->r = leases_co_start(l->s);
	if (l->r >= 0)
		l->r = sessions_co_load(l->s);
	if (l->r >= 0)
		l->r = orphans_co_load(l->s);
	/* unfinished changes hold orphans */
	if (l->r >= 0)
		l->r = txns_co_load(l->s);
	if (l->r >= 0)
		l->r = data_co_load(l->s);
	if (l->r >= 0)
		l->r = locks_co_load(l->s);
}

Server *server_new(const ServerOptions *opts, GError **error)
{
	Server *s = g_new0(Server, 1);

	s->opts = *opts;
	s->reactor = opts->reactor;
	s->map = opts->map;
	s->self = opts->self;
	s->crash_at = crash_point_from_environment();
	s->started_ns = g_get_monotonic_time() * 1000;
	if (!normalise(&s->opts, error) || !open_store(s, error) || !open_parts(s, error)) {
		server_free(s);
		return NULL;
	}
	Load l = { .s = s };
	reactor_run_co(s->reactor, load, &l);
	if (l.r < 0) {
		g_set_error(error, G_FILE_ERROR, (gint)g_file_error_from_errno(-l.r), "store %s: can't read its metadata: %s",
			store_path(s->store), g_strerror(-l.r));
		server_free(s);
		return NULL;
	}
	g_message("store %s of peer %u: %s", store_path(s->store), s->self, store_is_new(s->store) ? "made" : "opened");
	return s;
}

const uint8_t *server_cluster_id(const Server *s)
{
	return store_cluster_id(s->store);
}

void server_attach(Server *s, Rpc *rpc)
{
	s->rpc = rpc;
	sessions_attach(s);
	names_attach(s);
	attrs_attach(s);
	xattrs_attach(s);
	txns_attach(s);
	tree_attach(s);
	orphans_attach(s);
	data_attach(s);
	locks_attach(s);
	leases_attach(s);
	exclusive_attach(s);
	peer_attach(s);
	objects_attach(s->objects, rpc);
	fsck_attach(s);
}

static void coroutine_fn recover(void *arg)
{
	data_co_recover(arg);
}

void server_start(Server *s)
{
	s->recovering.sched = reactor_sched(s->reactor);
	co_group_spawn(&s->recovering, recover, s);
	txns_start(s);
	orphans_start(s);
}

void coroutine_fn server_co_stop(Server *s)
{
	s->stopping = true;
	locks_co_stop(s);
	sessions_co_stop(s);
	co_group_wait(&s->recovering);
	txns_co_stop(s);
	sequences_co_stop(s);
	orphans_co_stop(s);
	leases_co_stop(s);
	int r = meta_co_sync(s->meta);
	if (r < 0)
		g_warning("store %s: can't sync its log: %s", store_path(s->store), g_strerror(-r));
}

void server_free(Server *s)
{
	if (!s)
		return;
	if (s->cuts) {
		remove_counters(s);
		g_hash_table_destroy(s->cuts);
	}
	filemaps_free(s->maps);
	leases_free(s->leases);
	locks_free(s->locks);
	sessions_free(s->sessions);
	removed_free(s->removed);
	tree_free(s->tree);
	txns_free(s->txns);
	orphans_free(s->orphans);
	holds_free(s->holds);
	inode_cache_free(s->inodes);
	sequences_free(s->seqs);
	objects_free(s->objects);
	meta_close(s->meta);
	space_free(s->space);
	store_close(s->store);
	g_free(s);
}
