#pragma once
/*
 * Is anything mounted on a directory of ours? The kernel that is told to look all
 * names up again unmounts what is mounted on them: it drops a directory's name, and
 * whatever is below, before it asks for it anew. So a mount that has others on it
 * tells the kernel no names to keep (recall.h).
 *
 * Known are those of our mount namespace, and what is propagated there.
 */
#include <stdbool.h>

typedef struct Submounts Submounts;

/* dev: "major:minor" of the file system. */
Submounts *submounts_new(const char *dev);
void submounts_free(Submounts *s);
/* Up to date; a system call, and more only where anything was mounted or
 * unmounted since. */
bool submounts_any(Submounts *s);
/* As of the last submounts_any(). */
bool submounts_seen(const Submounts *s);
