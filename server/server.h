#pragma once
/*
 * The peer: one store (a directory on local disk) with its metadata (RocksDB)
 * and its objects, and the handlers that serve them. It reaches other peers
 * through the Rpc it registers with.
 */
#include <glib.h>
#include <stdint.h>

#include "common/counters.h"
#include "common/rpc.h"

typedef struct Server Server;

typedef struct ServerOptions {
	Reactor *reactor;
	Counters *counters;
	const ClusterMap *map;
	const char *store_path;
	uint16_t self;
	bool embedded;              /* makes up its cluster id when the store is new */
	uint8_t cluster_id[16];     /* not embedded: what the store must belong to */
	uint64_t reserve_bytes;     /* kept free on the store's file system; 0: default */
	uint8_t default_chunk_shift; /* 0: 22 (4 MiB) */
	uint32_t inline_max;        /* bytes; 0: 4096; UINT32_MAX: never inline; at most 65536 */
	bool has_mount;             /* this process also mounts: for PEER_INFO alone */
} ServerOptions;

/* Opens or makes the store: takes its lock, checks cluster, peer id, peer list
 * and format version and leaves a foreign store untouched. Recovers what a
 * crash left and logs what it did. Blocks: call before the reactor runs. */
Server *server_new(const ServerOptions *opts, GError **error);
/* The store's cluster id (16 bytes). */
const uint8_t *server_cluster_id(const Server *s);
/* Registers all handlers of the home and of the target. */
void server_attach(Server *s, Rpc *rpc);
/* Starts background work (settling changes that span peers, reaping orphans). */
void server_start(Server *s);
/* Stops background work, syncs the log. */
void coroutine_fn server_co_stop(Server *s);
void server_free(Server *s);
