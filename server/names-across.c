/*
 * CREATE of directories, LINK and UNLINK where the name is here and the inode
 * on another peer: what to do is looked up first, as a list of steps (txn.h),
 * and done if it is still so; else it is looked up again.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/ino.h"
#include "server/acls.h"
#include "server/names.h"
#include "server/txn.h"

static WireStep name_step(const Entry *e, uint64_t new_ino, uint32_t new_mode)
{
	return names_step(e->dir->d.attr.ino, &e->name, e->ino, e->mode, new_ino, new_mode);
}

WireStep names_step(uint64_t dir, const Name *name, uint64_t old_ino, uint32_t old_mode, uint64_t new_ino, uint32_t new_mode)
{
	WireStep step = {
		.kind = WIRE_STEP_NAME, .ino = dir, .name_len = (uint16_t)name->len,
		.old_ino = old_ino, .old_mode = old_mode & S_IFMT, .new_ino = new_ino, .new_mode = new_mode & S_IFMT,
	};

	memcpy(step.name, name->text, name->len);
	return step;
}

/* Without a lock: may be out of date at once. A name that is not there has ino 0. */
static int coroutine_fn read_name(Server *s, Entry *e)
{
	int r = holds_co_wait_settled(s, (HoldKey) { .ino = e->dir->d.attr.ino, .hash = e->name.hash });

	if (r >= 0)
		r = entry_co_read(s, e);
	return r == -ENOENT ? 0 : r;
}

/* ---- a directory on another peer ---- */

static int coroutine_fn make_once(TxnCall *t, Entry *e, const WireCreateReq *req, WireEntryRep *rep)
{
	g_autoptr(GByteArray) acl = NULL;
	InodeData d;
	int r = read_name(t->s, e);

	if (r < 0)
		return r;
	if (e->ino != 0)
		return req->flags & WIRE_CREATE_EXCL ? -EEXIST : entry_co_reply(t->s, e->ino, e->mode, NULL, rep);
	r = acls_co_default(t->s, &e->dir->d, req->mode, &acl);
	if (r < 0)
		return r;
	names_new_inode(&e->dir->d, 0, req->mode, req->uid, req->gid, &d);
	WireStep steps[] = {
		name_step(e, 0, S_IFDIR),
		{
			.kind = WIRE_STEP_MAKE, .peer = req->peer, .new_ino = e->dir->d.attr.ino, .new_mode = d.attr.mode,
			.umask = (uint16_t)(req->umask & 0777), .acl_len = acl ? acl->len : 0,
			.uid = d.attr.uid, .gid = d.attr.gid, .chunk_shift = d.attr.chunk_shift, .policy = d.attr.policy,
		},
	};
	t->acl = acl;
	r = txn_co_run(t, steps, G_N_ELEMENTS(steps), &rep->attr);
	t->acl = NULL;
	if (r >= 0)
		rep->have_attr = rep->created = 1;
	return r;
}

int coroutine_fn names_co_make_across(Server *s, Entry *e, const RpcReq *caller, WireEntryRep *rep)
{
	TxnCall t;
	int r;

	txn_call_init(&t, s, caller);
	while ((r = make_once(&t, e, caller->req, rep)) == -EAGAIN) {
		r = txn_call_co_again(&t);
		if (r < 0)
			return r;
	}
	return r;
}

/* ---- another name for what is on another peer ---- */

static int coroutine_fn get_mode(Server *s, uint64_t ino, uint32_t *ret_mode)
{
	WireInoReq req = { .ino = ino };
	WireAttrRep rep;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep };
	int r = rpc_co_call(s->rpc, map_home(s->map, ino), WIRE_GETATTR, &call);

	if (r >= 0)
		*ret_mode = rep.attr.mode;
	return r;
}

static int coroutine_fn link_once(TxnCall *t, Entry *e, uint64_t ino, WireEntryRep *rep)
{
	uint32_t mode;
	int r = get_mode(t->s, ino, &mode);

	if (r < 0)
		return r;
	if (S_ISDIR(mode))
		return -EPERM;
	r = read_name(t->s, e);
	if (r < 0)
		return r;
	if (e->ino != 0)
		return -EEXIST;
	WireStep steps[] = { name_step(e, ino, mode), { .kind = WIRE_STEP_LINK, .ino = ino } };
	r = txn_co_run(t, steps, G_N_ELEMENTS(steps), NULL);
	if (r >= 0)
		*rep = (WireEntryRep) { .attr.ino = ino, .attr.mode = mode & S_IFMT, .created = 1 };
	return r;
}

int coroutine_fn names_co_link_across(Server *s, Entry *e, const RpcReq *caller, WireEntryRep *rep)
{
	const WireLinkReq *req = caller->req;
	TxnCall t;
	int r;

	txn_call_init(&t, s, caller);
	while ((r = link_once(&t, e, req->ino, rep)) == -EAGAIN) {
		r = txn_call_co_again(&t);
		if (r < 0)
			return r;
	}
	return r;
}

/* ---- the name of what is on another peer ---- */

static int coroutine_fn remove_once(TxnCall *t, Entry *e, bool rmdir)
{
	int r = read_name(t->s, e);

	if (r < 0)
		return r;
	if (e->ino == 0)
		return -ENOENT;
	if (rmdir != !!S_ISDIR(e->mode))
		return rmdir ? -ENOTDIR : -EISDIR;
	WireStep steps[] = { name_step(e, 0, 0), { .kind = WIRE_STEP_DROP, .ino = e->ino, .old_mode = e->mode } };
	return txn_co_run(t, steps, G_N_ELEMENTS(steps), NULL);
}

int coroutine_fn names_co_remove_across(Server *s, Entry *e, const RpcReq *caller)
{
	const WireNameReq *req = caller->req;
	TxnCall t;
	int r;

	txn_call_init(&t, s, caller);
	while ((r = remove_once(&t, e, req->flags & WIRE_UNLINK_RMDIR)) == -EAGAIN) {
		r = txn_call_co_again(&t);
		if (r < 0)
			return r;
	}
	return r;
}
