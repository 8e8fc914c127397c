/*
 * RocksDB behind an interface that never blocks the reactor.
 *
 * Reads ask for what is in memory (memtables and block cache) on the reactor,
 * which takes about a microsecond; where RocksDB answers "incomplete" they are
 * done again on a thread. Writes go to the log and the memtable on the reactor
 * (a write(2) into the page cache); where that would stall, on a thread.
 *
 * When a write meets a full disk RocksDB stops to take any more. It has lost
 * nothing, but only opening it again is a way out that is certain. So once a
 * write fails and there is room again, the database is closed and opened
 * behind the Meta: new calls wait, calls on threads are waited for, iterators
 * give up their place and find it again. A batch whose write failed half-way
 * is cut off by the recovery of the log.
 */
#define G_LOG_DOMAIN "server"
#include "server/meta.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "server/meta-internal.h"

/*
 * Memory: an idle peer is to stay under 60 MiB and most of that is for the rest
 * of the program, so at most 16 MiB of blocks and 3 x 8 MiB of memtables, which
 * grow only as they are filled.
 */
#define CACHE_BYTES (16u << 20)
#define MEMTABLE_BYTES (8u << 20)
#define MEMTABLES 3
#define MAX_OPEN_FILES 256
#define INFO_LOG_BYTES (1u << 20)
#define MANIFEST_BYTES (16u << 20)
#define BLOOM_BITS 10.0
#define CACHE_TIER 1 /* rocksdb::kBlockCacheTier */
#define WARN_LEVEL 2
#define REPAIR_INTERVAL_US (1 * G_USEC_PER_SEC)
/* What opening needs beyond the memtables that it flushes. */
#define REOPEN_MARGIN (4u << 20)

int meta_status(const Meta *m, const char *what, char *err)
{
	int r = -EIO;

	if (!err)
		return 0;
	if (g_str_has_prefix(err, "Result incomplete"))
		r = -EAGAIN;
	else if (strstr(err, "No space left") || strstr(err, "quota exceeded"))
		r = -ENOSPC;
	else
		g_warning("metadata in '%s': can't %s: %s", m->path, what, err);
	rocksdb_free(err);
	return r;
}

size_t meta_prefix_end(const uint8_t *prefix, size_t len, uint8_t *ret_end)
{
	while (len > 0 && prefix[len - 1] == 0xff)
		len--;
	if (len == 0)
		return 0;
	memcpy(ret_end, prefix, len);
	ret_end[len - 1]++;
	return len;
}

/* ---- opening ---- */

static void set_tables(rocksdb_options_t *o, rocksdb_cache_t *cache)
{
	rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();

	rocksdb_block_based_options_set_block_cache(t, cache);
	/* absent names are asked for all the time: PATH searches, includes */
	rocksdb_block_based_options_set_filter_policy(t, rocksdb_filterpolicy_create_bloom(BLOOM_BITS));
	rocksdb_block_based_options_set_format_version(t, 5);
	/* indexes and filters count, or many tables would grow without bound */
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 1);
	rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(t, 1);
	rocksdb_options_set_block_based_table_factory(o, t);
	rocksdb_block_based_options_destroy(t);
}

static rocksdb_options_t *make_options(rocksdb_cache_t *cache)
{
	rocksdb_options_t *o = rocksdb_options_create();

	set_tables(o, cache);
	rocksdb_options_set_create_if_missing(o, 1);
	rocksdb_options_set_write_buffer_size(o, MEMTABLE_BYTES);
	rocksdb_options_set_max_write_buffer_number(o, MEMTABLES);
	rocksdb_options_set_memtable_prefix_bloom_size_ratio(o, 0.05);
	rocksdb_options_set_memtable_whole_key_filtering(o, 1);
	rocksdb_options_set_allow_concurrent_memtable_write(o, 0); /* one writer: the reactor */
	rocksdb_options_set_compression(o, rocksdb_lz4_compression);
	rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
	rocksdb_options_set_max_background_jobs(o, 2);
	rocksdb_options_set_bytes_per_sync(o, 1 << 20);
	rocksdb_options_set_max_open_files(o, MAX_OPEN_FILES);
	rocksdb_options_set_max_manifest_file_size(o, MANIFEST_BYTES);
	rocksdb_options_set_info_log_level(o, WARN_LEVEL);
	rocksdb_options_set_max_log_file_size(o, INFO_LOG_BYTES);
	rocksdb_options_set_keep_log_file_num(o, 2);
	rocksdb_options_set_stats_dump_period_sec(o, 0); /* an idle peer sleeps */
	rocksdb_options_set_stats_persist_period_sec(o, 0);
	return o;
}

