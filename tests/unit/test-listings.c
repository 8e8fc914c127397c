/* When the kernel may keep a listing, and when it must let go of it. */
#include <glib.h>

#include "common/reactor.h"
#include "fuse/listings.h"

#define DIR 5
#define LEASE 1

typedef struct Fixture {
	Reactor *reactor;
	Listings *listings;
	CoGroup behind;
	uint32_t drops;
	bool slow;    /* drops wait for the gate */
	bool in_drop;
	CoQueue gate;
	uint32_t dead; /* a thread that is no more */
} Fixture;

static void coroutine_fn drop(void *arg, uint64_t dir)
{
	Fixture *f = arg;

	f->drops++;
	f->in_drop = true;
	if (f->slow)
		co_queue_wait(&f->gate);
	f->in_drop = false;
}

static bool spawn(void *arg, CoFn *fn, void *fn_arg)
{
	co_group_spawn(&((Fixture *)arg)->behind, fn, fn_arg);
	return true;
}

static bool thread_exists(void *arg, uint32_t thread)
{
	return ((Fixture *)arg)->dead != thread;
}

static void set_up(Fixture *f, gconstpointer data)
{
	ReactorOptions ro = { 0 };
	ListingsOptions opts = { .max = 4, .drop = drop, .spawn = spawn, .thread_exists = thread_exists, .arg = f };

	f->reactor = reactor_new(&ro, NULL);
	g_assert_nonnull(f->reactor);
	f->behind.sched = reactor_sched(f->reactor);
	f->listings = listings_new(&opts);
}

static void coroutine_fn co_settle(void *arg)
{
	Fixture *f = arg;

	co_group_wait(&f->behind);
}

