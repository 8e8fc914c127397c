#include "server/holds.h"

#include <errno.h>

#include "server/txn.h"

typedef struct Hold {
	HoldKey key;
	HoldOwner *owner;
} Hold;

struct Holds {
	GHashTable *table; /* inode number -> GArray of Hold */
	uint64_t serial;
	CoQueue waiters;
};

static void holds_array_free(void *a)
{
	g_array_free(a, TRUE);
}

Holds *holds_new(void)
{
	Holds *h = g_new0(Holds, 1);

	h->table = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, holds_array_free);
	return h;
}

void holds_free(Holds *h)
{
	if (!h)
		return;
	g_hash_table_destroy(h->table);
	g_free(h);
}

void holds_owner_init(Server *s, HoldOwner *o, WireTxnId id, int64_t age_ns)
{
	*o = (HoldOwner) { .id = id, .age_ns = age_ns, .serial = ++s->holds->serial };
}

static bool conflict(HoldKey a, HoldKey b)
{
	if (a.hash && b.hash)
		return a.hash == b.hash;
	if (!a.hash && !b.hash)
		return true;
	return a.hash ? b.removing : a.removing;
}

const HoldOwner *holds_find(Server *s, HoldKey key, const HoldOwner *except)
{
	GArray *a = g_hash_table_lookup(s->holds->table, (void *)key.ino);

	for (guint i = 0; a && i < a->len; i++) {
		const Hold *h = &g_array_index(a, Hold, i);

		if (h->owner != except && conflict(h->key, key))
			return h->owner;
	}
	return NULL;
}

void holds_add(Server *s, HoldKey key, HoldOwner *owner)
{
	GArray *a = g_hash_table_lookup(s->holds->table, (void *)key.ino);
	Hold h = { key, owner };

	if (!a) {
		a = g_array_new(FALSE, FALSE, sizeof(Hold));
		g_hash_table_insert(s->holds->table, (void *)key.ino, a);
	}
	g_array_append_val(a, h);
}

static gboolean drop_from(void *ino, void *value, void *owner)
{
	GArray *a = value;

	for (guint i = a->len; i > 0; i--) {
		if (g_array_index(a, Hold, i - 1).owner == owner)
			g_array_remove_index_fast(a, i - 1);
	}
	return a->len == 0;
}

void holds_drop(Server *s, const HoldOwner *owner)
{
	if (g_hash_table_foreach_remove(s->holds->table, drop_from, (void *)owner) > 0 || holds_have_waiters(s))
		holds_wake(s);
}

bool holds_is_older(const HoldOwner *a, const HoldOwner *b)
{
	if (a->age_ns != b->age_ns)
		return a->age_ns < b->age_ns;
	if (a->id.session != b->id.session)
		return a->id.session < b->id.session;
	return a->id.number < b->id.number;
}

/* ---- waiting ---- */

void holds_wake(Server *s)
{
	co_queue_wake_all(&s->holds->waiters);
}

bool holds_have_waiters(Server *s)
{
	return !co_queue_empty(&s->holds->waiters);
}

int coroutine_fn holds_co_wait_once(Server *s, int64_t until_ns)
{
	if (s->stopping || reactor_now_ns(s->reactor) >= until_ns)
		return -EIO;
	txns_need_tick(s);
	co_queue_wait(&s->holds->waiters);
	return 0;
}

/* Who holds something since `serial` or earlier whose end is not known here; or NULL. */
static const HoldOwner *find_in_doubt(Server *s, HoldKey key, uint64_t serial)
{
	GArray *a = g_hash_table_lookup(s->holds->table, (void *)key.ino);

	for (guint i = 0; a && i < a->len; i++) {
		const Hold *h = &g_array_index(a, Hold, i);

		if (!h->owner->decides && h->owner->serial <= serial && conflict(h->key, key))
			return h->owner;
	}
	return NULL;
}

int coroutine_fn holds_co_wait_settled(Server *s, HoldKey key)
{
	uint64_t now = s->holds->serial;
	int64_t until = reactor_now_ns(s->reactor) + HOLDS_WAIT_NS;
	const HoldOwner *owner;

	while ((owner = find_in_doubt(s, key, now))) {
		int r = owner->stuck ? -EIO : holds_co_wait_once(s, until);

		if (r < 0)
			return r;
	}
	return 0;
}
