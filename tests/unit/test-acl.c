/* Access control lists as the kernel's attributes have them. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "server/acl.h"

typedef struct List {
	uint8_t bytes[8192];
	size_t len;
} List;

enum { UO = 1, U = 2, GO = 4, G = 8, M = 16, O = 32 };

/* (tag, permissions) pairs up to tag 0; names get the id 1000. */
static List list(const int *pairs)
{
	List l = { .bytes = { 2 }, .len = 4 };

	for (; *pairs; pairs += 2) {
		uint16_t tag = (uint16_t)pairs[0], perm = (uint16_t)pairs[1];
		uint32_t id = pairs[0] & (U | G) ? 1000 : UINT32_MAX;

		memcpy(l.bytes + l.len, &tag, 2);
		memcpy(l.bytes + l.len + 2, &perm, 2);
		memcpy(l.bytes + l.len + 4, &id, 4);
		l.len += 8;
	}
	return l;
}
#define LIST(...) list((const int[]) { __VA_ARGS__, 0 })

static void assert_list(const List *a, List b)
{
	g_assert_cmpmem(a->bytes, a->len, b.bytes, b.len);
}

static void test_check(void)
{
	List empty = list((const int[]) { 0 });
	const struct { List l; int result; } rows[] = {
		{ LIST(UO, 7, GO, 5, O, 4), 0 },
		{ LIST(UO, 7, U, 5, GO, 5, M, 7, O, 4), 0 },
		{ LIST(UO, 7, U, 5, U, 1, GO, 5, G, 2, G, 3, M, 7, O, 4), 0 },
		{ LIST(UO, 7, GO, 5, M, 7, O, 4), 0 },
		{ empty, 0 },
		{ LIST(UO, 7, U, 5, GO, 5, O, 4), -EINVAL },     /* names need a mask */
		{ LIST(UO, 7, GO, 5), -EINVAL },
		{ LIST(UO, 7, O, 5), -EINVAL },
		{ LIST(GO, 7, O, 5), -EINVAL },
		{ LIST(UO, 7, UO, 7, GO, 5, O, 4), -EINVAL },
		{ LIST(UO, 7, GO, 5, O, 4, M, 7), -EINVAL },
		{ LIST(UO, 8, GO, 5, O, 4), -EINVAL },
		{ LIST(UO, 7, GO, 5, O, 4, 64, 4), -EINVAL },
		{ LIST(UO, 7, UO | U, 1, GO, 5, O, 4), -EINVAL },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
		g_assert_cmpint(acl_check(rows[i].l.bytes, rows[i].l.len), ==, rows[i].result);
	g_assert_true(acl_is_empty(empty.len));
}

static void test_check_lengths(void)
{
	List l = LIST(UO, 7, GO, 5, O, 4);

	for (size_t len = 0; len < l.len; len++)
		g_assert_cmpint(acl_check(l.bytes, len), ==, len == 4 ? 0 : -EINVAL);
	g_assert_cmpint(acl_check(l.bytes, ACL_SIZE_MAX + 1), ==, -E2BIG);
	l.bytes[0] = 1;
	g_assert_cmpint(acl_check(l.bytes, l.len), ==, -EOPNOTSUPP);
}

static void test_no_id(void)
{
	List l = LIST(UO, 7, U, 5, GO, 5, M, 7, O, 4);

	memset(l.bytes + 4 + 8 + 4, 0xff, 4);
	g_assert_cmpint(acl_check(l.bytes, l.len), ==, -EINVAL);
}

static void test_to_mode(void)
{
	List minimal = LIST(UO, 6, GO, 4, O, 1), full = LIST(UO, 7, U, 7, GO, 1, M, 5, O, 0);
	uint32_t mode = 0102777;

	g_assert_true(acl_to_mode(minimal.bytes, minimal.len, &mode));
	g_assert_cmphex(mode, ==, 0102641);
	g_assert_false(acl_to_mode(full.bytes, full.len, &mode));
	g_assert_cmphex(mode, ==, 0102750);
}

static void test_chmod(void)
{
	List masked = LIST(UO, 7, U, 7, GO, 1, M, 5, O, 0), bare = LIST(UO, 7, GO, 1, O, 0);

	acl_set_mode(masked.bytes, masked.len, 0643);
	assert_list(&masked, LIST(UO, 6, U, 7, GO, 1, M, 4, O, 3));
	acl_set_mode(bare.bytes, bare.len, 0643);
	assert_list(&bare, LIST(UO, 6, GO, 4, O, 3));
}

static void test_inherit(void)
{
	List full = LIST(UO, 7, U, 7, GO, 7, M, 6, O, 5), minimal = LIST(UO, 7, GO, 5, O, 0);
	uint32_t mode = 0100644;

	g_assert_false(acl_inherit(full.bytes, full.len, &mode));
	g_assert_cmphex(mode, ==, 0100644);
	assert_list(&full, LIST(UO, 6, U, 7, GO, 7, M, 4, O, 4));
	mode = 02777;
	g_assert_true(acl_inherit(minimal.bytes, minimal.len, &mode));
	g_assert_cmphex(mode, ==, 02750);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/acl/check", test_check);
	g_test_add_func("/acl/check/lengths", test_check_lengths);
	g_test_add_func("/acl/check/no-id", test_no_id);
	g_test_add_func("/acl/to-mode", test_to_mode);
	g_test_add_func("/acl/chmod", test_chmod);
	g_test_add_func("/acl/inherit", test_inherit);
	return g_test_run();
}
