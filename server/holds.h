#pragma once
/*
 * What changes that span peers hold here from the moment they are prepared
 * until they are settled: names, and the links of inodes. In memory; recovery
 * takes them again from the prepared records before anything is served.
 *
 * That nobody can wait for good:
 * - An inode's mutex is never held while anything is asked of another peer, nor
 *   while waiting for a hold.
 * - A change that holds something waits for another's hold only where it is the
 *   older of the two (wait-die); else it gives back all it has and tries again
 *   with the age it had. Ages differ, so waiting goes from older to younger and
 *   can't come round, and who tries again is the oldest one day.
 * - Everybody else who waits (calls of one peer, readers) holds nothing.
 * - Every wait has an end (HOLDS_WAIT_NS): where a coordinator is away, so that
 *   nobody knows how its change ended, what it holds answers -EIO.
 */
#include "server/internal.h"

/* Below the deadline of a call. */
#define HOLDS_WAIT_NS INT64_C(7000000000)

typedef struct HoldOwner {
	WireTxnId id;
	int64_t age_ns;
	uint64_t session; /* of the mount whose call it is; 0: not known */
	uint64_t serial; /* counts here, by arrival */
	bool decides;    /* the coordinator's own: what is read is not in doubt */
	bool cancelled;  /* waits no longer */
	bool stuck;      /* was decided and can't be done here: nobody waits for it */
	Inode *inodes[4]; /* txn-steps.c: references, changing as long as they are held (leases.h) */
	uint32_t n_inodes;
	uint64_t orphan; /* txn-steps.c: one of them that is not to be reaped (orphans.h); 0: none */
} HoldOwner;

/* hash: of a name in directory ino; 0: the inode's links and parent.
 * removing: and, of a directory, every name in it. */
typedef struct HoldKey {
	uint64_t ino, hash;
	bool removing;
} HoldKey;

void holds_owner_init(Server *s, HoldOwner *o, WireTxnId id, int64_t age_ns);
/* Who holds what conflicts with key, and is not `except` (or NULL); or NULL. */
const HoldOwner *holds_find(Server *s, HoldKey key, const HoldOwner *except);
void holds_add(Server *s, HoldKey key, HoldOwner *owner);
/* Gives back all that owner holds. */
void holds_drop(Server *s, const HoldOwner *owner);
bool holds_is_older(const HoldOwner *a, const HoldOwner *b);
/* Waits until something is given back, a second, or until_ns, which is -EIO as
 * is a server that stops. */
int coroutine_fn holds_co_wait_once(Server *s, int64_t until_ns);
/* For readers: until whoever held it when the call began has been settled. Who
 * comes later can't have ended before, and need not be waited for. */
int coroutine_fn holds_co_wait_settled(Server *s, HoldKey key);
/* Wakes who waits, to look again. */
void holds_wake(Server *s);
bool holds_have_waiters(Server *s);
