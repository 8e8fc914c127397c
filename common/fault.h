#pragma once
/*
 * For tests alone: a process started with names of this list in the environment
 * variable BENCHFS_TEST_FAULTS (a comma list) behaves in these ways.
 *
 *	lease.skip_recall   a home changes inodes without recalling their leases:
 *	                    what checks the one file system must notice
 *	fuse.protocol_31    the mount takes its kernel for Linux 5.4 (7.31)
 */
#include <stdbool.h>

bool fault(const char *name);
