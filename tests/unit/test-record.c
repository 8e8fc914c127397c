#include <glib.h>
#include <string.h>

#include "server/record.h"

static int key_cmp(Key a, Key b)
{
	int c = memcmp(a.data, b.data, MIN(a.len, b.len));

	return c ? c : (a.len > b.len) - (a.len < b.len);
}

static void test_layout(void)
{
	const uint8_t expect[] = { 0x0a, 0xbc, 'c', 0x0a, 0xbc, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0x07 };
	Key k = key_ino_num(ino_make(0xabc, 0x1234), RECORD_CHUNKS, 7);

	g_assert_cmpmem(k.data, k.len, expect, sizeof(expect));
	g_assert_cmpuint(key_get_num(k.data, k.len, 3), ==, ino_make(0xabc, 0x1234));
	g_assert_cmpuint(key_get_num(k.data, k.len, KEY_TAIL), ==, 7);
	g_assert_cmpuint(key_get_num(k.data, k.len, KEY_TAIL + 1), ==, 0); /* too short */
	g_assert_cmpuint(key_get_num(k.data, k.len, 1000), ==, 0);
}

static void test_order(void)
{
	/* numbers order keys as they order themselves, across byte borders */
	const uint64_t nums[] = { 0, 1, 255, 256, 65535, 65536, UINT64_C(1) << 40, UINT64_MAX };

	for (size_t i = 1; i < G_N_ELEMENTS(nums); i++)
		g_assert_cmpint(key_cmp(key_ino_num(5, RECORD_CHUNKS, nums[i - 1]), key_ino_num(5, RECORD_CHUNKS, nums[i])), <, 0);
	/* a slot is one range */
	g_assert_cmpint(key_cmp(key_ino(ino_make(1, INO_SEQ_MASK), RECORD_XATTR), key_slot(2, RECORD_CHUNKS)), <, 0);
	g_assert_cmpint(key_cmp(key_slot(SLOT_COUNT - 1, RECORD_XATTR), key_slot(STORE_SLOT, RECORD_CHUNKS)), <, 0);
	g_assert_cmpint(key_cmp(key_dirent(9, 100, "z", 1), key_dirent(9, 101, "a", 1)), <, 0);
}

static void test_prefix(void)
{
	Key p = key_ino(77, RECORD_DIRENT);
	Key k = key_dirent(77, 12345, "name", 4);

	g_assert_cmpmem(k.data, p.len, p.data, p.len);
	g_assert_cmpuint(k.len, ==, KEY_TAIL + 8 + 4);
	g_assert_cmpmem(k.data + KEY_TAIL + 8, 4, "name", 4);
	Key longest = key_dirent(77, 1, (char[255]) { 0 }, 255);
	g_assert_cmpuint(longest.len, <=, KEY_MAX);
}

static void test_hash(void)
{
	g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);

	for (int i = 0; i < 100000; i++) {
		g_autofree char *name = g_strdup_printf("f%d", i);
		uint64_t hash = name_hash(name, strlen(name));

		g_assert_cmpuint(hash, >=, 16);
		g_assert_cmpuint(hash >> 62, ==, 0);
		g_assert_true(g_hash_table_add(seen, g_memdup2(&hash, sizeof(hash))));
		g_assert_cmpuint(hash, ==, name_hash(name, strlen(name)));
	}
	/* on disk for ever: must not change with the library */
	g_assert_cmpuint(name_hash("benchfs", 7), ==, UINT64_C(2476652302207396105));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/record/layout", test_layout);
	g_test_add_func("/record/order", test_order);
	g_test_add_func("/record/prefix", test_prefix);
	g_test_add_func("/record/hash", test_hash);
	return g_test_run();
}
