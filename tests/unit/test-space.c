/* The guard, on a file system of a known size (tmpfs in a private name space). */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "server/space.h"

#define MIB (UINT64_C(1) << 20)

typedef struct Fixture {
	char *dir;
	int fd;
} Fixture;

static bool have_mounts;

static void set_up(Fixture *f, gconstpointer size)
{
	f->dir = g_dir_make_tmp("test-space-XXXXXX", NULL);
	f->fd = -1;
	if (have_mounts && mount("none", f->dir, "tmpfs", 0, size) == 0)
		f->fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void tear_down(Fixture *f, gconstpointer size)
{
	if (f->fd >= 0) {
		close(f->fd);
		umount2(f->dir, MNT_DETACH);
	}
	g_rmdir(f->dir);
	g_free(f->dir);
}

static bool usable(const Fixture *f)
{
	if (f->fd < 0)
		g_test_skip("needs root, to mount a small tmpfs");
	return f->fd >= 0;
}

static void fill(const Fixture *f, const char *name, uint64_t bytes)
{
	int fd = openat(f->fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(posix_fallocate(fd, 0, (off_t)bytes), ==, 0);
	close(fd);
}

static void test_reserve(Fixture *f, gconstpointer size)
{
	if (!usable(f))
		return;
	Space *s = space_new(f->fd, 0);
	WireStatfsRep st;

	space_statfs(s, &st);
	g_assert_cmpuint(st.total, ==, 128 * MIB);
	g_assert_cmpuint(st.free, ==, 128 * MIB); /* df: what is kept is not used */
	g_assert_cmpuint(st.avail, ==, 112 * MIB);
	g_assert_cmpint(space_take(s, 112 * MIB), ==, 0);
	space_refresh(s);
	g_assert_cmpint(space_take(s, 112 * MIB + 1), ==, -ENOSPC);
	g_assert_cmpint(space_take(s, UINT64_MAX), ==, -ENOSPC);
	space_free(s);
}

static void test_small(Fixture *f, gconstpointer size)
{
	if (!usable(f))
		return;
	Space *s = space_new(f->fd, 0);

	/* A quarter of 32 MiB, not 16 MiB. */
	g_assert_cmpint(space_take(s, 24 * MIB), ==, 0);
	space_refresh(s);
	g_assert_cmpint(space_take(s, 24 * MIB + 1), ==, -ENOSPC);
	space_free(s);
}

static void test_fill_and_delete(Fixture *f, gconstpointer size)
{
	if (!usable(f))
		return;
	Space *s = space_new(f->fd, 28 * MIB);

	fill(f, "a", 90 * MIB);
	g_assert_cmpint(space_take(s, 5 * MIB), ==, 0);
	fill(f, "b", 10 * MIB);
	space_refresh(s);
	g_assert_cmpint(space_take(s, 1), ==, -ENOSPC);
	g_assert_cmpint(unlinkat(f->fd, "a", 0), ==, 0);
	space_refresh(s);
	g_assert_cmpint(space_take(s, 80 * MIB), ==, 0);
	space_free(s);
}

/* However many small takes go by without a look, together they can't be more
 * than what there was. */
static void test_takes_add_up(Fixture *f, gconstpointer size)
{
	if (!usable(f))
		return;
	Space *s = space_new(f->fd, 28 * MIB);
	uint64_t n = 0;

	fill(f, "a", 96 * MIB);
	while (n < 4 * MIB && space_take(s, MIB / 4) == 0) {
		char name[32];

		g_snprintf(name, sizeof(name), "f%" G_GUINT64_FORMAT, n);
		fill(f, name, MIB / 4);
		n += MIB / 4;
	}
	g_assert_cmpuint(n, ==, 4 * MIB);
	g_assert_cmpint(space_take(s, MIB / 4), ==, -ENOSPC);
	space_free(s);
}

int main(int argc, char **argv)
{
	have_mounts = unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
	g_test_init(&argc, &argv, NULL);
	g_test_add("/space/reserve", Fixture, "size=128m", set_up, test_reserve, tear_down);
	g_test_add("/space/small", Fixture, "size=32m", set_up, test_small, tear_down);
	g_test_add("/space/fill-and-delete", Fixture, "size=128m", set_up, test_fill_and_delete, tear_down);
	g_test_add("/space/takes-add-up", Fixture, "size=128m", set_up, test_takes_add_up, tear_down);
	return g_test_run();
}
