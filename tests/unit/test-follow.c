/* follow_decide(): when the reactor's thread follows its caller, and when not. */
#include <glib.h>

#include "fuse/follow.h"

#define US INT64_C(1000)
#define MS (1000 * US)

/* A made-up caller: what its requests cost where, and what we then see. */
typedef struct World {
	FollowState state;
	FollowSample sample;
	int64_t free_cost_ns, pinned_cost_ns;
	int64_t delay_free_ns, delay_pinned_ns; /* a request's share of run delay */
	uint32_t switches; /* per stride */
	int cpu;
	uint32_t pins, releases;
} World;

static World world(int64_t free_cost_ns, int64_t pinned_cost_ns)
{
	return (World) {
		.free_cost_ns = free_cost_ns,
		.pinned_cost_ns = pinned_cost_ns,
		.sample.now_ns = 1000 * MS,
		.state.last_ns = 1000 * MS,
		.cpu = 1,
	};
}

static void decide(World *w)
{
	switch (follow_decide(&w->state, &w->sample)) {
	case FOLLOW_PIN:
		w->pins++;
		break;
	case FOLLOW_RELEASE:
		w->releases++;
		break;
	case FOLLOW_KEEP:
		break;
	}
}

static void stride(World *w)
{
	bool pinned = w->state.phase != FOLLOW_FREE;

	w->sample.now_ns += FOLLOW_STRIDE * (pinned ? w->pinned_cost_ns : w->free_cost_ns);
	w->sample.run_delay_ns += FOLLOW_STRIDE * (uint64_t)(pinned ? w->delay_pinned_ns : w->delay_free_ns);
	w->sample.requests = FOLLOW_STRIDE;
	w->sample.switches = w->switches;
	w->sample.cpu = w->cpu;
	decide(w);
}

static void strides(World *w, int n)
{
	while (n-- > 0)
		stride(w);
}

static void silence(World *w, int64_t ns)
{
	w->sample.now_ns += ns;
	w->sample.requests = w->sample.switches = 0;
	w->sample.cpu = -1;
	decide(w);
}

static void test_follows_single_caller(void)
{
	World w = world(100 * US, 15 * US);

	strides(&w, 6);
	g_assert_cmpuint(w.pins, ==, 0);
	strides(&w, 1); /* over 10 ms */
	g_assert_cmpint(w.state.phase, ==, FOLLOW_TRIAL);
	g_assert_cmpint(w.state.cpu, ==, 1);
	strides(&w, 10000);
	g_assert_cmpint(w.state.phase, ==, FOLLOW_ON);
	g_assert_cmpuint(w.pins, ==, 1);
	g_assert_cmpuint(w.releases, ==, 0);
}

static void test_moves_with_caller(void)
{
	World w = world(100 * US, 15 * US);

	strides(&w, 100);
	w.cpu = 0;
	strides(&w, 1);
	g_assert_cmpint(w.state.cpu, ==, 0);
	strides(&w, 100);
	g_assert_cmpuint(w.pins, ==, 2);
	g_assert_cmpuint(w.releases, ==, 0);
}

static void test_gives_up_on_caller_that_runs_away(void)
{
	World w = world(100 * US, 15 * US);

	strides(&w, 100);
	for (int i = 0; i < 8 && w.state.phase == FOLLOW_ON; i++) {
		w.cpu = !w.cpu;
		stride(&w);
	}
	g_assert_cmpint(w.state.phase, ==, FOLLOW_FREE);
}

static void test_trial_without_gain_ends_and_backs_off(void)
{
	World w = world(20 * US, 20 * US);
	int64_t end = w.sample.now_ns + 10000 * MS;

	while (w.sample.now_ns < end)
		stride(&w);
	/* 100 ms, 200, 400 ... */
	g_assert_cmpuint(w.pins, >=, 3);
	g_assert_cmpuint(w.pins, <=, 8);
	g_assert_cmpuint(w.releases, >=, w.pins - 1);
}

static void test_fast_enough_is_left_alone(void)
{
	World w = world(10 * US, 5 * US);

	strides(&w, 1000);
	g_assert_cmpuint(w.pins, ==, 0);
}

