#include "server/change.h"

#include <sys/stat.h>

#include "server/leases.h"
#include "server/orphans.h"

void change_begin(Change *c, Server *s)
{
	c->s = s;
	c->b = meta_batch_new(s->meta);
	c->n = 0;
	c->count = 0;
}

static ChangeItem *change_item(Change *c, Inode *inode)
{
	for (uint32_t i = 0; i < c->n; i++) {
		if (c->items[i].inode == inode)
			return &c->items[i];
	}
	g_assert(c->n < G_N_ELEMENTS(c->items));
	ChangeItem *item = &c->items[c->n++];
	*item = (ChangeItem) { .inode = inode };
	inode_data_copy(&item->d, &inode->d);
	return item;
}

InodeData *change_data(Change *c, Inode *inode)
{
	return &change_item(c, inode)->d;
}

void change_delete(Change *c, Inode *inode)
{
	change_item(c, inode)->deleted = true;
	c->count--;
}

void coroutine_fn change_co_orphan(Change *c, Inode *inode)
{
	ChangeItem *item = change_item(c, inode);

	item->d.attr.nlink = 0;
	inode_data_touch(&item->d, false);
	item->asked = item->d.n_blocks == 0;
	if (item->asked && orphans_co_surely_closed(c->s, item->d.attr.ino)) {
		change_delete(c, inode);
		return;
	}
	orphans_add_to_batch(c->b, &item->d);
	item->orphaned = true;
}

static int coroutine_fn add_inodes(Change *c)
{
	for (uint32_t i = 0; i < c->n; i++) {
		ChangeItem *item = &c->items[i];
		int r = 0;

		if (item->deleted)
			r = inode_data_co_delete(c->s, c->b, &item->d);
		else
			inode_data_put(c->b, &item->d);
		if (r < 0)
			return r;
	}
	return 0;
}

static int coroutine_fn commit(Change *c)
{
	int r = add_inodes(c);

	if (r < 0)
		return r;
	if (c->count != 0)
		return inode_count_co_commit(c->s, g_steal_pointer(&c->b), c->count);
	return meta_batch_co_commit(g_steal_pointer(&c->b));
}

/* What was to lose its last name keeps it. */
static void coroutine_fn take_back(Change *c)
{
	for (uint32_t i = 0; i < c->n; i++) {
		ChangeItem *item = &c->items[i];

		item->orphaned = false;
		if (item->asked)
			orphans_co_unask(c->s, item->d.attr.ino);
	}
}

static void publish(Change *c)
{
	for (uint32_t i = 0; i < c->n; i++) {
		ChangeItem *item = &c->items[i];

		if (item->deleted && S_ISDIR(item->d.attr.mode))
			removed_put(c->s->removed, &item->d.attr);
		if (item->deleted)
			inode_set_gone(c->s, item->inode);
		else
			inode_publish(item->inode, &item->d);
	}
}

int coroutine_fn change_co_commit(Change *c)
{
	Inode *inodes[G_N_ELEMENTS(c->items)];

	for (uint32_t i = 0; i < c->n; i++)
		inodes[i] = c->items[i].inode;
	if (!c->lazy)
		leases_co_begin(c->s, inodes, c->n, c->caller);
	int r = commit(c);
	if (r < 0)
		take_back(c);
	else
		publish(c);
	if (!c->lazy)
		leases_end(inodes, c->n);
	return r < 0 ? r : 0;
}

void coroutine_fn change_co_reap(Change *c)
{
	for (uint32_t i = 0; i < c->n; i++) {
		if (c->items[i].orphaned)
			orphans_co_reap(c->s, c->items[i].inode->d.attr.ino);
	}
}

void change_clear(Change *c)
{
	for (uint32_t i = 0; i < c->n; i++)
		inode_data_clear(&c->items[i].d);
	c->n = 0;
	g_clear_pointer(&c->b, meta_batch_free);
}
