/* Steps of changes that span peers, at the home of their inodes. */
#define G_LOG_DOMAIN "server"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/ino.h"
#include "server/acl.h"
#include "server/acls.h"
#include "server/leases.h"
#include "server/names.h"
#include "server/orphans.h"
#include "server/record.h"
#include "server/seq.h"
#include "server/txn.h"

#define STEP_BYTES 1024

uint16_t step_home(const Server *s, const WireStep *step)
{
	return step->kind == WIRE_STEP_MAKE ? step->peer : map_home(s->map, step->ino);
}

static bool name_ok(const WireStep *step)
{
	return step->name_len > 0 && step->name_len <= WIRE_NAME_MAX && !memchr(step->name, '/', step->name_len) &&
		!memchr(step->name, '\0', step->name_len) && step->name[step->name_len] == '\0' &&
		strcmp(step->name, ".") && strcmp(step->name, "..");
}

static bool step_ok(const Server *s, const WireStep *step)
{
	if (step_home(s, step) != s->self)
		return false;
	switch (step->kind) {
	case WIRE_STEP_NAME:
		return name_ok(step) && (step->old_ino == 0 || ino_valid(step->old_ino)) &&
			(step->new_ino == 0 || ino_valid(step->new_ino));
	case WIRE_STEP_LINK:
	case WIRE_STEP_DROP:
		return true;
	case WIRE_STEP_MOVE:
		return ino_valid(step->new_ino);
	case WIRE_STEP_MAKE:
		return ino_valid(step->new_ino) && S_ISDIR(step->new_mode) && step->chunk_shift >= 12 && step->chunk_shift <= 30 &&
			step->policy <= WIRE_POLICY_STRIPE && step->umask <= 0777 && (step->ino == 0 || map_home(s->map, step->ino) == s->self);
	default:
		return false;
	}
}

/* What no change does: one inode dropped or moved twice, or more than one linked. */
static bool is_repeated(const WireStep *steps, uint32_t i)
{
	if (steps[i].kind == WIRE_STEP_NAME || steps[i].kind == WIRE_STEP_MAKE)
		return false;
	for (uint32_t k = 0; k < i; k++) {
		if (steps[k].kind == steps[i].kind && (steps[k].ino == steps[i].ino || steps[i].kind == WIRE_STEP_LINK))
			return true;
	}
	return false;
}

int steps_check(Server *s, const WireStep *steps, uint32_t n)
{
	if (n == 0 || n > WIRE_STEPS_MAX)
		return -EPROTO;
	for (uint32_t i = 0; i < n; i++) {
		if (!step_ok(s, &steps[i]) || is_repeated(steps, i))
			return -EPROTO;
	}
	return 0;
}

int steps_take_acl(const WireStep *steps, uint32_t n, const void *data, size_t len, GByteArray **ret_acl)
{
	size_t at = n * sizeof(WireStep), acl_len = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (steps[i].kind == WIRE_STEP_MAKE)
			acl_len = steps[i].acl_len;
	}
	*ret_acl = NULL;
	if (len < at || len - at != acl_len)
		return -EPROTO;
	if (acl_len == 0)
		return 0;
	const uint8_t *acl = (const uint8_t *)data + at;
	if (acl_check(acl, acl_len) < 0 || acl_is_empty(acl_len))
		return -EPROTO;
	*ret_acl = g_byte_array_sized_new((guint)acl_len);
	g_byte_array_append(*ret_acl, acl, (guint)acl_len);
	return 0;
}

/* ---- the inodes of some steps ---- */

typedef struct StepInodes {
	Inode *of[WIRE_STEPS_MAX]; /* references; NULL: MAKE, or it is not there */
	Inode *all[4];             /* without repetitions: what is to be locked */
	uint32_t n;
} StepInodes;

static void inodes_put(Server *s, StepInodes *x)
{
	for (uint32_t i = 0; i < WIRE_STEPS_MAX; i++)
		inode_unref(s, g_steal_pointer(&x->of[i]));
	x->n = 0;
}

static int inodes_add(StepInodes *x, Inode *inode)
{
	for (uint32_t i = 0; i < x->n; i++) {
		if (x->all[i] == inode)
			return 0;
	}
	if (x->n == G_N_ELEMENTS(x->all))
		return -EPROTO;
	x->all[x->n++] = inode;
	return 0;
}

