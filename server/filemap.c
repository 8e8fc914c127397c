/*
 * Who loads a map yields, and may be overtaken by someone who extends it, so
 * what was loaded is cached only when no map was published meanwhile.
 */
#define G_LOG_DOMAIN "server"
#include "server/filemap.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "server/place.h"
#include "server/record.h"

/* Of the cache: in runs (24 bytes each), an entry counting as a few. */
#define WEIGHT_MAX (UINT64_C(1) << 20)
#define WEIGHT_ENTRY 8u

typedef struct Entry {
	uint64_t ino;
	Runs *runs;
	GList lru;
} Entry;

struct FileMaps {
	Counters *counters;
	GHashTable *table; /* &ino -> Entry */
	GQueue lru;
	uint64_t weight;
	uint64_t changes; /* maps published so far */
	uint64_t loads, extends;
};

typedef struct __attribute__((packed)) RunRecord {
	uint8_t version, pad[3];
	uint16_t target, width;
	uint64_t count;
} RunRecord;

FileMaps *filemaps_new(Server *s)
{
	FileMaps *m = g_new0(FileMaps, 1);

	m->counters = s->opts.counters;
	m->table = g_hash_table_new(g_int64_hash, g_int64_equal);
	counters_add(m->counters, "data.map_loads", &m->loads);
	counters_add(m->counters, "data.map_extends", &m->extends);
	return m;
}

static uint64_t weight(const Entry *e)
{
	return e->runs->n + WEIGHT_ENTRY;
}

static void drop(FileMaps *m, Entry *e)
{
	m->weight -= weight(e);
	g_hash_table_remove(m->table, &e->ino);
	g_queue_unlink(&m->lru, &e->lru);
	runs_unref(e->runs);
	g_free(e);
}

void filemaps_free(FileMaps *m)
{
	GList *l;

	if (!m)
		return;
	while ((l = g_queue_peek_tail_link(&m->lru)))
		drop(m, l->data);
	g_hash_table_destroy(m->table);
	counters_remove(m->counters, &m->loads);
	counters_remove(m->counters, &m->extends);
	g_free(m);
}

static void insert(FileMaps *m, uint64_t ino, Runs *runs)
{
	Entry *e = g_hash_table_lookup(m->table, &ino);

	if (e)
		drop(m, e);
	e = g_new0(Entry, 1);
	*e = (Entry) { .ino = ino, .runs = runs, .lru = { .data = e } };
	g_hash_table_insert(m->table, &e->ino, e);
	g_queue_push_head_link(&m->lru, &e->lru);
	m->weight += weight(e);
	while (m->weight > WEIGHT_MAX && m->lru.length > 1)
		drop(m, g_queue_peek_tail(&m->lru));
}

bool filemap_decode_run(const uint8_t *key, size_t key_len, const uint8_t *value, size_t len, WireRun *ret_run)
{
	RunRecord rec;

	if (len != sizeof(rec) || key_len != 2 + 1 + 8 + 8)
		return false;
	memcpy(&rec, value, sizeof(rec));
	*ret_run = (WireRun) {
		.first = key_get_num(key, key_len, 2 + 1 + 8),
		.count = rec.count, .target = rec.target, .width = rec.width,
	};
	return rec.version == RECORD_VERSION;
}

static int coroutine_fn load(Server *s, const InodeData *d, Runs **ret_runs)
{
	Key prefix = key_ino(d->attr.ino, RECORD_CHUNKS);
	g_autoptr(MetaIter) it = meta_iter_new(s->meta, prefix.data, prefix.len, NULL, 0);
	g_autoptr(Runs) runs = runs_new();
	const uint8_t *key, *value;
	size_t key_len, len;
	uint32_t peers = map_peer_count(s->map);
	int r;

	while ((r = meta_iter_co_next(it, &key, &key_len, &value, &len)) > 0) {
		WireRun run;

		if (!filemap_decode_run(key, key_len, value, len, &run) || !run_valid(&run, d->attr.chunk_shift) ||
		    run.target >= peers || run.width > peers || !runs_append(runs, &run)) {
			g_warning("inode %#" PRIx64 ": its chunk map can't be read", d->attr.ino);
			return -EIO;
		}
	}
	if (r < 0)
		return r;
	*ret_runs = g_steal_pointer(&runs);
	return 0;
}

