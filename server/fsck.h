#pragma once
/*
 * Checking stores, in two halves that know nothing of each other.
 *
 * The scan (fsck-scan.c, fsck-inode.c) goes through one store, whose database
 * may be in use, and tells facts: each inode, each name, each object, and each
 * thing that is wrong with the records of one inode by themselves. It works in
 * pieces and remembers nothing between two: a piece is read from one snapshot
 * and ends with the place where the next one begins. What belongs to one inode
 * is never split.
 *
 * The judge (fsck-judge.c) takes the facts of as many stores as it is given and
 * finds what does not fit together: names and inodes, inodes and objects.
 *
 * `benchfs fsck` on stores that nobody uses runs both; on a mount it fetches
 * the facts of each peer by the operation FSCK (fsck-serve.c).
 *
 * Every byte of a store may be wrong: nothing here trusts one.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"

struct rocksdb_t;

/* ---- facts ---- */

typedef enum FsckKind { FSCK_INODE = 1, FSCK_NAME, FSCK_OBJECT, FSCK_PROBLEM, FSCK_UNSETTLED, FSCK_HELD } FsckKind;

/* What all have in common is `ino`; which of the others say something depends
 * on the kind. Behind it: tail_len bytes, then zeros up to a multiple of 8. */
typedef struct FsckFact {
	uint16_t kind, tail_len;
	uint32_t flags;       /* INODE: FSCK_* */
	uint64_t ino;         /* PROBLEM: 0: of the store as such */
	uint64_t dir;         /* INODE: the parent of a directory; NAME: where it is */
	int64_t ctime_ns;     /* INODE, PROBLEM (0: not known) */
	int64_t mtime_ns;     /* INODE */
	uint32_t mode, nlink; /* INODE; NAME: mode's type bits */
	uint64_t length;      /* OBJECT: bytes */
	/* tail: INODE: FsckTarget[]; NAME: the name; PROBLEM: the sentence;
	 * UNSETTLED: numbers of inodes (u64) that an unfinished change is about;
	 * HELD: WireHeldBack, what the store's mount holds back */
} FsckFact;

enum { FSCK_UNREADABLE = 1 << 0, /* there is an inode, nothing else is known */
       FSCK_EXCLUSIVE = 1 << 1 };/* bits 16 and up: the peer with an exclusive lease */

/* An object of the inode, as the inode's home sees it. */
typedef struct FsckTarget {
	uint64_t blocks;
	uint64_t end; /* no byte can be at or behind this offset */
	uint16_t target, pad[3];
} FsckTarget;

/* The most bytes of a piece when it comes through an extended attribute. */
#define FSCK_PIECE 65536u

/* ---- scanning ---- */

typedef struct FsckSource {
	struct rocksdb_t *db;
	int storefd;         /* the store's directory */
	uint16_t self;
	uint32_t peers;
} FsckSource;

typedef enum FsckStage { FSCK_STAGE_STORE, FSCK_STAGE_INODES, FSCK_STAGE_NAMES, FSCK_STAGE_OBJECTS,
			 FSCK_STAGE_HELD, FSCK_STAGE_END } FsckStage;

/* Appends the facts from *place on to out, `limit` bytes at most (at least
 * FSCK_PIECE / 2), and moves *place on; stage END: that was all. A place may be
 * anything. Blocks. 0, -EINVAL: no such stage, or -EIO with *ret_why. */
int fsck_scan(const FsckSource *src, WireFsckPlace *place, GByteArray *out, size_t limit, char **ret_why);
/* Does a come behind b? Who does not come on would keep its caller for ever. */
bool fsck_place_is_behind(const WireFsckPlace *a, const WireFsckPlace *b);

/* ---- judging ---- */

typedef struct FsckJudge FsckJudge;
typedef struct FsckProblem {
	uint64_t ino;
	uint64_t stamp; /* changes whenever what the problem is about changes */
	uint16_t peer;  /* of which store, where ino is 0 */
	char *text;     /* without the inode */
	char *path;     /* for people; NULL: none leads there */
} FsckProblem;

typedef struct FsckCounts {
	uint64_t inodes, names, objects, orphans, changing;
} FsckCounts;

FsckJudge *fsck_judge_new(uint32_t peers);
void fsck_judge_free(FsckJudge *j);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FsckJudge, fsck_judge_free)
/* Facts of a peer's store. false: they are not in their form. */
bool fsck_judge_take(FsckJudge *j, uint16_t peer, const uint8_t *facts, size_t len);
/* All of the peer's facts were taken: what is missing now is missing. */
void fsck_judge_complete(FsckJudge *j, uint16_t peer);
/* What is wrong, in order: by inode, then text. Once. The judge owns it. */
const GPtrArray *fsck_judge_problems(FsckJudge *j);
const FsckCounts *fsck_judge_counts(const FsckJudge *j);
FsckProblem *fsck_problem_copy(const FsckProblem *p);
void fsck_problem_free(FsckProblem *p);
/* The order, for g_ptr_array_sort(). */
int fsck_problem_compare(const void *a, const void *b);
/* "inode 0x1 '/': ..."; to be freed. */
char *fsck_problem_format(const FsckProblem *p);

/* ---- stores that nobody uses ---- */

typedef struct FsckStore FsckStore;

/* Opens a store to read, under its lock; changes nothing. Error: in use, not a
 * store, or what is wrong with it. */
FsckStore *fsck_store_open(const char *path, GError **error);
void fsck_store_close(FsckStore *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FsckStore, fsck_store_close)
const char *fsck_store_path(const FsckStore *s);
uint16_t fsck_store_peer(const FsckStore *s);
uint32_t fsck_store_peers(const FsckStore *s);
/* Of one cluster? */
bool fsck_store_belongs(const FsckStore *s, const FsckStore *other);
/* Gives the judge all facts of the store. */
bool fsck_store_tell(FsckStore *s, FsckJudge *j, GError **error);
