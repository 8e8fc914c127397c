#pragma once
/*
 * The daemon that served a mount point before us. umount(8) returns before it
 * has let go of its store and its port, so who unmounts and mounts again at once
 * would find both in use.
 */

/* Waits, a few seconds at most, for the end of the process that uses the store
 * and has served the mount point, where nothing is mounted any more. Whoever else
 * uses the store is not waited for. */
void predecessor_wait(const char *mountpoint, const char *store);
