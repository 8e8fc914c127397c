/* LAYOUT, READ, WRITE, COMMIT. */
#include <errno.h>
#include <string.h>

#include "server/data.h"
#include "server/exclusive.h"
#include "server/leases.h"

/* ---- LAYOUT ---- */

static int coroutine_fn layout_runs(Server *s, Inode *inode, const RpcReq *caller, Runs **ret_runs)
{
	const WireLayoutReq *q = caller->req;

	if (!q->alloc)
		return filemap_co_get(s, &inode->d, ret_runs);
	co_mutex_lock(&inode->lock);
	leases_co_begin(s, &inode, 1, caller);
	int r = inode->gone ? -ENOENT : data_co_map(s, inode, q->writer, q->first, q->count, ret_runs);
	leases_end(&inode, 1);
	co_mutex_unlock(&inode->lock);
	return r;
}

static int coroutine_fn layout_file(Server *s, Inode *inode, RpcReq *r)
{
	const WireLayoutReq *q = r->req;
	WireLayoutRep *rep = r->rep;
	uint64_t last = chunk_last(inode->d.attr.chunk_shift);
	g_autoptr(Runs) runs = NULL;

	if (q->first > last || q->count > last - q->first + 1)
		return -EFBIG;
	int ret = layout_runs(s, inode, r, &runs);
	if (ret < 0)
		return ret;
	rep->size = inode->d.attr.size;
	rep->chunk_shift = inode->d.attr.chunk_shift;
	rep->is_inline = (inode->d.flags & INODE_INLINE) != 0;
	return rep->is_inline ? 0 : data_reply_runs(r, runs, q->first, q->count, &rep->runs);
}

int coroutine_fn data_layout(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireLayoutReq *q = r->req;
	Inode *inode;

	if (q->count == 0 || q->alloc > 1 || !data_writer_valid(s, q->writer))
		return -EINVAL;
	/* New chunks change nothing of what a mount holds back. */
	int ret = data_co_get_file(s, q->ino, q->alloc ? r : NULL, &inode);
	if (ret < 0)
		return ret;
	ret = layout_file(s, inode, r);
	inode_unref(s, inode);
	return ret;
}

/* ---- READ ---- */

/* Everything is here: one read of the object, whose gaps are holes. */
static int coroutine_fn read_here(Server *s, Inode *inode, RpcReq *r, uint64_t off, size_t len)
{
	WireReadRep *rep = r->rep;
	ssize_t n = object_co_read(s->objects, inode->d.attr.ino, r->out, len, off);
	if (n < 0)
		return (int)n;
	memset((uint8_t *)r->out + n, 0, len - (size_t)n);
	rep->kind = WIRE_KIND_DATA;
	r->out_len = len;
	return (int)len;
}

static int coroutine_fn read_mapped(Server *s, Inode *inode, RpcReq *r, uint64_t off, size_t len)
{
	WireReadRep *rep = r->rep;
	uint8_t shift = inode->d.attr.chunk_shift;
	uint64_t first = chunk_of(off, shift), count = chunk_count(off, len, shift);
	g_autoptr(Runs) runs = NULL;
	int ret = filemap_co_get(s, &inode->d, &runs);
	if (ret < 0)
		return ret;
	if (runs_all_on(runs, first, count, s->self))
		return len <= r->out_cap ? read_here(s, inode, r, off, len) : -EINVAL;
	rep->kind = WIRE_KIND_RUNS;
	return data_reply_runs(r, runs, first, count, &rep->runs);
}

static int coroutine_fn read_file(Server *s, Inode *inode, RpcReq *r)
{
	const WireReadReq *q = r->req;
	WireReadRep *rep = r->rep;
	uint64_t size = inode->d.attr.size;
	size_t len = q->off < size ? (size_t)MIN(q->len, size - q->off) : 0;

	rep->size = size;
	rep->chunk_shift = inode->d.attr.chunk_shift;
	rep->kind = WIRE_KIND_DATA;
	/* Before the data: who changes it meanwhile recalls. */
	if (q->lease && leases_grant(s, r, inode)) {
		rep->lease = WIRE_LEASE_INODE;
		rep->attr = inode->d.attr;
	}
	if (len == 0)
		return 0;
	if (inode->d.flags & INODE_INLINE) {
		if (len > r->out_cap)
			return -EINVAL;
		int ret = inline_co_read(s, inode, r->out, len, q->off);
		if (ret == 0) {
			s->stats.inline_reads++;
			r->out_len = len;
			return (int)len;
		}
		if (ret != -ENODATA)
			return ret;
	}
	return read_mapped(s, inode, r, q->off, len);
}

