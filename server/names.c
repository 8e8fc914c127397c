#define G_LOG_DOMAIN "server"
#include "server/names.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/holds.h"
#include "server/leases.h"
#include "server/record.h"

static int coroutine_fn lookup_name(Server *s, Entry *e, const RpcReq *lease, WireEntryRep *rep)
{
	/* a name may go between its record and its inode; not for ever */
	for (uint32_t tries = 0; tries < 1000; tries++) {
		int r = holds_co_wait_settled(s, (HoldKey) { .ino = e->dir->d.attr.ino, .hash = e->name.hash });
		if (r < 0)
			return r;
		r = entry_co_read(s, e);
		if (r < 0)
			return r;
		r = entry_co_reply(s, e->ino, e->mode, lease, rep);
		if (r != -ENOENT)
			return r;
	}
	g_warning("directory %#" PRIx64 ": '%s' stands for an inode that is not there", e->dir->d.attr.ino, e->name.text);
	return -EIO;
}

static int coroutine_fn lookup_in(Server *s, Entry *e, const RpcReq *r, WireEntryRep *rep)
{
	uint32_t flags = ((const WireNameReq *)r->req)->flags;

	if (strcmp(e->name.text, ".") == 0)
		return entry_co_reply(s, e->dir->d.attr.ino, S_IFDIR, NULL, rep);
	if (strcmp(e->name.text, "..") == 0) {
		int res = holds_co_wait_settled(s, (HoldKey) { .ino = e->dir->d.attr.ino });
		if (res < 0)
			return res;
		return entry_co_reply(s, e->dir->d.parent, S_IFDIR, NULL, rep);
	}
	return lookup_name(s, e, flags & WIRE_LOOKUP_LEASE ? r : NULL, rep);
}

/* Who keeps the directory's names may also keep that there is none. */
static int coroutine_fn lookup_leased(Server *s, Entry *e, const RpcReq *r, WireEntryRep *rep)
{
	const WireNameReq *req = r->req;
	uint64_t version = e->dir->version;
	int res = lookup_in(s, e, r, rep);

	if (!(req->flags & WIRE_LOOKUP_LEASE) || (res < 0 && res != -ENOENT))
		return res;
	if (leases_grant_since(s, r, e->dir, version))
		rep->lease |= WIRE_LEASE_DIR;
	return 0;
}

static int coroutine_fn lookup(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireNameReq *req = r->req;
	Entry e = { 0 };
	int res = name_parse(r, sizeof(*req), 0, req->name_len, true, &e.name);

	if (res < 0)
		return res;
	res = entry_co_get_dir(s, req->dir, &e.dir);
	if (res < 0)
		return res;
	res = lookup_leased(s, &e, r, r->rep);
	entry_close(s, &e);
	return res;
}

static int coroutine_fn readlink_handler(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireInoReq *req = r->req;
	Inode *inode;
	int res = inode_co_get(s, req->ino, &inode);

	if (res < 0)
		return res;
	if (!inode->d.symlink) {
		res = -EINVAL;
	} else {
		size_t len = strlen(inode->d.symlink);

		res = len <= r->out_cap ? (int)len : -ERANGE;
		if (res >= 0) {
			memcpy(r->out, inode->d.symlink, len);
			r->out_len = len;
		}
	}
	inode_unref(s, inode);
	return res;
}

void names_attach(Server *s)
{
	rpc_serve(s->rpc, WIRE_LOOKUP, lookup, s);
	rpc_serve(s->rpc, WIRE_READLINK, readlink_handler, s);
	rpc_serve(s->rpc, WIRE_CREATE, names_create, s);
	rpc_serve(s->rpc, WIRE_TMPFILE, names_tmpfile, s);
	rpc_serve(s->rpc, WIRE_LINK, names_link, s);
	rpc_serve(s->rpc, WIRE_UNLINK, names_unlink, s);
	rpc_serve(s->rpc, WIRE_RENAME, names_rename, s);
	rpc_serve(s->rpc, WIRE_READDIR, names_readdir, s);
}

/* ---- the root ---- */

static int coroutine_fn make_root(Server *s)
{
	g_auto(Change) c = { 0 };
	g_auto(InodeData) root = { 0 };
	const InodeData none = { .attr = { .chunk_shift = s->opts.default_chunk_shift, .policy = WIRE_POLICY_LOCAL } };

	names_new_inode(&none, INO_ROOT, S_IFDIR | 0755, geteuid(), getegid(), &root);
	root.parent = INO_ROOT;
	change_begin(&c, s);
	inode_data_put(c.b, &root);
	c.count = 1;
	return change_co_commit(&c);
}

int coroutine_fn names_co_make_root(Server *s)
{
	Key key = key_ino(INO_ROOT, RECORD_INODE);
	MetaValue v = { 0 };
	int r = inode_count_co_load(s);

	if (r < 0 || map_home(s->map, INO_ROOT) != s->self)
		return r;
	r = meta_co_get(s->meta, key.data, key.len, &v);
	meta_value_clear(&v);
	return r == -ENOENT ? make_root(s) : r;
}
