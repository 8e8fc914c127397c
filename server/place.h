#pragma once
/* Where new chunks go. Pure arithmetic: what it knows of the cluster is in
 * Place. */
#include <stdbool.h>
#include <stdint.h>

#include "server/runs.h"

/* The most chunks assigned ahead of a sequential writer. */
#define PLACE_WINDOW_MAX 256u

typedef struct Place {
	uint64_t ino;
	uint8_t policy;      /* WIRE_POLICY_* */
	uint8_t chunk_shift;
	uint16_t peers;      /* all of them: 0 .. peers-1 */
	uint16_t writer;     /* a peer, or PEER_NONE */
	uint16_t self;       /* the home */
	bool self_full;      /* its store has no room for a chunk */
} Place;

/* The target that a chunk gets under policy local. */
uint16_t place_local_target(const Place *p);
/* A run for the gap [first, first+count): all of it, and more behind it where
 * that pays, as far as `room` (>= count) chunks from first are unassigned.
 * before: the run that ends at first, or NULL. */
WireRun place_run(const Place *p, const WireRun *before, uint64_t first, uint64_t count, uint64_t room);