static void add_counters(Meta *m)
{
	const struct { const char *name; uint64_t *value; } rows[] = {
		{ "meta.get", &m->n_get }, { "meta.get_thread", &m->n_get_thread },
		{ "meta.commit", &m->n_commit }, { "meta.commit_thread", &m->n_commit_thread },
		{ "meta.sync", &m->n_sync }, { "meta.reopen", &m->n_reopen },
	};

	for (size_t i = 0; m->counters && i < G_N_ELEMENTS(rows); i++)
		counters_add(m->counters, rows[i].name, rows[i].value);
}

static void remove_counters(Meta *m)
{
	uint64_t *values[] = { &m->n_get, &m->n_get_thread, &m->n_commit, &m->n_commit_thread, &m->n_sync, &m->n_reopen };

	for (size_t i = 0; m->counters && i < G_N_ELEMENTS(values); i++)
		counters_remove(m->counters, values[i]);
}

Meta *meta_open(Reactor *r, Counters *c, const char *path, GError **error)
{
	char *err = NULL;
	Meta *m = g_new0(Meta, 1);

	*m = (Meta) {
		.reactor = r, .counters = c, .path = g_strdup(path),
		.cache = rocksdb_cache_create_lru(CACHE_BYTES),
		.read_cached = rocksdb_readoptions_create(), .read_full = rocksdb_readoptions_create(),
		.write_fast = rocksdb_writeoptions_create(), .write_wait = rocksdb_writeoptions_create(),
	};
	m->options = make_options(m->cache);
	rocksdb_readoptions_set_read_tier(m->read_cached, CACHE_TIER);
	rocksdb_writeoptions_set_no_slowdown(m->write_fast, 1);
	add_counters(m);
	m->db = rocksdb_open(m->options, path, &err);
	if (err) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "metadata in '%s': %s", path, err);
		rocksdb_free(err);
		g_clear_pointer(&m, meta_close);
	}
	return m;
}

void meta_close(Meta *m)
{
	if (!m)
		return;
	g_assert(!m->iters && m->jobs == 0);
	if (m->db)
		rocksdb_close(m->db);
	if (m->spare)
		rocksdb_writebatch_destroy(m->spare);
	rocksdb_options_destroy(m->options);
	rocksdb_cache_destroy(m->cache);
	rocksdb_readoptions_destroy(m->read_cached);
	rocksdb_readoptions_destroy(m->read_full);
	rocksdb_writeoptions_destroy(m->write_fast);
	rocksdb_writeoptions_destroy(m->write_wait);
	remove_counters(m);
	g_free(m->path);
	g_free(m);
}

/* ---- opening again ---- */

typedef struct Reopen {
	Meta *m;
	rocksdb_t *db; /* in: to be closed, or NULL; out: the new one, or NULL */
} Reopen;

static int reopen_job(void *arg)
{
	Reopen *x = arg;
	char *err = NULL;

	if (x->db)
		rocksdb_close(x->db);
	x->db = rocksdb_open(x->m->options, x->m->path, &err);
	return meta_status(x->m, "open it again", err);
}

static int coroutine_fn meta_co_reopen(Meta *m)
{
	m->reopening = true;
	while (m->jobs > 0)
		co_queue_wait(&m->idle);
	while (m->iters)
		meta_iter_detach(m->iters);
	Reopen x = { .m = m, .db = g_steal_pointer(&m->db) };
	int r = reactor_co_work(m->reactor, reopen_job, &x);
	m->db = x.db;
	m->n_reopen++;
	m->reopening = false;
	m->reopen_at = g_get_monotonic_time() + REPAIR_INTERVAL_US;
	co_queue_wake_all(&m->reopened);
	if (r >= 0)
		g_message("metadata in '%s': opened again after a failed write", m->path);
	return r;
}

