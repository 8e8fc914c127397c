/* FALLOCATE, SEEK, FSYNC. */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/data.h"

/* ---- FALLOCATE: on inline bytes ---- */

/* Allocating says nothing about an inline file: its record has its place by
 * the reserve of the store. */
static int coroutine_fn fallocate_inline(Server *s, Inode *inode, uint32_t mode, uint64_t off, uint64_t len)
{
	g_autoptr(GByteArray) bytes = NULL;
	g_auto(InodeData) d = { 0 };
	int r = inline_co_load(s, &inode->d, &bytes);
	if (r < 0)
		return r;
	MetaBatch *b = meta_batch_new(s->meta);

	inode_data_copy(&d, &inode->d);
	if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) && off < bytes->len) {
		memset(bytes->data + off, 0, MIN(len, bytes->len - off));
		inline_put(b, &d, bytes->data, bytes->len);
	}
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		d.attr.size = MAX(d.attr.size, off + len);
	inode_data_touch(&d, true);
	return data_co_commit(s, inode, b, &d);
}

/* ---- ... and on objects ---- */

/* One call for each stretch of [off, off+len) that lies on one target; every
 * chunk of it has one. */
static GArray *split(const Runs *runs, const WireObjReq *req, uint8_t shift)
{
	GArray *calls = g_array_new(false, true, sizeof(TargetCall));
	uint64_t at = req->off, end = req->off + req->len;

	while (at < end) {
		uint64_t chunk = chunk_of(at, shift);
		const WireRun *run = runs_find(runs, chunk);
		uint64_t n = run_same_target(run, chunk);
		uint64_t to = MIN((chunk + n) << shift, end);
		TargetCall call = { .target = run_target(run, chunk), .req = *req };

		call.req.off = at;
		call.req.len = to - at;
		g_array_append_val(calls, call);
		at = to;
	}
	return calls;
}

/* A striped range asks a call for each chunk: so many at most. */
#define SPLIT_MAX 65536u

static int coroutine_fn allocate(Server *s, Inode *inode, const WireFallocateReq *q, InodeData *d)
{
	uint8_t shift = inode->d.attr.chunk_shift;
	WireObjReq req = { .ino = q->ino, .off = q->off, .len = q->len, .mode = q->mode };
	uint64_t count = chunk_count(q->off, q->len, shift);
	g_autoptr(Runs) runs = NULL;
	int r = data_co_map(s, inode, q->writer, chunk_of(q->off, shift), count, &runs);

	/* Mapping changes the inode, also where it fails half-way. */
	inode_data_clear(d);
	inode_data_copy(d, &inode->d);
	if (r < 0)
		return r;
	if (count > SPLIT_MAX && !runs_all_on(runs, chunk_of(q->off, shift), count, runs_find(runs, chunk_of(q->off, shift))->target))
		return -EFBIG;
	g_autoptr(GArray) calls = split(runs, &req, shift);

	r = targets_co_call(s, WIRE_OBJ_FALLOCATE, (TargetCall *)calls->data, calls->len);
	targets_note_blocks(d, (TargetCall *)calls->data, calls->len);
	return r;
}

/* An object has only chunks of its target, so all may punch the whole range. */
static int coroutine_fn punch(Server *s, Inode *inode, const WireFallocateReq *q, InodeData *d)
{
	WireObjReq req = { .ino = q->ino, .off = q->off, .len = q->len, .mode = q->mode };
	size_t n;
	g_autofree TargetCall *calls = targets_of(d, NULL, &req, &n);
	int r = targets_co_call(s, WIRE_OBJ_FALLOCATE, calls, n);

	targets_note_blocks(d, calls, n);
	return r;
}

static int coroutine_fn fallocate_objects(Server *s, Inode *inode, const WireFallocateReq *q)
{
	bool grows = !(q->mode & FALLOC_FL_KEEP_SIZE) && q->off + q->len > inode->d.attr.size;
	g_auto(InodeData) d = { 0 };
	int r = grows ? truncate_co_settle(s, inode) : 0;
	if (r < 0)
		return r;
	inode_data_copy(&d, &inode->d);
	r = q->mode & FALLOC_FL_PUNCH_HOLE ? punch(s, inode, q, &d) : allocate(s, inode, q, &d);
	/* What a failure has allocated stays, and df and du say so. */
	if (r >= 0 && grows)
		d.attr.size = q->off + q->len;
	if (r >= 0)
		inode_data_touch(&d, true);
	int committed = data_co_commit(s, inode, meta_batch_new(s->meta), &d);
	return r < 0 ? r : committed;
}

static bool fits_inline(const Server *s, const Inode *inode, const WireFallocateReq *q)
{
	if (!(inode->d.flags & INODE_INLINE))
		return false;
	return (q->mode & FALLOC_FL_PUNCH_HOLE) || q->off + q->len <= s->opts.inline_max;
}

static bool mode_is_known(uint32_t mode)
{
	return mode == 0 || mode == FALLOC_FL_KEEP_SIZE || mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) ||
		mode == FALLOC_FL_ZERO_RANGE || mode == (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
}

