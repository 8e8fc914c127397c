/* Batches: what happens as one. */
#include <errno.h>
#include <string.h>

#include "server/meta-internal.h"

/* From so many keys on one range tombstone is cheaper than theirs. */
#define MAX_POINT_DELETES 64

struct MetaBatch {
	Meta *m;
	rocksdb_writebatch_t *wb;
	bool has_range; /* rocksdb_writebatch_iterate() stops at range deletes */
};

MetaBatch *meta_batch_new(Meta *m)
{
	MetaBatch *b = g_new(MetaBatch, 1);

	*b = (MetaBatch) { .m = m, .wb = g_steal_pointer(&m->spare) };
	if (!b->wb)
		b->wb = rocksdb_writebatch_create();
	return b;
}

void meta_batch_free(MetaBatch *b)
{
	if (!b)
		return;
	if (b->m->spare) {
		rocksdb_writebatch_destroy(b->wb);
	} else {
		rocksdb_writebatch_clear(b->wb);
		b->m->spare = b->wb;
	}
	g_free(b);
}

void meta_batch_put(MetaBatch *b, const void *key, size_t key_len, const void *value, size_t len)
{
	rocksdb_writebatch_put(b->wb, key, key_len, value, len);
}

void meta_batch_delete(MetaBatch *b, const void *key, size_t key_len)
{
	rocksdb_writebatch_delete(b->wb, key, key_len);
}

/* ---- deleting all that starts with a prefix ---- */

typedef struct Doomed {
	const uint8_t *prefix;
	size_t len;
	GPtrArray *keys; /* of GBytes */
} Doomed;

static void doomed_add(void *arg, const char *key, size_t key_len, const char *value, size_t len)
{
	Doomed *d = arg;

	if (key_len >= d->len && memcmp(key, d->prefix, d->len) == 0)
		g_ptr_array_add(d->keys, g_bytes_new(key, key_len));
}

static void ignore_deleted(void *arg, const char *key, size_t key_len)
{
}

/* The keys in the database, when they are few and all of that is known without
 * touching the disk. Nobody else can add one meanwhile: the inode is locked. */
static bool find_stored(MetaBatch *b, Doomed *d, const uint8_t *end, size_t end_len)
{
	bool known = false;
	char *err = NULL;
	rocksdb_readoptions_t *o = rocksdb_readoptions_create();

	rocksdb_readoptions_set_read_tier(o, 1);
	rocksdb_readoptions_set_iterate_upper_bound(o, (const char *)end, end_len);
	rocksdb_iterator_t *it = rocksdb_create_iterator(b->m->db, o);
	for (rocksdb_iter_seek(it, (const char *)d->prefix, d->len); rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
		size_t len;
		const char *key = rocksdb_iter_key(it, &len);

		if (d->keys->len == MAX_POINT_DELETES)
			goto out;
		g_ptr_array_add(d->keys, g_bytes_new(key, len));
	}
	rocksdb_iter_get_error(it, &err);
	known = !err;
out:
	rocksdb_free(err);
	rocksdb_iter_destroy(it);
	rocksdb_readoptions_destroy(o);
	return known;
}

/*
 * RocksDB's range tombstones make every later read slower until they are
 * compacted away, so a few keys, which is what nearly every inode has, are
 * deleted one by one: those stored and those put earlier in this batch.
 */
void meta_batch_delete_prefix(MetaBatch *b, const void *prefix, size_t len)
{
	g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
	Doomed d = { .prefix = prefix, .len = len, .keys = keys };
	g_autofree uint8_t *end = g_malloc(len);
	size_t end_len = meta_prefix_end(prefix, len, end);

	g_assert(end_len > 0);
	if (b->has_range || !b->m->db || !find_stored(b, &d, end, end_len)) {
		rocksdb_writebatch_delete_range(b->wb, prefix, len, (const char *)end, end_len);
		b->has_range = true;
		return;
	}
	rocksdb_writebatch_iterate(b->wb, &d, doomed_add, ignore_deleted);
	for (guint i = 0; i < keys->len; i++) {
		size_t key_len;
		const void *key = g_bytes_get_data(g_ptr_array_index(keys, i), &key_len);

		rocksdb_writebatch_delete(b->wb, key, key_len);
	}
}

/* ---- committing ---- */

static int commit_with(MetaBatch *b, const rocksdb_writeoptions_t *o)
{
	char *err = NULL;

	rocksdb_write(b->m->db, o, b->wb, &err);
	return meta_status(b->m, "write", err);
}

static int commit_job(void *arg)
{
	MetaBatch *b = arg;

	return commit_with(b, b->m->write_wait);
}

static int coroutine_fn commit_once(MetaBatch *b)
{
	int r = commit_with(b, b->m->write_fast);

	if (r != -EAGAIN)
		return r;
	b->m->n_commit_thread++;
	r = meta_co_job(b->m, commit_job, b);
	return r == -EAGAIN ? -EIO : r;
}

int coroutine_fn meta_batch_co_commit(MetaBatch *b)
{
	int r = meta_co_enter(b->m);

	b->m->n_commit++;
	if (r >= 0)
		r = commit_once(b);
	if (r < 0) {
		r = meta_co_repair(b->m, r);
		if (r >= 0)
			r = commit_once(b);
	}
	meta_batch_free(b);
	return r;
}
