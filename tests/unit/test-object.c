/* Objects: sparse files, their descriptors within a bound, late comers. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/ino.h"
#include "server/object.h"

#define BOUND 16u

typedef struct Fixture {
	char *dir;
	Reactor *reactor;
	Counters *counters;
	Space *space;
	Objects *o;
} Fixture;

static void open_objects(Fixture *f, uint64_t reserve)
{
	ReactorOptions opts = { 0 };
	int fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	f->reactor = reactor_new(&opts, NULL);
	f->counters = counters_new();
	f->space = space_new(fd, reserve);
	f->o = objects_new_bounded(f->reactor, f->counters, f->space, fd, BOUND);
}

static void close_objects(Fixture *f)
{
	objects_free(f->o);
	space_free(f->space);
	counters_free(f->counters);
	reactor_free(f->reactor);
}

static void set_up(Fixture *f, gconstpointer data)
{
	f->dir = g_dir_make_tmp("test-object-XXXXXX", NULL);
	open_objects(f, 1);
}

static void tear_down(Fixture *f, gconstpointer data)
{
	close_objects(f);
	g_autofree char *command = g_strdup_printf("rm -rf '%s'", f->dir);

	g_assert_cmpint(system(command), ==, 0);
	g_free(f->dir);
}

static uint64_t counter(const Fixture *f, const char *name)
{
	g_autofree char *text = counters_to_text(f->counters, true);
	g_autofree char *key = g_strdup_printf("%s ", name);
	const char *at = strstr(text, key);

	g_assert_nonnull(at);
	return g_ascii_strtoull(at + strlen(key), NULL, 10);
}

static uint32_t count_fds(void)
{
	GDir *d = g_dir_open("/proc/self/fd", 0, NULL);
	uint32_t n = 0;

	while (g_dir_read_name(d))
		n++;
	g_dir_close(d);
	return n;
}

static void assert_zeros(const uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		g_assert_cmpuint(buf[i], ==, 0);
}

/* ---- the tests run as coroutines ---- */

#define INO ino_make(0, 7)
#define MIB (UINT64_C(1) << 20)

static void coroutine_fn sparse(void *arg)
{
	Fixture *f = arg;
	uint64_t blocks, off;
	uint8_t buf[64];

	g_assert_cmpint(object_co_read(f->o, INO, buf, 10, 0), ==, 0);
	g_assert_cmpint(object_co_seek(f->o, INO, 0, SEEK_DATA, &off), ==, -ENXIO);
	g_assert_cmpint(object_co_write(f->o, INO, "hello", 5, 100 * MIB, &blocks), ==, 0);
	g_assert_cmpuint(blocks, >, 0);
	g_assert_cmpuint(blocks, <, 2048);
	g_assert_cmpint(object_co_read(f->o, INO, buf, 64, 100 * MIB), ==, 5);
	g_assert_cmpmem(buf, 5, "hello", 5);
	memset(buf, 1, sizeof(buf));
	g_assert_cmpint(object_co_read(f->o, INO, buf, 64, 50 * MIB), ==, 64);
	assert_zeros(buf, 64);
	g_assert_cmpint(object_co_seek(f->o, INO, 0, SEEK_DATA, &off), ==, 0);
	g_assert_cmpuint(off, ==, 100 * MIB);
	g_assert_cmpint(object_co_seek(f->o, INO, 0, SEEK_HOLE, &off), ==, 0);
	g_assert_cmpuint(off, ==, 0);
	g_assert_cmpint(object_co_seek(f->o, INO, 200 * MIB, SEEK_DATA, &off), ==, -ENXIO);
}

