#pragma once
/*
 * Becoming a daemon. The fork comes before any thread, ring or descriptor that
 * matters; the parent waits until the child is ready, so that the command
 * returns when the mount answers, with the child's exit status when it fails.
 */
#include <glib.h>
#include <stdbool.h>

typedef struct Daemon Daemon;

/* Forks. In the child: returns true. In the parent: waits until the child is
 * ready or has ended, sets *ret_status (of exit(3)) and returns false. */
bool daemon_fork(Daemon **ret_daemon, int *ret_status);
/* The child is ready: the parent ends with 0, and the child leaves session,
 * terminal and standard streams. daemon NULL (foreground) is fine. */
void daemon_ready(Daemon *d);
void daemon_free(Daemon *d);

/* Raises the soft limit of open files to the hard one. */
void daemon_raise_nofile(void);
/* Writes the process id; a sentence on errors. */
bool daemon_write_pid(const char *path, GError **error);
