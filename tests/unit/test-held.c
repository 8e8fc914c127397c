/* The leases that a mount holds: when a grant counts, and what ends it. */
#include <glib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/held.h"

typedef struct Fixture {
	Held *held;
	uint64_t term;
	bool in_touch;
	uint64_t untold; /* the last number, and how many */
	uint32_t untolds, names_untold, listings_untold;
} Fixture;

static uint64_t term(void *arg, uint16_t home)
{
	return ((Fixture *)arg)->term;
}

static int64_t until_ns(void *arg, uint16_t home, uint64_t of)
{
	Fixture *f = arg;

	return f->in_touch && of == f->term ? 1000 : 0;
}

static void untold(void *arg, uint64_t ino)
{
	Fixture *f = arg;

	f->untold = ino;
	f->untolds++;
}

static void untold_names(void *arg)
{
	((Fixture *)arg)->names_untold++;
}

static void untold_listing(void *arg, uint64_t dir)
{
	((Fixture *)arg)->listings_untold++;
}

static void set_up(Fixture *f, gconstpointer data)
{
	HeldOptions opts = {
		.max_inodes = 4, .max_names = 16,
		.term = term, .until_ns = until_ns, .untold = untold, .untold_names = untold_names,
		.untold_listing = untold_listing, .arg = f,
	};

	f->term = 1;
	f->in_touch = true;
	f->held = held_new(&opts);
}

static void tear_down(Fixture *f, gconstpointer data)
{
	held_free(f->held);
}

static bool grant(Fixture *f, const HeldAsk *ask, uint64_t ino)
{
	WireAttr attr = { .ino = ino, .size = ino * 10, .mtime_ns = 7 };

	return held_grant(f->held, ask, &attr);
}

static bool grant_now(Fixture *f, uint64_t ino)
{
	HeldAsk ask = held_ask(f->held, 0);

	return grant(f, &ask, ino);
}

static void test_what_was_granted_is_kept(Fixture *f, gconstpointer data)
{
	g_assert_null(held_attr(f->held, 5));
	g_assert_true(grant_now(f, 5));
	g_assert_cmpuint(held_attr(f->held, 5)->size, ==, 50);
	g_assert_cmpint(held_until_ns(f->held, 5), ==, 1000);
	held_recall(f->held, 5);
	g_assert_null(held_attr(f->held, 5));
	g_assert_cmpint(held_until_ns(f->held, 5), ==, 0);
}

static void test_a_recall_that_overtakes_its_grant_wins(Fixture *f, gconstpointer data)
{
	HeldAsk ask = held_ask(f->held, 0);

	held_recall(f->held, 5);
	g_assert_false(grant(f, &ask, 5));
	g_assert_true(grant(f, &ask, 6));
	g_assert_true(grant_now(f, 5));
}

static void test_nothing_is_kept_during_an_own_change_nor_asked_before_its_end(Fixture *f, gconstpointer data)
{
	HeldChange c = { .inos = { 5, 6 }, .n = 2 };

	grant_now(f, 5);
	HeldAsk before = held_ask(f->held, 0);
	held_begin(f->held, 0, &c);
	HeldAsk during = held_ask(f->held, 0);
	g_assert_null(held_attr(f->held, 5));
	g_assert_false(grant(f, &before, 5));
	g_assert_false(grant(f, &during, 6));
	held_end(f->held, &c);
	g_assert_false(grant(f, &before, 6));
	g_assert_false(grant(f, &during, 5));
	g_assert_true(grant_now(f, 5));
}

static void test_what_a_change_itself_grants_counts(Fixture *f, gconstpointer data)
{
	HeldChange c = { .inos = { 5, 6 }, .n = 2 };

	held_begin(f->held, 0, &c);
	held_end(f->held, &c);
	g_assert_true(grant(f, &c.asks[0], 5));
	g_assert_true(grant(f, &c.asks[1], 6));
	held_recall(f->held, 5);
	g_assert_false(grant(f, &c.asks[0], 5));
}

