#pragma once
/* What the two halves of the scan share. Nobody else includes it. */
#include <rocksdb/c.h>

#include "server/fsck.h"
#include "server/record.h"

/* Problems told of one inode in one piece; the rest is counted. */
#define SCAN_PROBLEMS_MAX 16u
/* What is kept free at the end of a piece for the inode that is the last. */
#define SCAN_SLACK (FSCK_PIECE / 4)

typedef struct Scan {
	const FsckSource *src;
	WireFsckPlace *place;
	GByteArray *out;
	size_t limit;
	const rocksdb_snapshot_t *snapshot;
	rocksdb_readoptions_t *options;
	uint32_t problems; /* of the inode at hand */
	char *error;       /* the first that an iterator met */
} Scan;

rocksdb_iterator_t *scan_iterator(Scan *s);
/* Frees it; what it met is kept in s->error. */
void scan_iterator_end(Scan *s, rocksdb_iterator_t *it);
/* No room for one more inode, name or object. */
bool scan_is_full(const Scan *s);
void scan_add(Scan *s, FsckFact fact, const void *tail, size_t tail_len);
void scan_problem(Scan *s, uint64_t ino, int64_t ctime_ns, const char *format, ...) G_GNUC_PRINTF(4, 5);

/* Is it the key of a name, as the directory of its ino would make it? */
bool scan_name_is_sound(const uint8_t *key, size_t key_len);

/* fsck-inode.c: everything of the records of inodes, from the place on. */
void scan_inodes(Scan *s);
