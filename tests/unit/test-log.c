/* Logging: specifications, what is written and what is not. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

typedef struct Fixture {
	char *dir, *path;
} Fixture;

static void setup(Fixture *f, gconstpointer data)
{
	GError *error = NULL;
	f->dir = g_dir_make_tmp("test-log-XXXXXX", &error);
	g_assert_no_error(error);
	f->path = g_build_filename(f->dir, "log", NULL);
}

static void teardown(Fixture *f, gconstpointer data)
{
	g_unlink(f->path);
	g_assert_cmpint(g_rmdir(f->dir), ==, 0);
	g_free(f->path);
	g_free(f->dir);
}

static Log *start(Fixture *f, const char *spec)
{
	GError *error = NULL;
	Log *log = log_setup(spec, f->path, &error);
	g_assert_no_error(error);
	return log;
}

/* The lines without their time stamps, which must be there. */
static char *lines(Fixture *f)
{
	g_autofree char *text = NULL;
	g_assert_true(g_file_get_contents(f->path, &text, NULL, NULL));
	g_autoptr(GRegex) stamp = g_regex_new("^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d\\.\\d{6} ",
		G_REGEX_MULTILINE, 0, NULL);
	char *bare = g_regex_replace_literal(stamp, text, -1, 0, "", 0, NULL);
	size_t n = 0;
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		n++;
	g_assert_cmpuint(strlen(text) - strlen(bare), ==, n * strlen("2025-01-31 12:00:00.123456 "));
	return bare;
}

static void say(const char *domain, GLogLevelFlags level, const char *text)
{
	g_log(domain, level, "%s", text);
}

static void test_format_and_default(Fixture *f, gconstpointer data)
{
	Log *log = start(f, NULL);
	say("benchfs-rpc", G_LOG_LEVEL_WARNING, "peer 3 'b:7460' went away");
	say("server", G_LOG_LEVEL_MESSAGE, "ready");
	say(NULL, G_LOG_LEVEL_MESSAGE, "started");
	say("benchfs", G_LOG_LEVEL_INFO, "not by default");
	say("GLib", G_LOG_LEVEL_DEBUG, "nor this");
	errno = EXDEV;
	say("GLib", G_LOG_LEVEL_MESSAGE, "someone else's");
	g_assert_cmpint(errno, ==, EXDEV);
	log_free(log);
	g_autofree char *text = lines(f);
	g_assert_cmpstr(text, ==,
		"WARNING rpc: peer 3 'b:7460' went away\n"
		"MESSAGE server: ready\n"
		"MESSAGE main: started\n"
		"MESSAGE GLib: someone else's\n");
}

static void test_levels_per_area(Fixture *f, gconstpointer data)
{
	Log *log = start(f, "warning, rpc=debug,fuse=info,fuse=error");
	const char *domains[] = { "benchfs-rpc", "fuse", "server" };
	for (size_t i = 0; i < G_N_ELEMENTS(domains); i++) {
		say(domains[i], G_LOG_LEVEL_DEBUG, "d");
		say(domains[i], G_LOG_LEVEL_MESSAGE, "m");
		say(domains[i], G_LOG_LEVEL_WARNING, "w");
	}
	g_assert_true(log_enabled(log, "rpc", G_LOG_LEVEL_DEBUG));
	g_assert_false(log_enabled(log, "server", G_LOG_LEVEL_DEBUG));
	g_assert_true(log_enabled(log, "server", G_LOG_LEVEL_WARNING));
	g_assert_false(log_enabled(log, "fuse", G_LOG_LEVEL_WARNING));
	log_free(log);
	g_autofree char *text = lines(f);
	g_assert_cmpstr(text, ==, "DEBUG rpc: d\nMESSAGE rpc: m\nWARNING rpc: w\nWARNING server: w\n");
}

