#pragma once
/* What xattrs.c and xattrs-own.c share: the extended attributes that are no
 * records but views of the inode, benchfs.*. LISTXATTR does not show them, so
 * that copying all attributes of a file copies none of them. */
#include "server/internal.h"

/* Is it one of ours (whether it exists or not)? */
bool xattr_is_own(const char *name);
/* Appends the value. -ENODATA: no such attribute, or not of such an inode. */
int coroutine_fn xattr_own_co_get(Server *s, Inode *inode, const char *name, GString *value);
/* Sets it in d; value NULL: back to the default. -EPERM: not of such an inode,
 * or not to be set; -EINVAL: no such value; -EBUSY: the file has data, whose
 * place is settled; -EOPNOTSUPP: no such attribute. */
int xattr_own_set(Server *s, InodeData *d, const char *name, const char *value, size_t len);