static void test_what_a_change_grants_does_not_count_after_a_recall_or_beside_another(Fixture *f, gconstpointer data)
{
	HeldChange a = { .inos = { 5 }, .n = 1 }, b = a;

	held_begin(f->held, 0, &a);
	held_recall(f->held, 5);
	held_end(f->held, &a);
	g_assert_false(grant(f, &a.asks[0], 5));
	held_begin(f->held, 0, &a);
	held_begin(f->held, 0, &b);
	held_end(f->held, &a);
	g_assert_false(grant(f, &a.asks[0], 5));
	held_end(f->held, &b);
	g_assert_false(grant(f, &b.asks[0], 5));
}

static void test_a_change_may_name_an_inode_twice(Fixture *f, gconstpointer data)
{
	HeldChange c = { .inos = { 5, 5 }, .n = 2 };

	held_begin(f->held, 0, &c);
	held_end(f->held, &c);
	g_assert_true(grant_now(f, 5));
}

static void test_losing_touch_ends_all_of_a_term(Fixture *f, gconstpointer data)
{
	HeldAsk ask = held_ask(f->held, 0);

	grant(f, &ask, 5);
	f->term = 2;
	g_assert_null(held_attr(f->held, 5));
	g_assert_false(grant(f, &ask, 6));
	g_assert_true(grant_now(f, 5));
	f->in_touch = false;
	g_assert_null(held_attr(f->held, 5));
	g_assert_false(grant_now(f, 5));
}

static void test_the_kernel_is_untold_once_and_only_what_it_was_told(Fixture *f, gconstpointer data)
{
	grant_now(f, 5);
	held_recall(f->held, 5);
	g_assert_cmpuint(f->untolds, ==, 0);
	grant_now(f, 5);
	g_assert_cmpuint(held_told(f->held, 5), ==, 0);
	held_tell(f->held, 5);
	uint64_t told = held_told(f->held, 5);
	held_tell(f->held, 5);
	g_assert_cmpuint(held_told(f->held, 5), >, told);
	held_recall(f->held, 5);
	held_recall(f->held, 5);
	g_assert_cmpuint(f->untolds, ==, 1);
	g_assert_cmpuint(f->untold, ==, 5);
}

static bool tell(Fixture *f, uint64_t dir)
{
	grant_now(f, dir);
	held_put_name(f->held, dir, "a", 1, 77, S_IFREG);
	return held_tell_name(f->held, dir, "a", 1, 77);
}

static void test_all_names_are_untold_at_once_and_not_again(Fixture *f, gconstpointer data)
{
	g_assert_true(tell(f, 8));
	held_recall(f->held, 7);
	g_assert_cmpuint(f->names_untold, ==, 0);
	g_assert_true(tell(f, 9));
	held_recall(f->held, 8);
	held_recall(f->held, 9); /* the kernel has forgotten these, too */
	g_assert_cmpuint(f->names_untold, ==, 1);
	g_assert_true(tell(f, 9));
	held_recall(f->held, 9);
	g_assert_cmpuint(f->names_untold, ==, 2);
}

static void test_the_kernel_is_told_only_attributes_as_they_are_kept(Fixture *f, gconstpointer data)
{
	WireAttr old = { .ino = 5, .size = 10, .ctime_ns = 100 }, now = { .ino = 5, .size = 10, .ctime_ns = 200 };
	HeldAsk ask = held_ask(f->held, 0);

	g_assert_false(held_tell_attr(f->held, &old)); /* nothing is kept */
	g_assert_true(held_grant(f->held, &ask, &now));
	g_assert_false(held_tell_attr(f->held, &old));
	g_assert_true(held_tell_attr(f->held, &now));
}

static void test_the_kernel_is_told_only_names_as_they_are_kept(Fixture *f, gconstpointer data)
{
	g_assert_false(held_tell_name(f->held, 9, "a", 1, 77));
	g_assert_true(tell(f, 9));
	g_assert_false(held_tell_name(f->held, 9, "a", 1, 0));
	g_assert_false(held_tell_name(f->held, 9, "b", 1, 0));
	held_put_name(f->held, 9, "b", 1, 0, 0);
	g_assert_true(held_tell_name(f->held, 9, "b", 1, 0));
}

