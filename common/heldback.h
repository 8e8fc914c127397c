#pragma once
/*
 * What this peer's mount holds back of files of other homes under an exclusive
 * lease: the size, times and blocks that its writes have made, whose bytes are
 * at their target already. The home learns of it when it asks (HELD_BACK), with
 * the mount's next COMMIT of the file, and after HELDBACK_NS by itself (SETTLE),
 * which ends the lease, also where nothing was held back under it.
 *
 * Each file of which a home may think that we have the lease has a slot in a
 * mapped file of the store, which survives the process: what follows finds it
 * there, and the home, whose record of the inode says who may hold something
 * back, answers nobody else before it has asked. The order of the stores into a
 * slot makes a process that is killed between two of them leave what was before
 * or after its write. A power failure may take what no fsync has settled, as on
 * any file system.
 *
 *   free --ask--> asked --granted--> granted --put--> held --granted--> granted
 *   asked, granted, held --SETTLE was answered--> free
 *
 * While one is being settled, or nobody knows whether it was, the lease is not
 * asked for, and the other way round, so neither can overtake the other.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/counters.h"
#include "common/rpc.h"

#define HELDBACK_NS INT64_C(500000000)
#define HELDBACK_SLOTS 4096u

typedef struct HeldBack HeldBack;

/* Opens or makes the file of a store in use by nobody else. The error is a
 * sentence. */
HeldBack *heldback_new(Rpc *rpc, Counters *counters, const char *store, GError **error);
void heldback_free(HeldBack *h);
/* Who keeps leases: told, without a yield, that a home has ended the exclusive
 * lease and whatever else is kept of an inode, or that the exclusive one is
 * about to be settled. */
typedef struct HeldBackUser {
	void (*recalled)(void *arg, uint64_t ino);
	void (*settling)(void *arg, uint64_t ino);
	void *arg;
} HeldBackUser;
void heldback_set_user(HeldBack *h, const HeldBackUser *user);
/* Once calls may be made: settles what an older process has left. */
void heldback_start(HeldBack *h);
/* Settles what can be settled; what homes that are away should know is for the
 * next process, after a few seconds, however many files it is. */
void coroutine_fn heldback_co_stop(HeldBack *h);

/* Before a COMMIT that asks for the lease: a slot. False: not now. Each true
 * one is followed by heldback_granted() or heldback_failed(). */
bool heldback_ask(HeldBack *h, uint64_t ino);
/* The COMMIT was done, and with it what was held back before. state: the file's
 * now, with base_ns and mtime_ns alike; the lease may be ours. */
void heldback_granted(HeldBack *h, const WireHeldBack *state);
/* It was not, or nobody knows. */
void heldback_failed(HeldBack *h, uint64_t ino);
/* Holds back, in place of what was held back of the same inode. False: there is
 * no lease of that base, or it is about to end. */
bool heldback_put(HeldBack *h, const WireHeldBack *held);
/* What is held back of an inode; ino 0: nothing. */
WireHeldBack heldback_get(const HeldBack *h, uint64_t ino);
/* Its home knows; ignored where the slot says something else by now, and while
 * it is being asked for or settled, whose end gives the slot back. */
void heldback_drop(HeldBack *h, const WireHeldBack *held);
/* The HELDBACK_SLOTS slots of a store's file, which may be in use, for who checks
 * it; to be freed. NULL: there is no file, or nothing was written to it yet.
 * -EINVAL: it is none of these. Blocks. */
int heldback_read(int storefd, WireHeldBack **ret_slots);
/* Was anything held back under that lease? */
bool heldback_any(const WireHeldBack *held);
/* Could that have been held back? Numbers that make no sense: false. */
bool heldback_valid(const WireHeldBack *held, uint64_t ino, uint32_t peers);
