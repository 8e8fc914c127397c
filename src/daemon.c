#include "src/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct Daemon {
	int ready_fd; /* one byte to it: ready */
};

static int wait_child(pid_t pid, int fd)
{
	char byte;
	int status;
	ssize_t n;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	close(fd);
	if (n == 1)
		return EXIT_SUCCESS;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status)) /* it has said why */
		return WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
	fprintf(stderr, "benchfs: the daemon was killed by signal %d (%s) before it was ready\n",
		WTERMSIG(status), strsignal(WTERMSIG(status)));
	return EXIT_FAILURE;
}

bool daemon_fork(Daemon **ret_daemon, int *ret_status)
{
	int fds[2];
	pid_t parent = getpid();

	*ret_daemon = NULL;
	*ret_status = EXIT_FAILURE;
	pid_t pid = pipe2(fds, O_CLOEXEC) < 0 ? -1 : fork();
	if (pid < 0) {
		fprintf(stderr, "benchfs: cannot start the daemon: %s\n", g_strerror(errno));
		return false;
	}
	if (pid > 0) {
		close(fds[1]);
		*ret_status = wait_child(pid, fds[0]);
		return false;
	}
	close(fds[0]);
	/* Until it is ready the daemon belongs to the command that starts it: who
	 * interrupts or kills that ends both. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	*ret_daemon = g_new0(Daemon, 1);
	(*ret_daemon)->ready_fd = fds[1];
	return true;
}

static void leave_streams(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

void daemon_ready(Daemon *d)
{
	if (!d)
		return;
	prctl(PR_SET_PDEATHSIG, 0);
	setsid();
	leave_streams();
	/* The parent may be gone already; then nobody needs to know. */
	ssize_t n = write(d->ready_fd, "", 1);
	(void)n;
	close(d->ready_fd);
	d->ready_fd = -1;
}

void daemon_free(Daemon *d)
{
	if (!d)
		return;
	if (d->ready_fd >= 0)
		close(d->ready_fd);
	g_free(d);
}

void daemon_raise_nofile(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		g_message("the limit of open files stays as it is: %s, ignoring", g_strerror(errno));
}

bool daemon_write_pid(const char *path, GError **error)
{
	g_autofree char *text = g_strdup_printf("%d\n", getpid());

	if (g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0644, error))
		return true;
	g_prefix_error(error, "cannot write the pid file: ");
	return false;
}
