#include "fuse/exclusive.h"

#include "common/clock.h"

/* As the home would do (inode_data_touch()). */
static void touch(WireAttr *a, uint64_t end)
{
	int64_t now = MAX(clock_realtime_ns(), a->ctime_ns + 1);

	if (now == a->mtime_ns)
		now++;
	a->size = MAX(a->size, end);
	a->mtime_ns = a->ctime_ns = now;
}

bool exclusive_hold_back(Mount *m, uint64_t ino, uint64_t end, const GArray *blocks, uint32_t pages, WireAttr *ret_attr)
{
	HeldExclusive *x = m->heldback && blocks->len == 1 ? held_exclusive(m->held, ino) : NULL;
	const WireBlocks *b = &g_array_index(blocks, WireBlocks, 0);

	/* Where something was cut meanwhile the home must say whether it was this. */
	if (!x || x->blocks.target != b->target || b->blocks < x->blocks.blocks || !wire_blocks_since(&x->blocks, b))
		return false;
	WireAttr attr = *held_attr(m->held, ino);
	int64_t prev_mtime_ns = attr.mtime_ns;
	touch(&attr, end);
	attr.blocks += b->blocks - x->blocks.blocks;
	WireHeldBack held = {
		.ino = ino, .end = attr.size, .base_ns = x->base_ns,
		.mtime_ns = attr.mtime_ns, .ctime_ns = attr.ctime_ns,
		.blocks = b->blocks, .target = b->target,
	};
	if (!heldback_put(m->heldback, &held))
		return false;
	x->blocks = *b;
	held_set_written(m->held, &attr);
	if (m->pages)
		pages_written(m->pages, &attr, prev_mtime_ns, pages);
	layouts_set_size(m->layouts, ino, attr.size);
	*ret_attr = attr;
	return true;
}

void exclusive_ask(Mount *m, WireCommitReq *req, const GArray *blocks)
{
	if (!m->heldback)
		return;
	req->held = heldback_get(m->heldback, req->ino);
	/* Who writes once only would ask for something to give back. Of one object
	 * we can tell what the file occupies without the home. */
	if (layouts_count_commit(m->layouts, req->ino) > 1 && blocks->len == 1 && heldback_ask(m->heldback, req->ino))
		req->flags |= WIRE_COMMIT_EXCLUSIVE;
}

void exclusive_told(Mount *m, const WireCommitReq *req, const GArray *blocks, const WireAttrRep *rep)
{
	const WireBlocks *b = &g_array_index(blocks, WireBlocks, 0);

	if (!m->heldback)
		return;
	if (!(req->flags & WIRE_COMMIT_EXCLUSIVE)) {
		if (rep && req->held.ino)
			heldback_drop(m->heldback, &req->held);
		return;
	}
	if (!rep) {
		heldback_failed(m->heldback, req->ino);
		return;
	}
	/* Not granted, or overtaken by a recall: then only to be settled. */
	WireHeldBack state = {
		.ino = req->ino, .end = rep->attr.size, .base_ns = rep->attr.mtime_ns, .mtime_ns = rep->attr.mtime_ns,
		.ctime_ns = rep->attr.ctime_ns, .blocks = b->blocks, .target = b->target,
	};
	heldback_granted(m->heldback, &state);
	if (rep->lease & WIRE_LEASE_EXCLUSIVE)
		held_grant_exclusive(m->held, &rep->attr, b);
}

/* ---- the home asks, or is about to be told ---- */

static void recalled(void *arg, uint64_t ino)
{
	Mount *m = arg;

	held_recall(m->held, ino);
}

static void settling(void *arg, uint64_t ino)
{
	Mount *m = arg;

	held_end_exclusive(m->held, ino);
}

void exclusive_attach_mount(Mount *m)
{
	HeldBackUser user = { .recalled = recalled, .settling = settling, .arg = m };

	m->heldback = m->held ? m->opts.heldback : NULL;
	if (m->heldback)
		heldback_set_user(m->heldback, &user);
}

void exclusive_detach_mount(Mount *m)
{
	HeldBackUser nobody = { 0 };

	if (m->heldback)
		heldback_set_user(m->heldback, &nobody);
}
