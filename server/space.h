#pragma once
/*
 * Free space of the store's file system, and the guard that answers ENOSPC
 * while less than the reserve is left, so that RocksDB never meets a full disk
 * and deleting always works.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"

typedef struct Space Space;

/* fd: anything in the store, borrowed. reserve_bytes 0: 1 % of the file system,
 * at least 16 MiB and at most 1 GiB. */
Space *space_new(int fd, uint64_t reserve_bytes);
void space_free(Space *s);
/* May `bytes` more be written? Cheap: asks the kernel only every so often, or
 * always when it gets tight. 0 or -ENOSPC. */
int space_take(Space *s, uint64_t bytes);
/* After a delete: look again at the next space_take(). */
void space_refresh(Space *s);
/* What df shows of this store; inode counts left 0. */
void space_statfs(Space *s, WireStatfsRep *ret);
