#define G_LOG_DOMAIN "server"
#include "server/exclusive.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/heldback.h"
#include "server/data.h"
#include "server/leases.h"

#define HOLDER_SHIFT 16

uint16_t exclusive_holder(const InodeData *d)
{
	return d->flags & INODE_EXCLUSIVE ? (uint16_t)(d->flags >> HOLDER_SHIFT) : PEER_NONE;
}

static bool is_holder(const InodeData *d, uint16_t peer)
{
	return peer != PEER_NONE && exclusive_holder(d) == peer;
}

bool exclusive_is_holder(const Inode *inode, uint16_t peer)
{
	return is_holder(&inode->d, peer);
}

void exclusive_set(InodeData *d, uint16_t peer)
{
	d->flags &= (1u << HOLDER_SHIFT) - 1;
	d->flags &= ~(uint32_t)INODE_EXCLUSIVE;
	if (peer != PEER_NONE)
		d->flags |= INODE_EXCLUSIVE | (uint32_t)peer << HOLDER_SHIFT;
}

/* What a cut still to be made would take along must not be held back. */
bool exclusive_allowed(Server *s, const RpcReq *r, const Inode *inode)
{
	return r->peer != PEER_NONE && r->peer != s->self && inode->refs == 1 && inode->changer == r->session &&
	       inode->d.attr.nlink > 0 && !truncate_is_pending(s, inode);
}

static void take_over(InodeData *d, const WireHeldBack *held)
{
	WireAttr *a = &d->attr;

	a->size = MAX(a->size, held->end);
	a->mtime_ns = held->mtime_ns;
	/* What changed no data may have moved it. */
	a->ctime_ns = MAX(a->ctime_ns + 1, held->ctime_ns);
	inode_data_set_blocks(d, held->target, held->blocks);
}

/* Other data than that of the holder moved mtime: then what it held back is
 * known, and more. */
int exclusive_merge(Server *s, InodeData *d, const RpcReq *r, const WireHeldBack *held)
{
	if (!held->ino)
		return 0;
	if (!heldback_valid(held, d->attr.ino, map_peer_count(s->map)))
		return -EINVAL;
	if (is_holder(d, r->peer) && d->attr.mtime_ns == held->base_ns && heldback_any(held))
		take_over(d, held);
	return 0;
}

/* ---- taking back ---- */

static int coroutine_fn end_lease(Server *s, Inode *inode, const WireHeldBack *held)
{
	g_auto(InodeData) d = { 0 };
	MetaBatch *b = meta_batch_new(s->meta);

	inode_data_copy(&d, &inode->d);
	exclusive_set(&d, PEER_NONE);
	if (heldback_any(held) && d.attr.mtime_ns == held->base_ns)
		take_over(&d, held);
	inode_data_put(b, &d);
	/* Nobody else has a lease; none is to get one on what was. */
	leases_bar(&inode, 1);
	int r = meta_batch_co_commit(b);
	if (r >= 0)
		inode_publish(inode, &d);
	leases_end(&inode, 1);
	return r < 0 ? r : 0;
}

static int coroutine_fn ask_holder(Server *s, Inode *inode)
{
	WireInoReq req = { .ino = inode->d.attr.ino };
	WireHeldBack held;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &held };
	int r = rpc_co_call(s->rpc, exclusive_holder(&inode->d), WIRE_HELD_BACK, &call);

	if (r < 0 || (held.ino && !heldback_valid(&held, req.ino, map_peer_count(s->map))))
		return -EIO;
	return end_lease(s, inode, &held);
}

int coroutine_fn exclusive_co_take_back(Server *s, Inode *inode)
{
	int r = 0;

	co_mutex_lock(&inode->lock);
	if (inode->gone)
		r = -ENOENT;
	else if (exclusive_holder(&inode->d) != PEER_NONE)
		r = ask_holder(s, inode);
	co_mutex_unlock(&inode->lock);
	return r;
}

/* Whoever else has a reference now may go on to read or to change it. */
bool coroutine_fn exclusive_co_granted(Server *s, Inode *inode, const RpcReq *r)
{
	WireHeldBack nothing = { 0 };

	if (!exclusive_is_holder(inode, r->peer))
		return false;
	if (inode->refs == 1)
		return true;
	end_lease(s, inode, &nothing);
	return false;
}

/* ---- SETTLE ---- */

/* Of another base than the file's: a lease was granted since. Without one: the
 * holder does not know whether it was. */
static int coroutine_fn settle(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireHeldBack *held = r->req;
	Inode *inode;

	if (!heldback_valid(held, held->ino, map_peer_count(s->map)))
		return -EINVAL;
	int res = inode_co_get_as_is(s, held->ino, &inode);
	if (res < 0)
		return res;
	co_mutex_lock(&inode->lock);
	if (inode->gone)
		res = -ENOENT;
	else if (exclusive_is_holder(inode, r->peer) && (!held->base_ns || held->base_ns == inode->d.attr.mtime_ns))
		res = end_lease(s, inode, held);
	co_mutex_unlock(&inode->lock);
	inode_unref(s, inode);
	return res;
}

void exclusive_attach(Server *s)
{
	rpc_serve(s->rpc, WIRE_SETTLE, settle, s);
}