int coroutine_fn filemap_co_get(Server *s, const InodeData *d, Runs **ret_runs)
{
	FileMaps *m = s->maps;
	uint64_t ino = d->attr.ino, changes = m->changes;
	Entry *e = g_hash_table_lookup(m->table, &ino);

	if (e) {
		g_queue_unlink(&m->lru, &e->lru);
		g_queue_push_head_link(&m->lru, &e->lru);
		*ret_runs = runs_ref(e->runs);
		return 0;
	}
	/* Whoever has chunks has a target in its table of blocks. */
	if ((d->flags & INODE_INLINE) && d->n_blocks == 0) {
		*ret_runs = runs_new();
		return 0;
	}
	m->loads++;
	int r = load(s, d, ret_runs);
	if (r == 0 && m->changes == changes)
		insert(m, ino, runs_ref(*ret_runs));
	return r;
}

static void put_record(MetaBatch *b, uint64_t ino, const WireRun *run)
{
	RunRecord rec = { .version = RECORD_VERSION, .target = run->target, .width = run->width, .count = run->count };
	Key key = key_ino_num(ino, RECORD_CHUNKS, run->first);

	meta_batch_put(b, key.data, key.len, &rec, sizeof(rec));
}

/* Every target that may get an object is in the table before that can happen:
 * the table says where to look when the inode is cut or removed. */
static void note_targets(InodeData *d, const WireRun *run)
{
	uint64_t n = MIN(run->count, run->width);

	for (uint64_t c = 0; c < n; c++) {
		uint16_t t = run_target(run, run->first + c);
		uint32_t i = 0;

		while (i < d->n_blocks && d->blocks[i].target != t)
			i++;
		if (i == d->n_blocks)
			inode_data_set_blocks(d, t, 0);
	}
}

static WireRun place(const Place *p, const Runs *runs, uint64_t first, uint64_t count)
{
	uint32_t i = runs_index(runs, first);
	uint64_t limit = i < runs->n ? runs->v[i].first : chunk_last(p->chunk_shift) + 1;
	const WireRun *before = i > 0 && run_end(&runs->v[i - 1]) == first ? &runs->v[i - 1] : NULL;

	return place_run(p, before, first, count, limit - first);
}

Runs *filemap_extend(Server *s, MetaBatch *b, InodeData *d, const Runs *runs, uint16_t writer, uint64_t first,
	uint64_t count)
{
	uint64_t gap, gap_count, blocks = d->attr.blocks;
	Runs *new = NULL;
	Place p = {
		.ino = d->attr.ino, .policy = d->attr.policy, .chunk_shift = d->attr.chunk_shift,
		.peers = (uint16_t)map_peer_count(s->map), .writer = writer, .self = s->self,
	};

	while (runs_next_gap(new ? new : runs, first, count, &gap, &gap_count)) {
		WireRun merged;
		uint64_t dropped;

		if (!new) {
			new = runs_copy(runs);
			p.self_full = p.peers > 1 && space_take(s->space, UINT64_C(1) << p.chunk_shift) < 0;
			s->maps->extends++;
		}
		WireRun run = place(&p, new, gap, gap_count);
		runs_insert(new, &run, &merged, &dropped);
		if (dropped != UINT64_MAX) {
			Key key = key_ino_num(d->attr.ino, RECORD_CHUNKS, dropped);
			meta_batch_delete(b, key.data, key.len);
		}
		put_record(b, d->attr.ino, &merged);
		note_targets(d, &run);
	}
	d->attr.blocks = blocks;
	return new;
}

void filemap_publish(Server *s, uint64_t ino, Runs *runs)
{
	s->maps->changes++;
	insert(s->maps, ino, runs);
}

void filemap_forget(Server *s, uint64_t ino)
{
	Entry *e = g_hash_table_lookup(s->maps->table, &ino);

	s->maps->changes++;
	if (e)
		drop(s->maps, e);
}
