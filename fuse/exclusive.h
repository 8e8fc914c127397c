#pragma once
/*
 * Writing under an exclusive lease: the bytes are at their target, and what a
 * COMMIT would tell the home is held back (common/heldback.h), so that a write
 * to a file that only this mount uses costs no call.
 */
#include "fuse/internal.h"

/* Bytes have landed up to end in the objects of `blocks` (of WireBlocks). True:
 * nobody else needs to know yet; *ret_attr is what the file is now. pages: of
 * pages_writing() before the first byte went. */
bool exclusive_hold_back(Mount *m, uint64_t ino, uint64_t end, const GArray *blocks, uint32_t pages, WireAttr *ret_attr);
/* Before a COMMIT of those blocks: adds what was held back until now, and asks
 * for the lease where it could be of use. */
void exclusive_ask(Mount *m, WireCommitReq *req, const GArray *blocks);
/* After it, with its reply; rep NULL: it failed. */
void exclusive_told(Mount *m, const WireCommitReq *req, const GArray *blocks, const WireAttrRep *rep);

/* Called with the mount's life. */
void exclusive_attach_mount(Mount *m);
void exclusive_detach_mount(Mount *m);
