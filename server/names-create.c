/* CREATE and LINK: new names. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/ino.h"
#include "server/acls.h"
#include "server/leases.h"
#include "server/names.h"
#include "server/orphans.h"
#include "server/seq.h"

/* What a new inode takes of the store, roughly. */
#define CREATE_BYTES 1024
/* Inside this file: the name is there already. */
#define FOUND (-EALREADY)
#define FIND_TRIES 1000

void names_new_inode(const InodeData *dir, uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, InodeData *ret_d)
{
	int64_t now = clock_realtime_ns();

	*ret_d = (InodeData) {
		.attr = {
			.ino = ino, .mode = mode & (S_IFMT | 07777), .uid = uid, .gid = gid,
			.nlink = S_ISDIR(mode) ? 2 : 1,
			.atime_ns = now, .mtime_ns = now, .ctime_ns = now, .btime_ns = now,
			.chunk_shift = dir->attr.chunk_shift, .policy = dir->attr.policy,
		},
		.flags = S_ISREG(mode) ? INODE_INLINE : 0,
		.parent = S_ISDIR(mode) ? dir->attr.ino : 0,
	};
	/* a setgid directory hands its group down, and to directories the bit */
	if (dir->attr.mode & S_ISGID) {
		ret_d->attr.gid = dir->attr.gid;
		if (S_ISDIR(mode))
			ret_d->attr.mode |= S_ISGID;
	}
}

