#pragma once
/* Access control lists of inodes: acls.c. The inode is locked where it changes. */
#include "server/internal.h"

bool acls_is_name(const char *name);

/* May this value be set? *ret_drop: it says to remove the list. */
int acls_check_set(const InodeData *d, const char *name, const void *value, size_t len, bool *ret_drop);
/* The mode of d becomes what the access list grants. True when there is then
 * nothing left for the list to say, so that it is not to be kept. */
bool acls_take_mode(InodeData *d, const char *name, const void *value, size_t len, bool kill_sgid);
/* d has a new mode: its access list, if any, follows. 0 or -errno. */
int coroutine_fn acls_co_chmod(Server *s, MetaBatch *b, InodeData *d);

/* The list that what is made in dir with this mode inherits; NULL: none. */
int coroutine_fn acls_co_default(Server *s, const InodeData *dir, uint32_t mode, GByteArray **ret_acl);
/* Gives it to a new inode, or, where there is none, lets the umask take from
 * its mode. */
void acls_inherit(MetaBatch *b, InodeData *d, const GByteArray *acl, uint32_t umask);