static int coroutine_fn inodes_co_get(Server *s, const WireStep *steps, uint32_t n, StepInodes *ret_x)
{
	*ret_x = (StepInodes) { 0 };
	for (uint32_t i = 0; i < n; i++) {
		int r;

		if (steps[i].kind == WIRE_STEP_MAKE)
			continue;
		r = inode_co_get_as_is(s, steps[i].ino, &ret_x->of[i]);
		if (r == -ENOENT)
			continue;
		if (r >= 0)
			r = inodes_add(ret_x, ret_x->of[i]);
		if (r < 0) {
			inodes_put(s, ret_x);
			return r;
		}
	}
	return 0;
}

/* ---- holding ---- */

static Entry step_entry(const WireStep *step, Inode *dir)
{
	Entry e = { .dir = dir, .name.len = step->name_len };

	memcpy(e.name.text, step->name, step->name_len);
	e.name.hash = name_hash(step->name, step->name_len);
	return e;
}

static HoldKey step_key(const WireStep *step)
{
	HoldKey key = { .ino = step->ino };

	if (step->kind == WIRE_STEP_NAME)
		key.hash = name_hash(step->name, step->name_len);
	key.removing = step->kind == WIRE_STEP_DROP && S_ISDIR(step->old_mode);
	return key;
}

static void hold(Server *s, const WireStep *steps, uint32_t n, HoldOwner *owner)
{
	for (uint32_t i = 0; i < n; i++)
		holds_add(s, step_key(&steps[i]), owner);
}

static const HoldOwner *find_conflict(Server *s, const WireStep *steps, uint32_t n, const HoldOwner *owner)
{
	for (uint32_t i = 0; i < n; i++) {
		const HoldOwner *o = steps[i].ino ? holds_find(s, step_key(&steps[i]), owner) : NULL;

		if (o)
			return o;
	}
	return NULL;
}

static bool is_there(const Inode *inode)
{
	return inode && !inode->gone && inode->d.attr.nlink > 0;
}

/* A file that never had a name, and may get one. */
static bool is_nameless(const Inode *inode)
{
	return inode && !inode->gone && inode->d.attr.nlink == 0 && (inode->d.flags & INODE_LINKABLE);
}

/* Until it is settled whether it gets its name, whoever closes it or goes. */
static int hold_orphan(Server *s, const WireStep *steps, uint32_t n, const StepInodes *x, HoldOwner *owner)
{
	for (uint32_t i = 0; i < n; i++) {
		int r;

		if (steps[i].kind != WIRE_STEP_LINK || !is_nameless(x->of[i]))
			continue;
		r = orphans_hold(s, steps[i].ino);
		if (r <= 0)
			return r < 0 ? r : -ENOENT;
		owner->orphan = steps[i].ino;
	}
	return 0;
}

static void release_orphan(Server *s, HoldOwner *owner)
{
	for (uint32_t i = 0; i < owner->n_inodes; i++) {
		if (owner->inodes[i]->d.attr.ino == owner->orphan)
			orphans_release(s, owner->orphan, is_there(owner->inodes[i]));
	}
	owner->orphan = 0;
}

static void keep_inodes(const StepInodes *x, HoldOwner *owner)
{
	owner->n_inodes = x->n;
	for (uint32_t i = 0; i < x->n; i++)
		owner->inodes[i] = inode_ref(x->all[i]);
}

/* One that loses a name may itself be lost: see check_drop(). */
static int coroutine_fn inode_co_get_of(Server *s, const WireStep *step, Inode **ret_inode)
{
	int r = step->kind == WIRE_STEP_MAKE ? 0 : inode_co_get_as_is(s, step->ino, ret_inode);

	return r == -ENOENT && step->kind == WIRE_STEP_DROP ? 0 : r;
}

int coroutine_fn steps_co_hold(Server *s, const WireStep *steps, uint32_t n, HoldOwner *owner)
{
	StepInodes x = { 0 };
	int res = 0;

	for (uint32_t i = 0; i < n; i++) {
		int r = inode_co_get_of(s, &steps[i], &x.of[i]);

		if (r >= 0 && x.of[i])
			r = inodes_add(&x, x.of[i]);
		if (r >= 0)
			continue;
		g_warning("change %016" PRIx64 ".%" PRIu64 ": inode %#" PRIx64 " can't be had: %s", owner->id.session,
			  owner->id.number, steps[i].ino, g_strerror(-r));
		res = r;
	}
	hold(s, steps, n, owner);
	keep_inodes(&x, owner);
	hold_orphan(s, steps, n, &x, owner);
	leases_bar(owner->inodes, owner->n_inodes);
	inodes_put(s, &x);
	return res;
}

