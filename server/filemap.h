#pragma once
/*
 * The chunk maps of this home: read from the store, cached within a bound,
 * extended. Assignments never change: a truncation keeps them, so that what a
 * mount remembers of a map can be incomplete but never wrong.
 */
#include "server/internal.h"
#include "server/runs.h"

FileMaps *filemaps_new(Server *s);
void filemaps_free(FileMaps *m);

/* Reads a record of a map; run_valid() is still to be asked. */
bool filemap_decode_run(const uint8_t *key, size_t key_len, const uint8_t *value, size_t len, WireRun *ret_run);
/* The map of d's inode, as a reference. -EIO: its records make no sense. */
int coroutine_fn filemap_co_get(Server *s, const InodeData *d, Runs **ret_runs);
/* Assigns what has no target in [first, first+count), and more ahead. Adds the
 * records to the batch, the targets to d; the new map is for filemap_publish()
 * after the commit. NULL: nothing was missing. */
Runs *filemap_extend(Server *s, MetaBatch *b, InodeData *d, const Runs *runs, uint16_t writer, uint64_t first,
	uint64_t count);
/* Takes over the reference. The inode's mutex is held. */
void filemap_publish(Server *s, uint64_t ino, Runs *runs);
/* After the end of an inode. */
void filemap_forget(Server *s, uint64_t ino);
