#pragma once
/*
 * POSIX access control lists, as acl(5) describes them and in the form in which
 * the kernel hands them out as extended attributes: a version, then entries of
 * tag, permissions and id. They are kept and sent in this form. Nothing here
 * knows of inodes.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
/* What the kernel reads at most: a page. */
#define ACL_SIZE_MAX 4096u

/* A list of the known version whose entries are complete and in order; empty
 * is fine. -EOPNOTSUPP, -EINVAL, -E2BIG. */
int acl_check(const void *acl, size_t len);
bool acl_is_empty(size_t len);

/* The others are for a list that acl_check() found good and not empty. */

/* Sets the nine permission bits of *mode to what the list grants; with a mask,
 * that is the group's. True when the bits say all there is. */
bool acl_to_mode(const void *acl, size_t len, uint32_t *mode);
/* chmod(2): the bits of the mode go into the list, the group's into the mask
 * where there is one. */
void acl_set_mode(void *acl, size_t len, uint32_t mode);
/* Turns a directory's default list into the access list of what is made there
 * with *mode, where list and mode each take away what the other lacks. True
 * when the bits say all there is. */
bool acl_inherit(void *acl, size_t len, uint32_t *mode);