static void coroutine_fn truncation(void *arg)
{
	Fixture *f = arg;
	uint64_t blocks;
	uint8_t buf[16];

	g_assert_cmpint(object_co_truncate(f->o, INO, 0, &blocks), ==, 0); /* none: none is made */
	g_assert_cmpint(object_co_read(f->o, INO, buf, 8, 0), ==, 0);
	g_assert_cmpuint(counter(f, "object.creates"), ==, 0);
	g_assert_cmpint(object_co_write(f->o, INO, "0123456789", 10, 0, &blocks), ==, 0);
	g_assert_cmpint(object_co_truncate(f->o, INO, 4, &blocks), ==, 0);
	g_assert_cmpint(object_co_truncate(f->o, INO, 8, &blocks), ==, 0); /* cuts, never grows */
	g_assert_cmpint(object_co_read(f->o, INO, buf, 16, 0), ==, 4);
	g_assert_cmpint(object_co_write(f->o, INO, "x", 1, 8, &blocks), ==, 0);
	g_assert_cmpint(object_co_read(f->o, INO, buf, 16, 0), ==, 9);
	g_assert_cmpmem(buf, 9, "0123\0\0\0\0x", 9);
	g_assert_cmpint(object_co_truncate(f->o, INO, 0, &blocks), ==, 0);
	g_assert_cmpuint(blocks, ==, 0);
}

static void coroutine_fn ranges(void *arg)
{
	Fixture *f = arg;
	g_autofree uint8_t *buf = g_malloc(MIB);
	uint64_t blocks, before;

	memset(buf, 0xaa, MIB);
	g_assert_cmpint(object_co_fallocate(f->o, INO, FALLOC_FL_PUNCH_HOLE, 0, MIB, &blocks), ==, 0);
	g_assert_cmpuint(counter(f, "object.creates"), ==, 0);
	g_assert_cmpint(object_co_write(f->o, INO, buf, MIB, 0, &before), ==, 0);
	g_assert_cmpint(object_co_fallocate(f->o, INO, FALLOC_FL_PUNCH_HOLE, 65536, 65536, &blocks), ==, 0);
	g_assert_cmpuint(blocks, <, before);
	g_assert_cmpint(object_co_read(f->o, INO, buf, 3 * 65536, 0), ==, 3 * 65536);
	g_assert_cmpuint(buf[65535], ==, 0xaa);
	assert_zeros(buf + 65536, 65536);
	g_assert_cmpuint(buf[131072], ==, 0xaa);
	g_assert_cmpint(object_co_fallocate(f->o, INO, FALLOC_FL_ZERO_RANGE, 100, 1000, &blocks), ==, 0);
	g_assert_cmpint(object_co_read(f->o, INO, buf, 2000, 0), ==, 2000);
	g_assert_cmpuint(buf[99], ==, 0xaa);
	assert_zeros(buf + 100, 1000);
	g_assert_cmpuint(buf[1100], ==, 0xaa);
	/* Allocated behind the end: takes blocks, shows nothing. */
	g_assert_cmpint(object_co_fallocate(f->o, INO, 0, 8 * MIB, MIB, &blocks), ==, 0);
	g_assert_cmpuint(blocks, >=, before + 2048 - 256);
	g_assert_cmpint(object_co_read(f->o, INO, buf, 10, 8 * MIB), ==, 0);
	g_assert_cmpint(object_co_fallocate(f->o, INO, 0, 0, UINT64_C(1) << 60, &blocks), ==, -ENOSPC);
}

static uint64_t many_ino(uint32_t i)
{
	return ino_make((uint16_t)(i % 3), 1000 + i);
}

/* 20,000 objects, and again in another order: never more than the bound. */
static void coroutine_fn bound(void *arg)
{
	Fixture *f = arg;
	uint32_t fds = count_fds();
	uint64_t blocks;

	for (uint32_t i = 0; i < 20000; i++) {
		g_assert_cmpint(object_co_write(f->o, many_ino(i), &i, sizeof(i), 0, &blocks), ==, 0);
		if (i % 997 == 0)
			g_assert_cmpuint(count_fds(), <=, fds + BOUND);
	}
	for (uint32_t k = 0; k < 20000; k++) {
		uint32_t i = (uint32_t)((k * UINT64_C(7919)) % 20000), v = 0;

		g_assert_cmpint(object_co_read(f->o, many_ino(i), &v, sizeof(v), 0), ==, 4);
		g_assert_cmpuint(v, ==, i);
	}
	g_assert_cmpuint(counter(f, "object.open_fds"), <=, BOUND);
	g_assert_cmpuint(count_fds(), <=, fds + BOUND);
	for (uint32_t i = 0; i < 20000; i++)
		g_assert_cmpint(object_co_remove(f->o, many_ino(i)), ==, 0);
	g_assert_cmpuint(counter(f, "object.open_fds"), ==, 0);
}

