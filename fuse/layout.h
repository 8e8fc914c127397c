#pragma once
/*
 * The layout cache: which runs homes have told this mount, so that a later
 * read or write goes to the targets at once. A chunk keeps its target for
 * life and numbers are never reused, so what is here is never wrong, only
 * incomplete. Bounded; the least recently used inodes go.
 *
 * Beside the runs it remembers a size the file is known to have had: bytes
 * below it have landed in the objects (see data.c).
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"
#include "fuse/pieces.h"

typedef struct Layouts Layouts;

/* At most max_runs runs are kept over all inodes; n_peers: what targets are
 * checked against. */
Layouts *layouts_new(uint32_t max_runs, uint32_t n_peers);
void layouts_free(Layouts *l);
/* Merges runs of a reply. -EPROTO, nothing remembered, when they are not
 * valid. */
int layouts_add(Layouts *l, uint64_t ino, uint32_t chunk_shift, const WireRun *runs, uint32_t n);
/* Splits [off, off+len), len > 0, when every byte of it has a known target;
 * else false. */
bool layouts_split(Layouts *l, uint64_t ino, uint64_t off, uint64_t len, GArray *ret_pieces);
/* log2 of the chunk size; 0 where nothing is known. */
uint32_t layouts_chunk_shift(Layouts *l, uint64_t ino);
/* The size last heard of; 0 where nothing is known. */
uint64_t layouts_size(Layouts *l, uint64_t ino);
/* Does nothing for an inode that has no runs here. */
void layouts_set_size(Layouts *l, uint64_t ino, uint64_t size);
/* One more COMMIT of an inode: how many there were; 0 where it has no runs here. */
uint32_t layouts_count_commit(Layouts *l, uint64_t ino);
void layouts_drop(Layouts *l, uint64_t ino);
uint32_t layouts_count_runs(const Layouts *l);
