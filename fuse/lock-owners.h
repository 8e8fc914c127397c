#pragma once
/*
 * Which lock owners have set fcntl locks through this mount and not surely
 * given them up, so that closing a file asks the home to release them only
 * when there may be some.
 *
 * An owner is what the kernel names so: a process (its table of descriptors),
 * released by FLUSH, or, for OFD locks, an open file, which has no FLUSH of
 * its own: it is released by the RELEASE of the handle it was set through.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct LockOwners LockOwners;

LockOwners *lock_owners_new(void);
void lock_owners_free(LockOwners *o);
void lock_owners_add(LockOwners *o, uint64_t ino, uint64_t owner, uint64_t fh);
/* Takes it out; true when it was there. */
bool lock_owners_take(LockOwners *o, uint64_t ino, uint64_t owner);
/* Takes out one that was added with this handle; true when there was any. */
bool lock_owners_take_by_handle(LockOwners *o, uint64_t ino, uint64_t fh, uint64_t *ret_owner);
uint32_t lock_owners_size(const LockOwners *o);
