/* Where new chunks go, and how far ahead. */
#include <stdint.h>

#include "common/ino.h"
#include "server/place.h"

#define ROOM (UINT64_C(1) << 40)

static Place local(uint16_t writer)
{
	return (Place) { .ino = ino_make(0, 5), .policy = WIRE_POLICY_LOCAL, .chunk_shift = 22, .peers = 3,
			 .writer = writer, .self = 1 };
}

static void test_writer_gets_it(void)
{
	Place p = local(2);

	g_assert_cmpuint(place_local_target(&p), ==, 2);
	p.writer = PEER_NONE;
	g_assert_cmpuint(place_local_target(&p), ==, 1);
	p.writer = 3; /* not a peer of the map */
	g_assert_cmpuint(place_local_target(&p), ==, 1);
}

static void test_full_home_passes_on(void)
{
	Place p = local(1);
	uint32_t seen = 0;

	p.self_full = true;
	for (uint64_t seq = 1; seq < 20; seq++) {
		p.ino = ino_make(0, seq);
		uint16_t t = place_local_target(&p);

		g_assert_cmpuint(t, !=, 1);
		g_assert_cmpuint(t, <, 3);
		seen |= 1u << t;
	}
	g_assert_cmpuint(seen, ==, 5);
	p.writer = 2; /* whose store is not ours to judge */
	g_assert_cmpuint(place_local_target(&p), ==, 2);
	p.writer = 0, p.peers = 1, p.self = 0;
	g_assert_cmpuint(place_local_target(&p), ==, 0);
}

/* A sequential writer asks a few times for its first GiB, then once for each. */
static void test_window_doubles(void)
{
	Place p = local(2);
	g_autoptr(Runs) runs = runs_new();
	uint64_t at = 0, dropped;
	uint32_t asked = 0;
	WireRun merged;

	while (at < 1024) {
		WireRun run = place_run(&p, runs->n ? &runs->v[0] : NULL, at, 1, ROOM);

		g_assert_cmpuint(run.first, ==, at);
		g_assert_cmpuint(run.count, <=, PLACE_WINDOW_MAX);
		runs_insert(runs, &run, &merged, &dropped);
		at = run_end(&run);
		asked++;
	}
	g_assert_cmpuint(runs->n, ==, 1);
	g_assert_cmpuint(asked, ==, 1 + 8 + 3); /* 1, then 1 2 4 .. 128, then 256 each */
}

static void test_window_stops_at_what_is_there(void)
{
	Place p = local(2);
	WireRun before = { .first = 0, .count = 64, .target = 2, .width = 1 };
	WireRun run = place_run(&p, &before, 64, 1, 10);

	g_assert_cmpuint(run.count, ==, 10);
	run = place_run(&p, &before, 64, 300, ROOM);
	g_assert_cmpuint(run.count, ==, 300);
}

static void test_several_writers_take_one_each(void)
{
	Place p = local(2);
	WireRun before = { .first = 0, .count = 64, .target = 0, .width = 1 };
	WireRun run = place_run(&p, &before, 64, 1, ROOM);

	g_assert_cmpuint(run.count, ==, 1);
	g_assert_cmpuint(run.target, ==, 2);
}

/* However the chunks are asked for, each has the place its number says. */
static void test_stripe_by_number(void)
{
	Place p = local(0);
	uint32_t starts = 0;

	p.policy = WIRE_POLICY_STRIPE;
	for (uint64_t seq = 1; seq < 10; seq++) {
		p.ino = ino_make(7, seq);
		WireRun all = place_run(&p, NULL, 0, 100, ROOM);

		starts |= 1u << all.target;
		for (uint64_t c = 0; c < 90; c++) {
			WireRun run = place_run(&p, NULL, c, 5, ROOM);

			g_assert_cmpuint(run.width, ==, 3);
			for (uint64_t i = c; i < c + 5; i++)
				g_assert_cmpuint(run_target(&run, i), ==, run_target(&all, i));
		}
	}
	g_assert_cmpuint(starts, ==, 7);
	p.peers = 1, p.self = 0;
	g_assert_cmpuint(place_run(&p, NULL, 0, 1, ROOM).width, ==, 1);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/place/writer-gets-it", test_writer_gets_it);
	g_test_add_func("/place/full-home-passes-on", test_full_home_passes_on);
	g_test_add_func("/place/window-doubles", test_window_doubles);
	g_test_add_func("/place/window-stops-at-what-is-there", test_window_stops_at_what_is_there);
	g_test_add_func("/place/several-writers-take-one-each", test_several_writers_take_one_each);
	g_test_add_func("/place/stripe-by-number", test_stripe_by_number);
	return g_test_run();
}
