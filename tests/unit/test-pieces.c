/* Chunk arithmetic: fixed cases, and random runs against a chunk-by-chunk count. */
#include <string.h>

#include "fuse/pieces.h"

#define SHIFT 16
#define CHUNK (UINT64_C(1) << SHIFT)

static GArray *split(const WireRun *runs, uint32_t n, uint64_t off, uint64_t len, bool expect_whole)
{
	GArray *pieces = g_array_new(false, false, sizeof(Piece));

	g_assert_true(pieces_split(runs, n, SHIFT, off, len, pieces) == expect_whole);
	return pieces;
}

static void assert_piece(const GArray *pieces, uint32_t i, uint64_t off, uint64_t len, uint16_t target)
{
	g_assert_cmpuint(i, <, pieces->len);
	const Piece *p = &g_array_index(pieces, Piece, i);
	g_assert_cmpuint(p->off, ==, off);
	g_assert_cmpuint(p->len, ==, len);
	g_assert_cmpuint(p->target, ==, target);
}

static void test_no_runs_is_one_hole(void)
{
	g_autoptr(GArray) p = split(NULL, 0, 5, 3 * CHUNK, false);

	g_assert_cmpuint(p->len, ==, 1);
	assert_piece(p, 0, 5, 3 * CHUNK, PEER_NONE);
}

static void test_one_run_is_one_piece(void)
{
	WireRun run = { .first = 0, .count = 100, .target = 2, .width = 1 };
	g_autoptr(GArray) p = split(&run, 1, CHUNK - 1, 50 * CHUNK, true);

	g_assert_cmpuint(p->len, ==, 1);
	assert_piece(p, 0, CHUNK - 1, 50 * CHUNK, 2);
}

static void test_neighbouring_runs_of_a_target_join(void)
{
	WireRun runs[] = { { 0, 2, 1, 1, 0 }, { 2, 2, 1, 1, 0 }, { 4, 1, 0, 1, 0 } };
	g_autoptr(GArray) p = split(runs, 3, 0, 5 * CHUNK, true);

	g_assert_cmpuint(p->len, ==, 2);
	assert_piece(p, 0, 0, 4 * CHUNK, 1);
	assert_piece(p, 1, 4 * CHUNK, CHUNK, 0);
}

static void test_stripes_go_round(void)
{
	WireRun run = { .first = 3, .count = 10, .target = 2, .width = 4 };
	g_autoptr(GArray) p = split(&run, 1, 3 * CHUNK + 10, 4 * CHUNK, true);

	g_assert_cmpuint(p->len, ==, 5);
	assert_piece(p, 0, 3 * CHUNK + 10, CHUNK - 10, 2);
	assert_piece(p, 1, 4 * CHUNK, CHUNK, 3);
	assert_piece(p, 2, 5 * CHUNK, CHUNK, 0);
	assert_piece(p, 3, 6 * CHUNK, CHUNK, 1);
	assert_piece(p, 4, 7 * CHUNK, 10, 2);
}

static void test_holes_before_between_and_behind(void)
{
	WireRun runs[] = { { 1, 1, 0, 1, 0 }, { 3, 1, 1, 1, 0 } };
	g_autoptr(GArray) p = split(runs, 2, 0, 6 * CHUNK, false);

	g_assert_cmpuint(p->len, ==, 5);
	assert_piece(p, 0, 0, CHUNK, PEER_NONE);
	assert_piece(p, 1, CHUNK, CHUNK, 0);
	assert_piece(p, 2, 2 * CHUNK, CHUNK, PEER_NONE);
	assert_piece(p, 3, 3 * CHUNK, CHUNK, 1);
	assert_piece(p, 4, 4 * CHUNK, 2 * CHUNK, PEER_NONE);
}

static void test_end_of_the_offsets(void)
{
	uint64_t last = (uint64_t)INT64_MAX >> SHIFT;
	WireRun run = { .first = last, .count = 1, .target = 1, .width = 1 };
	g_autoptr(GArray) p = split(&run, 1, INT64_MAX - 10, 10, true);

	assert_piece(p, 0, INT64_MAX - 10, 10, 1);
	run.count = INT64_MAX; /* as long as a peer can say */
	g_autoptr(GArray) q = split(&run, 1, INT64_MAX - 10, 10, true);
	assert_piece(q, 0, INT64_MAX - 10, 10, 1);
}

