#pragma once
/* What the files meta*.c share. Nobody else includes it. */
#include <rocksdb/c.h>

#include "server/meta.h"

struct Meta {
	Reactor *reactor;
	Counters *counters;
	char *path;
	rocksdb_t *db; /* NULL while it is being reopened, or when that failed */
	rocksdb_options_t *options;
	rocksdb_cache_t *cache;
	rocksdb_readoptions_t *read_cached, *read_full;
	rocksdb_writeoptions_t *write_fast, *write_wait;
	rocksdb_writebatch_t *spare; /* the last batch's, to be used again */
	MetaIter *iters;             /* those with something in the database */

	/* Reopening, see meta_co_repair(). */
	uint32_t jobs;      /* on threads, using db */
	bool reopening;
	int64_t reopen_at;  /* monotonic us: not before */
	CoQueue idle, reopened;

	/* Syncs are numbered; one runs at a time. */
	uint64_t sync_started, sync_done;
	int sync_result;
	bool syncing;
	CoQueue sync_waiters;

	uint64_t n_get, n_get_thread, n_commit, n_commit_thread, n_sync, n_reopen;
};

/* 0, or what a RocksDB error means: -EAGAIN (not without waiting), -ENOSPC,
 * -EIO. Other than -EAGAIN and -ENOSPC are logged. Frees err. */
int meta_status(const Meta *m, const char *what, char *err);
/* Until the database is open; -EIO when it can't be opened now. */
int coroutine_fn meta_co_enter(Meta *m);
/* Runs fn(arg), which uses the database, on a thread. */
int coroutine_fn meta_co_job(Meta *m, ReactorWork *fn, void *arg);
/* After a write failed with r: 0 when it is worth another try, else r. */
int coroutine_fn meta_co_repair(Meta *m, int r);
/* Lets go of what an iterator has in the database; it finds its place again. */
void meta_iter_detach(MetaIter *it);
/* The first key behind all that start with the prefix; 0: there is none. */
size_t meta_prefix_end(const uint8_t *prefix, size_t len, uint8_t *ret_end);
