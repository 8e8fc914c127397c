/* Chunk arithmetic and the chunk map as a value, against a plain array. */
#include <stdint.h>
#include <string.h>

#include "server/runs.h"

#define SHIFT 12

static WireRun run(uint64_t first, uint64_t count, uint16_t target, uint16_t width)
{
	return (WireRun) { .first = first, .count = count, .target = target, .width = width };
}

static WireRun add(Runs *r, WireRun w, uint64_t *ret_dropped)
{
	WireRun merged;

	runs_insert(r, &w, &merged, ret_dropped);
	return merged;
}

static void test_chunks(void)
{
	g_assert_cmpuint(chunk_of(0, 22), ==, 0);
	g_assert_cmpuint(chunk_of((4 << 20) - 1, 22), ==, 0);
	g_assert_cmpuint(chunk_of(4 << 20, 22), ==, 1);
	g_assert_cmpuint(chunk_count(0, 1, 22), ==, 1);
	g_assert_cmpuint(chunk_count((4 << 20) - 1, 1, 22), ==, 1);
	g_assert_cmpuint(chunk_count((4 << 20) - 1, 2, 22), ==, 2);
	g_assert_cmpuint(chunk_count(INT64_MAX - 1, 1, 12), ==, 1);
	g_assert_cmpuint(chunk_of(INT64_MAX - 1, 12), ==, chunk_last(12));
}

static void test_stripe(void)
{
	WireRun w = run(10, 100, 2, 3);

	for (uint64_t c = 10; c < 110; c++)
		g_assert_cmpuint(run_target(&w, c), ==, (2 + (c - 10)) % 3);
	g_assert_cmpuint(run_same_target(&w, 50), ==, 1);
	w.width = 1;
	g_assert_cmpuint(run_target(&w, 109), ==, 2);
	g_assert_cmpuint(run_same_target(&w, 50), ==, 60);
	/* Far out, where the sum of chunk and target would wrap. */
	w = run(chunk_last(12) - 4, 5, 4, 5);
	g_assert_cmpuint(run_target(&w, chunk_last(12)), ==, 3);
}

