/* UNLINK: unlink(2) and rmdir(2). */
#include <errno.h>
#include <sys/stat.h>

#include "server/leases.h"
#include "server/names.h"

static int coroutine_fn check_kind(Server *s, const Entry *e, bool rmdir)
{
	if (e->ino == 0)
		return -ENOENT;
	if (rmdir != !!S_ISDIR(e->mode))
		return rmdir ? -ENOTDIR : -EISDIR;
	if (!rmdir || !e->inode)
		return 0;
	int r = entry_co_dir_is_empty(s, &e->inode->d);
	return r < 0 ? r : r > 0 ? 0 : -ENOTEMPTY;
}

void coroutine_fn names_co_drop_link(Change *c, Inode *inode)
{
	InodeData *d = change_data(c, inode);

	if (S_ISDIR(d->attr.mode) || d->attr.nlink == 1) {
		change_co_orphan(c, inode);
		return;
	}
	d->attr.nlink--;
	inode_data_touch(d, false);
}

static int coroutine_fn unlink_here(Server *s, Entry *e, Change *c)
{
	change_begin(c, s);
	InodeData *dir = change_data(c, e->dir);

	entry_count(dir, e->mode, -1);
	inode_data_touch(dir, true);
	entry_delete(c->b, e);
	names_co_drop_link(c, e->inode);
	return change_co_commit(c);
}

static int coroutine_fn unlink_locked(Server *s, Entry *e, const RpcReq *caller, Change *c)
{
	const WireNameReq *req = caller->req;
	int r = check_kind(s, e, req->flags & WIRE_UNLINK_RMDIR);

	if (r < 0)
		return r;
	return e->inode ? unlink_here(s, e, c) : NAMES_ACROSS;
}

int coroutine_fn names_unlink(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireNameReq *req = r->req;
	WireAttrRep *rep = r->rep;
	g_auto(Change) c = { .caller = r };
	Entry e = { 0 };
	int res = entry_co_open(s, r, req->dir, sizeof(*req), 0, req->name_len, &e);

	if (res < 0)
		goto out;
	res = entry_co_lock(s, &e, 1, NULL);
	if (res < 0)
		goto out;
	res = unlink_locked(s, &e, r, &c);
	if (res >= 0 && leases_grant_own(s, r, e.dir)) {
		rep->lease = WIRE_LEASE_INODE;
		rep->attr = e.dir->d.attr;
	}
	entry_unlock(&e, 1, NULL);
	change_co_reap(&c);
	if (res == NAMES_ACROSS)
		res = names_co_remove_across(s, &e, r);
out:
	entry_close(s, &e);
	return res;
}