static void test_bad_specs(Fixture *f, gconstpointer data)
{
	static const struct { const char *spec, *word; } bad[] = {
		{ "loud", "'loud'" }, { "info,rpc=chatty", "'chatty'" }, { "rcp=debug", "'rcp'" },
		{ "rpc=", "'rpc='" }, { "=debug", "'=debug'" }, { "info,", "''" }, { "INFO", "'INFO'" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;
		g_assert_null(log_setup(bad[i].spec, f->path, &error));
		g_assert_nonnull(error);
		g_assert_nonnull(strstr(error->message, bad[i].word));
		g_assert_false(g_file_test(f->path, G_FILE_TEST_EXISTS));
	}
}

static void test_bad_path(Fixture *f, gconstpointer data)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *path = g_build_filename(f->dir, "none", "log", NULL);
	g_assert_null(log_setup(NULL, path, &error));
	g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT);
	g_assert_nonnull(strstr(error->message, path));
}

static void test_reopen(Fixture *f, gconstpointer data)
{
	Log *log = start(f, NULL);
	g_autofree char *old = g_strconcat(f->path, ".1", NULL);
	say("rpc", G_LOG_LEVEL_MESSAGE, "one");
	g_assert_cmpint(g_rename(f->path, old), ==, 0);
	say("rpc", G_LOG_LEVEL_MESSAGE, "two");
	g_assert_cmpint(log_reopen(log), ==, 0);
	say("rpc", G_LOG_LEVEL_MESSAGE, "three");
	log_free(log);
	g_autofree char *text = lines(f);
	g_assert_cmpstr(text, ==, "MESSAGE rpc: three\n");
	g_assert_cmpint(g_unlink(old), ==, 0);
}

static void *talk(void *arg)
{
	g_autofree char *text = g_strnfill(300, *(char *)arg);
	for (int i = 0; i < 500; i++)
		say("server", G_LOG_LEVEL_MESSAGE, text);
	return NULL;
}

static void test_threads_keep_lines_whole(Fixture *f, gconstpointer data)
{
	Log *log = start(f, NULL);
	GThread *threads[4];
	for (int i = 0; i < 4; i++)
		threads[i] = g_thread_new("talk", talk, (char *)"abcd" + i);
	for (int i = 0; i < 4; i++)
		g_thread_join(threads[i]);
	log_free(log);
	g_autofree char *text = lines(f);
	g_auto(GStrv) split = g_strsplit(text, "\n", -1);
	g_assert_cmpuint(g_strv_length(split), ==, 2001);
	for (int i = 0; i < 2000; i++)
		g_assert_cmpuint(strlen(split[i]), ==, strlen("MESSAGE server: ") + 300);
}

static void test_stderr(void)
{
	if (g_test_subprocess()) {
		Log *log = log_setup("info", NULL, NULL);
		say("rpc", G_LOG_LEVEL_INFO, "to the terminal");
		log_free(log);
		return;
	}
	g_test_trap_subprocess(NULL, 0, 0);
	g_test_trap_assert_passed();
	g_test_trap_assert_stderr("*INFO rpc: to the terminal*");
}

static void test_limit(void)
{
	LogLimit limit = { 0 };
	uint32_t dropped = 99;
	g_assert_true(log_limit(&limit, 1000, 100, &dropped));
	g_assert_cmpuint(dropped, ==, 0);
	for (int i = 0; i < 7; i++)
		g_assert_false(log_limit(&limit, 1001 + i, 100, &dropped));
	g_assert_true(log_limit(&limit, 1100, 100, &dropped));
	g_assert_cmpuint(dropped, ==, 7);
	g_assert_true(log_limit(&limit, 1200, 100, NULL));
}

#define ADD(name, fn) g_test_add("/log/" name, Fixture, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	/* g_test makes warnings fatal; here they are what is tested. */
	g_log_set_always_fatal(G_LOG_FATAL_MASK);
	ADD("format-and-default", test_format_and_default);
	ADD("levels-per-area", test_levels_per_area);
	ADD("bad-specs", test_bad_specs);
	ADD("bad-path", test_bad_path);
	ADD("reopen", test_reopen);
	ADD("threads-keep-lines-whole", test_threads_keep_lines_whole);
	g_test_add_func("/log/stderr", test_stderr);
	g_test_add_func("/log/limit", test_limit);
	return g_test_run();
}
