#include "fuse/xattr-hints.h"

#include <glib.h>
#include <string.h>

#define SLOTS 8192u /* by the low bits of the number: neighbours do not collide */
#define MOMENT_NS INT64_C(1000000000)

typedef struct Hint {
	uint64_t ino; /* 0: none */
	int64_t at_ns;
} Hint;

struct XattrHints {
	bool alone;
	Hint hints[SLOTS];
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

void xattr_hints_note(XattrHints *h, const WireAttr *attr, int64_t now_ns)
{
	Hint *hint = &h->hints[attr->ino % SLOTS];

	if (!(attr->flags & WIRE_ATTR_HAS_XATTRS))
		*hint = (Hint) { .ino = attr->ino, .at_ns = now_ns };
	else if (hint->ino == attr->ino)
		hint->ino = 0;
}

void xattr_hints_forget(XattrHints *h, uint64_t ino)
{
	Hint *hint = &h->hints[ino % SLOTS];

	if (hint->ino == ino)
		hint->ino = 0;
}

bool xattr_hints_is_stored(const char *name)
{
	static const char *const namespaces[] = { "user.", "trusted.", "security." };

	for (size_t i = 0; i < G_N_ELEMENTS(namespaces); i++)
		if (g_str_has_prefix(name, namespaces[i]))
			return name[strlen(namespaces[i])];
	return !strcmp(name, "system.posix_acl_access") || !strcmp(name, "system.posix_acl_default");
}

bool xattr_hints_absent(const XattrHints *h, uint64_t ino, const char *name, int64_t now_ns)
{
	const Hint *hint = &h->hints[ino % SLOTS];

	if (hint->ino != ino)
		return false;
	if (h->alone)
		return xattr_hints_is_stored(name);
	return now_ns - hint->at_ns < MOMENT_NS && !strcmp(name, "security.capability");
}

bool xattr_hints_none(const XattrHints *h, uint64_t ino)
{
	return h->alone && h->hints[ino % SLOTS].ino == ino;
}