void steps_drop(Server *s, HoldOwner *owner)
{
	release_orphan(s, owner);
	leases_end(owner->inodes, owner->n_inodes);
	for (uint32_t i = 0; i < owner->n_inodes; i++)
		inode_unref(s, owner->inodes[i]);
	owner->n_inodes = 0;
	holds_drop(s, owner);
}

/* ---- checking; the inodes are locked ---- */

static int coroutine_fn check_name(Server *s, const WireStep *step, Inode *dir)
{
	if (!is_there(dir))
		return -ENOENT;
	if (!S_ISDIR(dir->d.attr.mode))
		return -ENOTDIR;
	Entry e = step_entry(step, dir);
	int r = entry_co_read(s, &e);
	if (r < 0 && r != -ENOENT)
		return r;
	if (e.ino != step->old_ino)
		return -EAGAIN;
	return step->new_ino && !step->old_ino ? space_take(s->space, STEP_BYTES) : 0;
}

static int check_link(const Inode *inode)
{
	if (!is_there(inode) && !is_nameless(inode))
		return -ENOENT;
	if (S_ISDIR(inode->d.attr.mode))
		return -EPERM;
	return inode->d.attr.nlink >= LINK_LIMIT ? -EMLINK : 0;
}

/* A name whose inode is lost can be removed. Whether it is, or both are just being
 * removed by somebody else, whoever holds the name knows. */
static int coroutine_fn check_drop(Server *s, const WireStep *step, const Inode *inode)
{
	if (!is_there(inode))
		return 0;
	if (S_ISDIR(inode->d.attr.mode) != S_ISDIR(step->old_mode))
		return -EIO;
	if (!S_ISDIR(inode->d.attr.mode))
		return 0;
	int r = entry_co_dir_is_empty(s, &inode->d);
	return r < 0 ? r : r > 0 ? 0 : -ENOTEMPTY;
}

static int coroutine_fn check_make(Server *s, WireStep *step)
{
	int r = space_take(s->space, STEP_BYTES);

	if (r < 0)
		return r;
	step->time_ns = clock_realtime_ns();
	return sequences_co_take(s, map_slot_of_peer(s->map, s->self, g_random_int()), &step->ino);
}

static int coroutine_fn check_one(Server *s, WireStep *step, Inode *inode)
{
	switch (step->kind) {
	case WIRE_STEP_NAME:
		return check_name(s, step, inode);
	case WIRE_STEP_LINK:
		return check_link(inode);
	case WIRE_STEP_DROP:
		return check_drop(s, step, inode);
	case WIRE_STEP_MAKE:
		return check_make(s, step);
	default:
		return is_there(inode) ? 0 : -EAGAIN;
	}
}

