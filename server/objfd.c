/*
 * An ObjFd is in the table from the moment someone starts to open it, so that
 * a second one waits instead of opening again, until it is evicted or its
 * object is removed. `pins` counts users and waiters; at 0 an open one sits on
 * the list of idle ones, and one that is out of the table goes.
 */
#include "server/objfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/autoclose.h"

#define SUB_COUNT 256u
/* What was removed lately: as long as a request may travel. */
#define REMOVED_MAX 8192u
/* Unlinking or closing more than this much (512-byte blocks) takes long. */
#define BIG_BLOCKS (UINT64_C(16) << 11)

/* One of the subdirectories. Counts of entries made, and made when the last
 * sync began: what an earlier process made and did not sync counts as one. */
typedef struct Sub {
	CoMutex lock;
	uint64_t made, synced;
} Sub;

struct ObjFd {
	uint64_t ino;
	int fd; /* -1 while it is being opened */
	uint32_t pins;
	bool opening, detached;
	CoQueue waiters; /* for the end of opening */
	GList idle;
};

struct ObjFds {
	Reactor *reactor;
	Counters *counters;
	Pace *pace;
	int dirfd;
	uint32_t bound;
	GHashTable *table; /* &ino -> ObjFd */
	GQueue idle;       /* least recently used last */
	CoQueue room;      /* for a descriptor to become free */
	Sub subs[SUB_COUNT];
	Sub root; /* objects/ itself */
	GHashTable *removed;
	uint64_t removed_ring[REMOVED_MAX];
	uint32_t removed_next;
	uint64_t open_fds, opens, creates, evictions;
};

static uint32_t sub_of(uint64_t ino)
{
	return (uint32_t)(ino % SUB_COUNT);
}

static void sub_path(uint64_t ino, char path[4])
{
	snprintf(path, 4, "%02x", sub_of(ino));
}

static void object_path(uint64_t ino, char path[24])
{
	snprintf(path, 24, "%02x/%016" G_GINT64_MODIFIER "x", sub_of(ino), ino);
}

ObjFds *objfds_new(Reactor *r, Counters *c, Pace *pace, int dirfd, uint32_t bound)
{
	ObjFds *t = g_new0(ObjFds, 1);

	t->reactor = r;
	t->counters = c;
	t->pace = pace;
	t->dirfd = dirfd;
	t->bound = MAX(bound, 1);
	t->table = g_hash_table_new(g_int64_hash, g_int64_equal);
	t->removed = g_hash_table_new(g_int64_hash, g_int64_equal);
	t->root.made = 1;
	for (uint32_t i = 0; i < SUB_COUNT; i++)
		t->subs[i].made = 1;
	counters_add(c, "object.open_fds", &t->open_fds);
	counters_add(c, "object.opens", &t->opens);
	counters_add(c, "object.creates", &t->creates);
	counters_add(c, "object.evictions", &t->evictions);
	return t;
}

static void detach(ObjFds *t, ObjFd *f)
{
	g_hash_table_remove(t->table, &f->ino);
	f->detached = true;
	if (f->fd >= 0 && f->pins == 0)
		g_queue_unlink(&t->idle, &f->idle);
}

static void close_and_free(ObjFd *f)
{
	close(f->fd);
	g_free(f);
}

void objfds_free(ObjFds *t)
{
	if (!t)
		return;
	for (GList *l; (l = g_queue_peek_tail_link(&t->idle));) {
		ObjFd *f = l->data;

		detach(t, f);
		close_and_free(f);
	}
	g_assert(g_hash_table_size(t->table) == 0);
	counters_remove(t->counters, &t->open_fds);
	counters_remove(t->counters, &t->opens);
	counters_remove(t->counters, &t->creates);
	counters_remove(t->counters, &t->evictions);
	g_hash_table_destroy(t->table);
	g_hash_table_destroy(t->removed);
	close(t->dirfd);
	g_free(t);
}

int objfd_fd(const ObjFd *f)
{
	return f->fd;
}

/* ---- making and opening ---- */

static int coroutine_fn quick_openat(ObjFds *t, const char *path, int flags)
{
	int64_t start;

	if (!pace_begin(t->pace, &start))
		return uring_co_openat(reactor_uring(t->reactor), t->dirfd, path, flags, 0600);
	int fd = openat(t->dirfd, path, flags, 0600);
	int err = errno;
	pace_end(t->pace, start);
	return fd >= 0 ? fd : -err;
}

static int make_sub(ObjFds *t, uint64_t ino)
{
	char path[4];

	sub_path(ino, path);
	if (mkdirat(t->dirfd, path, 0700) < 0)
		return errno == EEXIST ? 0 : -errno;
	t->root.made++;
	return 0;
}

static int coroutine_fn create_object(ObjFds *t, uint64_t ino, const char *path)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
	int fd = quick_openat(t, path, flags);

	if (fd == -ENOENT) {
		int r = make_sub(t, ino);
		if (r < 0)
			return r;
		fd = quick_openat(t, path, flags);
	}
	if (fd >= 0) {
		t->subs[sub_of(ino)].made++;
		t->creates++;
	}
	return fd;
}

