/* The text of a status survives being read back, and says the same as JSON and
 * as a table. */
#include <string.h>

#include "src/status.h"

static Status *make(void)
{
	Status *s = status_new();

	s->version = g_strdup("1.2.3");
	s->mount = g_strdup("/mnt/with space\nand newline");
	s->channel = g_strdup("classic");
	s->cluster = g_strdup("00ff");
	s->self = g_strdup("0");
	s->pid = 4711;
	s->uptime_s = 86400;
	s->epoch = 1;
	StatusPeer *p = status_add_peer(s);
	*p = (StatusPeer) {
		.id = 0, .address = g_strdup("[::1]:7460"), .state = g_strdup("self"), .slots = 2048,
		.info = { .total = UINT64_C(5) << 40, .free = UINT64_C(4) << 40, .avail = UINT64_C(3) << 40,
			  .uptime_s = 7, .sessions = 2, .has_store = 1, .has_mount = 1,
			  .inodes = 12, .orphans = 3, .locks = 1 },
	};
	return s;
}

static void add_down(Status *s)
{
	StatusPeer *p = status_add_peer(s);

	*p = (StatusPeer) {
		.id = 1, .address = g_strdup("n2:7460"), .state = g_strdup("down"), .slots = 2048,
		.reason = g_strdup("connection refused, \"really\""),
	};
}

static void test_round_trip(void)
{
	g_autoptr(Status) s = make();
	add_down(s);
	g_autofree char *text = status_to_text(s);
	g_autoptr(Status) back = status_from_text(text);

	g_assert_nonnull(back);
	g_assert_cmpstr(back->mount, ==, s->mount);
	g_assert_cmpuint(back->pid, ==, 4711);
	g_assert_cmpuint(back->peers->len, ==, 2);
	const StatusPeer *up = g_ptr_array_index(back->peers, 0), *down = g_ptr_array_index(back->peers, 1);
	g_assert_cmpmem(&up->info, sizeof(up->info), &((StatusPeer *)g_ptr_array_index(s->peers, 0))->info, sizeof(up->info));
	g_assert_cmpstr(up->address, ==, "[::1]:7460");
	g_assert_null(up->reason);
	g_assert_cmpstr(down->reason, ==, "connection refused, \"really\"");
	g_assert_cmpuint(down->slots, ==, 2048);
	g_autofree char *again = status_to_text(back);
	g_assert_cmpstr(again, ==, text);
}

static void test_health(void)
{
	g_autoptr(Status) s = make();

	g_assert_true(status_is_healthy(s));
	add_down(s);
	g_assert_false(status_is_healthy(s));
}

static void test_foreign_text(void)
{
	static const char *const texts[] = { "", "\n\n", "hello world\n", "version 1\n", "version 1\npeer\n", "version 1\npeer 1\n",
					     "version 1\npeer 1 up\n" };

	for (uint32_t i = 0; i < G_N_ELEMENTS(texts); i++)
		g_assert_null(status_from_text(texts[i]));
	/* what a newer version may add is passed over */
	g_autoptr(Status) s = status_from_text("version 9\nnew thing\npeer 0 self local slots 4096 frobs 7 total 1\n");
	g_assert_nonnull(s);
	g_assert_cmpuint(((StatusPeer *)g_ptr_array_index(s->peers, 0))->info.total, ==, 1);
}

static void test_json(void)
{
	g_autoptr(Status) s = make();
	add_down(s);
	g_autofree char *json = status_to_json(s);

	g_assert_nonnull(strstr(json, "\"healthy\": false"));
	g_assert_nonnull(strstr(json, "\"mount\": \"/mnt/with space\\u000aand newline\""));
	g_assert_nonnull(strstr(json, "refused, \\\"really\\\"\""));
	g_assert_nonnull(strstr(json, "\"total\": 5497558138880"));
}

static void test_table(void)
{
	g_autoptr(Status) s = make();
	add_down(s);
	g_autofree char *table = status_to_table(s);
	g_auto(GStrv) lines = g_strsplit(table, "\n", -1);
	uint32_t n = g_strv_length(lines);

	g_assert_nonnull(strstr(lines[0], "BenchFS 1.2.3"));
	g_assert_nonnull(strstr(lines[n - 3], "5.0T     1.0T     3.0T"));
	g_assert_nonnull(strstr(lines[n - 2], "down   2048  connection refused"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/status/round-trip", test_round_trip);
	g_test_add_func("/status/health", test_health);
	g_test_add_func("/status/foreign-text", test_foreign_text);
	g_test_add_func("/status/json", test_json);
	g_test_add_func("/status/table", test_table);
	return g_test_run();
}
