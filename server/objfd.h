#pragma once
/*
 * Where objects lie (XX/INODE in the objects/ directory) and the bounded cache
 * of their descriptors. A descriptor stays open while it is pinned; the least
 * recently used of the others go first. A coroutine pins one at a time: where
 * all are pinned it waits for one, which could otherwise wait for itself.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/counters.h"
#include "common/reactor.h"
#include "server/pace.h"

typedef struct ObjFds ObjFds;
typedef struct ObjFd ObjFd;

/* dirfd is kept. bound: open descriptors at most, at least 1. */
ObjFds *objfds_new(Reactor *r, Counters *c, Pace *pace, int dirfd, uint32_t bound);
/* Nothing may be pinned. NULL is fine. */
void objfds_free(ObjFds *t);

/* Pins the object of ino, opened once however many ask. create: makes it, or
 * -ESTALE where it was removed before (numbers are never used again, so that
 * is a write that comes too late). Else -ENOENT where there is none. */
int coroutine_fn objfd_co_get(ObjFds *t, uint64_t ino, bool create, ObjFd **ret_f);
void coroutine_fn objfd_co_put(ObjFds *t, ObjFd *f);
int objfd_fd(const ObjFd *f);
/* Unlinks it; what is pinned stays usable. 0 also when there is none. */
int coroutine_fn objfd_co_remove(ObjFds *t, uint64_t ino);
/* The directory entry of ino is on disk when this returns 0. */
int coroutine_fn objfd_co_sync_dir(ObjFds *t, uint64_t ino);
