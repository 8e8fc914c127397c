#pragma once
/*
 * The mount: the kernel's channel, the VFS operations, the layout cache. It
 * reaches homes and targets through the Rpc alone.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/counters.h"
#include "common/heldback.h"
#include "common/rpc.h"

typedef struct Mount Mount;

typedef enum MountChannel { MOUNT_CHANNEL_AUTO, MOUNT_CHANNEL_CLASSIC, MOUNT_CHANNEL_URING } MountChannel;

typedef struct MountOptions {
	Reactor *reactor;
	Counters *counters;
	Rpc *rpc;
	const char *mountpoint;
	const char *fsname;       /* first column of /proc/mounts */
	const char *kernel_opts;  /* comma list for mount(2)/fusermount3: ro, nosuid, allow_other, … or NULL */
	bool alone;               /* the only mount there can be: the kernel may cache */
	MountChannel channel;
	uint16_t store_peer;      /* my own store's peer id, or PEER_NONE */
	HeldBack *heldback;       /* where writes can be held back; NULL: nowhere */
	/* for tests of older kernels: features to do without, a comma list of the
	 * names in init.c ("readdirplus,max_pages"), and the highest minor number
	 * of the FUSE protocol (0: no limit) */
	const char *disable_features;
	uint32_t max_proto_minor;
	/* benchfs.status of the root: text, to be freed; runs as a coroutine */
	char *coroutine_fn (*status)(void *arg);
	void *status_arg;
	/* the kernel ended the session (unmounted, or the connection died) */
	void (*ended)(void *arg);
	void *ended_arg;
} MountOptions;

/* Mounts, so that the kernel starts to ask; nothing is answered before
 * mount_start(). The error is a sentence: no /dev/fuse, not a directory, … */
Mount *mount_new(const MountOptions *opts, GError **error);
/* Starts to answer the kernel. */
void mount_start(Mount *m);
/* True once INIT has been answered. */
bool mount_is_ready(const Mount *m);
/* CLASSIC or URING: what carries the requests, once it is ready. */
MountChannel mount_channel(const Mount *m);
/* Unmounts (lazily where busy), ends requests under way, closes the channel. */
void coroutine_fn mount_co_stop(Mount *m);
void mount_free(Mount *m);
