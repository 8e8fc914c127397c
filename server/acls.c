/*
 * Access control lists of inodes. They are records among the extended
 * attributes, and the mode follows them as they follow it: the permission bits
 * are always those that the access list grants, and there is no access list
 * where the bits say the same.
 */
#include "server/acls.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "server/acl.h"
#include "server/xattrs.h"

bool acls_is_name(const char *name)
{
	return strcmp(name, ACL_ACCESS) == 0 || strcmp(name, ACL_DEFAULT) == 0;
}

/* A list of the store, or NULL: there is none. One that can't be understood is
 * an error: ignoring it might let someone in. */
static int coroutine_fn load(Server *s, const InodeData *d, const char *name, GByteArray **ret_acl)
{
	g_autoptr(GByteArray) acl = NULL;
	int r = xattrs_co_load(s, d, name, &acl);

	if (r == -ENODATA) {
		*ret_acl = NULL;
		return 0;
	}
	if (r < 0)
		return r;
	if (acl_check(acl->data, acl->len) < 0 || acl_is_empty(acl->len))
		return -EIO;
	*ret_acl = g_steal_pointer(&acl);
	return 0;
}

/* ---- setxattr(2) ---- */

int acls_check_set(const InodeData *d, const char *name, const void *value, size_t len, bool *ret_drop)
{
	int r = len > 0 ? acl_check(value, len) : 0;

	if (r < 0)
		return r;
	if (S_ISLNK(d->attr.mode))
		return -EOPNOTSUPP;
	*ret_drop = acl_is_empty(len);
	if (strcmp(name, ACL_DEFAULT) == 0 && !S_ISDIR(d->attr.mode))
		return *ret_drop ? 0 : -EACCES;
	return 0;
}

bool acls_take_mode(InodeData *d, const char *name, const void *value, size_t len, bool kill_sgid)
{
	if (strcmp(name, ACL_ACCESS) != 0)
		return false;
	if (kill_sgid)
		d->attr.mode &= ~(uint32_t)S_ISGID;
	return acl_to_mode(value, len, &d->attr.mode);
}

/* ---- chmod(2) ---- */

int coroutine_fn acls_co_chmod(Server *s, MetaBatch *b, InodeData *d)
{
	g_autoptr(GByteArray) acl = NULL;
	int r = S_ISLNK(d->attr.mode) ? 0 : load(s, d, ACL_ACCESS, &acl);

	if (r < 0 || !acl)
		return r;
	acl_set_mode(acl->data, acl->len, d->attr.mode);
	xattrs_put(b, d, ACL_ACCESS, acl->data, acl->len);
	return 0;
}

/* ---- new inodes ---- */

int coroutine_fn acls_co_default(Server *s, const InodeData *dir, uint32_t mode, GByteArray **ret_acl)
{
	*ret_acl = NULL;
	return S_ISLNK(mode) ? 0 : load(s, dir, ACL_DEFAULT, ret_acl);
}

void acls_inherit(MetaBatch *b, InodeData *d, const GByteArray *acl, uint32_t umask)
{
	if (S_ISLNK(d->attr.mode))
		return;
	if (!acl) {
		d->attr.mode &= ~(umask & 0777);
		return;
	}
	g_autofree void *access = g_memdup2(acl->data, acl->len);

	if (!acl_inherit(access, acl->len, &d->attr.mode))
		xattrs_put(b, d, ACL_ACCESS, access, acl->len);
	if (S_ISDIR(d->attr.mode))
		xattrs_put(b, d, ACL_DEFAULT, acl->data, acl->len);
}