static void test_a_listing_is_untold_with_its_lease_and_no_lease_comes_twice(Fixture *f, gconstpointer data)
{
	g_assert_cmpuint(held_lease(f->held, 5), ==, 0);
	grant_now(f, 5);
	uint64_t lease = held_lease(f->held, 5);
	g_assert_cmpuint(lease, !=, 0);
	grant_now(f, 5); /* it lasts */
	g_assert_cmpuint(held_lease(f->held, 5), ==, lease);
	held_recall(f->held, 5);
	g_assert_cmpuint(f->listings_untold, ==, 0);
	grant_now(f, 5);
	g_assert_cmpuint(held_lease(f->held, 5), !=, lease);
	held_tell_listing(f->held, 5);
	f->in_touch = false;
	g_assert_cmpuint(held_lease(f->held, 5), ==, 0);
	g_assert_cmpuint(f->listings_untold, ==, 1);
}

static void test_what_was_used_least_recently_goes_first(Fixture *f, gconstpointer data)
{
	for (uint64_t ino = 1; ino <= 4; ino++)
		grant_now(f, ino);
	held_tell(f->held, 2);
	g_assert_nonnull(held_attr(f->held, 1));
	grant_now(f, 5);
	g_assert_null(held_attr(f->held, 2));
	g_assert_cmpuint(f->untold, ==, 2);
	g_assert_nonnull(held_attr(f->held, 1));
	g_assert_cmpuint(held_stats(f->held)->inodes, ==, 4);
}

/* ---- names ---- */

static void test_names_go_with_their_directory(Fixture *f, gconstpointer data)
{
	HeldAsk ask = held_ask(f->held, 0);

	g_assert_true(held_grant_bare(f->held, &ask, 9));
	held_put_name(f->held, 9, "a", 1, 77, S_IFREG);
	held_put_name(f->held, 9, "none", 4, 0, 0);
	g_assert_cmpuint(held_name(f->held, 9, "a", 1)->ino, ==, 77);
	g_assert_cmpuint(held_name(f->held, 9, "none", 4)->ino, ==, 0);
	g_assert_null(held_name(f->held, 9, "b", 1));
	g_assert_null(held_attr(f->held, 9)); /* names alone */
	held_recall(f->held, 9);
	g_assert_null(held_name(f->held, 9, "a", 1));
	held_put_name(f->held, 9, "a", 1, 77, S_IFREG); /* without a lease: ignored */
	g_assert_null(held_name(f->held, 9, "a", 1));
	g_assert_cmpuint(held_stats(f->held)->names, ==, 0);
}

static void test_a_name_of_255_bytes_is_kept_and_a_longer_one_not_known(Fixture *f, gconstpointer data)
{
	char name[WIRE_NAME_MAX + 2];

	memset(name, 'n', sizeof(name));
	grant_now(f, 9);
	held_put_name(f->held, 9, name, WIRE_NAME_MAX, 77, S_IFREG);
	g_assert_nonnull(held_name(f->held, 9, name, WIRE_NAME_MAX));
	g_assert_null(held_name(f->held, 9, name, WIRE_NAME_MAX + 1));
}

static void put_portion(Fixture *f, uint64_t from, uint64_t first, uint32_t n, bool eof)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

	for (uint64_t cookie = first; cookie < first + n; cookie++) {
		g_autofree char *text = g_strdup_printf("n%u", (unsigned)cookie);
		g_ptr_array_add(names, held_name_new(text, strlen(text), 100 + cookie, S_IFREG, cookie));
	}
	held_put_listing(f->held, 9, from, names, eof);
}

