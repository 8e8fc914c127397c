#pragma once
/*
 * File data: from where it is to where it is wanted, all targets of a request
 * at once.
 */
#include "fuse/internal.h"

/* Reads into buf, whose room is at least data_read_room(len); returns the
 * bytes read, fewer than len at the end of the file only. */
ssize_t coroutine_fn data_co_read(Mount *m, uint64_t ino, void *buf, size_t len, uint64_t off);
size_t data_read_room(size_t len);
/* Returns the bytes written, fewer than len when an error came in between. flags:
 * WIRE_WRITE_*. *ret_attr: what the file is then. */
ssize_t coroutine_fn data_co_write(Mount *m, uint64_t ino, const void *buf, size_t len, uint64_t off, uint32_t flags, WireAttr *ret_attr);