int coroutine_fn data_read(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireReadReq *q = r->req;
	Inode *inode;

	if (q->off > INT64_MAX || q->len > WIRE_BULK_MAX)
		return -EINVAL;
	int ret = data_co_get_file(s, q->ino, NULL, &inode);
	if (ret < 0)
		return ret;
	ret = read_file(s, inode, r);
	inode_unref(s, inode);
	return ret;
}

/* ---- WRITE ---- */

/* What every write does to the inode besides its bytes. */
static int coroutine_fn note_write(Server *s, MetaBatch *b, InodeData *d, uint64_t end, uint32_t flags)
{
	d->attr.size = MAX(d->attr.size, end);
	inode_data_touch(d, true);
	if (!(flags & WIRE_WRITE_KILL_SUIDGID))
		return 0;
	inode_data_kill_suidgid(d);
	return xattrs_co_kill_capability(s, b, d);
}

/* What there is of a write is in the batch and *d. */
static int coroutine_fn commit_write(Server *s, Inode *inode, MetaBatch *batch, InodeData *d, uint64_t end, uint32_t flags)
{
	g_autoptr(MetaBatch) b = batch;
	int r = note_write(s, b, d, end, flags);

	return r < 0 ? r : data_co_commit(s, inode, g_steal_pointer(&b), d);
}

static int coroutine_fn write_inline(Server *s, Inode *inode, RpcReq *r)
{
	const WireWriteReq *q = r->req;
	uint64_t end = q->off + r->in_len;
	g_autoptr(GByteArray) bytes = NULL;
	g_auto(InodeData) d = { 0 };
	int ret = space_take(s->space, r->in_len);
	if (ret < 0)
		return ret;
	ret = inline_co_load(s, &inode->d, &bytes);
	if (ret < 0)
		return ret;
	uint32_t had = bytes->len;
	MetaBatch *b = meta_batch_new(s->meta);

	if (had < end) {
		g_byte_array_set_size(bytes, (guint)end);
		memset(bytes->data + had, 0, end - had);
	}
	memcpy(bytes->data + q->off, r->in, r->in_len);
	inode_data_copy(&d, &inode->d);
	inline_put(b, &d, bytes->data, bytes->len);
	s->stats.inline_writes++;
	return commit_write(s, inode, b, &d, end, q->flags);
}

/* A write that failed half-way must not leave bytes behind the size, where
 * they would show when the file grows. Only its own range: others may have
 * bytes there that they are about to commit. */
static void coroutine_fn undo_tail(Server *s, Inode *inode, uint64_t off, uint64_t end)
{
	uint64_t from = MAX(off, inode->d.attr.size), blocks;

	if (from < end)
		object_co_fallocate(s->objects, inode->d.attr.ino, FALLOC_FL_PUNCH_HOLE, from, end - from, &blocks);
}

static int coroutine_fn write_here(Server *s, Inode *inode, RpcReq *r)
{
	const WireWriteReq *q = r->req;
	uint64_t end = q->off + r->in_len, blocks = 0;
	g_auto(InodeData) d = { 0 };
	int ret = object_co_write(s->objects, inode->d.attr.ino, r->in, r->in_len, q->off, &blocks);
	if (ret < 0) {
		undo_tail(s, inode, q->off, end);
		return ret;
	}
	MetaBatch *b = meta_batch_new(s->meta);

	inode_data_copy(&d, &inode->d);
	inode_data_set_blocks(&d, s->self, blocks);
	s->stats.object_writes++;
	return commit_write(s, inode, b, &d, end, q->flags);
}

static int coroutine_fn write_mapped(Server *s, Inode *inode, RpcReq *r)
{
	const WireWriteReq *q = r->req;
	WireWriteRep *rep = r->rep;
	uint8_t shift = inode->d.attr.chunk_shift;
	uint64_t first = chunk_of(q->off, shift), count = chunk_count(q->off, r->in_len, shift);
	g_autoptr(Runs) runs = NULL;
	int ret = q->off + r->in_len > inode->d.attr.size ? truncate_co_settle(s, inode) : 0;
	if (ret < 0)
		return ret;
	ret = data_co_map(s, inode, q->writer, first, count, &runs);
	if (ret < 0)
		return ret;
	if (runs_all_on(runs, first, count, s->self))
		return write_here(s, inode, r);
	rep->kind = WIRE_KIND_RUNS;
	return data_reply_runs(r, runs, first, count, &rep->runs);
}

