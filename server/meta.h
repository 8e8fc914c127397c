#pragma once
/*
 * The metadata store: RocksDB, one database per store, keys that begin with
 * the slot. Reads are tried in memory first and go to a thread when they would
 * touch the disk, so they may yield; so may a commit (write stalls).
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/counters.h"
#include "common/reactor.h"

typedef struct Meta Meta;
typedef struct MetaBatch MetaBatch;
typedef struct MetaIter MetaIter;

/* Blocks. path: the database's directory. */
Meta *meta_open(Reactor *r, Counters *c, const char *path, GError **error);
void meta_close(Meta *m);

/* A value: valid until meta_value_clear(); zero-initialise. */
typedef struct MetaValue {
	const uint8_t *data;
	size_t len;
	void *priv;
} MetaValue;
/* 0, -ENOENT, or -EIO. */
int coroutine_fn meta_co_get(Meta *m, const void *key, size_t key_len, MetaValue *ret_value);
void meta_value_clear(MetaValue *v);

/* All of a batch happens or none; the order in a batch is kept. */
MetaBatch *meta_batch_new(Meta *m);
void meta_batch_put(MetaBatch *b, const void *key, size_t key_len, const void *value, size_t len);
void meta_batch_delete(MetaBatch *b, const void *key, size_t key_len);
/* Every key that starts with the prefix. */
void meta_batch_delete_prefix(MetaBatch *b, const void *prefix, size_t len);
/* Writes it to the log (survives kill -9) and frees it. 0, -ENOSPC, -EIO. */
int coroutine_fn meta_batch_co_commit(MetaBatch *b);
void meta_batch_free(MetaBatch *b);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MetaBatch, meta_batch_free)

/* Goes through the keys with a prefix from `from` (NULL: the first) on, over a
 * snapshot. _co_next(): 1 and the entry (valid until the next call), 0 at the
 * end, -EIO. */
MetaIter *meta_iter_new(Meta *m, const void *prefix, size_t prefix_len, const void *from, size_t from_len);
int coroutine_fn meta_iter_co_next(MetaIter *it, const uint8_t **ret_key, size_t *ret_key_len, const uint8_t **ret_value, size_t *ret_len);
void meta_iter_free(MetaIter *it);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MetaIter, meta_iter_free)

/* Runs fn(db, arg), which only reads, on a thread; what it opens in the database
 * it closes. -EIO when there is no database. */
struct rocksdb_t;
typedef int MetaReader(struct rocksdb_t *db, void *arg);
int coroutine_fn meta_co_read(Meta *m, MetaReader *fn, void *arg);

/* Everything committed before the call survives power loss when it returns.
 * Many callers share one sync, on a thread. */
int coroutine_fn meta_co_sync(Meta *m);
