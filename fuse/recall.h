#pragma once
/*
 * The leases of a mount towards the two others: homes, which call them back,
 * and the kernel, which may keep attributes for as long as we hold a lease.
 *
 * A recall must be answered without waiting for anything, since a change waits
 * for it with its inode locked (server/leases.h). So the kernel is only told
 * that attributes are stale, which takes none of its locks; with AUTO_INVAL_DATA
 * it asks for them before the next read(2), and drops its pages where mtime
 * moved, as it does with each change. Of names it is told that all it has must be
 * looked up again (from 6.16 on), which costs calls to us and none to homes;
 * older kernels keep no names.
 *
 * Nor do kernels keep any while something is mounted on a directory of ours, since
 * to look names up again is to unmount that (submounts.h). What they were told
 * before cannot be taken back then: once after each mount(2), the next change or
 * recall waits until that time is over, less than a lease lasts.
 *
 * ACLs it keeps until it is told that attributes are stale.
 *
 * Attributes go to the kernel for keeping only in replies to GETATTR: alone
 * there it is certain (from 5.10 on) that a notification in between wins.
 *
 * Mapped pages are read without asking for anything, so those of files that are
 * open here are dropped when their lease goes. That may wait for page locks and
 * for pages to be written, so it is done behind, on a thread of the kernel: what
 * another mount writes shows in a mapping soon, not at once.
 */
#include "fuse/internal.h"

/* Registers RECALL; makes m->held. Only where there can be other mounts. */
void recall_attach(Mount *m);
void recall_detach(Mount *m);
/* What m->pages is to be, once there is a channel. */
Pages *recall_make_pages(Mount *m);
/* The kernel asks for attributes of ino. */
void recall_asked(Mount *m, uint64_t ino);
/* Attributes go into a reply to GETATTR or STATX, without a yield from here: how
 * many seconds the kernel may keep them. */
double recall_tell(Mount *m, const WireAttr *attr);
/* The same for a reply to LOOKUP: the name stands for ino, or (0) for nothing. */
double recall_tell_name(Mount *m, uint64_t dir, const char *name, uint64_t ino);
/* Returns when the kernel uses no names that were told before their lease went. */
void coroutine_fn recall_co_names_gone(Mount *m);
/* Pages of an open file were read. Where no lease covers them (it is being
 * changed) nobody will say when they go bad: they are dropped after a moment. */
void recall_pages_read(Mount *m, uint64_t ino);
