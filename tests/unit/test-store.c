/* A store's directory: made whole, opened again, and refused untouched. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/store.h"

typedef struct Fixture {
	char *dir, *path;
	StoreOptions opts;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
	f->dir = g_dir_make_tmp("test-store-XXXXXX", NULL);
	f->path = g_build_filename(f->dir, "store", NULL);
	f->opts = (StoreOptions) { .path = f->path, .peer = 3 };
	memset(f->opts.cluster_id, 0xc1, sizeof(f->opts.cluster_id));
	memset(f->opts.digest, 0xd1, sizeof(f->opts.digest));
}

static void tear_down(Fixture *f, gconstpointer data)
{
	g_autofree char *command = g_strdup_printf("rm -rf '%s'", f->dir);

	g_assert_cmpint(system(command), ==, 0);
	g_free(f->dir);
	g_free(f->path);
}

static char *file(const Fixture *f, const char *name)
{
	return g_build_filename(f->path, name, NULL);
}

/* Names, sizes, times and bytes of everything in the store. */
static char *snapshot(const Fixture *f)
{
	g_autofree char *command = g_strdup_printf(
		"cd '%s' && find . -printf '%%p %%s %%T@ %%C@\\n' | sort && find . -type f -exec cat {} +", f->path);
	char *out = NULL;
	char *argv[] = { (char *)"/bin/sh", (char *)"-c", command, NULL };

	g_assert_true(g_spawn_sync(NULL, argv, NULL, 0, NULL, NULL, &out, NULL, NULL, NULL));
	return out;
}

static void make(Fixture *f)
{
	g_autoptr(GError) error = NULL;
	Store *s = store_open(&f->opts, &error);

	g_assert_no_error(error);
	g_assert_true(store_is_new(s));
	store_close(s);
}

/* Refused with a sentence that has both words, and nothing changed. */
static void assert_refused(Fixture *f, const char *word, const char *other)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *before = snapshot(f);
	Store *s = store_open(&f->opts, &error);
	g_autofree char *after = snapshot(f);

	g_assert_null(s);
	g_assert_nonnull(error);
	g_assert_nonnull(strstr(error->message, f->path));
	g_assert_nonnull(strstr(error->message, word));
	g_assert_nonnull(strstr(error->message, other));
	g_assert_null(strchr(error->message, '\n'));
	g_assert_cmpstr(before, ==, after);
}

static void edit_identity(Fixture *f, const char *key, const char *value)
{
	g_autofree char *path = file(f, "identity");
	g_autoptr(GKeyFile) k = g_key_file_new();

	g_assert_true(g_key_file_load_from_file(k, path, 0, NULL));
	g_key_file_set_string(k, "benchfs store", key, value);
	g_assert_true(g_key_file_save_to_file(k, path, NULL));
}

static void test_make_and_open(Fixture *f, gconstpointer data)
{
	make(f);
	g_autoptr(GError) error = NULL;
	Store *s = store_open(&f->opts, &error);

	g_assert_no_error(error);
	g_assert_false(store_is_new(s));
	g_assert_cmpmem(store_cluster_id(s), 16, f->opts.cluster_id, 16);
	g_autofree char *meta = store_meta_path(s);
	g_assert_true(g_str_has_prefix(meta, f->path));
	int fd = store_open_objects(s, &error);
	g_assert_no_error(error);
	close(fd);
	store_close(s);
}

static void test_embedded_keeps_its_cluster(Fixture *f, gconstpointer data)
{
	uint8_t id[16];

	f->opts.embedded = true;
	Store *s = store_open(&f->opts, NULL);
	memcpy(id, store_cluster_id(s), 16);
	g_assert_cmpint(memcmp(id, f->opts.cluster_id, 16), !=, 0);
	store_close(s);
	s = store_open(&f->opts, NULL);
	g_assert_cmpmem(store_cluster_id(s), 16, id, 16);
	store_close(s);
}

/* Not a fork: a descriptor of the same process conflicts as well. */
static void test_in_use(Fixture *f, gconstpointer data)
{
	Store *s = store_open(&f->opts, NULL);
	g_autofree char *pid = g_strdup_printf("process %ld", (long)getpid());

	assert_refused(f, "in use", pid);
	store_close(s);
	s = store_open(&f->opts, NULL);
	g_assert_nonnull(s);
	store_close(s);
}