int coroutine_fn data_fallocate(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireFallocateReq *q = r->req;
	WireAttrRep *rep = r->rep;
	Inode *inode;

	if (!mode_is_known(q->mode))
		return -EOPNOTSUPP;
	if (q->len == 0 || !data_writer_valid(s, q->writer))
		return -EINVAL;
	if (!data_range_valid(q->off, q->len))
		return -EFBIG;
	int ret = data_co_begin(s, q->ino, r, &inode);
	if (ret < 0)
		return ret;
	rep->prev_mtime_ns = inode->d.attr.mtime_ns;
	if (fits_inline(s, inode, q))
		ret = fallocate_inline(s, inode, q->mode, q->off, q->len);
	else
		ret = fallocate_objects(s, inode, q);
	rep->attr = inode->d.attr;
	if (data_end(s, inode, r))
		rep->lease = WIRE_LEASE_INODE;
	return ret;
}

/* ---- SEEK ---- */

static int coroutine_fn ask_object(Server *s, uint16_t target, uint64_t ino, uint64_t off, uint32_t whence, uint64_t *ret_off)
{
	TargetCall call = { .target = target, .req = { .ino = ino, .off = off, .mode = whence } };
	int r = targets_co_call(s, WIRE_OBJ_SEEK, &call, 1);

	*ret_off = call.rep.off;
	return r;
}

/* An object has data only in chunks of its target, so the first of all objects'
 * first data is the file's. */
static int coroutine_fn seek_data(Server *s, const InodeData *d, uint64_t off, uint64_t *ret_off)
{
	WireObjReq req = { .ino = d->attr.ino, .off = off, .mode = SEEK_DATA };
	size_t n;
	g_autofree TargetCall *calls = targets_of(d, NULL, &req, &n);

	*ret_off = UINT64_MAX;
	targets_co_call(s, WIRE_OBJ_SEEK, calls, n);
	for (size_t i = 0; i < n; i++) {
		if (calls[i].r < 0 && calls[i].r != -ENXIO)
			return calls[i].r;
		if (calls[i].r >= 0)
			*ret_off = MIN(*ret_off, calls[i].rep.off);
	}
	return *ret_off < d->attr.size ? 0 : -ENXIO;
}

/* Goes from stretch to stretch of one target until one has a hole. */
static int coroutine_fn seek_hole(Server *s, const InodeData *d, uint64_t off, uint64_t *ret_off)
{
	uint8_t shift = d->attr.chunk_shift;
	uint64_t at = off;
	g_autoptr(Runs) runs = NULL;
	int r = filemap_co_get(s, d, &runs);

	while (r >= 0 && at < d->attr.size) {
		uint64_t chunk = chunk_of(at, shift), hole;
		const WireRun *run = runs_find(runs, chunk);

		if (!run)
			break;
		uint64_t end = (chunk + run_same_target(run, chunk)) << shift;
		r = ask_object(s, run_target(run, chunk), d->attr.ino, at, SEEK_HOLE, &hole);
		if (r == -ENXIO || (r >= 0 && hole < end)) {
			at = r < 0 ? at : MAX(at, hole);
			r = 0;
			break;
		}
		at = end;
	}
	*ret_off = MIN(at, d->attr.size);
	return MIN(r, 0);
}

static int coroutine_fn seek_inline(Server *s, const InodeData *d, uint64_t off, uint32_t whence, uint64_t *ret_off)
{
	g_autoptr(GByteArray) bytes = NULL;
	int r = inline_co_load(s, d, &bytes);
	if (r < 0)
		return r;
	if (whence == SEEK_DATA && off >= bytes->len)
		return -ENXIO;
	*ret_off = whence == SEEK_DATA ? off : MAX(off, bytes->len);
	return 0;
}

/* On a copy: the inode may change while targets are asked. */
static int coroutine_fn seek_file(Server *s, Inode *inode, uint64_t off, uint32_t whence, uint64_t *ret_off)
{
	g_auto(InodeData) d = { 0 };

	inode_data_copy(&d, &inode->d);
	if (off >= d.attr.size)
		return -ENXIO;
	if (d.flags & INODE_INLINE)
		return seek_inline(s, &d, off, whence, ret_off);
	return whence == SEEK_DATA ? seek_data(s, &d, off, ret_off) : seek_hole(s, &d, off, ret_off);
}

int coroutine_fn data_seek(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireSeekReq *q = r->req;
	WireSeekRep *rep = r->rep;
	Inode *inode;

	if (q->whence != SEEK_DATA && q->whence != SEEK_HOLE)
		return -EINVAL;
	if (q->off > INT64_MAX)
		return -ENXIO;
	int ret = data_co_get_file(s, q->ino, NULL, &inode);
	if (ret < 0)
		return ret;
	ret = seek_file(s, inode, q->off, q->whence, &rep->off);
	inode_unref(s, inode);
	return ret;
}

/* ---- FSYNC ---- */

static int coroutine_fn sync_objects(Server *s, const Inode *inode, uint32_t datasync)
{
	WireObjReq req = { .ino = inode->d.attr.ino, .mode = datasync };
	size_t n;
	g_autofree TargetCall *calls = targets_of(&inode->d, NULL, &req, &n);

	return targets_co_call(s, WIRE_OBJ_FSYNC, calls, n);
}

/* Of anything: a directory's names and an inode's attributes are in the log.
 * Objects first, so that no size is durable before its bytes. */
int coroutine_fn data_fsync(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireFsyncReq *q = r->req;
	Inode *inode;

	if (q->datasync > 1)
		return -EINVAL;
	int ret = inode_co_get(s, q->ino, &inode);
	if (ret < 0)
		return ret;
	if (S_ISREG(inode->d.attr.mode))
		ret = sync_objects(s, inode, q->datasync);
	inode_unref(s, inode);
	return ret < 0 ? ret : meta_co_sync(s->meta);
}
