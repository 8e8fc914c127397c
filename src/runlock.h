#pragma once
/*
 * Which process serves a mount, without asking the mount, which may need peers
 * that are down to answer: the daemon holds a record lock on a file in the
 * runtime directory that is named after the mount point, and the kernel knows
 * who holds it. A daemon that was killed holds nothing.
 */
#include <sys/types.h>

typedef struct Runlock Runlock;

/* Best effort: NULL where there is no runtime directory, or somebody else's
 * lock. mountpoint as mounts_resolve() makes it. */
Runlock *runlock_take(const char *mountpoint);
/* Removes the file. NULL is fine. */
void runlock_release(Runlock *l);
/* 0: nobody. */
pid_t runlock_owner(const char *mountpoint);
/* Removes the file that a dead daemon left. */
void runlock_forget(const char *mountpoint);
