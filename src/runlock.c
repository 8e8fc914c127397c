#include "src/runlock.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/autoclose.h"

#define ROOT_DIR "/run/benchfs"

struct Runlock {
	char *path;
	int fd; /* the only one: closing any would drop the lock */
};

static char *lock_dir(void)
{
	if (geteuid() == 0)
		return g_strdup(ROOT_DIR);
	return g_build_filename(g_get_user_runtime_dir(), "benchfs", NULL);
}

static char *lock_path(const char *mountpoint)
{
	g_autofree char *dir = lock_dir();
	g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, mountpoint, -1);

	sum[32] = 0;
	return g_build_filename(dir, sum, NULL);
}

/* The lock's descriptor; -EAGAIN: it is another's, or its file was removed
 * between opening and locking. */
static int lock_file(const char *path)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct stat st;
	autoclose int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || fcntl(fd, F_SETLK, &lock) < 0 || fstat(fd, &st) < 0)
		return -errno;
	return st.st_nlink ? g_steal_fd(&fd) : -EAGAIN;
}

Runlock *runlock_take(const char *mountpoint)
{
	g_autofree char *dir = lock_dir();
	g_autofree char *path = lock_path(mountpoint);

	g_mkdir_with_parents(dir, 0700);
	int fd = lock_file(path);
	if (fd == -EAGAIN)
		fd = lock_file(path);
	if (fd < 0) {
		g_message("%s: %s, ignoring; 'benchfs umount' will not wait for this process", path, g_strerror(-fd));
		return NULL;
	}
	Runlock *l = g_new(Runlock, 1);
	*l = (Runlock) { .path = g_steal_pointer(&path), .fd = fd };
	return l;
}

void runlock_forget(const char *mountpoint)
{
	g_autofree char *path = lock_path(mountpoint);

	if (access(path, F_OK) == 0)
		runlock_release(runlock_take(mountpoint));
}

void runlock_release(Runlock *l)
{
	if (!l)
		return;
	unlink(l->path);
	close(l->fd);
	g_free(l->path);
	g_free(l);
}

pid_t runlock_owner(const char *mountpoint)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	g_autofree char *path = lock_path(mountpoint);
	autoclose int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK || lock.l_pid <= 0)
		return 0;
	return lock.l_pid;
}
