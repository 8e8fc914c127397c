#pragma once
/* Calls to the targets of an inode's objects, all at once. */
#include "server/internal.h"
#include "server/runs.h"

typedef struct TargetCall {
	uint16_t target;
	WireObjReq req;
	WireObjRep rep;
	int r; /* the result */
} TargetCall;

/* Sends them all and waits for all; at most 64 are under way. Returns the
 * first one's error in order, or 0. */
int coroutine_fn targets_co_call(Server *s, WireOp op, TargetCall *calls, size_t n);
/* The peers that may hold an object of d's inode, one call filled with *req
 * for each; to be freed. runs may be NULL: what the table of blocks says. */
TargetCall *targets_of(const InodeData *d, const Runs *runs, const WireObjReq *req, size_t *ret_n);
/* Takes the blocks that the successful calls answered into d. */
void targets_note_blocks(InodeData *d, const TargetCall *calls, size_t n);
