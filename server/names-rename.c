/*
 * RENAME. What is all on this peer happens in one batch, but for directories
 * that get another parent: those, and what spans peers, go through
 * names-rename-across.c.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/ino.h"
#include "server/names.h"

int names_check_types(uint32_t mode, uint32_t old)
{
	if (S_ISDIR(mode) == S_ISDIR(old))
		return 0;
	return S_ISDIR(mode) ? -ENOTDIR : -EISDIR;
}

static int coroutine_fn check_replace(Server *s, const Entry *from, const Entry *to)
{
	int r = names_check_types(from->mode, to->mode);

	if (r < 0 || !S_ISDIR(to->mode))
		return r;
	r = entry_co_dir_is_empty(s, &to->inode->d);
	return r < 0 ? r : r > 0 ? 0 : -ENOTEMPTY;
}

/* The inode of a name that is moved into dir. */
static void arrive(Change *c, const Entry *e, const Inode *dir)
{
	InodeData *d = change_data(c, e->inode);

	if (S_ISDIR(e->mode))
		d->parent = dir->d.attr.ino;
	inode_data_touch(d, false);
}

static void touch_dirs(Change *c, const Entry *from, const Entry *to)
{
	inode_data_touch(change_data(c, from->dir), true);
	if (to->dir != from->dir)
		inode_data_touch(change_data(c, to->dir), true);
}

static int coroutine_fn exchange(Server *s, Entry *from, Entry *to, Change *c)
{
	if (to->ino == 0)
		return -ENOENT;
	if (from->ino == to->ino)
		return 0;
	change_begin(c, s);
	entry_put(c->b, from, to->ino, to->mode);
	entry_put(c->b, to, from->ino, from->mode);
	entry_count(change_data(c, from->dir), from->mode, -1);
	entry_count(change_data(c, from->dir), to->mode, 1);
	entry_count(change_data(c, to->dir), to->mode, -1);
	entry_count(change_data(c, to->dir), from->mode, 1);
	touch_dirs(c, from, to);
	arrive(c, from, to->dir);
	arrive(c, to, from->dir);
	return change_co_commit(c);
}

static int coroutine_fn move(Server *s, Entry *from, Entry *to, uint32_t flags, Change *c)
{
	int r;

	if (to->ino != 0 && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (from->ino == to->ino)
		return 0; /* two names of one file: POSIX says to do nothing */
	r = to->ino != 0 ? check_replace(s, from, to) : 0;
	if (r < 0)
		return r;
	change_begin(c, s);
	entry_delete(c->b, from);
	entry_put(c->b, to, from->ino, from->mode);
	entry_count(change_data(c, from->dir), from->mode, -1);
	if (to->ino != 0)
		entry_count(change_data(c, to->dir), to->mode, -1);
	entry_count(change_data(c, to->dir), from->mode, 1);
	touch_dirs(c, from, to);
	arrive(c, from, to->dir);
	if (to->inode)
		names_co_drop_link(c, to->inode);
	return change_co_commit(c);
}

static bool is_all_here(const Entry e[2])
{
	if (e[0].dir != e[1].dir && (S_ISDIR(e[0].mode) || S_ISDIR(e[1].mode)))
		return false;
	return !entry_is_elsewhere(&e[0]) && !entry_is_elsewhere(&e[1]);
}

static int coroutine_fn rename_locked(Server *s, Entry e[2], uint32_t flags, Change *c)
{
	if (e[0].ino == 0)
		return -ENOENT;
	if (!is_all_here(e))
		return NAMES_ACROSS;
	return flags & RENAME_EXCHANGE ? exchange(s, &e[0], &e[1], c) : move(s, &e[0], &e[1], flags, c);
}

static int coroutine_fn rename_here(Server *s, Entry e[2], const RpcReq *caller)
{
	const WireRenameReq *req = caller->req;
	g_auto(Change) c = { .caller = caller };
	int r = entry_co_get_dir(s, req->newdir, &e[1].dir);

	if (r < 0)
		return r;
	r = entry_co_lock(s, e, 2, NULL);
	if (r < 0)
		return r;
	r = rename_locked(s, e, req->flags, &c);
	entry_unlock(e, 2, NULL);
	change_co_reap(&c);
	return r;
}

int coroutine_fn names_rename(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireRenameReq *req = r->req;
	Entry e[2] = { 0 };
	int res;

	if ((req->flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
	    req->flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if (!ino_valid(req->newdir))
		return -ENOENT;
	res = entry_co_open(s, r, req->dir, sizeof(*req), 0, req->name_len, &e[0]);
	if (res >= 0)
		res = name_parse(r, sizeof(*req), req->name_len, req->newname_len, false, &e[1].name);
	if (res < 0)
		goto out;
	res = NAMES_ACROSS;
	if (map_home(s->map, req->newdir) == s->self)
		res = rename_here(s, e, r);
	if (res == NAMES_ACROSS)
		res = names_co_rename_across(s, &e[0], &e[1].name, r);
out:
	entry_close(s, &e[0]);
	entry_close(s, &e[1]);
	return res;
}
