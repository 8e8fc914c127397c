#pragma once
/*
 * The chunk map of one inode as a value: runs in order of their first chunk,
 * none overlapping, neighbours that continue each other merged. A Runs never
 * changes once shared, so whoever holds a reference may yield with it.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/map.h"
#include "common/wire.h"

typedef struct Runs {
	int refs;
	uint32_t n, cap;
	WireRun *v;
} Runs;

Runs *runs_new(void);
Runs *runs_ref(Runs *r);
void runs_unref(Runs *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Runs, runs_unref)
Runs *runs_copy(const Runs *r);

/* ---- arithmetic ---- */

static inline uint64_t chunk_of(uint64_t off, uint8_t shift)
{
	return off >> shift;
}

/* How many chunks the bytes [off, off+len) touch; len > 0, no overflow. */
static inline uint64_t chunk_count(uint64_t off, uint64_t len, uint8_t shift)
{
	return ((off + len - 1) >> shift) - (off >> shift) + 1;
}

/* The highest chunk that a file can have. */
static inline uint64_t chunk_last(uint8_t shift)
{
	return (uint64_t)INT64_MAX >> shift;
}

static inline bool run_has(const WireRun *run, uint64_t chunk)
{
	return chunk >= run->first && chunk - run->first < run->count;
}

static inline uint64_t run_end(const WireRun *run)
{
	return run->first + run->count;
}

/* Where a chunk of the run is. */
uint16_t run_target(const WireRun *run, uint64_t chunk);
/* How many chunks from `chunk` on follow each other on its target. */
uint64_t run_same_target(const WireRun *run, uint64_t chunk);
/* What a record or a peer says can only be looked at when this holds. */
bool run_valid(const WireRun *run, uint8_t shift);

/* ---- looking ---- */

/* The run that holds a chunk, or NULL. */
const WireRun *runs_find(const Runs *r, uint64_t chunk);
/* Index of the first run that ends behind chunk; n where there is none. */
uint32_t runs_index(const Runs *r, uint64_t chunk);
/* The first stretch of [first, first+count) without a target; false: none. */
bool runs_next_gap(const Runs *r, uint64_t first, uint64_t count, uint64_t *ret_first, uint64_t *ret_count);
/* True when no chunk of the range is on another peer than `peer`. */
bool runs_all_on(const Runs *r, uint64_t first, uint64_t count, uint16_t peer);
/* The peers that hold any of it: sets a bit of `set` (PEER_MAX bits) for each. */
void runs_targets(const Runs *r, uint64_t set[PEER_MAX / 64]);

/* ---- changing: only while nobody else has a reference ---- */

/* Appends a run read from the store, in order; false when it does not fit. */
bool runs_append(Runs *r, const WireRun *run);
/* Adds a run that overlaps none. *ret_merged is what is to be recorded under
 * its first chunk; the record of *ret_dropped, where not UINT64_MAX, goes. */
void runs_insert(Runs *r, const WireRun *run, WireRun *ret_merged, uint64_t *ret_dropped);
