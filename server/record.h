#pragma once
/*
 * Keys and values of the metadata store. Keys are big-endian and start with
 * the slot of the inode they belong to, so that a slot is a range of keys:
 *
 *   slot:16 'c' ino:64 first:64          chunk-map run
 *   slot:16 'd' dir:64 hash:64 name      dirent; hash: name_hash(), READDIR's order and cookie
 *   slot:16 'i' ino:64                   inode
 *   slot:16 'l' ino:64 session:64 kind:8 owner:64 start:64  lock (lockrecord.h)
 *   slot:16 'm' session:64               session (sessions.h); STORE_SLOT
 *   slot:16 'n' ino:64                   inline data
 *   slot:16 'o' ino:64                   orphan
 *   slot:16 's' name                     counters; those of the whole store: STORE_SLOT
 *   slot:16 'p' session:64 number:64     what a change that spans peers is to do here; STORE_SLOT
 *   slot:16 'q' session:64 number:64     the decision to do one; STORE_SLOT
 *   slot:16 't' ino:64 kind:8            intent (RecordIntentKind)
 *   slot:16 'x' ino:64 name              xattr
 *
 * Values are little-endian and begin with a version byte, RECORD_VERSION.
 */
#include <stddef.h>
#include <stdint.h>

#include "common/ino.h"
#include "common/wire.h"

#define RECORD_VERSION 1

typedef enum RecordType {
	RECORD_CHUNKS = 'c', RECORD_DIRENT = 'd', RECORD_INODE = 'i', RECORD_LOCK = 'l', RECORD_SESSION = 'm', RECORD_INLINE = 'n',
	RECORD_ORPHAN = 'o', RECORD_PREPARED = 'p', RECORD_DECISION = 'q', RECORD_SEQUENCE = 's', RECORD_INTENT = 't', RECORD_XATTR = 'x',
} RecordType;

/* What kind an intent is of. */
typedef enum RecordIntentKind {
	INTENT_TRUNCATE = 3,
} RecordIntentKind;

/* The numbers of a store (RECORD_SEQUENCE, STORE_SLOT), by name. */
#define NUMBER_NEXT_INODE "next-inode" /* sequence numbers below it are taken */
#define NUMBER_INODES "inodes"         /* how many there are */
#define RUNNING "running"              /* no number: a process has it open, or was killed */
#define NUMBER_FIRST_INODE 16u         /* those below are of inodes made by name (the root) */
typedef struct NumberRecord {
	uint8_t version, pad[7];
	uint64_t value;
} NumberRecord;

/* Behind the last slot: what belongs to the store and moves with no slot. */
#define STORE_SLOT SLOT_COUNT

/* Where the number behind slot, type and ino starts. */
#define KEY_TAIL 11
#define KEY_MAX (2 + 1 + 8 + 8 + 256)
typedef struct Key {
	size_t len;
	uint8_t data[KEY_MAX];
} Key;

/* slot and type alone: a prefix. */
Key key_slot(uint16_t slot, RecordType type);
/* slot (from ino), type, ino: a whole key, or a prefix. */
Key key_ino(uint64_t ino, RecordType type);
/* ... and a number behind it. */
Key key_ino_num(uint64_t ino, RecordType type, uint64_t num);
/* ... and bytes behind it. */
Key key_ino_bytes(uint64_t ino, RecordType type, const void *bytes, size_t len);
/* ... and one byte behind it. */
Key key_ino_kind(uint64_t ino, RecordType type, uint8_t kind);
/* slot, type, and a name. */
Key key_slot_name(uint16_t slot, RecordType type, const char *name);
/* STORE_SLOT, type, and who made up the number. */
Key key_txn(RecordType type, uint64_t session, uint64_t number);
/* STORE_SLOT, type, session. */
Key key_session(uint64_t session);
Key key_dirent(uint64_t dir, uint64_t hash, const char *name, size_t name_len);
/* Reads the 64-bit number at offset `at` of a key; 0 when it is too short. */
uint64_t key_get_num(const uint8_t *key, size_t key_len, size_t at);

/* 62 bits, never below 16: cookies 0 to 15 are free for ".", ".." and others. */
uint64_t name_hash(const char *name, size_t name_len);
