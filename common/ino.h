#pragma once
/*
 * Inode numbers and slots.
 *
 * An inode number is slot (16 bits) | sequence (48 bits) and is never reused.
 * The kernel's node id is the inode number, so the root, slot 0 sequence 1,
 * must be 1, which is what FUSE calls its root (FUSE_ROOT_ID).
 */
#include <stdbool.h>
#include <stdint.h>

#define SLOT_COUNT 4096u
#define INO_SEQ_BITS 48
#define INO_SEQ_MASK ((UINT64_C(1) << INO_SEQ_BITS) - 1)
#define INO_ROOT UINT64_C(1)

static inline uint64_t ino_make(uint16_t slot, uint64_t seq)
{
	return (uint64_t)slot << INO_SEQ_BITS | (seq & INO_SEQ_MASK);
}

static inline uint16_t ino_slot(uint64_t ino)
{
	return (uint16_t)(ino >> INO_SEQ_BITS);
}

static inline uint64_t ino_seq(uint64_t ino)
{
	return ino & INO_SEQ_MASK;
}

/* A number a peer or the kernel sent can only be looked at when this holds. */
static inline bool ino_valid(uint64_t ino)
{
	return ino_slot(ino) < SLOT_COUNT && ino_seq(ino) != 0;
}

/*
 * The part of a directory that holds a name. Every directory has one part,
 * the one in its own slot, today; every access to a name goes through here so
 * that a big directory can be split over slots by the hash of the name.
 */
static inline uint64_t dir_part(uint64_t dir, uint64_t name_hash)
{
	(void)name_hash;
	return dir;
}