static void test_bad_runs_are_refused(void)
{
	WireRun good[] = { { 0, 2, 1, 1, 0 }, { 2, 2, 0, 3, 0 } };
	static const WireRun bad[] = {
		{ 0, 0, 0, 1, 0 },           /* empty */
		{ 0, 1, 3, 1, 0 },           /* no such target */
		{ 0, 1, 0, 0, 0 },           /* no width */
		{ 0, 1, 0, 4, 0 },           /* wider than there are peers */
		{ UINT64_MAX, 1, 0, 1, 0 },
		{ 1, UINT64_MAX, 0, 1, 0 },
	};

	g_assert_true(pieces_runs_valid(good, 2, 3));
	good[1].first = 1; /* overlaps */
	g_assert_false(pieces_runs_valid(good, 2, 3));
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_false(pieces_runs_valid(&bad[i], 1, 3));
	g_assert_false(pieces_shift_valid(0));
	g_assert_true(pieces_shift_valid(22));
	g_assert_false(pieces_shift_valid(64));
}

static void test_target_of_a_chunk(void)
{
	WireRun runs[] = { { 2, 2, 1, 1, 0 }, { 10, 5, 2, 3, 0 } };

	g_assert_cmpuint(pieces_target(runs, 2, 1), ==, PEER_NONE);
	g_assert_cmpuint(pieces_target(runs, 2, 3), ==, 1);
	g_assert_cmpuint(pieces_target(runs, 2, 4), ==, PEER_NONE);
	g_assert_cmpuint(pieces_target(runs, 2, 11), ==, 0);
	g_assert_cmpuint(pieces_target(runs, 2, 15), ==, PEER_NONE);
}

/* Ordered runs with holes between some of them. */
static GArray *random_runs(uint32_t n_peers)
{
	GArray *runs = g_array_new(false, false, sizeof(WireRun));
	uint64_t next = 0;

	for (int n = g_test_rand_int_range(0, 12); n > 0; n--) {
		next += (uint64_t)g_test_rand_int_range(0, 3);
		WireRun run = {
			.first = next, .count = (uint64_t)g_test_rand_int_range(1, 6),
			.target = (uint16_t)g_test_rand_int_range(0, (int)n_peers),
			.width = (uint16_t)g_test_rand_int_range(1, (int)n_peers + 1),
		};
		next += run.count;
		g_array_append_val(runs, run);
	}
	return runs;
}

static void check_random_split(void)
{
	g_autoptr(GArray) runs = random_runs(5);
	const WireRun *r = (WireRun *)runs->data;
	g_autoptr(GArray) pieces = g_array_new(false, false, sizeof(Piece));
	uint64_t off = (uint64_t)g_test_rand_int_range(0, 20 * CHUNK);
	uint64_t len = (uint64_t)g_test_rand_int_range(1, 20 * CHUNK), at = off;
	bool whole = pieces_split(r, runs->len, SHIFT, off, len, pieces), complete = true;

	for (uint32_t i = 0; i < pieces->len; i++) {
		Piece p = g_array_index(pieces, Piece, i);
		g_assert_cmpuint(p.off, ==, at);
		g_assert_cmpuint(p.len, >, 0);
		if (i)
			g_assert_cmpuint(p.target, !=, g_array_index(pieces, Piece, i - 1).target);
		for (uint64_t c = p.off >> SHIFT; c <= (p.off + p.len - 1) >> SHIFT; c++)
			g_assert_cmpuint(pieces_target(r, runs->len, c), ==, p.target);
		complete = complete && p.target != PEER_NONE;
		at += p.len;
	}
	g_assert_cmpuint(at, ==, off + len);
	g_assert_true(whole == complete);
}

static void test_random_splits_cover_exactly(void)
{
	for (int i = 0; i < 5000; i++)
		check_random_split();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/pieces/no-runs", test_no_runs_is_one_hole);
	g_test_add_func("/pieces/one-run", test_one_run_is_one_piece);
	g_test_add_func("/pieces/join", test_neighbouring_runs_of_a_target_join);
	g_test_add_func("/pieces/stripes", test_stripes_go_round);
	g_test_add_func("/pieces/holes", test_holes_before_between_and_behind);
	g_test_add_func("/pieces/end", test_end_of_the_offsets);
	g_test_add_func("/pieces/bad", test_bad_runs_are_refused);
	g_test_add_func("/pieces/target", test_target_of_a_chunk);
	g_test_add_func("/pieces/random", test_random_splits_cover_exactly);
	return g_test_run();
}