typedef struct Job {
	Fixture *f;
	uint64_t ino;
	int r;
	uint8_t *buf;
	size_t len;
	uint64_t off;
} Job;

static void coroutine_fn write_job(void *arg)
{
	Job *j = arg;
	uint64_t blocks;

	j->r = object_co_write(j->f->o, j->ino, j->buf, j->len, j->off, &blocks);
}

/* Ten times as many at once as may be open: they wait for each other. */
static void coroutine_fn crowd(void *arg)
{
	Fixture *f = arg;
	CoGroup g = { .sched = reactor_sched(f->reactor) };
	Job jobs[BOUND * 10];
	/* Larger than what is written plainly, so that each is in the ring. */
	g_autofree uint8_t *buf = g_malloc0(OBJECT_PLAIN_WRITE_MAX + 1);

	for (uint32_t i = 0; i < G_N_ELEMENTS(jobs); i++) {
		jobs[i] = (Job) { .f = f, .ino = many_ino(i), .buf = buf, .len = OBJECT_PLAIN_WRITE_MAX + 1, .r = 1 };
		co_group_spawn(&g, write_job, &jobs[i]);
	}
	co_group_wait(&g);
	for (uint32_t i = 0; i < G_N_ELEMENTS(jobs); i++)
		g_assert_cmpint(jobs[i].r, ==, 0);
	g_assert_cmpuint(counter(f, "object.open_fds"), <=, BOUND);
}

/* Many at once on one object: it is opened once. */
static void coroutine_fn open_once(void *arg)
{
	Fixture *f = arg;
	CoGroup g = { .sched = reactor_sched(f->reactor) };
	Job jobs[50];
	uint8_t bytes[50], back[50];

	for (uint32_t i = 0; i < 50; i++) {
		bytes[i] = (uint8_t)(i + 1);
		jobs[i] = (Job) { .f = f, .ino = INO, .buf = &bytes[i], .len = 1, .off = i };
		co_group_spawn(&g, write_job, &jobs[i]);
	}
	co_group_wait(&g);
	g_assert_cmpuint(counter(f, "object.opens"), ==, 1);
	g_assert_cmpint(object_co_read(f->o, INO, back, 50, 0), ==, 50);
	g_assert_cmpmem(back, 50, bytes, 50);
}

static void coroutine_fn remove_in_use(void *arg)
{
	Fixture *f = arg;
	CoGroup g = { .sched = reactor_sched(f->reactor) };
	g_autofree uint8_t *buf = g_malloc0(8 * MIB);
	Job j = { .f = f, .ino = INO, .buf = buf, .len = 8 * MIB, .r = 1 };
	uint64_t blocks;

	g_assert_cmpint(object_co_write(f->o, INO, "x", 1, 0, &blocks), ==, 0);
	co_group_spawn(&g, write_job, &j);
	co_reschedule(); /* it is writing now */
	g_assert_cmpint(object_co_remove(f->o, INO), ==, 0);
	co_group_wait(&g);
	g_assert_cmpint(j.r, ==, 0);
	g_assert_cmpint(object_co_read(f->o, INO, buf, 10, 0), ==, 0);
	/* A write that comes too late makes no object that nobody owns. */
	g_assert_cmpint(object_co_write(f->o, INO, "x", 1, 0, &blocks), ==, -ESTALE);
	g_assert_cmpint(object_co_remove(f->o, INO), ==, 0);
	g_assert_cmpuint(counter(f, "object.open_fds"), ==, 0);
}