static void test_valid(void)
{
	const struct { WireRun w; bool ok; } rows[] = {
		{ run(0, 1, 0, 1), true },
		{ run(0, 0, 0, 1), false },
		{ run(0, chunk_last(SHIFT) + 1, 0, 1), true },
		{ run(0, chunk_last(SHIFT) + 2, 0, 1), false },
		{ run(chunk_last(SHIFT), 1, 0, 1), true },
		{ run(chunk_last(SHIFT), 2, 0, 1), false },
		{ run(chunk_last(SHIFT) + 1, 1, 0, 1), false },
		{ run(UINT64_MAX, UINT64_MAX, 0, 1), false },
		{ run(0, 1, PEER_MAX, 1), false },
		{ run(0, 1, 0, 0), false },
		{ run(0, 1, 2, 3), true },
		{ run(0, 1, 3, 3), false },
		{ run(0, 1, 0, UINT16_MAX), false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
		g_assert_cmpint(run_valid(&rows[i].w, SHIFT), ==, rows[i].ok);
}

static void test_merge(void)
{
	g_autoptr(Runs) r = runs_new();
	uint64_t dropped;

	add(r, run(4, 2, 1, 1), &dropped);
	g_assert_cmpuint(dropped, ==, UINT64_MAX);
	add(r, run(8, 2, 1, 1), &dropped);
	g_assert_cmpuint(r->n, ==, 2);
	WireRun m = add(r, run(6, 2, 1, 1), &dropped);
	g_assert_cmpuint(r->n, ==, 1);
	g_assert_cmpuint(m.first, ==, 4);
	g_assert_cmpuint(m.count, ==, 6);
	g_assert_cmpuint(dropped, ==, 8);
	/* In front of it: its record moves to a new key. */
	m = add(r, run(3, 1, 1, 1), &dropped);
	g_assert_cmpuint(m.first, ==, 3);
	g_assert_cmpuint(m.count, ==, 7);
	g_assert_cmpuint(dropped, ==, 4);
	add(r, run(10, 1, 2, 1), &dropped);
	g_assert_cmpuint(r->n, ==, 2);
}

static void test_merge_stripes(void)
{
	g_autoptr(Runs) r = runs_new();
	uint64_t dropped;

	add(r, run(0, 4, 1, 3), &dropped);
	add(r, run(4, 4, 2, 3), &dropped); /* 1+4 = 2 mod 3: goes on */
	g_assert_cmpuint(r->n, ==, 1);
	add(r, run(8, 4, 1, 3), &dropped); /* 1+8 = 0 mod 3: does not */
	g_assert_cmpuint(r->n, ==, 2);
	add(r, run(12, 1, 2, 1), &dropped);
	g_assert_cmpuint(r->n, ==, 3);
}

enum { CHUNKS = 200, NONE = 0xffff };

static void check(const Runs *r, const uint16_t model[CHUNKS])
{
	for (uint64_t c = 0; c < CHUNKS; c++) {
		const WireRun *w = runs_find(r, c);

		g_assert_cmpuint(w ? run_target(w, c) : NONE, ==, model[c]);
	}
	for (uint32_t i = 1; i < r->n; i++)
		g_assert_cmpuint(run_end(&r->v[i - 1]), <=, r->v[i].first);
}

static void check_gap(const Runs *r, const uint16_t model[CHUNKS], uint64_t first, uint64_t count)
{
	uint64_t at = first, end, gap, gap_count;

	while (at < first + count && model[at] != NONE)
		at++;
	for (end = at; end < first + count && model[end] == NONE; end++)
		;
	if (runs_next_gap(r, first, count, &gap, &gap_count)) {
		g_assert_cmpuint(gap, ==, at);
		g_assert_cmpuint(gap_count, ==, end - at);
	} else {
		g_assert_cmpuint(at, ==, first + count);
	}
}

static void check_all_on(const Runs *r, const uint16_t model[CHUNKS], uint64_t first, uint64_t count)
{
	bool all = true;

	for (uint64_t c = first; c < first + count; c++)
		all = all && (model[c] == NONE || model[c] == 1);
	g_assert_cmpint(runs_all_on(r, first, count, 1), ==, all);
}

/* Fills gaps at random until all is assigned; records are kept as the store
 * would have them, and say the same as the runs in the end. */
static void one_round(GRand *rand)
{
	g_autoptr(Runs) r = runs_new();
	g_autoptr(GHashTable) records = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
	uint16_t model[CHUNKS];
	uint64_t gap, count, dropped;

	memset(model, 0xff, sizeof(model));
	while (runs_next_gap(r, 0, CHUNKS, &gap, &count)) {
		uint64_t from = (uint64_t)g_rand_int_range(rand, 0, CHUNKS);

		if (!runs_next_gap(r, from, CHUNKS - from, &gap, &count))
			continue;
		count = 1 + (uint64_t)g_rand_int_range(rand, 0, (int)MIN(count, 7));
		if (count > CHUNKS - gap || runs_find(r, gap + count - 1))
			count = 1;
		bool stripe = g_rand_boolean(rand);
		WireRun w = run(gap, count, 0, stripe ? 3 : 1);

		w.target = stripe ? (uint16_t)(gap % 3) : (uint16_t)g_rand_int_range(rand, 0, 3);
		for (uint64_t c = gap; c < gap + count; c++)
			model[c] = run_target(&w, c);
		WireRun merged = add(r, w, &dropped);
		if (dropped != UINT64_MAX)
			g_assert_true(g_hash_table_remove(records, &dropped));
		g_hash_table_replace(records, g_memdup2(&merged.first, 8), g_memdup2(&merged, sizeof(merged)));
		check(r, model);
		from = (uint64_t)g_rand_int_range(rand, 0, CHUNKS);
		count = 1 + (uint64_t)g_rand_int_range(rand, 0, (int)(CHUNKS - from));
		check_gap(r, model, from, MIN(count, CHUNKS - from));
		check_all_on(r, model, from, MIN(count, CHUNKS - from));
	}
	g_assert_cmpuint(g_hash_table_size(records), ==, r->n);
	for (uint32_t i = 0; i < r->n; i++)
		g_assert_cmpmem(g_hash_table_lookup(records, &r->v[i].first), sizeof(WireRun), &r->v[i], sizeof(WireRun));
}

static void test_random(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(4711);

	for (int i = 0; i < 50; i++)
		one_round(rand);
}

static void test_append_refuses(void)
{
	g_autoptr(Runs) r = runs_new();
	WireRun a = run(0, 4, 0, 1), b = run(3, 1, 0, 1), c = run(4, 1, 1, 1);

	g_assert_true(runs_append(r, &a));
	g_assert_false(runs_append(r, &b));
	g_assert_true(runs_append(r, &c));
}

static void test_targets(void)
{
	g_autoptr(Runs) r = runs_new();
	uint64_t set[PEER_MAX / 64] = { 0 }, dropped;

	add(r, run(0, 2, 70, 100), &dropped);
	add(r, run(9, 1000, 1, 1), &dropped);
	runs_targets(r, set);
	g_assert_cmpuint(set[0], ==, 2);
	g_assert_cmpuint(set[1], ==, UINT64_C(3) << 6);
}

static void test_copy_is_apart(void)
{
	g_autoptr(Runs) r = runs_new();
	uint64_t dropped;

	add(r, run(0, 1, 0, 1), &dropped);
	g_autoptr(Runs) copy = runs_copy(r);
	add(copy, run(1, 1, 0, 1), &dropped);
	g_assert_cmpuint(r->v[0].count, ==, 1);
	g_assert_cmpuint(copy->v[0].count, ==, 2);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/runs/chunks", test_chunks);
	g_test_add_func("/runs/stripe", test_stripe);
	g_test_add_func("/runs/valid", test_valid);
	g_test_add_func("/runs/merge", test_merge);
	g_test_add_func("/runs/merge-stripes", test_merge_stripes);
	g_test_add_func("/runs/random", test_random);
	g_test_add_func("/runs/append-refuses", test_append_refuses);
	g_test_add_func("/runs/targets", test_targets);
	g_test_add_func("/runs/copy-is-apart", test_copy_is_apart);
	return g_test_run();
}
