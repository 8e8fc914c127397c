#pragma once
/*
 * Which inodes are known to have no extended attributes, from the flag in their
 * attributes. The kernel asks for security.capability before the first write
 * after each time it got attributes, and ls asks for more: nearly always in
 * vain, and right after we have told it the attributes.
 *
 * Only for a mount that is alone: a hint holds until it sets an attribute. With
 * other mounts it takes a lease to know.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"

typedef struct XattrHints XattrHints;

XattrHints *xattr_hints_new(bool alone);
void xattr_hints_free(XattrHints *h);
/* Attributes came from a home. */
void xattr_hints_note(XattrHints *h, const WireAttr *attr);
/* An attribute is, or has just been, set through this mount: call it before
 * and after. */
void xattr_hints_forget(XattrHints *h, uint64_t ino);
/* True: this inode has none, no need to ask. */
bool xattr_hints_none(const XattrHints *h, uint64_t ino);
/* Is it of the kinds that homes store? What else there is, they make up. */
bool xattr_hints_is_stored(const char *name);