static void coroutine_fn sync_co(void *arg)
{
	Fixture *f = arg;
	uint64_t blocks;

	g_assert_cmpint(object_co_fsync(f->o, INO, false), ==, 0); /* none is fine */
	for (uint32_t i = 0; i < 5; i++) {
		g_assert_cmpint(object_co_write(f->o, many_ino(i), "x", 1, 0, &blocks), ==, 0);
		g_assert_cmpint(object_co_fsync(f->o, many_ino(i), i & 1), ==, 0);
	}
}

static void coroutine_fn write_few(void *arg)
{
	Fixture *f = arg;
	uint64_t blocks;

	g_assert_cmpint(object_co_write(f->o, INO, "kept", 4, 0, &blocks), ==, 0);
}

static void coroutine_fn read_few(void *arg)
{
	Fixture *f = arg;
	char buf[8];

	g_assert_cmpint(object_co_read(f->o, INO, buf, 8, 0), ==, 4);
	g_assert_cmpmem(buf, 4, "kept", 4);
}

static void test_reopen(Fixture *f, gconstpointer data)
{
	reactor_run_co(f->reactor, write_few, f);
	close_objects(f);
	open_objects(f, 1);
	reactor_run_co(f->reactor, read_few, f);
}

static void coroutine_fn fill(void *arg)
{
	Fixture *f = arg;
	g_autofree uint8_t *buf = g_malloc0(65536);
	uint64_t blocks;

	g_assert_cmpint(object_co_write(f->o, INO, buf, 65536, 0, &blocks), ==, 0);
	g_assert_cmpint(object_co_fallocate(f->o, INO, 0, MIB, 65536, &blocks), ==, 0);
	g_assert_cmpint(object_co_fsync(f->o, INO, false), ==, 0);
}

static void coroutine_fn use_full(void *arg)
{
	Fixture *f = arg;
	uint64_t blocks;

	/* What has its blocks can be written, and nothing else. */
	g_assert_cmpint(object_co_write(f->o, INO, "over", 4, 100, &blocks), ==, 0);
	g_assert_cmpint(object_co_write(f->o, INO, "into what was allocated", 23, MIB + 100, &blocks), ==, 0);
	g_assert_cmpint(object_co_write(f->o, INO, "across", 6, 65533, &blocks), ==, -ENOSPC);
	g_assert_cmpint(object_co_write(f->o, INO, "beyond", 6, 8 * MIB, &blocks), ==, -ENOSPC);
	g_assert_cmpint(object_co_write(f->o, INO + 1, "new", 3, 0, &blocks), ==, -ENOSPC);
	g_assert_cmpint(object_co_fallocate(f->o, INO, 0, 2 * MIB, 4096, &blocks), ==, -ENOSPC);
	g_assert_cmpint(object_co_fallocate(f->o, INO, FALLOC_FL_PUNCH_HOLE, 0, 4096, &blocks), ==, 0);
	g_assert_cmpint(object_co_truncate(f->o, INO, 10, &blocks), ==, 0);
	g_assert_cmpint(object_co_remove(f->o, INO), ==, 0);
}

static void test_full(Fixture *f, gconstpointer data)
{
	struct statfs fs;

	g_assert_cmpint(statfs(f->dir, &fs), ==, 0);
	if (fs.f_type == TMPFS_MAGIC) {
		g_test_skip("tmpfs does not say what is allocated");
		return;
	}
	reactor_run_co(f->reactor, fill, f);
	close_objects(f);
	open_objects(f, UINT64_C(1) << 60);
	reactor_run_co(f->reactor, use_full, f);
}

static void test_co(Fixture *f, gconstpointer fn)
{
	reactor_run_co(f->reactor, (CoFn *)fn, f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add("/object/" name, Fixture, (gconstpointer)fn, set_up, test_co, tear_down)
	ADD("sparse", sparse);
	ADD("truncation", truncation);
	ADD("ranges", ranges);
	ADD("bound", bound);
	ADD("crowd", crowd);
	ADD("open-once", open_once);
	ADD("remove-in-use", remove_in_use);
	ADD("sync", sync_co);
	g_test_add("/object/reopen", Fixture, NULL, set_up, test_reopen, tear_down);
	g_test_add("/object/full", Fixture, NULL, set_up, test_full, tear_down);
	return g_test_run();
}
