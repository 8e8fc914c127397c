/* The states of a number in the open table, and of lock owners. */
#include <errno.h>
#include <glib.h>

#include "fuse/lock-owners.h"
#include "fuse/open-table.h"

static void test_counts_opens(void)
{
	OpenTable *t = open_table_new(8);

	g_assert_false(open_table_is_open(t, 5));
	g_assert_cmpint(open_table_open(t, 5), ==, 0);
	g_assert_cmpint(open_table_open(t, 5), ==, 0);
	g_assert_cmpuint(open_table_size(t), ==, 1);
	g_assert_false(open_table_close(t, 5));
	g_assert_true(open_table_is_open(t, 5));
	g_assert_false(open_table_close(t, 5));
	g_assert_false(open_table_is_open(t, 5));
	g_assert_cmpuint(open_table_size(t), ==, 0);
	open_table_free(t);
}

static void test_orphan_is_told_once_at_last_close(void)
{
	OpenTable *t = open_table_new(8);

	open_table_open(t, 5);
	open_table_open(t, 5);
	g_assert_true(open_table_query(t, 5));
	g_assert_true(open_table_query(t, 5)); /* a home that restarted asks again */
	g_assert_false(open_table_close(t, 5));
	/* Who has it open may open it again: /proc/self/fd. */
	g_assert_cmpint(open_table_open(t, 5), ==, 0);
	g_assert_false(open_table_is_last(t, 5));
	g_assert_false(open_table_close(t, 5));
	g_assert_true(open_table_is_last(t, 5));
	g_assert_true(open_table_close(t, 5));
	g_assert_cmpint(open_table_open(t, 5), ==, -ESTALE);
	open_table_free(t);
}

static void test_what_is_not_open_is_dead(void)
{
	OpenTable *t = open_table_new(8);

	g_assert_false(open_table_query(t, 5));
	g_assert_cmpint(open_table_open(t, 5), ==, -ESTALE);
	g_assert_cmpint(open_table_open(t, 6), ==, 0);
	open_table_free(t);
}

static void test_undo_is_as_if_never_asked(void)
{
	OpenTable *t = open_table_new(2);

	open_table_query(t, 5);
	open_table_undo(t, 5);
	g_assert_cmpint(open_table_open(t, 5), ==, 0);
	g_assert_true(open_table_query(t, 5));
	open_table_undo(t, 5);
	g_assert_false(open_table_close(t, 5));
	/* the place it left is used again, whoever has died before or since */
	open_table_query(t, 6);
	open_table_undo(t, 6);
	for (uint64_t ino = 6; ino < 10; ino++)
		open_table_query(t, ino);
	g_assert_cmpint(open_table_open(t, 8), ==, -ESTALE);
	g_assert_cmpint(open_table_open(t, 9), ==, -ESTALE);
	open_table_undo(t, 77);
	open_table_free(t);
}

static void test_dead_are_bounded(void)
{
	OpenTable *t = open_table_new(4);

	for (uint64_t ino = 1; ino <= 6; ino++) {
		open_table_query(t, ino);
		open_table_query(t, ino); /* takes no second place */
	}
	g_assert_cmpint(open_table_open(t, 1), ==, 0);
	g_assert_cmpint(open_table_open(t, 2), ==, 0);
	for (uint64_t ino = 3; ino <= 6; ino++)
		g_assert_cmpint(open_table_open(t, ino), ==, -ESTALE);
	open_table_free(t);
}

static void test_close_without_open(void)
{
	OpenTable *t = open_table_new(4);

	g_assert_false(open_table_close(t, 9));
	open_table_free(t);
}

static void test_lock_owners(void)
{
	LockOwners *o = lock_owners_new();
	uint64_t owner = 0;

	lock_owners_add(o, 5, 100, 1);
	lock_owners_add(o, 5, 100, 2); /* the same owner, by another handle */
	lock_owners_add(o, 5, 101, 3);
	lock_owners_add(o, 6, 100, 1);
	g_assert_cmpuint(lock_owners_size(o), ==, 3);
	g_assert_false(lock_owners_take_by_handle(o, 5, 1, &owner));
	g_assert_true(lock_owners_take_by_handle(o, 5, 3, &owner));
	g_assert_cmpuint(owner, ==, 101);
	g_assert_true(lock_owners_take(o, 5, 100));
	g_assert_false(lock_owners_take(o, 5, 100));
	g_assert_true(lock_owners_take(o, 6, 100));
	g_assert_cmpuint(lock_owners_size(o), ==, 0);
	lock_owners_free(o);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/opentable/counts", test_counts_opens);
	g_test_add_func("/opentable/orphan", test_orphan_is_told_once_at_last_close);
	g_test_add_func("/opentable/dead", test_what_is_not_open_is_dead);
	g_test_add_func("/opentable/undo", test_undo_is_as_if_never_asked);
	g_test_add_func("/opentable/bounded", test_dead_are_bounded);
	g_test_add_func("/opentable/close", test_close_without_open);
	g_test_add_func("/lockowners/take", test_lock_owners);
	return g_test_run();
}
