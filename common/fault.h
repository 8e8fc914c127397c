#pragma once
/*
 * Faults for tests of tests: a process started with a name of this list in the
 * environment variable BENCHFS_TEST_FAULTS (a comma list) misbehaves in that
 * one way. Nobody else should know of it.
 *
 *	lease.skip_recall   a home changes inodes without recalling their leases
 */
#include <stdbool.h>

bool fault(const char *name);
