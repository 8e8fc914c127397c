#pragma once
/* The mounts that the kernel lists. Never asks the file systems themselves: a
 * mount whose daemon is dead or slow is found like any other. */
#include <glib.h>
#include <stdbool.h>

typedef struct MountEntry {
	char *path, *source, *type;
	bool is_benchfs;
} MountEntry;

void mount_entry_free(MountEntry *e);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MountEntry, mount_entry_free)

/* The topmost mount at a path, which is as mounts_resolve() makes it; NULL: none. */
MountEntry *mounts_find(const char *path);
/* All of BenchFS. */
GPtrArray *mounts_list(void);
/* Absolute, without symbolic links in all but (where nobody answers there) the
 * last part. Does not need the mount at the path to answer. */
char *mounts_resolve(const char *path);

/* An extended attribute's text, or NULL with errno. A mount that does not
 * answer within timeout_s seconds: ETIMEDOUT. */
char *mounts_get_xattr(const char *path, const char *name, unsigned timeout_s);
/* The same for bytes, of which there are *ret_len; a NUL follows them. */
char *mounts_get_xattr_bytes(const char *path, const char *name, unsigned timeout_s, size_t *ret_len);
