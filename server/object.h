#pragma once
/*
 * Objects of this target: sparse local files that hold the chunks of an inode
 * at their file offsets. I/O goes through the ring. Descriptors are cached
 * within a bound kept well under RLIMIT_NOFILE.
 */
#include <glib.h>
#include <stdint.h>

#include "common/counters.h"
#include "common/reactor.h"
#include "server/space.h"

typedef struct Objects Objects;

/* Writes up to this size may be made plainly, on the reactor: see pace.h. */
#define OBJECT_PLAIN_WRITE_MAX (UINT64_C(1) << 20)

/* dirfd: the store's objects/ directory; kept. */
Objects *objects_new(Reactor *r, Counters *c, Space *space, int dirfd);
/* The same with another bound on open descriptors. */
Objects *objects_new_bounded(Reactor *r, Counters *c, Space *space, int dirfd, uint32_t fd_bound);
/* Nothing may be under way. */
void objects_free(Objects *o);

/* Bytes read, fewer where the object ends; 0 when there is no object. */
ssize_t coroutine_fn object_co_read(Objects *o, uint64_t ino, void *buf, size_t len, uint64_t off);
/* Writes all of it or fails; makes the object. *ret_blocks: what it occupies
 * then, 512-byte units. -ENOSPC while the space guard holds. */
int coroutine_fn object_co_write(Objects *o, uint64_t ino, const void *buf, size_t len, uint64_t off, uint64_t *ret_blocks);
/* The cuts that this process has made, and what tells it from the one before:
 * as in WireBlocks. */
uint32_t objects_cuts(const Objects *o, uint16_t *ret_process);
/* Cuts an object to at most size; never makes one. 0 blocks where there is none. */
int coroutine_fn object_co_truncate(Objects *o, uint64_t ino, uint64_t size, uint64_t *ret_blocks);
/* mode as fallocate(2), always with FALLOC_FL_KEEP_SIZE semantics for the
 * file's size, which the home keeps. Punching makes no object. */
int coroutine_fn object_co_fallocate(Objects *o, uint64_t ino, int mode, uint64_t off, uint64_t len, uint64_t *ret_blocks);
/* SEEK_DATA or SEEK_HOLE from off; -ENXIO: no data from there on. */
int coroutine_fn object_co_seek(Objects *o, uint64_t ino, uint64_t off, int whence, uint64_t *ret_off);
int coroutine_fn object_co_fsync(Objects *o, uint64_t ino, bool datasync);
/* Fine when there is none. */
int coroutine_fn object_co_remove(Objects *o, uint64_t ino);
/* Registers OBJ_* with the Rpc. */
struct Rpc;
void objects_attach(Objects *o, struct Rpc *rpc);
