#pragma once
/*
 * Directories whose name lives on another peer: this side has the inode.
 * DIR_PREPARE makes it, or marks it as dying, together with a durable intent;
 * DIR_FINISH says how the name's home decided. Where nobody says (a crash, a
 * lost peer), this side asks whether the parent has a name for it, which is
 * the decision, until it gets an answer.
 */
#include "server/internal.h"

/* The other side's part: tells the inode's home how it ended. Best effort. */
void coroutine_fn intents_co_tell(Server *s, uint64_t ino, uint32_t kind, bool commit);
/* The same with commit true, behind. */
void intents_tell_behind(Server *s, uint64_t ino, uint32_t kind);
