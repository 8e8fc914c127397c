#include "server/removed.h"

#include <glib.h>

struct Removed {
	uint32_t max, n;
	WireAttr *attrs; /* a ring; the next one goes to n % max */
	GHashTable *by_ino;
};

Removed *removed_new(uint32_t max)
{
	Removed *r = g_new(Removed, 1);

	*r = (Removed) {
		.max = max, .attrs = g_new0(WireAttr, max),
		.by_ino = g_hash_table_new(g_int64_hash, g_int64_equal),
	};
	return r;
}

void removed_free(Removed *r)
{
	if (!r)
		return;
	g_hash_table_unref(r->by_ino);
	g_free(r->attrs);
	g_free(r);
}

void removed_put(Removed *r, const WireAttr *attr)
{
	WireAttr *at = &r->attrs[r->n++ % r->max];

	if (at->ino)
		g_hash_table_remove(r->by_ino, &at->ino);
	*at = *attr;
	at->nlink = 0;
	at->flags &= (uint16_t)~WIRE_ATTR_HAS_XATTRS;
	g_hash_table_replace(r->by_ino, &at->ino, at);
}

bool removed_get(const Removed *r, uint64_t ino, WireAttr *ret_attr)
{
	const WireAttr *at = g_hash_table_lookup(r->by_ino, &ino);

	if (at)
		*ret_attr = *at;
	return at;
}
