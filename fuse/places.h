#pragma once
/*
 * In which directory the kernel was last told of each directory. It knows one
 * place of each at most, and puts a directory that it finds in another, since a
 * different mount has moved it, there by itself; unless right then it has the old
 * directory locked, or the lock of all moves, for a change that it waits for. Then
 * the lookup fails with ESTALE, and open(2) and the like with it after a second try.
 * So such a lookup is answered after those changes.
 *
 * A table of fixed size: of directories that meet in a place of it the last wins,
 * and where the others are is not known.
 */
#include <stdbool.h>
#include <stdint.h>

#include "fuse/channel.h"

typedef struct Places Places;

Places *places_new(void);
void places_free(Places *p);
/* The kernel is about to be told that dir is in parent, where it was made. */
void places_put_new(Places *p, uint64_t dir, uint64_t parent);
/* ... where it was found. Whether the kernel then takes it for that is not known:
 * where it was before counts for a while yet. */
void places_put(Places *p, uint64_t dir, uint64_t parent, int64_t now_ns);
/* Can the kernel know dir in another place than parent? Then
 * places_is_in_the_way() tells of each request whether to wait for it. */
bool places_may_differ(const Places *p, uint64_t dir, uint64_t parent, int64_t now_ns);
/* As long as that request goes on, can the kernel not move dir? */
bool places_is_in_the_way(const Places *p, uint64_t dir, const Request *req);
