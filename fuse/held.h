#pragma once
/*
 * The leases that this mount holds, and what it keeps under them: attributes of
 * inodes and names in directories, so that what nobody changes is asked once.
 * Memory only; what goes to the kernel and to homes is in recall.h.
 *
 * A grant counts when nothing has happened to its inode since the request was
 * sent that brought it: no recall, no change of our own, no loss of touch with
 * the home (rpc.h). So a recall that overtakes the grant it is about wins, and
 * homes need not number either of them. What happened last is kept by a hash of
 * the number, so now and then a grant is refused for another inode's sake.
 *
 * Bounded; the inodes that were used least recently go.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"

typedef struct Held Held;

typedef struct HeldOptions {
	uint32_t max_inodes, max_names;
	/* as rpc_lease_term() and rpc_lease_until_ns() */
	uint64_t (*term)(void *arg, uint16_t home);
	int64_t (*until_ns)(void *arg, uint16_t home, uint64_t term);
	/* an inode goes of which the kernel may have attributes */
	void (*untold)(void *arg, uint64_t ino);
	/* ... a directory, of which it may have names: it is to forget all names */
	void (*untold_names)(void *arg);
	/* ... of whose listing it may have something */
	void (*untold_listing)(void *arg, uint64_t dir);
	void *arg;
} HeldOptions;

Held *held_new(const HeldOptions *opts);
void held_free(Held *h);

/* ---- grants ---- */

/* What was the case when a request was sent. */
typedef struct HeldAsk {
	uint64_t event, term;
	uint16_t home;
} HeldAsk;
HeldAsk held_ask(Held *h, uint16_t home);

/* The home has granted a lease on attr->ino, or, without attributes, on ino.
 * False: it does not count. */
bool held_grant(Held *h, const HeldAsk *ask, const WireAttr *attr);
bool held_grant_bare(Held *h, const HeldAsk *ask, uint64_t ino);

/* What is kept of an inode, valid until the next call here or yield; NULL: it
 * must be asked. */
const WireAttr *held_attr(Held *h, uint64_t ino);
/* A read of ours has moved its atime, which recalls nothing. attr: what the home
 * has now; ignored where that is not otherwise what is kept. */
void held_set_atime(Held *h, const WireAttr *attr);
/* An exclusive lease, granted with what was just kept: valid until the next call
 * here or yield. */
typedef struct HeldExclusive {
	int64_t base_ns;   /* mtime with which it was granted */
	WireBlocks blocks; /* of the only object that writes under it may go to */
} HeldExclusive;
/* Ignored where *attr, of the reply that granted it, is not what is kept. */
void held_grant_exclusive(Held *h, const WireAttr *attr, const WireBlocks *blocks);
/* NULL: none is held. */
HeldExclusive *held_exclusive(Held *h, uint64_t ino);
/* A write of ours under it made the file that. */
void held_set_written(Held *h, const WireAttr *attr);
/* It becomes a shared one. */
void held_end_exclusive(Held *h, uint64_t ino);
/* Until when the lease lasts without further word, CLOCK_MONOTONIC in ns;
 * 0: there is none. */
int64_t held_until_ns(Held *h, uint64_t ino);

/* ---- names, of directories with a lease ---- */

typedef struct HeldName {
	uint64_t ino, cookie; /* ino 0: there is no such name; cookie 0: not known */
	uint32_t mode;        /* type bits */
	uint16_t len;
	char text[];
} HeldName;

/* NULL: must be asked. */
const HeldName *held_name(Held *h, uint64_t dir, const char *name, size_t len);
/* Both right after a grant of dir that counted. ino 0: there is no such name. */
void held_put_name(Held *h, uint64_t dir, const char *name, size_t len, uint64_t ino, uint32_t mode);
/* The names of a directory in the order of their cookies, read in portions:
 * `from` is the cookie that a portion was asked with. Ignored where it does not
 * continue what is kept. */
void held_put_listing(Held *h, uint64_t dir, uint64_t from, GPtrArray *names, bool eof);
/* The kept names behind a cookie, *ret_n of them: none at the end of the
 * directory. NULL where the listing is not kept that far. */
HeldName *const *held_listing(Held *h, uint64_t dir, uint64_t cookie, uint32_t *ret_n);
HeldName *held_name_new(const char *name, size_t len, uint64_t ino, uint32_t mode, uint64_t cookie);

/* ---- what happens ---- */

/* The home recalls: forgotten, and grants that are under way do not count. */
void held_recall(Held *h, uint64_t ino);
/* A change of ours of up to two inodes, all at one home. Nothing is kept of them
 * from its beginning to its end; what its own reply grants then counts, unless
 * there was a recall or another change of ours meanwhile. */
typedef struct HeldChange {
	uint64_t inos[2];
	uint32_t n;
	HeldAsk asks[2]; /* for grants of the reply, after held_end() */
} HeldChange;
void held_begin(Held *h, uint16_t home, HeldChange *c);
void held_end(Held *h, HeldChange *c);

/* ---- what the kernel has ---- */

/* Its attributes, as kept, are on their way to the kernel, for it to keep. */
void held_tell(Held *h, uint64_t ino);
/* The same for attributes that were asked for a while ago. False: the kernel must
 * not keep them. Either they are not what is kept, or of a file that others change
 * just now: taking back what the kernel keeps makes it ignore all attributes that
 * are on their way to it, so who reads on would read with the old size. */
bool held_tell_attr(Held *h, const WireAttr *attr);
/* Has another mount changed it, or begun to, within the last second? */
bool held_is_hot(const Held *h, uint64_t ino);
/* When that was last done; 0: it has none of them. No two times are the same. */
uint64_t held_told(Held *h, uint64_t ino);
/* The same for a name in a directory, or, with ino 0, that there is none of that
 * name. False: this is not what is kept. */
bool held_tell_name(Held *h, uint64_t dir, const char *name, size_t len, uint64_t ino);
/* The lease on an inode, by a number that no other ever has; 0: there is none. */
uint64_t held_lease(Held *h, uint64_t ino);
/* A part of a directory's listing, as kept. */
void held_tell_listing(Held *h, uint64_t dir);
/* Its attributes were shown to the kernel, kept or not: pages that it has are
 * as new as that. */
void held_show(Held *h, const WireAttr *attr);
/* Are the pages that the kernel has of it good? */
bool held_pages_good(Held *h, uint64_t ino);

/* Inodes and names that are kept, and how often what was asked was there. */
typedef struct HeldStats {
	uint64_t inodes, names, hits, misses, refused;
} HeldStats;
const HeldStats *held_stats(const Held *h);
