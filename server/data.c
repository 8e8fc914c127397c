/*
 * Data of the inodes whose home this is. A change holds the inode's mutex from
 * its first look to its commit; the order is always: record which targets may
 * get an object, let the bytes land, record the size that shows them. So a
 * crash between two of these leaves no object without an owner and no size
 * without its bytes.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "server/data.h"
#include "server/leases.h"

/* Runs behind the range that a reply carries along. */
#define RUNS_AHEAD 8u

void data_attach(Server *s)
{
	rpc_serve(s->rpc, WIRE_LAYOUT, data_layout, s);
	rpc_serve(s->rpc, WIRE_READ, data_read, s);
	rpc_serve(s->rpc, WIRE_WRITE, data_write, s);
	rpc_serve(s->rpc, WIRE_COMMIT, data_commit, s);
	rpc_serve(s->rpc, WIRE_FALLOCATE, data_fallocate, s);
	rpc_serve(s->rpc, WIRE_SEEK, data_seek, s);
	rpc_serve(s->rpc, WIRE_FSYNC, data_fsync, s);
}

int coroutine_fn data_co_get_file(Server *s, uint64_t ino, const RpcReq *r, Inode **ret_inode)
{
	Inode *inode;
	int res = inode_co_get_for(s, ino, r, &inode);
	if (res < 0)
		return res;
	if (!S_ISREG(inode->d.attr.mode)) {
		res = S_ISDIR(inode->d.attr.mode) ? -EISDIR : -EINVAL;
		inode_unref(s, inode);
		return res;
	}
	*ret_inode = inode;
	return 0;
}

int coroutine_fn data_co_lock_file(Server *s, uint64_t ino, const RpcReq *r, Inode **ret_inode)
{
	int res = data_co_get_file(s, ino, r, ret_inode);
	if (res < 0)
		return res;
	co_mutex_lock(&(*ret_inode)->lock);
	if (!(*ret_inode)->gone)
		return 0;
	data_unlock_file(s, *ret_inode);
	return -ENOENT;
}

void data_unlock_file(Server *s, Inode *inode)
{
	co_mutex_unlock(&inode->lock);
	inode_unref(s, inode);
}

int coroutine_fn data_co_begin(Server *s, uint64_t ino, const RpcReq *r, Inode **ret_inode)
{
	/* A COMMIT says itself what its sender has held back. */
	int res = data_co_lock_file(s, ino, r->op == WIRE_COMMIT ? r : NULL, ret_inode);

	if (res >= 0)
		leases_co_begin(s, ret_inode, 1, r);
	return res;
}

bool data_end(Server *s, Inode *inode, const RpcReq *r)
{
	leases_end(&inode, 1);
	bool granted = leases_grant_own(s, r, inode);
	data_unlock_file(s, inode);
	return granted;
}

int coroutine_fn data_co_commit(Server *s, Inode *inode, MetaBatch *b, InodeData *d)
{
	inode_data_put(b, d);
	leases_co_begin(s, &inode, 1, NULL);
	int r = meta_batch_co_commit(b);
	if (r >= 0)
		inode_publish(inode, d);
	leases_end(&inode, 1);
	return r < 0 ? r : 0;
}

bool data_writer_valid(const Server *s, uint16_t writer)
{
	return writer == PEER_NONE || writer < map_peer_count(s->map);
}

bool data_range_valid(uint64_t off, uint64_t len)
{
	return off <= INT64_MAX && len <= INT64_MAX - off;
}

/* ---- mapping ---- */

/* Chunk 0 gets the inline bytes, so it needs a target where there are some. */
static bool needs_chunk_0(const Inode *inode)
{
	return (inode->d.flags & INODE_INLINE) && inode->d.attr.size > 0;
}

static int coroutine_fn extend(Server *s, Inode *inode, uint16_t writer, uint64_t first, uint64_t count, Runs **runs)
{
	uint64_t ino = inode->d.attr.ino;
	g_auto(InodeData) d = { 0 };
	g_autoptr(Runs) zero = NULL, new = NULL;
	MetaBatch *b = meta_batch_new(s->meta);

	inode_data_copy(&d, &inode->d);
	if (needs_chunk_0(inode))
		zero = filemap_extend(s, b, &d, *runs, writer, 0, 1);
	new = filemap_extend(s, b, &d, zero ? zero : *runs, writer, first, count);
	if (!new)
		new = g_steal_pointer(&zero);
	/* Nothing to move: one commit does for both. */
	if ((d.flags & INODE_INLINE) && d.attr.size == 0) {
		d.flags &= ~(uint32_t)INODE_INLINE;
		inline_put(b, &d, NULL, 0);
		inode_data_count_blocks(&d);
	} else if (!new) {
		meta_batch_free(b);
		return 0;
	}
	int r = data_co_commit(s, inode, b, &d);
	if (r < 0 || !new)
		return r;
	runs_unref(*runs);
	*runs = g_steal_pointer(&new);
	filemap_publish(s, ino, runs_ref(*runs));
	return 0;
}

int coroutine_fn data_co_map(Server *s, Inode *inode, uint16_t writer, uint64_t first, uint64_t count, Runs **ret_runs)
{
	g_autoptr(Runs) runs = NULL;
	uint64_t gap, gap_count;
	int r = filemap_co_get(s, &inode->d, &runs);
	if (r < 0)
		return r;
	if ((inode->d.flags & INODE_INLINE) || runs_next_gap(runs, first, count, &gap, &gap_count))
		r = extend(s, inode, writer, first, count, &runs);
	if (r == 0 && (inode->d.flags & INODE_INLINE))
		r = inline_co_move_out(s, inode, run_target(runs_find(runs, 0), 0));
	if (r < 0)
		return r;
	*ret_runs = g_steal_pointer(&runs);
	return 0;
}

int data_reply_runs(RpcReq *r, const Runs *runs, uint64_t first, uint64_t count, uint32_t *ret_n)
{
	size_t room = r->out_cap / sizeof(WireRun), n = 0;
	uint64_t end = first + count;
	uint32_t i = runs_index(runs, first), must = i;
	uint8_t *out = r->out;

	while (must < runs->n && runs->v[must].first < end)
		must++;
	if (must - i > room)
		return -ENOBUFS;
	for (; i < runs->n && i < must + RUNS_AHEAD && n < room; i++)
		memcpy(out + n++ * sizeof(WireRun), &runs->v[i], sizeof(WireRun));
	r->out_len = n * sizeof(WireRun);
	*ret_n = (uint32_t)n;
	return 0;
}
