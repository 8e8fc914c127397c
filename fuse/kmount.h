#pragma once
/*
 * Mounting and unmounting: mount(2) for root, fusermount3 for everyone else.
 * It does not use libfuse's way, whose errors go to stderr instead of to the
 * caller.
 */
#include <glib.h>
#include <stdbool.h>

typedef struct Kmount Kmount;

/* Mounts; blocks. opts: comma list as mount(8) has it ("ro", "allow_other",
 * ...), or NULL. *ret_fd: /dev/fuse, nonblocking and close-on-exec, the
 * caller's. The error is a sentence that names the mount point. */
Kmount *kmount_new(const char *mountpoint, const char *fsname, const char *opts, int *ret_fd, GError **error);
/* Does not unmount. NULL is fine. */
void kmount_free(Kmount *k);
const char *kmount_path(const Kmount *k);
/* "major:minor" of the file system. */
const char *kmount_dev(const Kmount *k);
/* Is it still mounted where we mounted it? Never asks the file system. */
bool kmount_is_mounted(const Kmount *k);
/* Takes it from the tree, busy or not; 0 also when it is not mounted any
 * more. Blocks, possibly until the kernel has got answers from us: call it on
 * a thread. abort: also ends the connection of a mount that is busy, which
 * otherwise lasts until its descriptors are closed (root only). */
int kmount_unmount(Kmount *k, bool abort);
/* Lets the kernel read ahead so far; a wish (root only). */
void kmount_set_readahead(Kmount *k, size_t bytes);
