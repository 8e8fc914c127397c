#pragma once
/*
 * What directories were that have been removed of late. Somebody may still have
 * one open, or be in it: Linux shows it as it was, empty and without a link, and
 * we are not told who. So the last of them are remembered, in memory; of others
 * nothing is known but that they are gone. Numbers are never used again.
 */
#include <stdbool.h>

#include "common/wire.h"

typedef struct Removed Removed;

/* Remembers so many. */
Removed *removed_new(uint32_t max);
void removed_free(Removed *r);
/* attr: of a directory, as it was last. */
void removed_put(Removed *r, const WireAttr *attr);
bool removed_get(const Removed *r, uint64_t ino, WireAttr *ret_attr);
