#pragma once
/*
 * When reading moves an inode's atime. What relatime needs for that is in the
 * attributes that pass on their way to the kernel, so nearly always this mount
 * knows without asking that nothing is due; else the home decides, behind the
 * reply.
 *
 * What does not reach us can't count: reads from the kernel's pages. The first
 * read of an opening does so unless this mount has the pages already, and for
 * one inode something is sent once a second at most.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"

typedef struct Atimes Atimes;

/* kernel_opts: of the mount, or NULL: ro, noatime, nodiratime, strictatime. */
Atimes *atimes_new(const char *kernel_opts);
void atimes_free(Atimes *t);
/* Attributes came from a home. */
void atimes_note(Atimes *t, const WireAttr *attr);
/* A file is opened: its next read counts anew. */
void atimes_open(Atimes *t, uint64_t ino);
/* An inode is read, at this moment of the monotonic and of the real clock.
 * True: tell its home. */
bool atimes_read(Atimes *t, uint64_t ino, bool is_dir, int64_t now_ns, int64_t real_ns);
/* strictatime: the home need not decide. */
bool atimes_always(const Atimes *t);