static void test_lock_ends_with_its_process(Fixture *f, gconstpointer data)
{
	make(f);
	pid_t pid = fork();

	if (pid == 0) {
		_exit(store_open(&f->opts, NULL) ? 0 : 1);
	}
	int status;

	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_cmpint(status, ==, 0);
	Store *s = store_open(&f->opts, NULL);
	g_assert_nonnull(s);
	store_close(s);
}

static void test_other_cluster(Fixture *f, gconstpointer data)
{
	make(f);
	f->opts.cluster_id[0] ^= 1;
	assert_refused(f, "cluster", "--store");
}

static void test_other_peer(Fixture *f, gconstpointer data)
{
	make(f);
	f->opts.peer = 4;
	assert_refused(f, "peer 3", "peer 4");
}

static void test_other_list(Fixture *f, gconstpointer data)
{
	make(f);
	f->opts.digest[31] ^= 1;
	assert_refused(f, "another list of peers", "--store");
}

static void test_newer_format(Fixture *f, gconstpointer data)
{
	make(f);
	edit_identity(f, "format", "2");
	assert_refused(f, "format 2", "format 1");
}

static void test_damaged(Fixture *f, gconstpointer data)
{
	g_autofree char *path = file(f, "identity");

	make(f);
	g_assert_true(g_file_set_contents(path, "no key file \x01\xff", -1, NULL));
	assert_refused(f, "damaged", "--store");
	g_assert_true(g_file_set_contents(path, "", 0, NULL));
	assert_refused(f, "damaged", "--store");
	g_assert_true(g_file_set_contents(path, "[benchfs store]\nformat=1\npeer=3\n", -1, NULL));
	assert_refused(f, "damaged", "--store");
	g_assert_true(g_file_set_contents(path, "[benchfs store]\nformat=1\npeer=3\ncluster=xyz\npeers=0\n", -1, NULL));
	assert_refused(f, "damaged", "--store");
}

static void test_not_empty(Fixture *f, gconstpointer data)
{
	g_autofree char *path = file(f, "thesis.tex");

	g_assert_cmpint(g_mkdir(f->path, 0755), ==, 0);
	g_assert_true(g_file_set_contents(path, "years of work", -1, NULL));
	assert_refused(f, "thesis.tex", "empty");
}

static void test_leftover_of_a_crash(Fixture *f, gconstpointer data)
{
	g_autofree char *lock = file(f, "lock"), *new = file(f, "identity.new"), *lost = file(f, "lost+found");

	g_assert_cmpint(g_mkdir(f->path, 0755), ==, 0);
	g_assert_cmpint(g_mkdir(lost, 0755), ==, 0);
	g_assert_true(g_file_set_contents(lock, "", 0, NULL));
	g_assert_true(g_file_set_contents(new, "[benchfs st", -1, NULL));
	make(f);
	g_assert_false(g_file_test(new, G_FILE_TEST_EXISTS));
}

static void test_no_parent(Fixture *f, gconstpointer data)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *path = g_build_filename(f->dir, "no", "such", NULL);

	f->opts.path = path;
	g_assert_null(store_open(&f->opts, &error));
	g_assert_nonnull(strstr(error->message, path));
}

static void test_is_a_file(Fixture *f, gconstpointer data)
{
	g_autoptr(GError) error = NULL;

	g_assert_true(g_file_set_contents(f->path, "x", 1, NULL));
	g_assert_null(store_open(&f->opts, &error));
	g_assert_nonnull(error);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add("/store/" name, Fixture, NULL, set_up, fn, tear_down)
	ADD("make-and-open", test_make_and_open);
	ADD("embedded-keeps-its-cluster", test_embedded_keeps_its_cluster);
	ADD("in-use", test_in_use);
	ADD("lock-ends-with-its-process", test_lock_ends_with_its_process);
	ADD("other-cluster", test_other_cluster);
	ADD("other-peer", test_other_peer);
	ADD("other-list", test_other_list);
	ADD("newer-format", test_newer_format);
	ADD("damaged", test_damaged);
	ADD("not-empty", test_not_empty);
	ADD("leftover-of-a-crash", test_leftover_of_a_crash);
	ADD("no-parent", test_no_parent);
	ADD("is-a-file", test_is_a_file);
	return g_test_run();
}
