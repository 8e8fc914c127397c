#pragma once
/*
 * Locks in the store, so that they outlive this process where the mounts that
 * hold them do. Each range is a record of its own: of a thousand ranges of one
 * owner a change writes those few that it touches. The session comes early in
 * the key, since what a session has goes as one.
 *
 * Locks of this process's own mount are in memory alone: they end with it.
 */
#include "common/wire.h"
#include "server/lockset.h"
#include "server/meta.h"

/* What applying `range` to `set` changes, to be written first. False: nothing. */
bool lock_records_change(MetaBatch *b, uint64_t ino, WireLockKind kind, const LockSet *set, const LockRange *range);
void lock_record_put(MetaBatch *b, uint64_t ino, WireLockKind kind, const LockRange *range);
/* Deletes all of a session's on an inode, and of all sessions. */
void lock_records_delete_session(MetaBatch *b, uint64_t ino, uint64_t session);
void lock_records_delete_all(MetaBatch *b, uint64_t ino);
/* False: the record makes no sense. */
bool lock_record_decode(const uint8_t *key, size_t key_len, const uint8_t *value, size_t len, WireLockKind *ret_kind, LockRange *ret_range);
