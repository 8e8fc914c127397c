/* How new the kernel's pages are, and when they must go. */
#include <glib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/reactor.h"
#include "fuse/fuse-kernel.h"
#include "fuse/pages.h"

#define LAST_BYTE 'z'
#define ALONE 1000 /* the thread that asks, where there is but one */

typedef struct Fixture {
	Reactor *reactor;
	Pages *pages;
	int fds[2]; /* a pipe in the kernel's place, for what it is told */
	bool is_gone; /* the last byte of files */
	bool is_cold; /* no other mount changes them */
} Fixture;

static bool is_hot(void *arg, uint64_t ino)
{
	return !((Fixture *)arg)->is_cold;
}

static bool coroutine_fn last_byte(void *arg, const WireAttr *attr, uint8_t *ret_byte)
{
	*ret_byte = LAST_BYTE;
	return !((Fixture *)arg)->is_gone;
}

static void set_up(Fixture *f, gconstpointer data)
{
	ReactorOptions ro = { 0 };

	f->reactor = reactor_new(&ro, NULL);
	g_assert_nonnull(f->reactor);
	g_assert_cmpint(pipe2(f->fds, O_NONBLOCK), ==, 0);
	PagesOptions opts = {
		.uring = reactor_uring(f->reactor), .fd = f->fds[1], .is_hot = is_hot, .last_byte = last_byte, .arg = f,
	};
	f->pages = pages_new(&opts);
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
	uint32_t thread;
} Show;

static void coroutine_fn co_show(void *arg)
{
	Show *s = arg;
	WireAttr attr = { .ino = s->ino, .mtime_ns = s->mtime_ns, .mode = s->mode, .size = s->size };

	pages_co_show(s->f->pages, &attr, s->thread);
}

/* What the kernel was told: how often to drop pages, and what size; 0: none. */
typedef struct Told {
	uint32_t drops;
	uint64_t size;
} Told;

static Told read_told(Fixture *f)
{
	struct {
		struct fuse_out_header out;
		char arg[1024];
	} msg;
	Told told = { 0 };

	while (read(f->fds[0], &msg.out, sizeof(msg.out)) == sizeof(msg.out)) {
		ssize_t left = (ssize_t)(msg.out.len - sizeof(msg.out));

		g_assert_cmpint(read(f->fds[0], msg.arg, (size_t)left), ==, left);
		if (msg.out.error == FUSE_NOTIFY_INVAL_INODE) {
			told.drops++;
			continue;
		}
		struct fuse_notify_store_out *store = (void *)msg.arg;
		g_assert_cmpint(msg.out.error, ==, FUSE_NOTIFY_STORE);
		g_assert_cmpint(store->size, ==, 1);
		g_assert_cmpint(msg.arg[sizeof(*store)], ==, LAST_BYTE);
		told.size = store->offset + 1;
	}
	return told;
}

/* Were pages dropped before attributes with that mtime were sent? */
static bool drops_of(Fixture *f, uint64_t ino, int64_t mtime_ns, uint32_t mode, uint64_t size)
{
	Show s = { f, ino, mtime_ns, mode, size, ALONE };

	reactor_run_co(f->reactor, co_show, &s);
	Told told = read_told(f);
	g_assert_cmpint(told.size, ==, 0);
	return told.drops > 0;
}

static Told told_to(Fixture *f, uint32_t thread, int64_t mtime_ns, uint64_t size)
{
	Show s = { f, 5, mtime_ns, S_IFREG, size, thread };

	reactor_run_co(f->reactor, co_show, &s);
	return read_told(f);
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

	pages_written(f->pages, &attr, before_ns, pages_writing(f->pages, ino, ALONE));
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
	writing = pages_writing(f->pages, 5, ALONE);
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

static void test_where_several_threads_ask_a_longer_size_is_given(Fixture *f, gconstpointer data)
{
	reads(f, 5, 100);
	g_assert_cmpint(told_to(f, 1, 100, 1000).size, ==, 0);
	/* The other may not have taken note of what it was told. */
	g_assert_cmpint(told_to(f, 2, 100, 1000).size, ==, 1000);
	g_assert_cmpint(told_to(f, 1, 100, 1000).size, ==, 0);
	Told told = told_to(f, 1, 101, 2000);
	g_assert_cmpint(told.size, ==, 2000);
	g_assert_cmpint(told.drops, >, 0);
}

static void test_a_shorter_size_is_left_to_the_kernel_always(Fixture *f, gconstpointer data)
{
	reads(f, 5, 100);
	told_to(f, 1, 100, 1000);
	told_to(f, 2, 100, 1000);
	Told told = told_to(f, 1, 101, 500);
	g_assert_cmpint(told.size, ==, 0);
	g_assert_cmpint(told.drops, ==, 0);
	g_assert_cmpint(told_to(f, 1, 102, 0).size, ==, 0);
}

static void test_who_writes_is_a_thread_as_well(Fixture *f, gconstpointer data)
{
	reads(f, 5, 100);
	told_to(f, 1, 100, 1000);
	pages_writing(f->pages, 5, 2);
	g_assert_cmpint(told_to(f, 1, 101, 2000).size, ==, 2000);
}

static void test_pages_that_no_other_mount_changes_stay(Fixture *f, gconstpointer data)
{
	f->is_cold = true;
	reads(f, 5, 100);
	told_to(f, 1, 100, 1000);
	for (uint32_t thread = 2; thread < 5; thread++) {
		Told told = told_to(f, thread, 100, 1000);
		g_assert_cmpint(told.size, ==, 0);
		g_assert_cmpint(told.drops, ==, 0);
	}
	pages_writing(f->pages, 5, 6);
	g_assert_cmpint(told_to(f, 1, 100, 1000).drops, ==, 0);
	/* A new mtime is enough for that, written beside it or not. */
	g_assert_cmpint(told_to(f, 2, 101, 1000).drops, >, 0);
}

static void test_threads_without_a_number_are_several(Fixture *f, gconstpointer data)
{
	reads(f, 5, 100);
	told_to(f, 0, 100, 1000);
	g_assert_cmpint(told_to(f, 0, 101, 2000).size, ==, 2000);
}

static void test_no_size_is_given_whose_last_byte_is_gone(Fixture *f, gconstpointer data)
{
	reads(f, 5, 100);
	told_to(f, 1, 100, 1000);
	f->is_gone = true;
	Told told = told_to(f, 2, 101, 2000);
	g_assert_cmpint(told.size, ==, 0);
	g_assert_cmpint(told.drops, >, 0);
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
	ADD(where_several_threads_ask_a_longer_size_is_given);
	ADD(a_shorter_size_is_left_to_the_kernel_always);
	ADD(who_writes_is_a_thread_as_well);
	ADD(pages_that_no_other_mount_changes_stay);
	ADD(threads_without_a_number_are_several);
	ADD(no_size_is_given_whose_last_byte_is_gone);
	return g_test_run();
}
