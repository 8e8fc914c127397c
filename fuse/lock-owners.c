#include "fuse/lock-owners.h"

typedef struct LockOwner {
	uint64_t ino, owner, fh;
} LockOwner;

struct LockOwners {
	GHashTable *owners; /* set of LockOwner, by ino and owner */
};

static guint owner_hash(gconstpointer key)
{
	const LockOwner *o = key;

	return g_int64_hash(&o->ino) * 31 + g_int64_hash(&o->owner);
}

static gboolean owner_equal(gconstpointer a, gconstpointer b)
{
	const LockOwner *x = a, *y = b;

	return x->ino == y->ino && x->owner == y->owner;
}

LockOwners *lock_owners_new(void)
{
	LockOwners *o = g_new0(LockOwners, 1);

	o->owners = g_hash_table_new_full(owner_hash, owner_equal, g_free, NULL);
	return o;
}

void lock_owners_free(LockOwners *o)
{
	if (!o)
		return;
	g_hash_table_unref(o->owners);
	g_free(o);
}

void lock_owners_add(LockOwners *o, uint64_t ino, uint64_t owner, uint64_t fh)
{
	LockOwner key = { .ino = ino, .owner = owner, .fh = fh };

	/* The latest handle counts: replace, not insert. */
	g_hash_table_replace(o->owners, g_memdup2(&key, sizeof(key)), NULL);
}

bool lock_owners_take(LockOwners *o, uint64_t ino, uint64_t owner)
{
	LockOwner key = { .ino = ino, .owner = owner };

	return g_hash_table_remove(o->owners, &key);
}

bool lock_owners_take_by_handle(LockOwners *o, uint64_t ino, uint64_t fh, uint64_t *ret_owner)
{
	GHashTableIter iter;
	gpointer key;

	/* Few at any time; and mostly none, which costs nothing. */
	g_hash_table_iter_init(&iter, o->owners);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		const LockOwner *owner = key;
		if (owner->ino != ino || owner->fh != fh)
			continue;
		*ret_owner = owner->owner;
		g_hash_table_iter_remove(&iter);
		return true;
	}
	return false;
}

uint32_t lock_owners_size(const LockOwners *o)
{
	return g_hash_table_size(o->owners);
}