/* Two callers share one core, and each has it for a few milliseconds. */
static void test_callers_that_take_turns_are_left_alone(void)
{
	World w = world(50 * US, 15 * US);

	for (int i = 0; i < 200; i++) {
		w.switches = 0;
		strides(&w, 5);
		w.switches = 5;
		strides(&w, 1);
	}
	g_assert_cmpuint(w.pins, ==, 0);
}

static void test_several_callers_are_left_alone(void)
{
	World w = world(50 * US, 15 * US);

	w.switches = 7;
	strides(&w, 1000);
	g_assert_cmpuint(w.pins, ==, 0);
}

static void test_second_caller_ends_it(void)
{
	World w = world(100 * US, 15 * US);

	strides(&w, 100);
	g_assert_cmpint(w.state.phase, ==, FOLLOW_ON);
	w.switches = 8;
	strides(&w, 4);
	g_assert_cmpint(w.state.phase, ==, FOLLOW_FREE);
	strides(&w, 1000);
	g_assert_cmpuint(w.pins, ==, 1);
}

/* A new process for each few files, as in a shell loop or an unpack. */
static void test_few_switches_are_one_caller(void)
{
	World w = world(100 * US, 15 * US);

	w.switches = 2;
	strides(&w, 1000);
	g_assert_cmpint(w.state.phase, ==, FOLLOW_ON);
	g_assert_cmpuint(w.releases, ==, 0);
}

static void test_starving_ends_it_at_once(void)
{
	World w = world(100 * US, 15 * US);

	strides(&w, 100);
	/* a hog took the core: one request in 4 ms */
	w.sample.now_ns += 4 * MS;
	w.sample.run_delay_ns += 39 * MS / 10;
	w.sample.requests = 1;
	w.sample.switches = 0;
	decide(&w);
	g_assert_cmpint(w.state.phase, ==, FOLLOW_FREE);
	/* and is not tried again right away */
	strides(&w, 50);
	g_assert_cmpuint(w.pins, ==, 1);
}

/* A stream with readahead: the caller works while we could. */
static void test_waiting_for_the_caller_ends_it(void)
{
	World w = world(100 * US, 50 * US);

	w.delay_pinned_ns = 30 * US;
	strides(&w, 40);
	g_assert_cmpint(w.state.phase, ==, FOLLOW_FREE);
}

static void test_silence_ends_it_without_regret(void)
{
	World w = world(100 * US, 15 * US);

	strides(&w, 100);
	silence(&w, 20 * MS);
	if (w.state.phase != FOLLOW_FREE)
		silence(&w, 20 * MS);
	g_assert_cmpint(w.state.phase, ==, FOLLOW_FREE);
	g_assert_cmpint(w.state.not_before_ns, <=, w.sample.now_ns);
	silence(&w, 1000 * MS);
	strides(&w, 10);
	g_assert_cmpuint(w.pins, ==, 2);
}

static void test_slow_callers_are_not_worth_it(void)
{
	World w = world(2 * MS, 1 * MS);

	strides(&w, 1000);
	g_assert_cmpuint(w.pins, ==, 0);
}

static void test_unknown_core_is_not_followed(void)
{
	World w = world(100 * US, 15 * US);

	w.cpu = -1;
	strides(&w, 1000);
	g_assert_cmpuint(w.pins, ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/follow/single-caller", test_follows_single_caller);
	g_test_add_func("/follow/moves", test_moves_with_caller);
	g_test_add_func("/follow/runs-away", test_gives_up_on_caller_that_runs_away);
	g_test_add_func("/follow/no-gain", test_trial_without_gain_ends_and_backs_off);
	g_test_add_func("/follow/fast-enough", test_fast_enough_is_left_alone);
	g_test_add_func("/follow/turns", test_callers_that_take_turns_are_left_alone);
	g_test_add_func("/follow/several", test_several_callers_are_left_alone);
	g_test_add_func("/follow/second", test_second_caller_ends_it);
	g_test_add_func("/follow/few-switches", test_few_switches_are_one_caller);
	g_test_add_func("/follow/starving", test_starving_ends_it_at_once);
	g_test_add_func("/follow/waiting", test_waiting_for_the_caller_ends_it);
	g_test_add_func("/follow/silence", test_silence_ends_it_without_regret);
	g_test_add_func("/follow/slow", test_slow_callers_are_not_worth_it);
	g_test_add_func("/follow/unknown-core", test_unknown_core_is_not_followed);
	return g_test_run();
}
