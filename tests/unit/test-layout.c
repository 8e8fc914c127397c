/* The layout cache: merging against a plain table of chunks, bounds, sizes. */
#include <errno.h>

#include "fuse/layout.h"

#define SHIFT 12
#define CHUNK (UINT64_C(1) << SHIFT)
#define PEERS 4

static void add(Layouts *l, uint64_t ino, WireRun run)
{
	g_assert_cmpint(layouts_add(l, ino, SHIFT, &run, 1), ==, 0);
}

static bool knows(Layouts *l, uint64_t ino, uint64_t chunk, uint64_t count)
{
	g_autoptr(GArray) pieces = g_array_new(false, false, sizeof(Piece));

	return layouts_split(l, ino, chunk * CHUNK, count * CHUNK, pieces);
}

static void test_knows_what_it_was_told(void)
{
	Layouts *l = layouts_new(0, PEERS);

	g_assert_false(knows(l, 7, 0, 1));
	add(l, 7, (WireRun) { 0, 4, 1, 1, 0 });
	g_assert_true(knows(l, 7, 0, 4));
	g_assert_false(knows(l, 7, 0, 5));
	g_assert_false(knows(l, 8, 0, 1));
	add(l, 7, (WireRun) { 4, 4, 1, 1, 0 });
	g_assert_true(knows(l, 7, 0, 8));
	g_assert_cmpuint(layouts_count_runs(l), ==, 1); /* they go on in one */
	layouts_drop(l, 7);
	g_assert_false(knows(l, 7, 0, 1));
	g_assert_cmpuint(layouts_count_runs(l), ==, 0);
	layouts_free(l);
}

static void test_stripes_go_on_in_one_run(void)
{
	Layouts *l = layouts_new(0, PEERS);

	add(l, 7, (WireRun) { 0, 6, 1, 4, 0 });
	add(l, 7, (WireRun) { 6, 5, 3, 4, 0 });
	g_assert_cmpuint(layouts_count_runs(l), ==, 1);
	g_assert_true(knows(l, 7, 0, 11));
	layouts_free(l);
}

static void test_refuses_nonsense(void)
{
	Layouts *l = layouts_new(0, PEERS);
	WireRun bad = { 0, 1, PEERS, 1, 0 }, good = { 0, 1, 0, 1, 0 };

	g_assert_cmpint(layouts_add(l, 7, SHIFT, &bad, 1), ==, -EPROTO);
	g_assert_cmpint(layouts_add(l, 7, 3, &good, 1), ==, -EPROTO);
	g_assert_cmpint(layouts_add(l, 7, SHIFT, &good, 1), ==, 0);
	/* A file's chunk size does not change. */
	g_assert_cmpint(layouts_add(l, 7, SHIFT + 1, &good, 1), ==, -EPROTO);
	g_assert_cmpuint(layouts_chunk_shift(l, 7), ==, SHIFT);
	g_assert_cmpuint(layouts_chunk_shift(l, 8), ==, 0);
	layouts_free(l);
}

static void test_size_needs_a_layout(void)
{
	Layouts *l = layouts_new(0, PEERS);

	layouts_set_size(l, 7, 100);
	g_assert_cmpuint(layouts_size(l, 7), ==, 0);
	add(l, 7, (WireRun) { 0, 1, 0, 1, 0 });
	g_assert_cmpuint(layouts_size(l, 7), ==, 0);
	layouts_set_size(l, 7, 100);
	g_assert_cmpuint(layouts_size(l, 7), ==, 100);
	layouts_free(l);
}

static void test_least_recently_used_go(void)
{
	Layouts *l = layouts_new(4096, PEERS);

	for (uint64_t ino = 1; ino <= 5000; ino++) {
		add(l, ino, (WireRun) { 0, 1, 0, 1, 0 });
		g_assert_true(knows(l, 1, 0, 1)); /* kept by being used */
	}
	g_assert_cmpuint(layouts_count_runs(l), ==, 4096);
	g_assert_false(knows(l, 2, 0, 1));
	g_assert_true(knows(l, 5000, 0, 1));
	layouts_free(l);
}

static void test_a_file_in_splinters_starts_afresh(void)
{
	Layouts *l = layouts_new(100000, PEERS);

	for (uint64_t i = 0; i < 5000; i++)
		add(l, 7, (WireRun) { 2 * i, 1, 0, 1, 0 });
	g_assert_cmpuint(layouts_count_runs(l), <=, 4096);
	g_assert_true(knows(l, 7, 2 * 4999, 1));
	layouts_free(l);
}

#define TABLE 200

/* Adds random true statements about a fixed placement; what is known must be
 * exactly what was said, with the right target. */
static void check_random(void)
{
	Layouts *l = layouts_new(0, PEERS);
	WireRun truth[] = { { 0, 50, 1, 1, 0 }, { 50, 70, 2, 4, 0 }, { 120, 80, 0, 3, 0 } };
	bool told[TABLE] = { false };

	for (int i = 0; i < 60; i++) {
		const WireRun *t = &truth[g_test_rand_int_range(0, 3)];
		uint64_t from = (uint64_t)g_test_rand_int_range(0, (int)t->count);
		WireRun run = *t;
		run.first += from;
		run.count = (uint64_t)g_test_rand_int_range(1, (int)(t->count - from) + 1);
		if (run.width > 1)
			run.target = (uint16_t)((t->target + from) % t->width);
		add(l, 7, run);
		for (uint64_t c = run.first; c < run.first + run.count; c++)
			told[c] = true;
		for (uint64_t c = 0; c < TABLE; c++) {
			g_autoptr(GArray) p = g_array_new(false, false, sizeof(Piece));
			g_assert_true(layouts_split(l, 7, c * CHUNK, CHUNK, p) == told[c]);
			if (told[c])
				g_assert_cmpuint(g_array_index(p, Piece, 0).target, ==, pieces_target(truth, 3, c));
		}
	}
	layouts_free(l);
}

static void test_random_merges(void)
{
	for (int i = 0; i < 100; i++)
		check_random();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/layout/told", test_knows_what_it_was_told);
	g_test_add_func("/layout/stripes", test_stripes_go_on_in_one_run);
	g_test_add_func("/layout/nonsense", test_refuses_nonsense);
	g_test_add_func("/layout/size", test_size_needs_a_layout);
	g_test_add_func("/layout/lru", test_least_recently_used_go);
	g_test_add_func("/layout/splinters", test_a_file_in_splinters_starts_afresh);
	g_test_add_func("/layout/random", test_random_merges);
	return g_test_run();
}
