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
/* The reverse, for a file that gets a name. */
void orphans_remove_from_batch(MetaBatch *b, InodeData *d);
/* A file made without a name, after its batch. It lives while its maker has it
 * open; in case word of that is lost it is asked for after a while. */
void orphans_add_nameless(Server *s, uint64_t ino);
/* Keeps an orphan from being reaped until orphans_release(). 1, or 0: it is none
 * any more. The first does not wait while it is being asked for, or is held:
 * -EAGAIN. The second does, and ends with -EIO where a change that spans peers
 * holds it for too long. */
int orphans_hold(Server *s, uint64_t ino);
int coroutine_fn orphans_co_hold(Server *s, uint64_t ino);
/* named: it is no orphan any more; else it is asked for again. */
void orphans_release(Server *s, uint64_t ino, bool named);
/* A held one is to get a name: tells the session that asks for it (0: not known),
 * and those that were asked for the orphan. 0 or -errno; -EAGAIN: that session
 * is not known to this process (yet). */
int coroutine_fn orphans_co_unask_all(Server *s, uint64_t ino, uint64_t caller);
/* Deletes it at once where all it needs is in this process, else behind. */
void coroutine_fn orphans_co_reap(Server *s, uint64_t ino);
