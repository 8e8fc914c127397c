#pragma once
/*
 * Chunk arithmetic: which target has which part of a byte range. Pure
 * functions over runs that a home gave us.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/map.h"
#include "common/wire.h"

/* A maximal range of bytes that lies in consecutive chunks of one target;
 * PEER_NONE: a hole, chunks that have no target. */
typedef struct Piece {
	uint64_t off, len;
	uint16_t target;
} Piece;

/* Chunk sizes a home may speak of: 4 KiB to 1 TiB. */
bool pieces_shift_valid(uint32_t chunk_shift);
/* Runs as a peer sent them: in order, not empty, not overlapping, targets
 * below n_peers, no arithmetic that wraps. */
bool pieces_runs_valid(const WireRun *runs, uint32_t n, uint32_t n_peers);
/* The target of a chunk; PEER_NONE when no run has it. */
uint16_t pieces_target(const WireRun *runs, uint32_t n, uint64_t chunk);
/* Splits [off, off+len), len > 0, off+len no more than INT64_MAX; ret_pieces: an array of Piece. Returns
 * whether every byte has a target. */
bool pieces_split(const WireRun *runs, uint32_t n, uint32_t chunk_shift, uint64_t off, uint64_t len, GArray *ret_pieces);
