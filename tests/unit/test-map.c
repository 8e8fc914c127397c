#include <glib.h>
#include <string.h>

#include "common/ino.h"
#include "common/map.h"

static void test_addresses(void)
{
	static const struct {
		const char *text, *host;
		uint16_t port;
	} rows[] = {
		{ "node1", "node1", 0 },
		{ "Node1.Example.ORG:99", "node1.example.org", 99 },
		{ "10.0.0.1:7460", "10.0.0.1", 7460 },
		{ "[::1]", "::1", 0 },
		{ "[FE80::1%eth0]:65535", "fe80::1%eth0", 65535 },
		{ "", NULL, 0 }, { ":7460", NULL, 0 }, { "a:", NULL, 0 }, { "a:0", NULL, 0 },
		{ "a:65536", NULL, 0 }, { "a:-1", NULL, 0 }, { "a:1x", NULL, 0 }, { "a:1:2", NULL, 0 },
		{ "::1", NULL, 0 }, { "[::1", NULL, 0 }, { "[]:1", NULL, 0 }, { "[::1]x", NULL, 0 },
		{ "a/b", NULL, 0 }, { "-a", NULL, 0 }, { "a b", NULL, 0 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autofree char *host = NULL;
		uint16_t port = 1;
		bool ok = map_parse_address(rows[i].text, &host, &port);

		g_assert_cmpstr(host, ==, rows[i].host);
		g_assert_cmpint(ok, ==, rows[i].host != NULL);
		if (ok)
			g_assert_cmpuint(port, ==, rows[i].port);
	}
}

static void test_list(void)
{
	g_autoptr(GError) error = NULL;
	ClusterMap *map = map_new_from_list("# all\n  n1, n2:7461\tn3 # third\n\n[::1]:7460,,\r\nn4#x", &error);

	g_assert_no_error(error);
	g_assert_cmpuint(map_peer_count(map), ==, 5);
	g_assert_cmpstr(map_peer(map, 1)->host, ==, "n2");
	g_assert_cmpuint(map_peer(map, 1)->port, ==, 7461);
	g_assert_cmpuint(map_peer(map, 2)->port, ==, BENCHFS_PORT);
	g_assert_cmpstr(map_peer(map, 3)->host, ==, "::1");
	g_assert_cmpuint(map_peer(map, 4)->id, ==, 4);
	g_assert_null(map_peer(map, 5));
	g_assert_null(map_peer(map, PEER_NONE));
	map_free(map);
}

static void test_bad_lists(void)
{
	static const struct { const char *list, *item; } rows[] = {
		{ "", "empty" }, { " # none\n", "empty" }, { "a,b:x", "'b:x'" },
		{ "a a", "'a'" }, { "a:7460,A", "'A'" }, { "a,b,a:7460", "'a:7460'" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_null(map_new_from_list(rows[i].list, &error));
		g_assert_nonnull(error);
		g_assert_nonnull(strstr(error->message, rows[i].item));
	}
}

static void test_too_many(void)
{
	g_autoptr(GString) list = g_string_new(NULL);
	g_autoptr(GError) error = NULL;
	ClusterMap *map;

	for (uint32_t i = 0; i < PEER_MAX; i++)
		g_string_append_printf(list, "n%u\n", i);
	map = map_new_from_list(list->str, &error);
	g_assert_no_error(error);
	for (uint32_t p = 0, sum = 0; p <= PEER_MAX; p++) {
		if (p == PEER_MAX)
			g_assert_cmpuint(sum, ==, SLOT_COUNT);
		else
			sum += map_slots_of_peer(map, (uint16_t)p);
	}
	map_free(map);
	g_string_append(list, "another");
	g_assert_null(map_new_from_list(list->str, &error));
	g_assert_nonnull(strstr(error->message, "'another'"));
}

static void test_slots(void)
{
	ClusterMap *map = map_new_from_list("a,b,c", NULL);
	uint32_t count[3] = { 0 };

	for (uint16_t slot = 0; slot < SLOT_COUNT; slot++)
		count[map_slot_peer(map, slot)]++;
	for (uint16_t p = 0; p < 3; p++) {
		g_assert_cmpuint(count[p], ==, map_slots_of_peer(map, p));
		for (uint64_t salt = 0; salt < 5000; salt += 7)
			g_assert_cmpuint(map_slot_peer(map, map_slot_of_peer(map, p, salt)), ==, p);
		g_assert_cmpuint(map_slot_peer(map, map_slot_of_peer(map, p, UINT64_MAX)), ==, p);
	}
	g_assert_cmpuint(map_slots_of_peer(map, 3), ==, 0);
	g_assert_cmpuint(map_home(map, INO_ROOT), ==, 0);
	g_assert_cmpuint(map_home(map, ino_make(4, 9)), ==, 1);
	g_assert_cmpuint(map_home(map, ino_make(4, 0)), ==, PEER_NONE);
	g_assert_cmpuint(map_home(map, ino_make(SLOT_COUNT, 1)), ==, PEER_NONE);
	map_free(map);
}

static void test_embedded(void)
{
	ClusterMap *map = map_new_embedded();

	g_assert_cmpuint(map_peer_count(map), ==, 1);
	g_assert_null(map_peer(map, 0)->host);
	g_assert_cmpuint(map_slots_of_peer(map, 0), ==, SLOT_COUNT);
	g_assert_cmpuint(map_home(map, ino_make(SLOT_COUNT - 1, 1)), ==, 0);
	map_free(map);
}

static void digest_of(const char *list, uint8_t ret[32])
{
	ClusterMap *map = map_new_from_list(list, NULL);

	map_digest(map, ret);
	map_free(map);
}

static void test_digest(void)
{
	uint8_t a[32], b[32];

	digest_of("n1,n2", a);
	digest_of("N1:7460 \n n2 # same", b);
	g_assert_cmpmem(a, 32, b, 32);
	digest_of("n2,n1", b);
	g_assert_cmpint(memcmp(a, b, 32), !=, 0);
	digest_of("n1,n2:7461", b);
	g_assert_cmpint(memcmp(a, b, 32), !=, 0);
	digest_of("n1", b);
	g_assert_cmpint(memcmp(a, b, 32), !=, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/map/addresses", test_addresses);
	g_test_add_func("/map/list", test_list);
	g_test_add_func("/map/bad-lists", test_bad_lists);
	g_test_add_func("/map/too-many", test_too_many);
	g_test_add_func("/map/slots", test_slots);
	g_test_add_func("/map/embedded", test_embedded);
	g_test_add_func("/map/digest", test_digest);
	return g_test_run();
}
