#pragma once
/*
 * A node: one reactor's worth of BenchFS, wired together. It has a store or
 * not, a mount or not, peers or not. Several may live in one process.
 *
 *   node_new()            opens the store, listens
 *   node_start()          answers peers from now on
 *   node_co_wait_peers()  until every peer of the list has answered
 *   node_mount()          mounts
 *   node_co_wait_mount()  until the mount answers
 *   node_co_stop()        unmounts, ends connections; fine after any of these
 *   node_free()
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/map.h"
#include "common/reactor.h"
#include "fuse/mount.h"

typedef struct Node Node;

typedef struct NodeOptions {
	Reactor *reactor;
	ClusterMap *map;         /* the node's from the call on, also when it fails */
	bool network;            /* false: embedded; UCX is never touched */
	uint16_t self;           /* peer id; PEER_NONE: a client */
	GBytes *secret;          /* with a network; not kept */
	const char *ucx_tls, *ucx_devices; /* NULL: the default */

	const char *store;       /* NULL: none */
	uint64_t reserve_bytes;  /* 0: the default */
	uint8_t chunk_shift;     /* 0: the default */
	uint32_t inline_max;     /* UINT32_MAX: never inline */

	const char *mountpoint;  /* NULL: none */
	const char *fsname, *kernel_opts;
	MountChannel channel;

	void (*ended)(void *arg); /* the kernel ended the mount; on the reactor's stack */
	void *ended_arg;
} NodeOptions;

/* Blocks; call before the reactor runs. The error is a sentence. */
Node *node_new(const NodeOptions *opts, GError **error);
void node_start(Node *n);
/* 0; -ETIMEDOUT, or -EACCES as soon as a peer keeps refusing us: *ret_reason
 * says which peers are missing and why; -ECANCELED after node_cancel(). */
int coroutine_fn node_co_wait_peers(Node *n, int64_t timeout_ns, char **ret_reason);
/* Blocks for a moment (mount(2), fusermount3). */
bool node_mount(Node *n, GError **error);
/* 0; -ETIMEDOUT, -ECANCELED, or what stat(2) of the mount point said. */
int coroutine_fn node_co_wait_mount(Node *n, int64_t timeout_ns, char **ret_reason);
/* Ends the waits above at once. */
void node_cancel(Node *n);
/* What status.h reads; to be freed. Asks all peers at the same time. */
char *coroutine_fn node_co_status(Node *n);
void coroutine_fn node_co_stop(Node *n);
void node_free(Node *n);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Node, node_free)
