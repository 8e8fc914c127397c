/*
 * Iterators. Entries are fetched ahead, a few first and then more, into a
 * buffer of the iterator: in memory on the reactor, else on a thread. What the
 * caller sees is a copy, so that the database can be reopened under it.
 */
#include <errno.h>
#include <string.h>

#include "server/meta-internal.h"
#include "server/record.h"

#define FETCH_MIN 8
#define FETCH_MAX 512
#define FETCH_BYTES (256u << 10)

typedef struct Entry {
	size_t key, key_len, value, len; /* offsets into buf */
} Entry;

struct MetaIter {
	Meta *m;
	MetaIter *next, **link; /* in m->iters, while it has a snapshot */
	rocksdb_iterator_t *it;
	rocksdb_readoptions_t *options; /* bound and snapshot; must outlive `it` */
	const rocksdb_snapshot_t *snapshot;
	uint8_t upper[KEY_MAX];
	size_t upper_len;
	GByteArray *from; /* where to go on */
	bool threaded;    /* something of it was not in memory */
	bool end;
	GByteArray *buf;
	GArray *entries;
	guint at;
	guint want;
};

MetaIter *meta_iter_new(Meta *m, const void *prefix, size_t prefix_len, const void *from, size_t from_len)
{
	MetaIter *it = g_new0(MetaIter, 1);

	g_assert(prefix_len <= sizeof(it->upper));
	*it = (MetaIter) {
		.m = m, .want = FETCH_MIN,
		.options = rocksdb_readoptions_create(),
		.from = g_byte_array_new(), .buf = g_byte_array_new(),
		.entries = g_array_new(FALSE, FALSE, sizeof(Entry)),
	};
	it->upper_len = meta_prefix_end(prefix, prefix_len, it->upper);
	if (it->upper_len > 0)
		rocksdb_readoptions_set_iterate_upper_bound(it->options, (const char *)it->upper, it->upper_len);
	if (from)
		g_byte_array_append(it->from, from, (guint)from_len);
	else
		g_byte_array_append(it->from, prefix, (guint)prefix_len);
	return it;
}

/* Takes its place among those that have something in the database. */
static void attach(MetaIter *it)
{
	it->next = it->m->iters;
	it->link = &it->m->iters;
	if (it->next)
		it->next->link = &it->next;
	it->m->iters = it;
	it->snapshot = rocksdb_create_snapshot(it->m->db);
	rocksdb_readoptions_set_snapshot(it->options, it->snapshot);
}

void meta_iter_detach(MetaIter *it)
{
	if (it->it)
		rocksdb_iter_destroy(g_steal_pointer(&it->it));
	if (!it->snapshot)
		return;
	rocksdb_release_snapshot(it->m->db, g_steal_pointer(&it->snapshot));
	*it->link = it->next;
	if (it->next)
		it->next->link = it->link;
}

void meta_iter_free(MetaIter *it)
{
	if (!it)
		return;
	meta_iter_detach(it);
	rocksdb_readoptions_destroy(it->options);
	g_byte_array_free(it->from, TRUE);
	g_byte_array_free(it->buf, TRUE);
	g_array_free(it->entries, TRUE);
	g_free(it);
}

static void take(MetaIter *it)
{
	Entry e;
	const char *key = rocksdb_iter_key(it->it, &e.key_len);
	const char *value = rocksdb_iter_value(it->it, &e.len);

	e.key = it->buf->len;
	g_byte_array_append(it->buf, (const guint8 *)key, (guint)e.key_len);
	e.value = it->buf->len;
	g_byte_array_append(it->buf, (const guint8 *)value, (guint)e.len);
	g_array_append_val(it->entries, e);
	/* the first key that can follow this one */
	g_byte_array_set_size(it->from, 0);
	g_byte_array_append(it->from, (const guint8 *)key, (guint)e.key_len);
	g_byte_array_append(it->from, (const guint8 *)"", 1);
}

/* On the reactor, or on a thread while the caller waits. */
static int fetch(void *arg)
{
	MetaIter *it = arg;
	char *err = NULL;

	if (!it->it) {
		rocksdb_readoptions_set_read_tier(it->options, it->threaded ? 0 : 1);
		it->it = rocksdb_create_iterator(it->m->db, it->options);
		rocksdb_iter_seek(it->it, (const char *)it->from->data, it->from->len);
	}
	while (rocksdb_iter_valid(it->it) && it->entries->len < it->want && it->buf->len < FETCH_BYTES) {
		take(it);
		rocksdb_iter_next(it->it);
	}
	if (rocksdb_iter_valid(it->it))
		return 0;
	rocksdb_iter_get_error(it->it, &err);
	it->end = !err;
	return meta_status(it->m, "read a range", err);
}

/* Where something is not in memory: keeps what there is, and goes on from
 * there on a thread with the same snapshot. */
static int coroutine_fn fetch_more(MetaIter *it)
{
	int r = meta_co_enter(it->m);

	if (r < 0)
		return r;
	if (!it->snapshot)
		attach(it);
	it->at = 0;
	g_array_set_size(it->entries, 0);
	g_byte_array_set_size(it->buf, 0);
	if (!it->threaded) {
		r = fetch(it);
		if (r != -EAGAIN)
			return r;
		it->threaded = true;
		rocksdb_iter_destroy(g_steal_pointer(&it->it));
		if (it->entries->len > 0)
			return 0;
	}
	r = meta_co_job(it->m, fetch, it);
	return r == -EAGAIN ? -EIO : r;
}

int coroutine_fn meta_iter_co_next(MetaIter *it, const uint8_t **ret_key, size_t *ret_key_len, const uint8_t **ret_value, size_t *ret_len)
{
	if (it->at == it->entries->len) {
		if (it->end)
			return 0;
		int r = fetch_more(it);
		if (r < 0)
			return -EIO;
		it->want = MIN(it->want * 4, FETCH_MAX);
		if (it->entries->len == 0)
			return 0;
	}
	const Entry *e = &g_array_index(it->entries, Entry, it->at++);
	*ret_key = it->buf->data + e->key;
	*ret_key_len = e->key_len;
	*ret_value = it->buf->data + e->value;
	*ret_len = e->len;
	return 1;
}
