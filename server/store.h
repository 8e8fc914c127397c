#pragma once
/*
 * A store: the directory on local disk that belongs to one peer.
 *
 *   identity   key file: format, cluster id, peer id, number of peers, digest of the peer list
 *   lock       held (OFD lock) as long as a process uses the store; its pid
 *   meta/      RocksDB
 *   objects/   chunks
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STORE_FORMAT 1

typedef struct Store Store;

typedef struct StoreOptions {
	const char *path;
	uint16_t peer;
	uint32_t peers;         /* how many the cluster has, for those who read the store alone */
	bool embedded;          /* a new store gets a random cluster id */
	uint8_t cluster_id[16]; /* not embedded: what it must belong to */
	uint8_t digest[32];     /* of the peer list */
} StoreOptions;

/* Opens the store, or makes it where the directory is empty or missing (the
 * parent must exist). Blocks. Anything that does not fit (in use, another
 * format, cluster, peer or peer list, a directory of something else) is left
 * as it was, and the error says what it is and what to do. */
Store *store_open(const StoreOptions *opts, GError **error);
/* Opens a store that is there to read it, under its lock, whatever cluster it
 * is of; fills what its identity says into *ret_opts (path is the caller's).
 * Blocks, changes nothing. */
Store *store_open_readonly(const char *path, StoreOptions *ret_opts, GError **error);
/* The process that uses the store at a path; 0: none, or that can't be said. */
pid_t store_user(const char *path);
/* Drops the lock. NULL is fine. */
void store_close(Store *s);

const uint8_t *store_cluster_id(const Store *s);
/* True when store_open() made it. */
bool store_is_new(const Store *s);
/* The directory's descriptor; the store keeps it. */
int store_dirfd(const Store *s);
const char *store_path(const Store *s);
/* "PATH/meta", where RocksDB lives. */
char *store_meta_path(const Store *s);
/* The directory of the objects, made when it is not there; the caller's to
 * close. -1: error set. */
int store_open_objects(const Store *s, GError **error);