/* Opening writes the memtables out. */
static bool has_room(Meta *m)
{
	struct statvfs v;
	uint64_t memtables = MEMTABLES * MEMTABLE_BYTES;

	if (statvfs(m->path, &v) < 0)
		return true;
	if (m->db)
		rocksdb_property_int(m->db, "rocksdb.cur-size-all-mem-tables", &memtables);
	return (uint64_t)v.f_bavail * v.f_frsize >= memtables + REOPEN_MARGIN;
}

int coroutine_fn meta_co_repair(Meta *m, int r)
{
	if (m->reopening)
		return meta_co_enter(m);
	if (!has_room(m))
		return m->db ? r : -ENOSPC;
	if (g_get_monotonic_time() < m->reopen_at)
		return r;
	int r2 = meta_co_reopen(m);
	return r2 < 0 ? r : 0;
}

int coroutine_fn meta_co_enter(Meta *m)
{
	while (m->reopening)
		co_queue_wait(&m->reopened);
	return m->db ? 0 : meta_co_repair(m, -EIO);
}

int coroutine_fn meta_co_job(Meta *m, ReactorWork *fn, void *arg)
{
	m->jobs++;
	int r = reactor_co_work(m->reactor, fn, arg);
	if (--m->jobs == 0)
		co_queue_wake_all(&m->idle);
	return r;
}

/* ---- reading ---- */

typedef struct Get {
	Meta *m;
	const void *key;
	size_t key_len;
	char *value;
	size_t len;
} Get;

static int get_from(Get *g, const rocksdb_readoptions_t *o)
{
	char *err = NULL;

	g->value = rocksdb_get(g->m->db, o, g->key, g->key_len, &g->len, &err);
	if (err)
		return meta_status(g->m, "read", err);
	return g->value ? 0 : -ENOENT;
}

static int get_job(void *arg)
{
	Get *g = arg;

	return get_from(g, g->m->read_full);
}

int coroutine_fn meta_co_get(Meta *m, const void *key, size_t key_len, MetaValue *ret_value)
{
	Get g = { .m = m, .key = key, .key_len = key_len };
	int r = meta_co_enter(m);

	if (r < 0)
		return r;
	m->n_get++;
	r = get_from(&g, m->read_cached);
	if (r == -EAGAIN) {
		m->n_get_thread++;
		r = meta_co_job(m, get_job, &g);
	}
	if (r < 0)
		return r == -ENOENT ? r : -EIO;
	*ret_value = (MetaValue) { .data = (const uint8_t *)g.value, .len = g.len, .priv = g.value };
	return 0;
}

void meta_value_clear(MetaValue *v)
{
	if (v->priv)
		rocksdb_free(v->priv);
	*v = (MetaValue) { 0 };
}

typedef struct Reading {
	Meta *m;
	MetaReader *fn;
	void *arg;
} Reading;

static int reading_job(void *arg)
{
	Reading *r = arg;

	return r->fn(r->m->db, r->arg);
}

int coroutine_fn meta_co_read(Meta *m, MetaReader *fn, void *arg)
{
	Reading reading = { .m = m, .fn = fn, .arg = arg };
	int r = meta_co_enter(m);

	return r < 0 ? r : meta_co_job(m, reading_job, &reading);
}

/* ---- syncing ---- */

static int sync_job(void *arg)
{
	Meta *m = arg;
	char *err = NULL;

	rocksdb_flush_wal(m->db, 1, &err);
	return meta_status(m, "sync the log", err);
}

static int coroutine_fn meta_co_sync_once(Meta *m)
{
	int r = meta_co_enter(m);

	if (r < 0)
		return r;
	m->n_sync++;
	r = meta_co_job(m, sync_job, m);
	return r == -EAGAIN ? -EIO : r;
}

/* Only a sync that starts after the call counts; all who come while one runs
 * share the next. */
int coroutine_fn meta_co_sync(Meta *m)
{
	uint64_t wanted = m->sync_started + 1;

	while (m->sync_done < wanted) {
		if (m->syncing) {
			co_queue_wait(&m->sync_waiters);
			continue;
		}
		m->syncing = true;
		m->sync_started++;
		m->sync_result = meta_co_sync_once(m);
		m->sync_done = m->sync_started;
		m->syncing = false;
		co_queue_wake_all(&m->sync_waiters);
	}
	return m->sync_result;
}
