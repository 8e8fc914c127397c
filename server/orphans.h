#pragma once
/*
 * Inodes that have lost their last name. Whoever has one open keeps it alive:
 * the home asks every session, and again when one says that it has closed it,
 * or ends. Objects go first, then the records, so that nothing is left without
 * an owner; what can't be removed now (a target is away) is tried again.
 */
#include "server/internal.h"

/* True when every session there is has just said that it has ino not open
 * (and will not open it by its number any more): asks only where that costs
 * no message. Where the last name then stays after all: orphans_co_unask(). */
bool coroutine_fn orphans_co_surely_closed(Server *s, uint64_t ino);
void coroutine_fn orphans_co_unask(Server *s, uint64_t ino);
/* Adds what makes d an orphan: flag and record. Then, after the commit, with
 * the inode unlocked: orphans_co_reap(). */
void orphans_add_to_batch(MetaBatch *b, InodeData *d);
/* Deletes it at once where all it needs is in this process, else behind. */
void coroutine_fn orphans_co_reap(Server *s, uint64_t ino);