static int coroutine_fn check_all(Server *s, WireStep *steps, uint32_t n, const StepInodes *x)
{
	for (uint32_t i = 0; i < n; i++) {
		int r = check_one(s, &steps[i], x->of[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

/* 1: done, 0: *ret_other holds something of it. */
static int coroutine_fn prepare_once(Server *s, WireStep *steps, uint32_t n, HoldOwner *owner, const RpcReq *caller, const HoldOwner **ret_other)
{
	StepInodes x;
	int r = inodes_co_get(s, steps, n, &x);

	if (r < 0)
		return r;
	inode_co_lock_many(x.all, x.n);
	*ret_other = find_conflict(s, steps, n, owner);
	r = 0;
	if (!*ret_other) {
		r = check_all(s, steps, n, &x);
		/* the checks may have yielded, but who takes hold has the locks */
		if (r >= 0)
			r = hold_orphan(s, steps, n, &x, owner);
		if (r >= 0) {
			hold(s, steps, n, owner);
			keep_inodes(&x, owner);
			leases_co_begin(s, owner->inodes, owner->n_inodes, caller);
			r = 1;
		}
	}
	inode_unlock_many(x.all, x.n);
	inodes_put(s, &x);
	return r;
}

/* What is to get a name is no orphan to mounts. They are asked without a lock; once
 * it turns out that it gets none they are told anew (orphans_release()). */
static int coroutine_fn tell_named(Server *s, HoldOwner *owner)
{
	int r = owner->orphan ? orphans_co_unask_all(s, owner->orphan, owner->session) : 0;

	if (r < 0)
		steps_drop(s, owner);
	return r;
}

int coroutine_fn steps_co_prepare(Server *s, WireStep *steps, uint32_t n, HoldOwner *owner, const RpcReq *caller)
{
	int64_t until = reactor_now_ns(s->reactor) + HOLDS_WAIT_NS / 2;

	for (;;) {
		const HoldOwner *other;
		int r = prepare_once(s, steps, n, owner, caller, &other);

		if (r != 0)
			return r < 0 ? r : tell_named(s, owner);
		if (owner->cancelled || !holds_is_older(owner, other) || holds_co_wait_once(s, until) < 0 || owner->cancelled)
			return -EAGAIN;
	}
}

/* ---- doing ---- */

void step_made(const WireStep *step, const GByteArray *acl, MetaBatch *b, InodeData *ret_d)
{
	const InodeData parent = { .attr = {
		.ino = step->new_ino, .chunk_shift = step->chunk_shift, .policy = step->policy,
	} };
	WireAttr *a = &ret_d->attr;

	names_new_inode(&parent, step->ino, step->new_mode, step->uid, step->gid, ret_d);
	a->atime_ns = a->mtime_ns = a->ctime_ns = a->btime_ns = step->time_ns;
	acls_inherit(b, ret_d, acl, step->umask);
}

static void do_name(Change *c, const WireStep *step, Inode *dir)
{
	InodeData *d = change_data(c, dir);
	Entry e = step_entry(step, dir);

	if (step->old_ino)
		entry_count(d, step->old_mode, -1);
	if (step->new_ino)
		entry_count(d, step->new_mode, 1);
	inode_data_touch(d, true);
	if (step->new_ino)
		entry_put(c->b, &e, step->new_ino, step->new_mode);
	else
		entry_delete(c->b, &e);
}

static void do_link(Change *c, Inode *inode)
{
	InodeData *d = change_data(c, inode);

	if (d->attr.nlink == 0)
		orphans_remove_from_batch(c->b, d);
	d->attr.nlink++;
	inode_data_touch(d, false);
}

static void do_move(Change *c, const WireStep *step, Inode *inode)
{
	InodeData *d = change_data(c, inode);

	if (S_ISDIR(d->attr.mode))
		d->parent = step->new_ino;
	inode_data_touch(d, false);
}

static void do_make(Change *c, const WireStep *step, const GByteArray *acl)
{
	g_auto(InodeData) d = { 0 };

	step_made(step, acl, c->b, &d);
	inode_data_put(c->b, &d);
	c->count++;
}

static void coroutine_fn do_one(Change *c, const WireStep *step, Inode *inode, const GByteArray *acl)
{
	if (step->kind == WIRE_STEP_MAKE) {
		do_make(c, step, acl);
		return;
	}
	if (!is_there(inode) && !(step->kind == WIRE_STEP_LINK && is_nameless(inode))) {
		if (step->kind == WIRE_STEP_DROP)
			g_warning("inode %#" PRIx64 " had a name but is lost, removed the name", step->ino);
		return;
	}
	switch (step->kind) {
	case WIRE_STEP_NAME:
		do_name(c, step, inode);
		break;
	case WIRE_STEP_LINK:
		do_link(c, inode);
		break;
	case WIRE_STEP_DROP:
		names_co_drop_link(c, inode);
		break;
	default:
		do_move(c, step, inode);
		break;
	}
}

int coroutine_fn steps_co_do(Server *s, const WireStep *steps, uint32_t n, const StepsDo *how)
{
	g_auto(Change) c = { .caller = how->caller };
	StepInodes x;
	int r = inodes_co_get(s, steps, n, &x);

	if (r < 0)
		return r;
	inode_co_lock_many(x.all, x.n);
	change_begin(&c, s);
	for (uint32_t i = 0; i < n; i++)
		do_one(&c, &steps[i], x.of[i], how->acl);
	if (how->also)
		how->also(c.b, how->arg);
	r = change_co_commit(&c);
	inode_unlock_many(x.all, x.n);
	if (r >= 0)
		change_co_reap(&c);
	inodes_put(s, &x);
	return r;
}
