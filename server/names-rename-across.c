/*
 * RENAME of what no single peer can do alone, and of directories that get
 * another parent. As names-across.c; the home of the old name coordinates.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/ino.h"
#include "server/tree.h"

/* A name and what it stands for; ino 0: nothing. */
typedef struct Place {
	uint64_t dir;
	const Name *name;
	uint64_t ino;
	uint32_t mode;
} Place;

static int coroutine_fn look(Server *s, Place *p)
{
	struct {
		WireNameReq req;
		char name[WIRE_NAME_MAX];
	} m = { .req = { .dir = p->dir, .name_len = (uint16_t)p->name->len } };
	WireEntryRep rep;
	RpcCall call = { .req = &m, .req_len = (uint32_t)(sizeof(m.req) + p->name->len), .rep = &rep };

	memcpy(m.name, p->name->text, p->name->len);
	p->ino = 0;
	p->mode = 0;
	int r = rpc_co_call(s->rpc, map_home(s->map, p->dir), WIRE_LOOKUP, &call);
	if (r == -ENOENT)
		return 0; /* the directory perhaps; its home says so when it prepares */
	if (r < 0)
		return r;
	p->ino = rep.attr.ino;
	p->mode = rep.attr.mode & S_IFMT;
	return 0;
}

static WireStep change_step(const Place *p, const Place *with)
{
	return names_step(p->dir, p->name, p->ino, p->mode, with ? with->ino : 0, with ? with->mode : 0);
}

static WireStep move_step(const Place *p, const Place *to)
{
	return (WireStep) { .kind = WIRE_STEP_MOVE, .ino = p->ino, .new_ino = to->dir };
}

/* ---- what is to be done ---- */

static int coroutine_fn exchange(TxnCall *t, const Place *from, const Place *to)
{
	WireStep steps[] = { change_step(from, to), change_step(to, from), move_step(from, to), move_step(to, from) };

	return txn_co_run(t, steps, G_N_ELEMENTS(steps), NULL);
}

static int coroutine_fn move(TxnCall *t, const Place *from, const Place *to)
{
	WireStep steps[4] = {
		change_step(from, NULL), change_step(to, from), move_step(from, to),
		{ .kind = WIRE_STEP_DROP, .ino = to->ino, .old_mode = to->mode },
	};

	return txn_co_run(t, steps, to->ino ? 4 : 3, NULL);
}

static int check(const Place *from, const Place *to, uint32_t flags)
{
	if (from->ino == 0)
		return -ENOENT;
	if (flags & RENAME_EXCHANGE)
		return to->ino == 0 ? -ENOENT : 0;
	return to->ino != 0 && (flags & RENAME_NOREPLACE) ? -EEXIST : 0;
}

/* A circle first, as Linux: it would often be -ENOTEMPTY as well. */
static int coroutine_fn check_tree(Server *s, const Place *from, const Place *to, uint32_t flags)
{
	int r = 0;

	if (S_ISDIR(from->mode))
		r = tree_co_check(s, from->ino, from->dir, to->dir);
	if (r >= 0 && (flags & RENAME_EXCHANGE) && S_ISDIR(to->mode))
		r = tree_co_check(s, to->ino, to->dir, from->dir);
	return r;
}

static int coroutine_fn rename_looked(TxnCall *t, const Place *from, const Place *to, uint32_t flags)
{
	int r;

	if (flags & RENAME_EXCHANGE)
		return exchange(t, from, to);
	r = to->ino ? names_check_types(from->mode, to->mode) : 0;
	return r < 0 ? r : move(t, from, to);
}

static int coroutine_fn rename_in_tree(TxnCall *t, const Place *from, const Place *to, uint32_t flags)
{
	uint64_t number;
	int r = tree_co_lock(t, &number);

	if (r < 0)
		return r;
	r = check_tree(t->s, from, to, flags);
	if (r >= 0)
		r = rename_looked(t, from, to, flags);
	tree_co_unlock(t, number);
	return r;
}

static int coroutine_fn rename_once(TxnCall *t, Place *from, Place *to, uint32_t flags)
{
	int r = look(t->s, from);

	if (r >= 0)
		r = look(t->s, to);
	if (r >= 0)
		r = check(from, to, flags);
	if (r < 0)
		return r;
	if (from->ino == to->ino)
		return 0; /* two names of one file: POSIX says to do nothing */
	if (from->dir != to->dir && (S_ISDIR(from->mode) || ((flags & RENAME_EXCHANGE) && S_ISDIR(to->mode))))
		return rename_in_tree(t, from, to, flags);
	return rename_looked(t, from, to, flags);
}

int coroutine_fn names_co_rename_across(Server *s, Entry *e, const Name *newname, const RpcReq *caller)
{
	const WireRenameReq *req = caller->req;
	Place from = { .dir = e->dir->d.attr.ino, .name = &e->name }, to = { .dir = req->newdir, .name = newname };
	TxnCall t;
	int r;

	txn_call_init(&t, s, caller);
	while ((r = rename_once(&t, &from, &to, req->flags)) == -EAGAIN) {
		r = txn_call_co_again(&t);
		if (r < 0)
			return r;
	}
	return r;
}
