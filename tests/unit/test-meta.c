/* The metadata store: batches, prefixes, iterators, what a crash leaves. */
#include <errno.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "server/meta.h"

typedef struct Fixture {
	char *dir, *path;
	Reactor *reactor;
	Meta *meta;
} Fixture;

static void open_meta(Fixture *f)
{
	ReactorOptions opts = { 0 };
	GError *error = NULL;

	f->reactor = reactor_new(&opts, &error);
	g_assert_no_error(error);
	f->meta = meta_open(f->reactor, NULL, f->path, &error);
	g_assert_no_error(error);
}

static void close_meta(Fixture *f)
{
	g_clear_pointer(&f->meta, meta_close);
	g_clear_pointer(&f->reactor, reactor_free);
}

static void set_up(Fixture *f, gconstpointer data)
{
	f->dir = g_dir_make_tmp("test-meta-XXXXXX", NULL);
	f->path = g_build_filename(f->dir, "meta", NULL);
	open_meta(f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
	close_meta(f);
	g_autofree char *command = g_strdup_printf("rm -rf '%s'", f->dir);
	g_assert_cmpint(system(command), ==, 0);
	g_free(f->dir);
	g_free(f->path);
}

static void run(Fixture *f, CoFn *fn)
{
	reactor_run_co(f->reactor, fn, f);
}

/* ---- helpers that run in coroutines ---- */

static void coroutine_fn put(Fixture *f, const char *key, const char *value)
{
	MetaBatch *b = meta_batch_new(f->meta);

	meta_batch_put(b, key, strlen(key), value, strlen(value));
	g_assert_cmpint(meta_batch_co_commit(b), ==, 0);
}

static char *coroutine_fn get(Fixture *f, const char *key)
{
	MetaValue v = { 0 };
	int r = meta_co_get(f->meta, key, strlen(key), &v);

	if (r == -ENOENT)
		return NULL;
	g_assert_cmpint(r, ==, 0);
	char *text = g_strndup((const char *)v.data, v.len);
	meta_value_clear(&v);
	return text;
}

static void coroutine_fn assert_value(Fixture *f, const char *key, const char *value)
{
	g_autofree char *got = get(f, key);

	g_assert_cmpstr(got, ==, value);
}

static char *coroutine_fn list(Fixture *f, const char *prefix, const char *from)
{
	GString *s = g_string_new(NULL);
	g_autoptr(MetaIter) it = meta_iter_new(f->meta, prefix, strlen(prefix), from, from ? strlen(from) : 0);
	const uint8_t *k, *v;
	size_t k_len, v_len;
	int r;

	while ((r = meta_iter_co_next(it, &k, &k_len, &v, &v_len)) > 0)
		g_string_append_printf(s, "%.*s=%.*s ", (int)k_len, k, (int)v_len, v);
	g_assert_cmpint(r, ==, 0);
	g_assert_cmpint(meta_iter_co_next(it, &k, &k_len, &v, &v_len), ==, 0); /* stays at the end */
	return g_string_free(s, FALSE);
}

static void coroutine_fn assert_list(Fixture *f, const char *prefix, const char *from, const char *expect)
{
	g_autofree char *got = list(f, prefix, from);

	g_assert_cmpstr(got, ==, expect);
}

/* ---- tests ---- */

static void coroutine_fn co_batch(void *arg)
{
	Fixture *f = arg;
	MetaBatch *b;

	assert_value(f, "a", NULL);
	put(f, "a", "1");
	put(f, "empty", "");
	assert_value(f, "a", "1");
	assert_value(f, "empty", "");
	/* order within a batch counts */
	b = meta_batch_new(f->meta);
	meta_batch_put(b, "a", 1, "2", 1);
	meta_batch_delete(b, "a", 1);
	meta_batch_put(b, "b", 1, "x", 1);
	meta_batch_delete(b, "b", 1);
	meta_batch_put(b, "b", 1, "y", 1);
	/* nothing before the commit */
	assert_value(f, "a", "1");
	assert_value(f, "b", NULL);
	g_assert_cmpint(meta_batch_co_commit(b), ==, 0);
	assert_value(f, "a", NULL);
	assert_value(f, "b", "y");
	/* a batch that is dropped has never been, nor comes back with the next */
	b = meta_batch_new(f->meta);
	meta_batch_put(b, "c", 1, "z", 1);
	meta_batch_free(b);
	put(f, "d", "1");
	assert_value(f, "c", NULL);
}

static void test_batch(Fixture *f, gconstpointer data)
{
	run(f, co_batch);
}

static void coroutine_fn co_prefix(void *arg)
{
	Fixture *f = arg;
	MetaBatch *b;

	for (int i = 0; i < 5; i++) {
		g_autofree char *key = g_strdup_printf("p%d", i);

		put(f, key, "v");
	}
	put(f, "o", "1");
	put(f, "q", "1");
	/* also what the batch itself put before, not what it puts after */
	b = meta_batch_new(f->meta);
	meta_batch_put(b, "pz", 2, "v", 1);
	meta_batch_put(b, "oz", 2, "v", 1);
	meta_batch_delete_prefix(b, "p", 1);
	meta_batch_put(b, "p2", 2, "new", 3);
	g_assert_cmpint(meta_batch_co_commit(b), ==, 0);
	assert_list(f, "", NULL, "o=1 oz=v p2=new q=1 ");
}

static void test_prefix(Fixture *f, gconstpointer data)
{
	run(f, co_prefix);
}

/* More keys than are deleted one by one, twice in a batch. */
static void coroutine_fn co_prefix_many(void *arg)
{
	Fixture *f = arg;
	MetaBatch *b = meta_batch_new(f->meta);

	for (int i = 0; i < 1000; i++) {
		g_autofree char *key = g_strdup_printf("%c%04d", i % 2 ? 'x' : 'y', i);

		meta_batch_put(b, key, 5, "v", 1);
	}
	g_assert_cmpint(meta_batch_co_commit(b), ==, 0);
	put(f, "w", "1");
	put(f, "y\xff", "1");
	put(f, "z", "1");
	b = meta_batch_new(f->meta);
	meta_batch_put(b, "x1", 2, "v", 1);
	meta_batch_delete_prefix(b, "x", 1);
	meta_batch_put(b, "y1", 2, "v", 1);
	meta_batch_delete_prefix(b, "y", 1);
	meta_batch_put(b, "x2", 2, "v", 1);
	g_assert_cmpint(meta_batch_co_commit(b), ==, 0);
	assert_list(f, "", NULL, "w=1 x2=v z=1 ");
}

static void test_prefix_many(Fixture *f, gconstpointer data)
{
	run(f, co_prefix_many);
}

static void coroutine_fn co_iter(void *arg)
{
	Fixture *f = arg;
	const uint8_t *k, *v;
	size_t k_len, v_len;

	put(f, "a1", "x");
	put(f, "b1", "1");
	put(f, "b2", "2");
	put(f, "b3", "3");
	put(f, "c1", "x");
	put(f, "\xff\xff", "last");
	assert_list(f, "b", NULL, "b1=1 b2=2 b3=3 ");
	assert_list(f, "b", "b2", "b2=2 b3=3 ");
	assert_list(f, "b", "b20", "b3=3 ");
	assert_list(f, "b", "b9", "");
	assert_list(f, "none", NULL, "");
	assert_list(f, "\xff", NULL, "\xff\xff=last ");
	/* over a snapshot: what happens meanwhile is not seen */
	g_autoptr(MetaIter) it = meta_iter_new(f->meta, "b", 1, NULL, 0);
	g_assert_cmpint(meta_iter_co_next(it, &k, &k_len, &v, &v_len), ==, 1);
	g_assert_cmpmem(k, k_len, "b1", 2);
	MetaBatch *b = meta_batch_new(f->meta);
	meta_batch_delete(b, "b2", 2);
	meta_batch_put(b, "b4", 2, "4", 1);
	g_assert_cmpint(meta_batch_co_commit(b), ==, 0);
	g_assert_cmpint(meta_iter_co_next(it, &k, &k_len, &v, &v_len), ==, 1);
	g_assert_cmpmem(k, k_len, "b2", 2);
	g_assert_cmpint(meta_iter_co_next(it, &k, &k_len, &v, &v_len), ==, 1);
	g_assert_cmpint(meta_iter_co_next(it, &k, &k_len, &v, &v_len), ==, 0);
	assert_list(f, "b", NULL, "b1=1 b3=3 b4=4 ");
}

static void test_iter(Fixture *f, gconstpointer data)
{
	run(f, co_iter);
}

/* So much that memtables are written out and blocks must come from the disk:
 * everything is found and in order, in several fetches, on threads too. */
enum { MANY = 60000 };

static void many_key(char key[16], int i)
{
	g_snprintf(key, 16, "m%08d", i);
}

static void coroutine_fn co_fill(void *arg)
{
	Fixture *f = arg;
	g_autofree char *value = g_strnfill(1000, 'v');

	for (int i = 0; i < MANY; i += 100) {
		MetaBatch *b = meta_batch_new(f->meta);

		for (int j = i; j < i + 100; j++) {
			char key[16];

			many_key(key, j);
			/* does not compress away */
			for (int at = 0; at < 1000; at += 4)
				memcpy(value + at, &(guint32) { g_random_int() | 0x01010101 }, 4);
			meta_batch_put(b, key, strlen(key), value, 1000);
		}
		g_assert_cmpint(meta_batch_co_commit(b), ==, 0);
	}
}

static void coroutine_fn co_read_all(void *arg)
{
	Fixture *f = arg;
	g_autoptr(MetaIter) it = meta_iter_new(f->meta, "m", 1, NULL, 0);
	const uint8_t *k, *v;
	size_t k_len, v_len;
	char key[16];

	for (int i = 0; i < MANY; i++) {
		many_key(key, i);
		g_assert_cmpint(meta_iter_co_next(it, &k, &k_len, &v, &v_len), ==, 1);
		g_assert_cmpmem(k, k_len, key, strlen(key));
		g_assert_cmpuint(v_len, ==, 1000);
	}
	g_assert_cmpint(meta_iter_co_next(it, &k, &k_len, &v, &v_len), ==, 0);
	for (int i = 0; i < MANY; i += 997) {
		MetaValue value = { 0 };

		many_key(key, i);
		g_assert_cmpint(meta_co_get(f->meta, key, strlen(key), &value), ==, 0);
		g_assert_cmpuint(value.len, ==, 1000);
		meta_value_clear(&value);
		key[0] = 'n';
		g_assert_cmpint(meta_co_get(f->meta, key, strlen(key), &value), ==, -ENOENT);
	}
}

static void test_large(Fixture *f, gconstpointer data)
{
	run(f, co_fill);
	run(f, co_read_all);
	close_meta(f);
	open_meta(f);
	run(f, co_read_all); /* with nothing in the cache */
}

/* ---- many at once ---- */

typedef struct Syncer {
	Fixture *f;
	int i;
} Syncer;

static void coroutine_fn co_sync_one(void *arg)
{
	Syncer *x = arg;
	g_autofree char *key = g_strdup_printf("s%d", x->i);

	put(x->f, key, "v");
	g_assert_cmpint(meta_co_sync(x->f->meta), ==, 0);
}

static void coroutine_fn co_sync(void *arg)
{
	Fixture *f = arg;
	CoGroup g = { .sched = reactor_sched(f->reactor) };
	Syncer x[64];

	g_assert_cmpint(meta_co_sync(f->meta), ==, 0); /* with nothing to do */
	for (int i = 0; i < 64; i++) {
		x[i] = (Syncer) { f, i };
		co_group_spawn(&g, co_sync_one, &x[i]);
	}
	co_group_wait(&g);
	for (int i = 0; i < 64; i++) {
		g_autofree char *key = g_strdup_printf("s%d", i);

		assert_value(f, key, "v");
	}
}

static void test_sync(Fixture *f, gconstpointer data)
{
	Counters *c = counters_new();
	GError *error = NULL;
	g_autofree char *text = NULL;

	g_clear_pointer(&f->meta, meta_close);
	f->meta = meta_open(f->reactor, c, f->path, &error);
	g_assert_no_error(error);
	run(f, co_sync);
	text = counters_to_text(c, true);
	/* 65 callers shared a few syncs */
	const char *at = strstr(text, "meta.sync ");
	g_assert_nonnull(at);
	g_assert_cmpint(atoi(at + strlen("meta.sync ")), <=, 8);
	close_meta(f);
	counters_free(c);
	open_meta(f);
}

/* ---- crashes ---- */

static void coroutine_fn co_before_crash(void *arg)
{
	Fixture *f = arg;

	for (int i = 0; i < 1000; i++) {
		char key[16];
		MetaBatch *b = meta_batch_new(f->meta);

		many_key(key, i);
		meta_batch_put(b, key, strlen(key), "1", 1);
		key[0] = 'k';
		meta_batch_put(b, key, strlen(key), "2", 1);
		g_assert_cmpint(meta_batch_co_commit(b), ==, 0);
	}
}

static void coroutine_fn co_after_crash(void *arg)
{
	Fixture *f = arg;

	for (int i = 0; i < 1000; i++) {
		char key[16];

		many_key(key, i);
		assert_value(f, key, "1");
		key[0] = 'k';
		assert_value(f, key, "2");
	}
}

/* The other process opens what the fixture closed. */
static void run_other(Fixture *f, const char *test)
{
	close_meta(f);
	g_setenv("TEST_META_DIR", f->dir, TRUE);
	g_test_trap_subprocess(test, 120 * G_USEC_PER_SEC, G_TEST_SUBPROCESS_INHERIT_STDERR);
	g_test_trap_assert_passed();
}

static void other_set_up(Fixture *f)
{
	f->path = g_build_filename(g_getenv("TEST_META_DIR"), "meta", NULL);
	open_meta(f);
}

static void crashing(void)
{
	Fixture f = { 0 };

	other_set_up(&f);
	run(&f, co_before_crash);
	_exit(0);
}

/* A process that ends without a word has lost nothing that was committed. */
static void test_crash(Fixture *f, gconstpointer data)
{
	run_other(f, "/meta/crash/subprocess");
	open_meta(f);
	run(f, co_after_crash);
}

/* ---- a full disk ---- */

#define FULL_KEY "k%07d"

typedef struct Full {
	Fixture f;
	int committed;
	bool writable;
} Full;

static int coroutine_fn put_block(Fixture *f, int i)
{
	g_autofree char *key = g_strdup_printf(FULL_KEY, i);
	guint32 value[2048];
	MetaBatch *b = meta_batch_new(f->meta);

	for (size_t at = 0; at < G_N_ELEMENTS(value); at++)
		value[at] = g_random_int();
	value[0] = (guint32)i;
	meta_batch_put(b, key, strlen(key), value, sizeof(value));
	return meta_batch_co_commit(b);
}

static void coroutine_fn co_fill_disk(void *arg)
{
	Full *x = arg;
	int r = 0;

	for (int i = 0; i < 100000 && r == 0; i++) {
		r = put_block(&x->f, i);
		if (r == 0)
			x->committed = i + 1;
	}
	g_assert_cmpint(r, ==, -ENOSPC);
	g_assert_cmpint(x->committed, >, 100);
	/* and again, quickly and with the same answer; reading goes on */
	for (int i = 0; i < 10; i++)
		g_assert_cmpint(put_block(&x->f, 999999), ==, -ENOSPC);
}

static void coroutine_fn co_check_disk(void *arg)
{
	Full *x = arg;

	for (int i = 0; i < x->committed; i++) {
		g_autofree char *key = g_strdup_printf(FULL_KEY, i);
		MetaValue v = { 0 };

		g_assert_cmpint(meta_co_get(x->f.meta, key, strlen(key), &v), ==, 0);
		g_assert_cmpuint(*(const guint32 *)(const void *)v.data, ==, (guint32)i);
		meta_value_clear(&v);
	}
	if (!x->writable)
		return;
	g_assert_cmpint(put_block(&x->f, x->committed), ==, 0);
	x->committed++;
}

static void coroutine_fn co_write_again(void *arg)
{
	Full *x = arg;
	MetaIter *it = meta_iter_new(x->f.meta, "k", 1, NULL, 0);
	const uint8_t *k, *v;
	size_t k_len, v_len;
	int seen = 0;

	/* an iterator that is in use keeps its place while the store is reopened */
	for (; seen < 20; seen++)
		g_assert_cmpint(meta_iter_co_next(it, &k, &k_len, &v, &v_len), ==, 1);
	x->writable = true;
	co_check_disk(x);
	while (meta_iter_co_next(it, &k, &k_len, &v, &v_len) == 1) {
		g_assert_cmpuint(*(const guint32 *)(const void *)v, ==, (guint32)seen);
		seen++;
	}
	g_assert_cmpint(seen, >=, x->committed - 1);
	meta_iter_free(it);
}

static void filling(void)
{
	const char *dir = g_getenv("TEST_META_DIR");
	g_autofree char *spare = g_build_filename(dir, "spare", NULL);
	g_autofree char *space = g_strnfill(48 << 20, 'x');
	Full x = { 0 };

	/* a mount that nobody else sees and that goes with this process */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", dir, "tmpfs", 0, "size=80m") < 0)
		_exit(0); /* the parent has checked that it is root */
	g_assert_true(g_file_set_contents(spare, space, 48 << 20, NULL));
	other_set_up(&x.f);
	reactor_run_co(x.f.reactor, co_fill_disk, &x);
	reactor_run_co(x.f.reactor, co_check_disk, &x);
	g_assert_cmpint(g_unlink(spare), ==, 0);
	reactor_run_co(x.f.reactor, co_write_again, &x);
	close_meta(&x.f);
	open_meta(&x.f);
	reactor_run_co(x.f.reactor, co_check_disk, &x);
	close_meta(&x.f);
	g_free(x.f.path);
	_exit(0); /* the mount is in use by nobody now */
}

static void test_full(Fixture *f, gconstpointer data)
{
	if (geteuid() != 0) {
		g_test_skip("needs root, to mount a small file system");
		return;
	}
	run_other(f, "/meta/full/subprocess");
	open_meta(f);
}

static void test_not_a_database(Fixture *f, gconstpointer data)
{
	GError *error = NULL;
	g_autofree char *path = g_build_filename(f->dir, "file", NULL);

	g_assert_true(g_file_set_contents(path, "x", 1, NULL));
	g_assert_null(meta_open(f->reactor, NULL, path, &error));
	g_assert_nonnull(error);
	g_assert_nonnull(strstr(error->message, path));
	g_error_free(error);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define TEST(name, fn) g_test_add("/meta/" name, Fixture, NULL, set_up, fn, tear_down)
	TEST("batch", test_batch);
	TEST("prefix", test_prefix);
	TEST("prefix-many", test_prefix_many);
	TEST("iter", test_iter);
	TEST("large", test_large);
	TEST("sync", test_sync);
	TEST("crash", test_crash);
	TEST("full", test_full);
	g_test_add_func("/meta/crash/subprocess", crashing);
	g_test_add_func("/meta/full/subprocess", filling);
	TEST("not-a-database", test_not_a_database);
	return g_test_run();
}
