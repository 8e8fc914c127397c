#pragma once
/*
 * INIT: what is agreed on with the kernel. A pure function of what it offers
 * and what we wish, since libfuse 3.14 knows but half of today's flags: its
 * reply is overwritten with ours on the way out.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "fuse/fuse-kernel.h"

typedef struct InitWishes {
	bool alone;              /* nobody else changes what this kernel caches */
	bool uring;
	uint32_t max_write;      /* bytes, a multiple of the page size */
	uint64_t disabled;       /* FUSE_* bits to be treated as not offered */
	uint32_t max_proto_minor; /* 0: no limit */
} InitWishes;

/* Limits the kernel's INIT to what the wishes allow, as if an older kernel had
 * sent it. len: of the struct as it came. */
void init_limit(struct fuse_init_in *in, size_t len, const InitWishes *wishes);
/* The flags we want of those offered. */
uint64_t init_flags(const struct fuse_init_in *in, const InitWishes *wishes);
/* Fills libfuse's reply with what is agreed. Returns the agreed flags. */
uint64_t init_reply(const struct fuse_init_in *in, const InitWishes *wishes, struct fuse_init_out *out);
/* The largest max_write to wish for: 1 MiB, more where the kernel's
 * fs.fuse.max_pages_limit is higher. */
uint32_t init_max_write(void);
/* "readdirplus,killpriv_v2": the bits of a comma list of names; false when one
 * is unknown, which is then set in *ret_unknown (to be freed). */
bool init_parse_features(const char *list, uint64_t *ret_flags, char **ret_unknown);