static void test_a_listing_grows_by_portions_that_continue_it(Fixture *f, gconstpointer data)
{
	uint32_t n;

	grant_now(f, 9);
	g_assert_null(held_listing(f->held, 9, 0, &n));
	put_portion(f, 3, 4, 2, true); /* continues nothing */
	g_assert_null(held_listing(f->held, 9, 0, &n));
	held_put_name(f->held, 9, "n2", 2, 102, S_IFREG);
	put_portion(f, 0, 1, 3, false);
	g_assert_cmpuint(held_listing(f->held, 9, 1, &n)[0]->cookie, ==, 2);
	g_assert_cmpuint(n, ==, 2);
	g_assert_null(held_listing(f->held, 9, 3, &n));
	g_assert_null(held_name(f->held, 9, "m", 1));
	put_portion(f, 3, 4, 2, true);
	g_assert_nonnull(held_listing(f->held, 9, 5, &n));
	g_assert_cmpuint(n, ==, 0);
	g_assert_cmpstr(held_listing(f->held, 9, 0, &n)[4]->text, ==, "n5");
	g_assert_cmpuint(n, ==, 5);
	g_assert_cmpuint(held_name(f->held, 9, "n4", 2)->ino, ==, 104);
	g_assert_cmpuint(held_name(f->held, 9, "m", 1)->ino, ==, 0); /* all are known */
	g_assert_cmpuint(held_stats(f->held)->names, ==, 5);
}

static void test_an_empty_directory_has_a_listing(Fixture *f, gconstpointer data)
{
	uint32_t n = 9;

	grant_now(f, 9);
	put_portion(f, 0, 1, 0, true);
	g_assert_nonnull(held_listing(f->held, 9, 0, &n));
	g_assert_cmpuint(n, ==, 0);
}

static void test_too_many_names_cost_other_directories_theirs(Fixture *f, gconstpointer data)
{
	uint32_t n;

	grant_now(f, 8);
	held_put_name(f->held, 8, "a", 1, 77, S_IFREG);
	grant_now(f, 9);
	put_portion(f, 0, 1, 20, true);
	g_assert_null(held_name(f->held, 8, "a", 1));
	g_assert_nonnull(held_listing(f->held, 9, 0, &n));
}

static void test_pages_are_good_as_long_as_nothing_newer_was_heard_of(Fixture *f, gconstpointer data)
{
	WireAttr attr = { .ino = 5, .mtime_ns = 7 };

	grant_now(f, 5);
	g_assert_false(held_pages_good(f->held, 5));
	held_show(f->held, &attr);
	g_assert_true(held_pages_good(f->held, 5));
	attr.mtime_ns = 6; /* an old reply */
	held_show(f->held, &attr);
	g_assert_false(held_pages_good(f->held, 5));
	held_recall(f->held, 5);
	g_assert_false(held_pages_good(f->held, 5));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/held/" #name, Fixture, NULL, set_up, test_ ## name, tear_down)
	ADD(what_was_granted_is_kept);
	ADD(a_recall_that_overtakes_its_grant_wins);
	ADD(nothing_is_kept_during_an_own_change_nor_asked_before_its_end);
	ADD(what_a_change_itself_grants_counts);
	ADD(what_a_change_grants_does_not_count_after_a_recall_or_beside_another);
	ADD(a_change_may_name_an_inode_twice);
	ADD(losing_touch_ends_all_of_a_term);
	ADD(the_kernel_is_untold_once_and_only_what_it_was_told);
	ADD(all_names_are_untold_at_once_and_not_again);
	ADD(the_kernel_is_told_only_attributes_as_they_are_kept);
	ADD(the_kernel_is_told_only_names_as_they_are_kept);
	ADD(a_listing_is_untold_with_its_lease_and_no_lease_comes_twice);
	ADD(what_was_used_least_recently_goes_first);
	ADD(names_go_with_their_directory);
	ADD(a_name_of_255_bytes_is_kept_and_a_longer_one_not_known);
	ADD(a_listing_grows_by_portions_that_continue_it);
	ADD(an_empty_directory_has_a_listing);
	ADD(too_many_names_cost_other_directories_theirs);
	ADD(pages_are_good_as_long_as_nothing_newer_was_heard_of);
	return g_test_run();
}
