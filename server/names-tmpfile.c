/* TMPFILE: a file in a directory without a name. It is an orphan from birth,
 * so whatever ends before it gets a name, nothing of it stays. */
#include <errno.h>
#include <sys/stat.h>

#include "common/ino.h"
#include "server/acls.h"
#include "server/names.h"
#include "server/orphans.h"
#include "server/seq.h"

/* What a new inode takes of the store, roughly. */
#define CREATE_BYTES 1024

static int coroutine_fn tmpfile_locked(Server *s, Inode *dir, const WireTmpfileReq *req, WireAttrRep *rep)
{
	g_auto(InodeData) d = { 0 };
	g_auto(Change) c = { 0 };
	g_autoptr(GByteArray) acl = NULL;
	uint64_t ino;
	int r = dir->gone || dir->d.attr.nlink == 0 ? -ENOENT : space_take(s->space, CREATE_BYTES);

	if (r >= 0)
		r = acls_co_default(s, &dir->d, req->mode, &acl);
	if (r >= 0)
		r = sequences_co_take(s, ino_slot(dir_part(dir->d.attr.ino, 0)), &ino);
	if (r < 0)
		return r;
	names_new_inode(&dir->d, ino, req->mode, req->uid, req->gid, &d);
	d.attr.nlink = 0;
	if (req->linkable)
		d.flags |= INODE_LINKABLE;
	change_begin(&c, s);
	acls_inherit(c.b, &d, acl, req->umask);
	orphans_add_to_batch(c.b, &d);
	inode_data_put(c.b, &d);
	c.count = 1;
	r = change_co_commit(&c);
	if (r < 0)
		return r;
	rep->attr = d.attr;
	inode_unref(s, inode_co_add(s, &d));
	orphans_add_nameless(s, ino);
	return 0;
}

int coroutine_fn names_tmpfile(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireTmpfileReq *req = r->req;
	Inode *dir;

	if (!S_ISREG(req->mode) || req->linkable > 1)
		return -EINVAL;
	int res = entry_co_get_dir(s, req->dir, &dir);
	if (res < 0)
		return res;
	co_mutex_lock(&dir->lock);
	res = tmpfile_locked(s, dir, req, r->rep);
	co_mutex_unlock(&dir->lock);
	inode_unref(s, dir);
	return res;
}
