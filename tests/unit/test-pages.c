/* How new the kernel's pages are, and when they must go. */
#include <glib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/reactor.h"
#include "fuse/pages.h"

typedef struct Fixture {
	Reactor *reactor;
	Pages *pages;
	int fds[2]; /* a pipe in the kernel's place: each drop is some bytes in it */
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
	ReactorOptions ro = { 0 };

	f->reactor = reactor_new(&ro, NULL);
	g_assert_nonnull(f->reactor);
	g_assert_cmpint(pipe2(f->fds, O_NONBLOCK), ==, 0);
	f->pages = pages_new(reactor_uring(f->reactor), f->fds[1]);
}

static void tear_down(Fixture *f, gconstpointer data)
{
	pages_free(f->pages);
	close(f->fds[0]);
	close(f->fds[1]);
	reactor_free(f->reactor);
}

typedef struct Show {
	Fixture *f;
	uint64_t ino;
	int64_t mtime_ns;
	uint32_t mode;
	uint64_t size;
} Show;

static void coroutine_fn co_show(void *arg)
{
	Show *s = arg;
	WireAttr attr = { .ino = s->ino, .mtime_ns = s->mtime_ns, .mode = s->mode, .size = s->size };

	pages_co_show(s->f->pages, &attr);
}

/* Were pages dropped before attributes with that mtime were sent? */
static bool drops_of(Fixture *f, uint64_t ino, int64_t mtime_ns, uint32_t mode, uint64_t size)
{
	Show s = { f, ino, mtime_ns, mode, size };
	char bytes[1024];

	reactor_run_co(f->reactor, co_show, &s);
	return read(f->fds[0], bytes, sizeof(bytes)) > 0;
}

static bool drops(Fixture *f, uint64_t ino, int64_t mtime_ns, uint32_t mode)
{
	return drops_of(f, ino, mtime_ns, mode, 1000);
}

/* The kernel reads, and was shown attributes with that mtime. */
static void reads(Fixture *f, uint64_t ino, int64_t mtime_ns)
{
	WireAttr attr = { .ino = ino, .mtime_ns = mtime_ns, .size = 1000 };

	pages_read(f->pages, ino, &attr);
}

static void written(Fixture *f, uint64_t ino, int64_t mtime_ns, int64_t before_ns)
{
	WireAttr attr = { .ino = ino, .mtime_ns = mtime_ns, .size = 1000 };

	pages_written(f->pages, &attr, before_ns, pages_writing(f->pages, ino));
}

static void test_pages_go_when_the_file_has_changed_and_once(Fixture *f, gconstpointer data)
{
	g_assert_false(drops(f, 5, 100, S_IFREG)); /* there are none */
	reads(f, 5, 100);
	g_assert_false(drops(f, 5, 100, S_IFREG));
	g_assert_true(drops(f, 5, 101, S_IFREG));
	g_assert_false(drops(f, 5, 101, S_IFREG));
}

static void test_the_oldest_page_counts(Fixture *f, gconstpointer data)
{
	reads(f, 5, 100);
	reads(f, 5, 90); /* one that began earlier */
	g_assert_true(drops(f, 5, 100, S_IFREG));
	pages_read(f->pages, 5, NULL);
	g_assert_true(drops(f, 5, 100, S_IFREG));
}

static void test_a_new_size_is_left_to_the_kernel(Fixture *f, gconstpointer data)
{
	reads(f, 5, 100);
	g_assert_false(drops_of(f, 5, 101, S_IFREG, 2000));
	g_assert_true(drops_of(f, 5, 102, S_IFREG, 2000));
	pages_read(f->pages, 6, NULL); /* not even known */
	g_assert_false(drops(f, 6, 100, S_IFREG));
	g_assert_true(drops(f, 6, 101, S_IFREG));
}

static void test_the_first_pages_of_an_open_file_go_too(Fixture *f, gconstpointer data)
{
	WireAttr attr = { .ino = 5, .mtime_ns = 100, .size = 1000 };

	pages_open(f->pages, 5, &attr);
	pages_read(f->pages, 5, NULL); /* called back since it was shown */
	g_assert_true(drops(f, 5, 101, S_IFREG));
	pages_open(f->pages, 6, NULL);
	g_assert_false(drops(f, 6, 100, S_IFREG)); /* asked for before the first read */
	pages_read(f->pages, 6, NULL);
	g_assert_true(drops(f, 6, 101, S_IFREG));
}

static void test_own_writes_keep_them_unless_another_came_between(Fixture *f, gconstpointer data)
{
	reads(f, 5, 100);
	written(f, 5, 110, 100);
	written(f, 5, 120, 110);
	g_assert_false(drops(f, 5, 120, S_IFREG));
	written(f, 5, 140, 130);
	g_assert_true(drops(f, 5, 140, S_IFREG));
}

static void test_what_is_read_during_a_write_is_older(Fixture *f, gconstpointer data)
{
	WireAttr attr = { .ino = 5, .mtime_ns = 110, .size = 1000 };
	uint32_t writing;

	reads(f, 5, 100);
	writing = pages_writing(f->pages, 5);
	reads(f, 5, 100);
	pages_written(f->pages, &attr, 100, writing);
	g_assert_true(drops(f, 5, 110, S_IFREG));
}

static void test_what_was_only_written_is_as_new_as_that(Fixture *f, gconstpointer data)
{
	written(f, 5, 110, 100);
	g_assert_false(drops(f, 5, 110, S_IFREG));
	g_assert_true(drops(f, 5, 111, S_IFREG));
}

static void test_directories_have_none(Fixture *f, gconstpointer data)
{
	reads(f, 5, 100);
	g_assert_false(drops(f, 5, 101, S_IFDIR));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/pages/" #name, Fixture, NULL, set_up, test_ ## name, tear_down)
	ADD(pages_go_when_the_file_has_changed_and_once);
	ADD(the_oldest_page_counts);
	ADD(a_new_size_is_left_to_the_kernel);
	ADD(the_first_pages_of_an_open_file_go_too);
	ADD(own_writes_keep_them_unless_another_came_between);
	ADD(what_is_read_during_a_write_is_older);
	ADD(what_was_only_written_is_as_new_as_that);
	ADD(directories_have_none);
	return g_test_run();
}