static void settle(Fixture *f)
{
	reactor_run_co(f->reactor, co_settle, f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
	settle(f);
	listings_free(f->listings);
	reactor_free(f->reactor);
}

/* ---- what a thread does ---- */

typedef struct Look {
	Fixture *f;
	uint64_t dir, lease;
	uint32_t thread;
} Look;

static void coroutine_fn co_first(void *arg)
{
	Look *l = arg;

	listings_went_on(l->f->listings, l->thread);
	listings_co_begin(l->f->listings, l->dir, l->lease);
	listings_reply(l->f->listings, l->dir, l->lease, l->thread);
}

static void first(Fixture *f, uint64_t dir, uint64_t lease, uint32_t thread)
{
	Look l = { f, dir, lease, thread };

	reactor_run_co(f->reactor, co_first, &l);
}

/* May the listing end so that it is kept? */
static bool end(Fixture *f, uint64_t dir, uint64_t lease, uint32_t thread)
{
	listings_went_on(f->listings, thread);
	bool keep = listings_may_keep(f->listings, dir, lease);
	listings_reply(f->listings, dir, lease, thread);
	return keep;
}

static bool look(Fixture *f, uint64_t lease, uint32_t thread)
{
	first(f, DIR, lease, thread);
	return end(f, DIR, lease, thread);
}

/* ---- keeping ---- */

static void test_a_listing_under_one_lease_is_kept_and_nothing_dropped(Fixture *f, gconstpointer data)
{
	g_assert_true(look(f, LEASE, 100));
	g_assert_cmpuint(f->drops, ==, 0);
}

static void test_without_a_lease_nothing_is_kept(Fixture *f, gconstpointer data)
{
	g_assert_false(look(f, 0, 100));
}

static void test_an_end_without_a_beginning_is_not_kept(Fixture *f, gconstpointer data)
{
	g_assert_false(end(f, DIR, LEASE, 100));
}

static void test_nothing_is_kept_while_another_thread_has_an_answer_on_its_way(Fixture *f, gconstpointer data)
{
	first(f, DIR, LEASE, 100);
	first(f, DIR, LEASE, 101);
	g_assert_false(end(f, DIR, LEASE, 100));
	listings_went_on(f->listings, 100);
	g_assert_true(end(f, DIR, LEASE, 101));
}

static void test_a_thread_that_is_no_more_is_in_nobodys_way(Fixture *f, gconstpointer data)
{
	first(f, DIR, LEASE, 100);
	g_assert_false(look(f, LEASE, 101));
	f->dead = 100;
	g_assert_true(look(f, LEASE, 101));
}

static void test_after_a_thread_without_a_name_nothing_is_kept(Fixture *f, gconstpointer data)
{
	first(f, 6, LEASE, 0);
	g_assert_false(look(f, LEASE, 100));
}

/* ---- letting go ---- */

static void test_the_end_of_a_lease_drops_what_was_sent_under_it(Fixture *f, gconstpointer data)
{
	look(f, LEASE, 100);
	listings_went_on(f->listings, 100);
	listings_lease_ended(f->listings, DIR);
	settle(f);
	g_assert_cmpuint(f->drops, ==, 1);
	g_assert_cmpuint(listings_size(f->listings), ==, 0);
	/* Nothing is left, so the next is kept at once. */
	g_assert_true(look(f, LEASE + 1, 100));
	g_assert_cmpuint(f->drops, ==, 1);
}

static void test_a_listing_that_saw_its_lease_change_is_not_kept(Fixture *f, gconstpointer data)
{
	first(f, DIR, LEASE, 100);
	listings_lease_ended(f->listings, DIR);
	settle(f);
	g_assert_false(end(f, DIR, LEASE + 1, 100));
	/* Its first portion may have come down after the drop: once more. */
	g_assert_true(look(f, LEASE + 1, 100));
	g_assert_cmpuint(f->drops, ==, 2);
}

static void test_an_old_answer_on_its_way_keeps_the_next_lease_from_being_used(Fixture *f, gconstpointer data)
{
	first(f, DIR, LEASE, 100);
	listings_lease_ended(f->listings, DIR);
	settle(f);
	g_assert_false(look(f, LEASE + 1, 101));
	listings_went_on(f->listings, 101);
	g_assert_false(look(f, LEASE + 1, 101));
	listings_went_on(f->listings, 100);
	g_assert_true(look(f, LEASE + 1, 101));
	g_assert_cmpuint(f->drops, ==, 2);
}

static void test_portions_without_a_lease_are_dropped_before_the_next(Fixture *f, gconstpointer data)
{
	look(f, 0, 100);
	g_assert_true(look(f, LEASE, 100));
	g_assert_cmpuint(f->drops, ==, 1);
}

typedef struct Show {
	Fixture *f;
	bool was_in_drop;
} Show;

static void coroutine_fn co_show(void *arg)
{
	Show *s = arg;

	listings_co_show(s->f->listings, DIR);
	s->was_in_drop = s->f->in_drop;
}

static void coroutine_fn co_open_gate(void *arg)
{
	Fixture *f = arg;

	while (!f->in_drop)
		co_reschedule();
	co_reschedule();
	co_queue_wake_all(&f->gate);
}

static void test_attributes_wait_for_the_drop(Fixture *f, gconstpointer data)
{
	Show s = { .f = f, .was_in_drop = true };

	look(f, LEASE, 100);
	f->slow = true;
	listings_lease_ended(f->listings, DIR);
	co_group_spawn(&f->behind, co_open_gate, f);
	reactor_run_co(f->reactor, co_show, &s);
	g_assert_cmpuint(f->drops, ==, 1);
	g_assert_false(s.was_in_drop);
}

static void test_an_answer_during_a_drop_is_not_taken_for_dropped(Fixture *f, gconstpointer data)
{
	look(f, LEASE, 100);
	f->slow = true;
	listings_lease_ended(f->listings, DIR);
	g_assert_false(end(f, DIR, LEASE + 1, 100));
	co_group_spawn(&f->behind, co_open_gate, f);
	settle(f);
	f->slow = false;
	g_assert_cmpuint(listings_size(f->listings), ==, 1);
	g_assert_true(look(f, LEASE + 1, 100));
	g_assert_cmpuint(f->drops, ==, 2);
}

static void test_directories_beyond_the_limit_cost_the_oldest(Fixture *f, gconstpointer data)
{
	for (uint64_t dir = 1; dir <= 20; dir++) {
		first(f, dir, LEASE, 100);
		g_assert_true(end(f, dir, LEASE, 100));
		settle(f);
		g_assert_cmpuint(listings_size(f->listings), <=, 6);
	}
	g_assert_cmpuint(f->drops, >=, 14);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/listings/" #name, Fixture, NULL, set_up, test_ ## name, tear_down)
	ADD(a_listing_under_one_lease_is_kept_and_nothing_dropped);
	ADD(without_a_lease_nothing_is_kept);
	ADD(an_end_without_a_beginning_is_not_kept);
	ADD(nothing_is_kept_while_another_thread_has_an_answer_on_its_way);
	ADD(a_thread_that_is_no_more_is_in_nobodys_way);
	ADD(after_a_thread_without_a_name_nothing_is_kept);
	ADD(the_end_of_a_lease_drops_what_was_sent_under_it);
	ADD(a_listing_that_saw_its_lease_change_is_not_kept);
	ADD(an_old_answer_on_its_way_keeps_the_next_lease_from_being_used);
	ADD(portions_without_a_lease_are_dropped_before_the_next);
	ADD(attributes_wait_for_the_drop);
	ADD(an_answer_during_a_drop_is_not_taken_for_dropped);
	ADD(directories_beyond_the_limit_cost_the_oldest);
	return g_test_run();
}
