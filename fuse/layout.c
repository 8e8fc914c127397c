#include "fuse/layout.h"

#include <errno.h>

/* A file of so many runs is written so randomly over peers that remembering it
 * is worth little: it starts afresh. */
#define RUNS_PER_INODE_MAX 4096u

typedef struct Layout {
	uint64_t ino, size;
	uint32_t chunk_shift, commits;
	GArray *runs; /* of WireRun, in order */
	GList lru;    /* in Layouts.lru, the most recently used first */
} Layout;

struct Layouts {
	GHashTable *by_ino; /* &Layout.ino → Layout, owned */
	GQueue lru;
	uint32_t max_runs, n_runs, n_peers;
};

static void layout_free(void *data)
{
	Layout *layout = data;

	g_array_unref(layout->runs);
	g_free(layout);
}

Layouts *layouts_new(uint32_t max_runs, uint32_t n_peers)
{
	Layouts *l = g_new0(Layouts, 1);

	l->by_ino = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, layout_free);
	g_queue_init(&l->lru);
	l->max_runs = MAX(max_runs, RUNS_PER_INODE_MAX);
	l->n_peers = n_peers;
	return l;
}

void layouts_free(Layouts *l)
{
	if (!l)
		return;
	g_hash_table_unref(l->by_ino);
	g_free(l);
}

static Layout *find(Layouts *l, uint64_t ino)
{
	return g_hash_table_lookup(l->by_ino, &ino);
}

static void touch(Layouts *l, Layout *layout)
{
	g_queue_unlink(&l->lru, &layout->lru);
	g_queue_push_head_link(&l->lru, &layout->lru);
}

static Layout *find_or_make(Layouts *l, uint64_t ino, uint32_t chunk_shift)
{
	Layout *layout = find(l, ino);

	if (layout)
		return layout;
	layout = g_new0(Layout, 1);
	layout->ino = ino;
	layout->chunk_shift = chunk_shift;
	layout->runs = g_array_new(false, false, sizeof(WireRun));
	layout->lru.data = layout;
	g_hash_table_insert(l->by_ino, &layout->ino, layout);
	g_queue_push_head_link(&l->lru, &layout->lru);
	return layout;
}

static void drop(Layouts *l, Layout *layout)
{
	l->n_runs -= layout->runs->len;
	g_queue_unlink(&l->lru, &layout->lru);
	g_hash_table_remove(l->by_ino, &layout->ino);
}

void layouts_drop(Layouts *l, uint64_t ino)
{
	Layout *layout = find(l, ino);

	if (layout)
		drop(l, layout);
}

/* Does b go on where a ends, with the same placement? */
static bool continues(const WireRun *a, const WireRun *b)
{
	if (a->first + a->count != b->first || a->width != b->width)
		return false;
	return a->width == 1 ? a->target == b->target :
	       (a->target + a->count) % a->width == b->target % b->width;
}

static void append_run(GArray *runs, const WireRun *run)
{
	if (runs->len) {
		WireRun *last = &g_array_index(runs, WireRun, runs->len - 1);
		if (continues(last, run)) {
			last->count += run->count;
			return;
		}
	}
	g_array_append_vals(runs, run, 1);
}

/* What of `run` begins at chunk `first`. */
static WireRun run_from(const WireRun *run, uint64_t first)
{
	WireRun rest = *run;

	rest.first = first;
	rest.count = run->first + run->count - first;
	if (run->width > 1)
		rest.target = (uint16_t)((run->target + (first - run->first)) % run->width);
	return rest;
}

/* The union of two ordered lists. Where both have a chunk they agree, since
 * assignments last, so it does not matter whose is taken. */
static GArray *merge(const WireRun *a, uint32_t n_a, const WireRun *b, uint32_t n_b)
{
	GArray *runs = g_array_sized_new(false, false, sizeof(WireRun), n_a + n_b);
	WireRun run_a = n_a ? a[0] : (WireRun) { 0 }, run_b = n_b ? b[0] : (WireRun) { 0 };
	uint32_t i = 0, j = 0;

	while (i < n_a || j < n_b) {
		bool take_a = j == n_b || (i < n_a && run_a.first <= run_b.first);
		WireRun *run = take_a ? &run_a : &run_b;
		uint64_t end = run->first + run->count;

		append_run(runs, run);
		if (take_a && ++i < n_a)
			run_a = a[i];
		if (!take_a && ++j < n_b)
			run_b = b[j];
		/* Skip what the other list says about the same chunks. */
		for (;;) {
			WireRun *other = take_a ? &run_b : &run_a;
			uint32_t *k = take_a ? &j : &i, n = take_a ? n_b : n_a;
			if (*k == n || other->first >= end)
				break;
			if (other->first + other->count > end) {
				*other = run_from(other, end);
				break;
			}
			if (++*k < n)
				*other = take_a ? b[*k] : a[*k];
		}
	}
	return runs;
}

static void shrink(Layouts *l, const Layout *keep)
{
	while (l->n_runs > l->max_runs) {
		Layout *last = l->lru.tail->data;
		if (last == keep)
			return;
		drop(l, last);
	}
}

int layouts_add(Layouts *l, uint64_t ino, uint32_t chunk_shift, const WireRun *runs, uint32_t n)
{
	if (!pieces_shift_valid(chunk_shift) || !pieces_runs_valid(runs, n, l->n_peers))
		return -EPROTO;
	if (!n || n > RUNS_PER_INODE_MAX)
		return 0;
	Layout *layout = find_or_make(l, ino, chunk_shift);
	if (layout->chunk_shift != chunk_shift)
		return -EPROTO;
	GArray *merged = merge((WireRun *)layout->runs->data, layout->runs->len, runs, n);
	if (merged->len > RUNS_PER_INODE_MAX) {
		g_array_set_size(merged, 0);
		g_array_append_vals(merged, runs, n);
	}
	l->n_runs += merged->len - layout->runs->len;
	g_array_unref(layout->runs);
	layout->runs = merged;
	touch(l, layout);
	shrink(l, layout);
	return 0;
}

bool layouts_split(Layouts *l, uint64_t ino, uint64_t off, uint64_t len, GArray *ret_pieces)
{
	Layout *layout = find(l, ino);

	if (!layout)
		return false;
	touch(l, layout);
	return pieces_split((WireRun *)layout->runs->data, layout->runs->len,
			    layout->chunk_shift, off, len, ret_pieces);
}

uint32_t layouts_chunk_shift(Layouts *l, uint64_t ino)
{
	Layout *layout = find(l, ino);

	return layout ? layout->chunk_shift : 0;
}

uint64_t layouts_size(Layouts *l, uint64_t ino)
{
	Layout *layout = find(l, ino);

	return layout ? layout->size : 0;
}

void layouts_set_size(Layouts *l, uint64_t ino, uint64_t size)
{
	Layout *layout = find(l, ino);

	if (layout)
		layout->size = size;
}

uint32_t layouts_count_commit(Layouts *l, uint64_t ino)
{
	Layout *layout = find(l, ino);

	return layout ? ++layout->commits : 0;
}

uint32_t layouts_count_runs(const Layouts *l)
{
	return l->n_runs;
}
