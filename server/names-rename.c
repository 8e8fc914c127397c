/*
 * RENAME. What is all on this peer happens in one batch. Names that move to a
 * directory of another peer, and directories that move to another parent where
 * this peer can't see that no circle comes of it, are -EXDEV.
 */
#define G_LOG_DOMAIN "server"
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/ino.h"
#include "server/names.h"

/* Far beyond what a path can name; a longer way up is a broken store. */
#define DEPTH_MAX 1000000

/*
 * May the directory `moved` go from `olddir` into `newdir`? Not when newdir is
 * in it. The way up from newdir ends at the root or at olddir, which is not
 * below moved. The tree lock keeps parents of this peer as they are; of what is
 * on another peer nothing is known.
 */
static int coroutine_fn check_no_circle(Server *s, uint64_t moved, uint64_t olddir, uint64_t newdir)
{
	uint64_t ino = newdir;

	for (uint32_t depth = 0; depth < DEPTH_MAX; depth++) {
		Inode *inode;

		if (ino == moved)
			return -EINVAL;
		if (ino == olddir || ino == INO_ROOT)
			return 0;
		if (map_home(s->map, ino) != s->self)
			return -EXDEV;
		int r = inode_co_get(s, ino, &inode);
		if (r < 0)
			return r;
		ino = inode->d.parent;
		inode_unref(s, inode);
	}
	g_warning("inode %#" G_GINT64_MODIFIER "x: the way up to the root does not end", newdir);
	return -EIO;
}

static int coroutine_fn check_move(Server *s, const Entry *from, const Entry *to)
{
	if (!S_ISDIR(from->mode) || from->dir == to->dir)
		return 0;
	if (entry_is_elsewhere(from))
		return -EXDEV;
	return check_no_circle(s, from->ino, from->dir->d.attr.ino, to->dir->d.attr.ino);
}

static int coroutine_fn check_replace(Server *s, const Entry *from, const Entry *to)
{
	if (S_ISDIR(from->mode) != S_ISDIR(to->mode))
		return S_ISDIR(from->mode) ? -ENOTDIR : -EISDIR;
	if (!S_ISDIR(to->mode))
		return 0;
	if (entry_is_elsewhere(to))
		return -EXDEV;
	int r = entry_co_dir_is_empty(s, &to->inode->d);
	return r < 0 ? r : r > 0 ? 0 : -ENOTEMPTY;
}

/* The inode of a name that is moved into dir. */
static void arrive(Change *c, const Entry *e, const Inode *dir)
{
	if (!e->inode)
		return;
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
	int r = check_move(s, from, to);
	if (r >= 0)
		r = check_move(s, to, from);
	if (r < 0)
		return r;
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
	/* a circle first, as Linux: it would often be -ENOTEMPTY as well */
	r = check_move(s, from, to);
	if (r >= 0 && to->ino != 0)
		r = check_replace(s, from, to);
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

static int coroutine_fn rename_locked(Server *s, Entry e[2], uint32_t flags, Change *c)
{
	if (e[0].ino == 0)
		return -ENOENT;
	return flags & RENAME_EXCHANGE ? exchange(s, &e[0], &e[1], c) : move(s, &e[0], &e[1], flags, c);
}

static bool moves_directory(const Entry e[2])
{
	return e[0].dir != e[1].dir && (S_ISDIR(e[0].mode) || S_ISDIR(e[1].mode));
}

/* The tree lock comes before the inodes', so whether it is needed must be
 * known before what the names stand for is certain. */
static int coroutine_fn lock_and_rename(Server *s, Entry e[2], uint32_t flags, Change *c)
{
	bool tree = false, again;
	int r;

	do {
		if (tree)
			co_mutex_lock(&s->tree_lock);
		r = entry_co_lock(s, e, 2, NULL);
		again = r >= 0 && !tree && moves_directory(e);
		if (r >= 0) {
			if (!again)
				r = rename_locked(s, e, flags, c);
			entry_unlock(e, 2, NULL);
		}
		if (tree)
			co_mutex_unlock(&s->tree_lock);
		tree = true;
	} while (again);
	change_co_reap(c);
	return r;
}

/* The source has to be there all the same. */
static int coroutine_fn rename_to_elsewhere(Server *s, Entry *from)
{
	int r = entry_co_read(s, from);

	return r < 0 ? r : -EXDEV;
}

int coroutine_fn names_rename(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireRenameReq *req = r->req;
	g_auto(Change) c = { .caller = r };
	Entry e[2] = { 0 };
	int res;

	if ((req->flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
	    req->flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	res = entry_co_open(s, r, req->dir, sizeof(*req), 0, req->name_len, &e[0]);
	if (res < 0)
		goto out;
	if (ino_valid(req->newdir) && map_home(s->map, req->newdir) != s->self) {
		res = rename_to_elsewhere(s, &e[0]);
		goto out;
	}
	res = entry_co_open(s, r, req->newdir, sizeof(*req), req->name_len, req->newname_len, &e[1]);
	if (res >= 0)
		res = lock_and_rename(s, e, req->flags, &c);
out:
	entry_close(s, &e[0]);
	entry_close(s, &e[1]);
	return res;
}