static int coroutine_fn open_object(ObjFds *t, uint64_t ino, bool create)
{
	char path[24];

	object_path(ino, path);
	if (create) {
		int fd = create_object(t, ino, path);
		if (fd != -EEXIST)
			return fd;
	}
	/* The ring opens what the kernel has in its caches on the spot. */
	return uring_co_openat(reactor_uring(t->reactor), t->dirfd, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
}

/* Takes a place for one more descriptor. */
static void coroutine_fn take_room(ObjFds *t)
{
	while (t->open_fds >= t->bound) {
		GList *l = g_queue_peek_tail_link(&t->idle);

		if (!l) {
			co_queue_wait(&t->room);
			continue;
		}
		ObjFd *victim = l->data;

		detach(t, victim);
		close_and_free(victim);
		t->open_fds--;
		t->evictions++;
	}
	t->open_fds++;
}

static void give_room(ObjFds *t)
{
	t->open_fds--;
	co_queue_wake_one(&t->room);
}

static int close_work(void *arg)
{
	close(GPOINTER_TO_INT(arg));
	return 0;
}

/* The last close of a removed object frees its blocks, which can take long. */
static void coroutine_fn co_drop(ObjFds *t, ObjFd *f)
{
	struct stat st;

	if (fstat(f->fd, &st) == 0 && (uint64_t)st.st_blocks > BIG_BLOCKS)
		reactor_co_work(t->reactor, close_work, GINT_TO_POINTER(f->fd));
	else
		close(f->fd);
	f->fd = -1;
	give_room(t);
	g_free(f);
}

static void coroutine_fn co_unpin(ObjFds *t, ObjFd *f)
{
	g_assert(f->pins > 0);
	if (--f->pins > 0)
		return;
	if (f->detached && f->fd >= 0) {
		co_drop(t, f);
	} else if (f->detached) {
		g_free(f);
	} else {
		g_queue_push_head_link(&t->idle, &f->idle);
		co_queue_wake_one(&t->room);
	}
}

static int coroutine_fn open_new(ObjFds *t, uint64_t ino, bool create, ObjFd **ret_f)
{
	ObjFd *f = g_new0(ObjFd, 1);

	*f = (ObjFd) { .ino = ino, .fd = -1, .pins = 1, .opening = true, .idle = { .data = f } };
	g_hash_table_insert(t->table, &f->ino, f);
	take_room(t);
	int fd = open_object(t, ino, create);
	f->opening = false;
	co_queue_wake_all(&f->waiters);
	if (fd < 0) {
		detach(t, f);
		give_room(t);
		co_unpin(t, f);
		return fd;
	}
	f->fd = fd;
	t->opens++;
	*ret_f = f;
	return 0;
}

static void pin(ObjFds *t, ObjFd *f)
{
	if (f->pins++ == 0)
		g_queue_unlink(&t->idle, &f->idle);
}

/* The entry of ino, once it is not being opened (any more). Not pinned. */
static ObjFd *coroutine_fn find_settled(ObjFds *t, uint64_t ino)
{
	ObjFd *f;

	while ((f = g_hash_table_lookup(t->table, &ino)) && f->opening) {
		f->pins++;
		co_queue_wait(&f->waiters);
		co_unpin(t, f);
	}
	return f;
}

int coroutine_fn objfd_co_get(ObjFds *t, uint64_t ino, bool create, ObjFd **ret_f)
{
	ObjFd *f = find_settled(t, ino);

	if (f) {
		pin(t, f);
		*ret_f = f;
		return 0;
	}
	if (create && g_hash_table_contains(t->removed, &ino))
		return -ESTALE;
	return open_new(t, ino, create, ret_f);
}

void coroutine_fn objfd_co_put(ObjFds *t, ObjFd *f)
{
	co_unpin(t, f);
}

/* ---- removing ---- */

static void remember_removed(ObjFds *t, uint64_t ino)
{
	uint64_t *slot = &t->removed_ring[t->removed_next++ % REMOVED_MAX];

	if (g_hash_table_contains(t->removed, &ino))
		return;
	if (*slot)
		g_hash_table_remove(t->removed, slot);
	*slot = ino;
	g_hash_table_add(t->removed, slot);
}

static int coroutine_fn unlink_object(ObjFds *t, const char *path)
{
	struct stat st;
	int64_t start;

	if (fstatat(t->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if ((uint64_t)st.st_blocks > BIG_BLOCKS || !pace_begin(t->pace, &start))
		return uring_co_unlinkat(reactor_uring(t->reactor), t->dirfd, path, 0);
	int r = unlinkat(t->dirfd, path, 0);
	int err = errno;
	pace_end(t->pace, start);
	return r < 0 ? -err : 0;
}

int coroutine_fn objfd_co_remove(ObjFds *t, uint64_t ino)
{
	char path[24];

	remember_removed(t, ino);
	ObjFd *f = find_settled(t, ino);
	if (f) {
		/* Unlinking first frees nothing yet; the close does, in its place. */
		pin(t, f);
		detach(t, f);
	}
	object_path(ino, path);
	int r = unlink_object(t, path);
	if (f)
		objfd_co_put(t, f);
	return r == -ENOENT ? 0 : r;
}

/* ---- durable names ---- */

static int coroutine_fn sync_sub(ObjFds *t, Sub *sub, const char *path)
{
	uint64_t made = sub->made;

	if (sub->synced == made)
		return 0;
	autoclose int fd = openat(t->dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = uring_co_fsync(reactor_uring(t->reactor), fd, false);
	if (r >= 0)
		sub->synced = made;
	return MIN(r, 0);
}

/* Under the mutex, so that nobody returns while the sync that covers its entry
 * is still under way for someone else. */
static int coroutine_fn sync_sub_locked(ObjFds *t, Sub *sub, const char *path)
{
	co_mutex_lock(&sub->lock);
	int r = sync_sub(t, sub, path);
	co_mutex_unlock(&sub->lock);
	return r;
}

int coroutine_fn objfd_co_sync_dir(ObjFds *t, uint64_t ino)
{
	char path[4];

	sub_path(ino, path);
	int r = sync_sub_locked(t, &t->subs[sub_of(ino)], path);
	return r < 0 ? r : sync_sub_locked(t, &t->root, ".");
}
