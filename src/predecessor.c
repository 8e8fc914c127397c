#include "src/predecessor.h"

#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/autoclose.h"
#include "server/store.h"
#include "src/mounts.h"
#include "src/runlock.h"

#define WAIT_US (INT64_C(10) * G_USEC_PER_SEC)

static bool is_mounted(const char *mountpoint)
{
	g_autoptr(MountEntry) e = mounts_find(mountpoint);

	return e && e->is_benchfs;
}

/* One that is only about to mount looks the same, until it has. */
static void wait_end(int pidfd, int mountinfo, const char *mountpoint)
{
	struct pollfd p[] = { { .fd = pidfd, .events = POLLIN }, { .fd = mountinfo, .events = POLLPRI } };
	int64_t until = g_get_monotonic_time() + WAIT_US, now;

	while (!is_mounted(mountpoint) && (now = g_get_monotonic_time()) < until) {
		/* a signal: we are asked to end */
		if (poll(p, G_N_ELEMENTS(p), (int)((until - now) / 1000) + 1) < 0 || p[0].revents)
			return;
	}
}

void predecessor_wait(const char *mountpoint, const char *store)
{
	pid_t pid = store_user(store);
	/* before the first look, so that no change is missed */
	autoclose int mountinfo = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);

	if (pid == 0 || pid != runlock_owner(mountpoint) || is_mounted(mountpoint))
		return;
	autoclose int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return;
	g_message("process %d has lost its mount and still uses store %s: waiting for its end", (int)pid, store);
	wait_end(pidfd, mountinfo, mountpoint);
}
