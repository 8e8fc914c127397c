/*
 * Unmounting, and waiting for the daemon: when the command returns, the store
 * is free again. A mount whose daemon is dead has none to wait for. Nothing here
 * asks the mount anything: it may wait for peers that are down, and a question
 * under way would keep it busy.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/autoclose.h"
#include "src/commands.h"
#include "src/mounts.h"
#include "src/runlock.h"

#define END_TIMEOUT_S 60

/* A pidfd of the daemon, or -1. */
static int open_daemon(const char *path)
{
	pid_t pid = runlock_owner(path);

	return pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

static bool unmount_as_user(const char *path, bool lazy, GError **error)
{
	const char *argv[] = { "fusermount3", "-u", lazy ? "-z" : "--", lazy ? "--" : path, lazy ? path : NULL, NULL };
	g_autofree char *said = NULL;
	g_autoptr(GError) why = NULL;
	int status;

	if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, &said, &status, &why)) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "cannot unmount %s: %s; the package fuse3 has fusermount3", path, why->message);
		return false;
	}
	if (g_spawn_check_wait_status(status, NULL))
		return true;
	g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "cannot unmount %s: %s", path, g_strstrip(said));
	return false;
}

static bool unmount(const char *path, bool lazy, GError **error)
{
	if (geteuid() != 0)
		return unmount_as_user(path, lazy, error);
	if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return true;
	if (errno == EBUSY)
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s is busy; 'fuser -vm %s' shows who uses it, and --lazy detaches it all the same", path, path);
	else
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "cannot unmount %s: %s", path, g_strerror(errno));
	return false;
}

static bool wait_end(int pidfd, const char *path, GError **error)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int n;

	do
		n = poll(&p, 1, END_TIMEOUT_S * 1000);
	while (n < 0 && errno == EINTR);
	if (n != 0)
		return true;
	g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s is unmounted, but its daemon has not ended within %d s; its log may say why", path, END_TIMEOUT_S);
	return false;
}

int cmd_umount(char **argv, GError **error)
{
	g_auto(Options) o = { 0 };

	options_init(&o);
	if (!options_parse_args(&o, CMD_UMOUNT, argv, error))
		return -1;
	const char *arg = options_one_arg(&o, CMD_UMOUNT, "mount point", error);
	if (!arg)
		return -1;
	g_autofree char *path = mounts_resolve(arg);
	g_autoptr(MountEntry) e = mounts_find(path);
	if (!e || !e->is_benchfs) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "no BenchFS is mounted at %s", path);
		return -1;
	}
	autoclose int pidfd = open_daemon(path);
	if (!unmount(path, o.lazy, error))
		return -1;
	if (pidfd < 0)
		runlock_forget(path);
	if (pidfd >= 0 && !o.lazy && !wait_end(pidfd, path, error))
		return -1;
	return EXIT_SUCCESS;
}
