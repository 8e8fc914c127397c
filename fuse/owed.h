#pragma once
/*
 * What this mount owes the homes of locks: to hear that locks are given up.
 *
 * close(2) and the end of a process can't wait for a home that is away, and a
 * lock that its home never hears of again would stay for as long as this mount
 * does. So what could not be told is kept and told when the home is back, in
 * order, and before this mount asks that home for any other lock. Meanwhile
 * nobody else gets the lock: its home is away.
 *
 * A release that is under way counts as well: another lock of the same owner
 * waits for it. The kernel uses the number of an owner again, and a release
 * that is told late must not take the lock of the next one.
 *
 * What is owed when this mount ends is settled by the end of its session.
 */
#include <stdint.h>

#include "common/co.h"
#include "common/wire.h"

struct Mount;
typedef struct Owed Owed;

Owed *owed_new(struct Mount *m);
void owed_free(Owed *o);
/* Tells the home that a lock is given up (F_UNLCK). An error: it could not be
 * told now and is owed. */
int coroutine_fn owed_co_release(Owed *o, const WireLockReq *release);
/* A wait for a lock has failed, and its home may not know: to be cancelled. */
void owed_add_cancel(Owed *o, const WireLockReq *wait);
/* Before a lock call for an owner. -EIO: its home can't be told now. */
int coroutine_fn owed_co_settle(Owed *o, const WireLockReq *lock);
