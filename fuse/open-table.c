#include "fuse/open-table.h"

#include <errno.h>
#include <glib.h>

typedef struct Open {
	uint64_t ino;
	uint32_t opens;
	bool orphan;
} Open;

struct OpenTable {
	GHashTable *open; /* &Open.ino → Open, owned */
	GHashTable *dead; /* set of numbers, in the slots of `ring` */
	uint64_t *ring;   /* dead numbers, the next slot to be overwritten is the oldest */
	uint32_t ring_size, ring_next;
};

OpenTable *open_table_new(uint32_t max_dead)
{
	OpenTable *t = g_new0(OpenTable, 1);

	t->open = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
	t->dead = g_hash_table_new(g_int64_hash, g_int64_equal);
	t->ring_size = MAX(max_dead, 1);
	t->ring = g_new0(uint64_t, t->ring_size);
	return t;
}

void open_table_free(OpenTable *t)
{
	if (!t)
		return;
	g_hash_table_unref(t->open);
	g_hash_table_unref(t->dead);
	g_free(t->ring);
	g_free(t);
}

int open_table_open(OpenTable *t, uint64_t ino)
{
	if (g_hash_table_contains(t->dead, &ino))
		return -ESTALE;
	Open *open = g_hash_table_lookup(t->open, &ino);
	if (!open) {
		open = g_new0(Open, 1);
		open->ino = ino;
		g_hash_table_insert(t->open, &open->ino, open);
	}
	open->opens++;
	return 0;
}

static void add_dead(OpenTable *t, uint64_t ino)
{
	uint64_t *slot = &t->ring[t->ring_next];

	if (g_hash_table_contains(t->dead, &ino))
		return;
	if (*slot)
		g_hash_table_remove(t->dead, slot);
	*slot = ino;
	g_hash_table_add(t->dead, slot);
	t->ring_next = (t->ring_next + 1) % t->ring_size;
}

bool open_table_close(OpenTable *t, uint64_t ino)
{
	Open *open = g_hash_table_lookup(t->open, &ino);

	/* A RELEASE that no OPEN went before: not ours to trust the kernel on. */
	if (!open || --open->opens)
		return false;
	bool orphan = open->orphan;
	g_hash_table_remove(t->open, &ino);
	if (orphan)
		add_dead(t, ino);
	return orphan;
}

bool open_table_is_last(const OpenTable *t, uint64_t ino)
{
	const Open *open = g_hash_table_lookup(t->open, &ino);

	return open && open->orphan && open->opens == 1;
}

bool open_table_query(OpenTable *t, uint64_t ino)
{
	Open *open = g_hash_table_lookup(t->open, &ino);

	if (open)
		open->orphan = true;
	else
		add_dead(t, ino);
	return open;
}

void open_table_undo(OpenTable *t, uint64_t ino)
{
	Open *open = g_hash_table_lookup(t->open, &ino);
	void *slot;

	if (open)
		open->orphan = false;
	if (g_hash_table_steal_extended(t->dead, &ino, &slot, NULL))
		*(uint64_t *)slot = 0;
}

bool open_table_is_open(const OpenTable *t, uint64_t ino)
{
	return g_hash_table_contains(t->open, &ino);
}

bool open_table_is_dead(const OpenTable *t, uint64_t ino)
{
	return g_hash_table_contains(t->dead, &ino);
}

uint32_t open_table_size(const OpenTable *t)
{
	return g_hash_table_size(t->open);
}