static int check_type(const WireCreateReq *req, const RpcReq *r)
{
	switch (req->mode & S_IFMT) {
	case S_IFLNK:
		if (r->in_len == 0)
			return -ENOENT;
		if (r->in_len > WIRE_SYMLINK_MAX)
			return -ENAMETOOLONG;
		return memchr(r->in, '\0', r->in_len) ? -EINVAL : 0;
	case S_IFREG: case S_IFDIR: case S_IFCHR: case S_IFBLK: case S_IFIFO: case S_IFSOCK:
		return r->in_len == 0 ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

static void add_details(const WireCreateReq *req, const RpcReq *r, InodeData *d)
{
	if (S_ISCHR(req->mode) || S_ISBLK(req->mode))
		d->attr.rdev = req->rdev;
	if (S_ISLNK(req->mode)) {
		d->symlink = g_strndup(r->in, r->in_len);
		d->attr.size = r->in_len;
	}
}

/* A file lives in the slot of the directory part that holds its name; a
 * directory anywhere on the peer that is to serve it. */
static uint16_t choose_slot(Server *s, const Entry *e, uint32_t mode)
{
	if (S_ISDIR(mode))
		return map_slot_of_peer(s->map, s->self, g_random_int());
	return ino_slot(dir_part(e->dir->d.attr.ino, e->name.hash));
}

static int coroutine_fn create_here(Server *s, Entry *e, const WireCreateReq *req, const RpcReq *r, WireEntryRep *rep)
{
	g_auto(InodeData) d = { 0 };
	g_auto(Change) c = { .caller = r };
	g_autoptr(GByteArray) acl = NULL;
	uint64_t ino;
	int res = acls_co_default(s, &e->dir->d, req->mode, &acl);

	if (res >= 0)
		res = sequences_co_take(s, choose_slot(s, e, req->mode), &ino);

	if (res < 0)
		return res;
	names_new_inode(&e->dir->d, ino, req->mode, req->uid, req->gid, &d);
	add_details(req, r, &d);
	change_begin(&c, s);
	acls_inherit(c.b, &d, acl, req->umask);
	InodeData *dir = change_data(&c, e->dir);
	entry_count(dir, req->mode, 1);
	inode_data_touch(dir, true);
	entry_put(c.b, e, ino, req->mode);
	inode_data_put(c.b, &d);
	c.count = 1;
	res = change_co_commit(&c);
	if (res < 0)
		return res;
	Inode *inode = inode_co_add(s, &d);
	*rep = (WireEntryRep) { .attr = inode->d.attr, .have_attr = 1, .created = 1 };
	if (leases_grant_new(s, r, inode))
		rep->lease = WIRE_LEASE_INODE;
	inode_unref(s, inode);
	return 0;
}

/* The peer that is to serve a new directory. One that has no store, or is not
 * there, leaves it to us. */
static uint16_t directory_peer(Server *s, uint16_t wanted)
{
	if (wanted >= map_peer_count(s->map) || map_slots_of_peer(s->map, wanted) == 0)
		return s->self;
	return wanted;
}

static int coroutine_fn create_locked(Server *s, Entry *e, const WireCreateReq *req, const RpcReq *r, WireEntryRep *rep)
{
	if (e->ino != 0)
		return req->flags & WIRE_CREATE_EXCL ? -EEXIST : FOUND;
	int res = space_take(s->space, CREATE_BYTES);
	if (res < 0)
		return res;
	if (S_ISDIR(req->mode) && directory_peer(s, req->peer) != s->self)
		return NAMES_ACROSS;
	return create_here(s, e, req, r, rep);
}

static int coroutine_fn create_once(Server *s, Entry *e, const RpcReq *r, WireEntryRep *rep)
{
	int res = entry_co_lock(s, e, 1, NULL);

	if (res < 0)
		return res;
	res = create_locked(s, e, r->req, r, rep);
	if (res >= 0 && leases_grant_own(s, r, e->dir)) {
		rep->lease |= WIRE_LEASE_DIR;
		rep->dir = e->dir->d.attr;
	}
	entry_unlock(e, 1, NULL);
	return res == NAMES_ACROSS ? names_co_make_across(s, e, r, rep) : res;
}

/* What is there already is looked at without its lock: asking who holds its size
 * back takes that (exclusive.h). It may have gone by then. */
static int coroutine_fn create_or_find(Server *s, Entry *e, const RpcReq *r, WireEntryRep *rep)
{
	for (uint32_t tries = 0; tries < FIND_TRIES; tries++) {
		int res = create_once(s, e, r, rep);

		if (res != FOUND)
			return res;
		res = entry_co_reply(s, e->ino, e->mode, NULL, rep);
		if (res != -ENOENT)
			return res;
	}
	return -EIO;
}

int coroutine_fn names_create(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireCreateReq *req = r->req;
	Entry e = { 0 };
	int res = check_type(req, r);

	if (res < 0)
		return res;
	res = entry_co_open(s, r, req->dir, sizeof(*req), 0, req->name_len, &e);
	if (res >= 0)
		res = create_or_find(s, &e, r, r->rep);
	entry_close(s, &e);
	return res;
}

/* ---- LINK ---- */

/* What keeps a file without a name from getting one: that it ever had one. The
 * mount that has it open must not take it for an orphan afterwards, nor must
 * others refuse it. */
static int coroutine_fn revive(Server *s, Inode *inode, bool held, uint64_t session)
{
	if (!held || !(inode->d.flags & INODE_LINKABLE))
		return -ENOENT;
	return orphans_co_unask_all(s, inode->d.attr.ino, session);
}

static int coroutine_fn link_locked(Server *s, Entry *e, Inode *inode, bool held, const RpcReq *caller, WireEntryRep *rep)
{
	g_auto(Change) c = { .caller = caller };
	bool nameless = inode->d.attr.nlink == 0;

	if (e->ino != 0)
		return -EEXIST;
	if (inode->gone)
		return -ENOENT;
	if (inode->d.attr.nlink >= LINK_LIMIT)
		return -EMLINK;
	int r = space_take(s->space, CREATE_BYTES);
	if (r >= 0 && nameless)
		r = revive(s, inode, held, caller->session);
	if (r < 0)
		return r;
	change_begin(&c, s);
	InodeData *dir = change_data(&c, e->dir), *d = change_data(&c, inode);
	if (nameless)
		orphans_remove_from_batch(c.b, d);
	d->attr.nlink++;
	inode_data_touch(d, false);
	entry_count(dir, d->attr.mode, 1);
	inode_data_touch(dir, true);
	entry_put(c.b, e, d->attr.ino, d->attr.mode);
	r = change_co_commit(&c);
	if (r >= 0)
		*rep = (WireEntryRep) { .attr = inode->d.attr, .have_attr = 1, .created = 1 };
	return r;
}

static int coroutine_fn link_inode(Server *s, Entry *e, Inode *inode, const RpcReq *caller)
{
	uint64_t ino = inode->d.attr.ino;
	int held = inode->d.flags & INODE_ORPHAN ? orphans_co_hold(s, ino) : 0;

	if (held < 0)
		return held;
	int r = entry_co_lock(s, e, 1, inode);
	if (r >= 0) {
		r = link_locked(s, e, inode, held > 0, caller, caller->rep);
		entry_unlock(e, 1, inode);
	}
	if (held > 0)
		orphans_release(s, ino, r >= 0);
	return r;
}

static int coroutine_fn link_to(Server *s, Entry *e, const RpcReq *caller)
{
	uint64_t ino = ((const WireLinkReq *)caller->req)->ino;
	Inode *inode;
	int r;

	if (ino_valid(ino) && map_home(s->map, ino) != s->self)
		return names_co_link_across(s, e, caller, caller->rep);
	r = inode_co_get(s, ino, &inode);
	if (r < 0)
		return r;
	r = S_ISDIR(inode->d.attr.mode) ? -EPERM : link_inode(s, e, inode, caller);
	inode_unref(s, inode);
	return r;
}

int coroutine_fn names_link(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireLinkReq *req = r->req;
	Entry e = { 0 };
	int res;

	res = entry_co_open(s, r, req->newdir, sizeof(*req), 0, req->name_len, &e);
	if (res >= 0)
		res = link_to(s, &e, r);
	entry_close(s, &e);
	return res;
}
