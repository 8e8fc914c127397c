/* When a read moves atime, by what this mount knows. */
#include <glib.h>

#include "fuse/atime.h"

#define S INT64_C(1000000000)
#define DAY (24 * 3600 * S)

typedef struct Clock {
	int64_t mono, real;
} Clock;

static bool read_at(Atimes *t, Clock *c, int64_t later)
{
	c->mono += later;
	c->real += later;
	return atimes_read(t, 7, false, c->mono, c->real);
}

static WireAttr attr_of(int64_t atime, int64_t mtime, int64_t ctime)
{
	return (WireAttr) { .ino = 7, .atime_ns = atime, .mtime_ns = mtime, .ctime_ns = ctime };
}

static void note(Atimes *t, int64_t atime, int64_t mtime, int64_t ctime)
{
	WireAttr attr = attr_of(atime, mtime, ctime);

	atimes_note(t, &attr);
}

static void test_relatime(void)
{
	Atimes *t = atimes_new("nosuid,nodev");
	Clock c = { S, 10 * DAY };

	note(t, c.real, c.real - 1, c.real - 1);
	g_assert_false(read_at(t, &c, 10 * S));
	g_assert_false(read_at(t, &c, DAY - 11 * S));
	g_assert_true(read_at(t, &c, S));
	note(t, c.real, c.real, c.real - 1);
	g_assert_true(read_at(t, &c, 10 * S));
	note(t, c.real, c.real - 1, c.real);
	g_assert_true(read_at(t, &c, 10 * S));
	atimes_free(t);
}

/* Of what nothing is known the home is asked, and not again at once. */
static void test_pause(void)
{
	Atimes *t = atimes_new(NULL);
	Clock c = { S, 10 * DAY };

	g_assert_true(read_at(t, &c, 0));
	g_assert_false(read_at(t, &c, S / 2));
	atimes_open(t, 7);
	g_assert_true(read_at(t, &c, 0));
	g_assert_true(read_at(t, &c, S));
	atimes_free(t);
}

static void test_neighbours(void)
{
	Atimes *t = atimes_new(NULL);
	WireAttr attr = { .ino = 7 + 8192, .atime_ns = 10 * DAY };
	Clock c = { S, 10 * DAY };

	atimes_note(t, &attr);
	g_assert_true(read_at(t, &c, 0));
	atimes_free(t);
}

static void test_options(void)
{
	static const struct {
		const char *options;
		bool file, dir, always;
	} rows[] = {
		{ "noatime", false, false, false },
		{ "nosuid,ro,nodev", false, false, false },
		{ "nodiratime,nosuid", true, false, false },
		{ "nosuid,strictatime", true, true, true },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		Atimes *t = atimes_new(rows[i].options);

		note(t, 10 * DAY, 0, 0);
		atimes_note(t, &(WireAttr) { .ino = 8 });
		g_assert_true(atimes_read(t, 7, false, S, 10 * DAY) == rows[i].always);
		g_assert_true(atimes_read(t, 8, true, S, 10 * DAY) == rows[i].dir);
		atimes_open(t, 8);
		g_assert_true(atimes_read(t, 8, false, S, 10 * DAY) == rows[i].file);
		g_assert_true(atimes_always(t) == rows[i].always);
		atimes_free(t);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/atime/relatime", test_relatime);
	g_test_add_func("/atime/pause", test_pause);
	g_test_add_func("/atime/neighbours", test_neighbours);
	g_test_add_func("/atime/options", test_options);
	return g_test_run();
}
