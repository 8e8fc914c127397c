#include "fuse/xattr-hints.h"

#include <glib.h>
#include <string.h>

#define SLOTS 8192u /* by the low bits of the number: neighbours do not collide */

struct XattrHints {
	bool alone;
	uint64_t none[SLOTS]; /* numbers; 0: nothing is known */
};

XattrHints *xattr_hints_new(bool alone)
{
	XattrHints *h = g_new0(XattrHints, 1);

	h->alone = alone;
	return h;
}

void xattr_hints_free(XattrHints *h)
{
	g_free(h);
}

void xattr_hints_note(XattrHints *h, const WireAttr *attr)
{
	uint64_t *none = &h->none[attr->ino % SLOTS];

	if (h->alone && !(attr->flags & WIRE_ATTR_HAS_XATTRS))
		*none = attr->ino;
	else if (*none == attr->ino)
		*none = 0;
}

void xattr_hints_forget(XattrHints *h, uint64_t ino)
{
	uint64_t *none = &h->none[ino % SLOTS];

	if (*none == ino)
		*none = 0;
}

bool xattr_hints_is_stored(const char *name)
{
	static const char *const namespaces[] = { "user.", "trusted.", "security." };

	for (size_t i = 0; i < G_N_ELEMENTS(namespaces); i++)
		if (g_str_has_prefix(name, namespaces[i]))
			return name[strlen(namespaces[i])];
	return !strcmp(name, "system.posix_acl_access") || !strcmp(name, "system.posix_acl_default");
}

bool xattr_hints_none(const XattrHints *h, uint64_t ino)
{
	return h->none[ino % SLOTS] == ino;
}