static int coroutine_fn write_file(Server *s, Inode *inode, RpcReq *r)
{
	const WireWriteReq *q = r->req;
	WireWriteRep *rep = r->rep;
	int ret = 0;

	rep->kind = WIRE_KIND_DATA;
	if (r->in_len == 0)
		ret = 0;
	else if ((inode->d.flags & INODE_INLINE) && q->off + r->in_len <= s->opts.inline_max)
		ret = write_inline(s, inode, r);
	else
		ret = write_mapped(s, inode, r);
	rep->attr = inode->d.attr;
	return ret;
}

int coroutine_fn data_write(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireWriteReq *q = r->req;
	WireWriteRep *rep = r->rep;
	Inode *inode;

	if ((q->flags & ~(uint32_t)WIRE_WRITE_KILL_SUIDGID) || !data_writer_valid(s, q->writer))
		return -EINVAL;
	if (!data_range_valid(q->off, r->in_len))
		return -EFBIG;
	int ret = data_co_begin(s, q->ino, r, &inode);
	if (ret < 0)
		return ret;
	rep->prev_mtime_ns = inode->d.attr.mtime_ns;
	ret = write_file(s, inode, r);
	if (data_end(s, inode, r))
		rep->lease = WIRE_LEASE_INODE;
	return ret;
}

/* ---- COMMIT ---- */

/* -EAGAIN: a truncation may have taken along what was written meanwhile. */
static int take_blocks(Server *s, Inode *inode, InodeData *d, const RpcReq *r)
{
	size_t n = r->in_len / sizeof(WireBlocks);

	if (r->in_len % sizeof(WireBlocks) != 0 || n > PEER_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		WireBlocks blocks;

		memcpy(&blocks, (const uint8_t *)r->in + i * sizeof(blocks), sizeof(blocks));
		/* More than a file can have would overflow the sum. */
		if (blocks.target >= map_peer_count(s->map) || blocks.blocks > UINT64_C(1) << 52)
			return -EINVAL;
		if (!inode_written_since_cut(inode, &blocks))
			return -EAGAIN;
		inode_data_set_blocks(d, blocks.target, blocks.blocks);
	}
	return 0;
}

static int coroutine_fn commit_file(Server *s, Inode *inode, RpcReq *r)
{
	const WireCommitReq *q = r->req;
	WireAttrRep *rep = r->rep;
	g_auto(InodeData) d = { 0 };

	if (inode->d.flags & INODE_INLINE)
		return -EINVAL;
	/* The cut takes along what the caller has written behind the size. */
	if (q->end > inode->d.attr.size && truncate_is_pending(s, inode)) {
		int settled = truncate_co_settle(s, inode);

		return settled < 0 ? settled : -EAGAIN;
	}
	inode_data_copy(&d, &inode->d);
	int ret = exclusive_merge(s, &d, r, &q->held);
	if (ret >= 0)
		ret = take_blocks(s, inode, &d, r);
	if (ret < 0)
		return ret;
	rep->prev_mtime_ns = d.attr.mtime_ns;
	bool exclusive = q->flags & WIRE_COMMIT_EXCLUSIVE && exclusive_allowed(s, r, inode);

	exclusive_set(&d, exclusive ? r->peer : PEER_NONE);
	ret = commit_write(s, inode, meta_batch_new(s->meta), &d, q->end, q->flags);
	rep->attr = inode->d.attr;
	return ret;
}

int coroutine_fn data_commit(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireCommitReq *q = r->req;
	WireAttrRep *rep = r->rep;
	Inode *inode;

	if (q->flags & ~(uint32_t)(WIRE_WRITE_KILL_SUIDGID | WIRE_COMMIT_EXCLUSIVE))
		return -EINVAL;
	if (q->end > INT64_MAX)
		return -EFBIG;
	int ret = data_co_begin(s, q->ino, r, &inode);
	if (ret < 0)
		return ret;
	ret = commit_file(s, inode, r);
	bool exclusive = ret >= 0 && exclusive_co_granted(s, inode, r);

	if (data_end(s, inode, r))
		rep->lease = WIRE_LEASE_INODE | (exclusive ? WIRE_LEASE_EXCLUSIVE : 0);
	return ret;
}
