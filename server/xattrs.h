#pragma once
/* What the files about extended attributes share. */
#include "server/internal.h"

/* xattrs.c: the value of one that is kept as a record. -ENODATA, -EIO. */
int coroutine_fn xattrs_co_load(Server *s, const InodeData *d, const char *name, GByteArray **ret_value);
/* Adds its record to the batch, and to d that it has some. */
void xattrs_put(MetaBatch *b, InodeData *d, const char *name, const void *value, size_t len);

/* xattrs-own.c: those that are no records but views of the inode, benchfs.*.
 * LISTXATTR does not show them, so that copying all attributes of a file copies
 * none of them. */

/* Is it one of ours (whether it exists or not)? */
bool xattr_is_own(const char *name);
/* Appends the value. -ENODATA: no such attribute, or not of such an inode. */
int coroutine_fn xattr_own_co_get(Server *s, Inode *inode, const char *name, GString *value);
/* Sets it in d; value NULL: back to the default. -EPERM: not of such an inode,
 * or not to be set; -EINVAL: no such value; -EBUSY: the file has data, whose
 * place is settled; -EOPNOTSUPP: no such attribute. */
int xattr_own_set(Server *s, InodeData *d, const char *name, const char *value, size_t len);
