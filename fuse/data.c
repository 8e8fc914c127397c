/*
 * File data. Where the home is this process it is asked first, since that
 * costs nothing: it has the data, or tells the runs. With another home, runs
 * that were told before let the targets be asked at once.
 *
 * Reads from objects race with writes elsewhere, and the order matters: bytes
 * land before the size that shows them. So bytes below a size that was known
 * before the objects were asked are good, and bytes above it are only good
 * when the objects are asked after the size: a read that runs into a size
 * that has grown meanwhile reads the new part again. Otherwise who follows a
 * log would see zeros where its lines will be.
 */
#include "fuse/data.h"

#include <errno.h>
#include <string.h>

#include "fuse/exclusive.h"

/* Up to here a write of which nothing is known goes to its home with its data,
 * hoping that it is wanted there. */
#define WRITE_THROUGH_HOME (64u << 10)
#define RUNS_ROOM 4096u
/* One for each truncation that comes in between. */
#define WRITE_TRIES 1000
#define READ_TRIES 4

/* ---- pieces, in parallel ---- */

typedef struct PieceIo PieceIo;
struct PieceIo {
	Mount *m;
	uint64_t ino;
	Piece piece;
	void *buf;        /* of this piece */
	int result;
	WireBlocks blocks; /* write: of the object then */
};

static void coroutine_fn read_piece(void *arg)
{
	PieceIo *io = arg;
	WireObjReq req = { .ino = io->ino, .off = io->piece.off, .len = io->piece.len };
	WireObjRep rep;
	RpcCall call = {
		.req = &req, .req_len = sizeof(req), .rep = &rep,
		.out = io->buf, .out_cap = io->piece.len,
	};

	io->result = 0;
	if (io->piece.target != PEER_NONE)
		io->result = rpc_co_call(io->m->rpc, io->piece.target, WIRE_OBJ_READ, &call);
	if (io->result >= 0)
		memset((char *)io->buf + call.out_len, 0, io->piece.len - call.out_len);
}

static void coroutine_fn write_piece(void *arg)
{
	PieceIo *io = arg;
	WireObjReq req = { .ino = io->ino, .off = io->piece.off, .len = io->piece.len };
	WireObjRep rep = { 0 };
	RpcCall call = {
		.req = &req, .req_len = sizeof(req), .rep = &rep,
		.in = io->buf, .in_len = io->piece.len,
	};

	io->result = rpc_co_call(io->m->rpc, io->piece.target, WIRE_OBJ_WRITE, &call);
	io->blocks = (WireBlocks) {
		.blocks = rep.blocks, .target = io->piece.target, .process = rep.process, .cuts = rep.cuts,
	};
}

/* buf: of the range that the pieces split. */
static PieceIo *make_ios(Mount *m, uint64_t ino, const GArray *pieces, const void *buf)
{
	PieceIo *ios = g_new(PieceIo, pieces->len);
	const char *at = buf;

	for (uint32_t i = 0; i < pieces->len; i++) {
		ios[i] = (PieceIo) {
			.m = m, .ino = ino,
			.piece = g_array_index(pieces, Piece, i),
			.buf = (char *)at,
		};
		at += ios[i].piece.len;
	}
	return ios;
}

/* Starts all but the first on coroutines of the group and does the first here. */
static void coroutine_fn run_pieces(CoGroup *group, CoFn *fn, PieceIo *ios, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++)
		co_group_spawn(group, fn, &ios[i]);
	if (n)
		fn(&ios[0]);
	co_group_wait(group);
}

static int coroutine_fn read_pieces(Mount *m, uint64_t ino, const GArray *pieces, void *buf)
{
	g_autofree PieceIo *ios = make_ios(m, ino, pieces, buf);
	CoGroup group = { .sched = reactor_sched(m->reactor) };

	run_pieces(&group, read_piece, ios, pieces->len);
	for (uint32_t i = 0; i < pieces->len; i++)
		if (ios[i].result < 0)
			return ios[i].result;
	return 0;
}

static size_t clip(uint64_t size, uint64_t off, size_t len)
{
	return off >= size ? 0 : (size_t)MIN(len, size - off);
}

/* ---- reading ---- */

size_t data_read_room(size_t len)
{
	return MAX(len, RUNS_ROOM);
}

typedef struct SizeCall {
	Mount *m;
	uint64_t ino, size;
	int result;
} SizeCall;

static void coroutine_fn ask_size(void *arg)
{
	SizeCall *s = arg;
	WireAttr attr;

	s->result = mount_co_getattr(s->m, s->ino, &attr);
	if (s->result == 0)
		s->size = attr.size;
}

/* Under a lease nothing changes, so what is kept of the file is its size. False
 * where none is held, or, with *attr from before, it was not held all the time:
 * each change moves mtime. */
static bool is_kept(Mount *m, uint64_t ino, WireAttr *attr)
{
	const WireAttr *kept = m->held ? held_attr(m->held, ino) : NULL;

	if (!kept || (attr->ino == ino && attr->mtime_ns != kept->mtime_ns))
		return false;
	*attr = *kept;
	return true;
}

/* -EAGAIN: the lease, or the layout, went meanwhile, or we wrote. */
static ssize_t coroutine_fn read_kept(Mount *m, const WireAttr *before, const GArray *pieces, void *buf, size_t len, uint64_t off)
{
	WireAttr attr = *before;
	int r = read_pieces(m, attr.ino, pieces, buf);

	if (r < 0)
		return r;
	return is_kept(m, attr.ino, &attr) ? (ssize_t)clip(attr.size, off, len) : -EAGAIN;
}

/* The objects and the home at once. */
static ssize_t coroutine_fn read_known(Mount *m, uint64_t ino, const GArray *pieces, void *buf, size_t len, uint64_t off)
{
	uint64_t size_before = layouts_size(m->layouts, ino);
	SizeCall size = { .m = m, .ino = ino };
	CoGroup group = { .sched = reactor_sched(m->reactor) };

	co_group_spawn(&group, ask_size, &size);
	int r = read_pieces(m, ino, pieces, buf);
	co_group_wait(&group);
	if (size.result < 0)
		return size.result;
	if (r < 0)
		return r;
	size_t n = clip(size.size, off, len), good = clip(size_before, off, len);
	if (n > good) {
		g_autoptr(GArray) rest = g_array_new(false, false, sizeof(Piece));
		if (!layouts_split(m->layouts, ino, off + good, n - good, rest))
			return -EAGAIN;
		r = read_pieces(m, ino, rest, (char *)buf + good);
	}
	return r < 0 ? r : (ssize_t)n;
}

static ssize_t coroutine_fn read_pieces_of(Mount *m, uint64_t ino, const GArray *pieces, void *buf, size_t len, uint64_t off)
{
	ssize_t r = -EAGAIN;

	for (int tries = 0; r == -EAGAIN && tries < READ_TRIES; tries++) {
		WireAttr attr = { 0 };

		r = is_kept(m, ino, &attr) ? read_kept(m, &attr, pieces, buf, len, off) :
					     read_known(m, ino, pieces, buf, len, off);
	}
	return r;
}

/* The home has told runs instead of data, into the buffer that is for the data. */
static ssize_t coroutine_fn read_told(Mount *m, uint64_t ino, const WireReadRep *rep, size_t out_len, void *buf, size_t len, uint64_t off)
{
	uint32_t n = rep->runs;
	size_t want = clip(rep->size, off, len);

	if (n > out_len / sizeof(WireRun))
		return -EIO;
	if (layouts_add(m->layouts, ino, rep->chunk_shift, buf, n) < 0)
		return -EIO;
	layouts_set_size(m->layouts, ino, rep->size);
	if (!want)
		return 0;
	g_autoptr(GArray) pieces = g_array_new(false, false, sizeof(Piece));
	pieces_split(buf, n, rep->chunk_shift, off, want, pieces);
	int r = read_pieces(m, ino, pieces, buf);
	return r < 0 ? r : (ssize_t)want;
}

static ssize_t coroutine_fn read_home(Mount *m, uint64_t ino, void *buf, size_t len, uint64_t off)
{
	WireReadReq req = { .ino = ino, .off = off, .len = (uint32_t)len, .lease = m->held != NULL };
	WireReadRep rep;
	RpcCall call = {
		.req = &req, .req_len = sizeof(req), .rep = &rep,
		.out = buf, .out_cap = data_read_room(len),
	};
	HeldAsk ask = m->held ? held_ask(m->held, map_home(m->map, ino)) : (HeldAsk) { 0 };
	int r = mount_co_call_ino(m, ino, WIRE_READ, &call);

	if (r < 0)
		return r;
	/* Pages that a program has mapped are read without asking for attributes;
	 * with a lease we learn when they go bad. */
	if (rep.lease & WIRE_LEASE_INODE && rep.attr.ino == ino)
		held_grant(m->held, &ask, &rep.attr);
	if (rep.kind == WIRE_KIND_DATA)
		return (ssize_t)MIN(call.out_len, len);
	if (rep.kind != WIRE_KIND_RUNS)
		return -EIO;
	return read_told(m, ino, &rep, call.out_len, buf, len, off);
}

ssize_t coroutine_fn data_co_read(Mount *m, uint64_t ino, void *buf, size_t len, uint64_t off)
{
	if (!len)
		return 0;
	if (off > INT64_MAX - len)
		return -EINVAL;
	if (map_home(m->map, ino) != m->self) {
		g_autoptr(GArray) pieces = g_array_new(false, false, sizeof(Piece));
		if (layouts_split(m->layouts, ino, off, len, pieces)) {
			ssize_t r = read_pieces_of(m, ino, pieces, buf, len, off);
			if (r != -EAGAIN)
				return r;
		}
	}
	return read_home(m, ino, buf, len, off);
}

/* ---- writing ---- */

typedef struct Write {
	Mount *m;
	uint64_t ino, off;
	const void *buf;
	size_t len;
	uint32_t flags;   /* WIRE_WRITE_* */
	uint32_t pages;   /* of pages_writing() before the first byte went */
	WireAttr *attr;   /* set when it is done */
} Write;

/* Of each target what it occupies last, and the cuts before the first. */
static void add_blocks(GArray *blocks, const WireBlocks *one)
{
	for (uint32_t i = 0; i < blocks->len; i++) {
		WireBlocks *b = &g_array_index(blocks, WireBlocks, i);
		if (b->target != one->target)
			continue;
		b->blocks = MAX(b->blocks, one->blocks);
		if (!wire_blocks_since(b, one)) {
			b->process = one->process;
			b->cuts = one->cuts;
		}
		return;
	}
	g_array_append_val(blocks, *one);
}

static int coroutine_fn commit(const Write *w, uint64_t end, const GArray *blocks)
{
	WireCommitReq req = { .ino = w->ino, .end = end, .flags = w->flags };
	WireAttrRep rep;

	if (!w->flags && exclusive_hold_back(w->m, w->ino, end, blocks, w->pages, w->attr))
		return 0;
	exclusive_ask(w->m, &req, blocks);
	RpcCall call = {
		.req = &req, .req_len = sizeof(req),
		.in = blocks->data, .in_len = blocks->len * sizeof(WireBlocks),
	};
	int r = mount_co_change_ino(w->m, WIRE_COMMIT, &call, w->pages, &rep);

	exclusive_told(w->m, &req, blocks, r < 0 ? NULL : &rep);
	if (r < 0)
		return r;
	*w->attr = rep.attr;
	return 0;
}

/* All pieces have a target. What landed before the first error counts; where
 * that is nothing, the home still learns that bytes may have changed. */
static ssize_t coroutine_fn write_pieces(const Write *w, const GArray *pieces)
{
	g_autofree PieceIo *ios = make_ios(w->m, w->ino, pieces, w->buf);
	g_autoptr(GArray) blocks = g_array_new(false, true, sizeof(WireBlocks));
	CoGroup group = { .sched = reactor_sched(w->m->reactor) };
	uint64_t done = 0;
	int error = 0;

	run_pieces(&group, write_piece, ios, pieces->len);
	for (uint32_t i = 0; i < pieces->len; i++) {
		if (ios[i].result < 0) {
			error = error ? error : ios[i].result;
			continue;
		}
		add_blocks(blocks, &ios[i].blocks);
		if (!error)
			done += ios[i].piece.len;
	}
	if (!done) {
		if (blocks->len)
			commit(w, 0, blocks);
		return error;
	}
	int r = commit(w, ios[0].piece.off + done, blocks);
	return r < 0 ? r : (ssize_t)done;
}

/* -EAGAIN: a truncation took the bytes along, or may have done so. */
static ssize_t coroutine_fn write_again(const Write *w, const GArray *pieces)
{
	ssize_t r = -EAGAIN;

	for (int tries = 0; r == -EAGAIN && tries < WRITE_TRIES; tries++)
		r = write_pieces(w, pieces);
	return r == -EAGAIN ? -EIO : r;
}

/* Runs that a home told in order to have a range written; into ret_pieces. */
static int take_runs(const Write *w, uint32_t chunk_shift, const WireRun *runs, uint32_t n, size_t out_len, GArray *ret_pieces)
{
	if (n > out_len / sizeof(WireRun) ||
	    layouts_add(w->m->layouts, w->ino, chunk_shift, runs, n) < 0)
		return -EIO;
	return pieces_split(runs, n, chunk_shift, w->off, w->len, ret_pieces) ? 0 : -EIO;
}

/* Room for the runs of so many bytes, should each chunk have another target;
 * chunks have 64 KiB at least where it matters. */
static size_t runs_room(size_t len)
{
	return RUNS_ROOM + (len >> 16) * sizeof(WireRun);
}

/* With the data. 1: it is done; 0: the home told where to write. */
static int coroutine_fn write_home(const Write *w, GArray *ret_pieces)
{
	Mount *m = w->m;
	WireWriteReq req = { .ino = w->ino, .off = w->off, .flags = w->flags, .writer = m->opts.store_peer };
	WireWriteRep rep;
	g_autofree WireRun *runs = g_malloc(runs_room(w->len));
	RpcCall call = {
		.req = &req, .req_len = sizeof(req), .rep = &rep,
		.in = w->buf, .in_len = w->len, .out = runs, .out_cap = runs_room(w->len),
	};
	HeldChange change;
	int r = mount_co_change(m, w->ino, WIRE_WRITE, &call, &change);

	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	mount_keep(m, &change, 0, rep.lease & WIRE_LEASE_INODE, &rep.attr);
	*w->attr = rep.attr;
	if (rep.kind == WIRE_KIND_DATA) {
		if (m->pages)
			pages_written(m->pages, &rep.attr, rep.prev_mtime_ns, w->pages);
		layouts_set_size(m->layouts, w->ino, rep.attr.size);
		return 1;
	}
	if (rep.kind != WIRE_KIND_RUNS)
		return -EIO;
	return take_runs(w, rep.attr.chunk_shift, runs, rep.runs, call.out_len, ret_pieces);
}

/* What a chunk is, is the home's to say: asked once a file. */
static int coroutine_fn co_chunk_shift(Mount *m, uint64_t ino)
{
	uint32_t shift = layouts_chunk_shift(m->layouts, ino);
	WireAttr attr;

	if (shift)
		return (int)shift;
	int r = mount_co_getattr(m, ino, &attr);
	if (r < 0)
		return r;
	return pieces_shift_valid(attr.chunk_shift) ? attr.chunk_shift : -EIO;
}

/* A large write to a remote home: the data need not travel there, only to be
 * told that it belongs elsewhere. */
static int coroutine_fn allocate(const Write *w, GArray *ret_pieces)
{
	int shift = co_chunk_shift(w->m, w->ino);

	if (shift < 0)
		return shift;
	uint64_t first = w->off >> shift, last = (w->off + w->len - 1) >> shift;
	WireLayoutReq req = {
		.ino = w->ino, .first = first, .count = last - first + 1,
		.writer = w->m->opts.store_peer, .alloc = 1,
	};
	WireLayoutRep rep;
	g_autofree WireRun *runs = g_malloc(runs_room(w->len));
	RpcCall call = {
		.req = &req, .req_len = sizeof(req), .rep = &rep,
		.out = runs, .out_cap = runs_room(w->len),
	};
	int r = mount_co_call_ino(w->m, w->ino, WIRE_LAYOUT, &call);
	return r < 0 ? r : take_runs(w, rep.chunk_shift, runs, rep.runs, call.out_len, ret_pieces);
}

ssize_t coroutine_fn data_co_write(Mount *m, uint64_t ino, const void *buf, size_t len, uint64_t off, uint32_t flags, WireAttr *ret_attr)
{
	g_autoptr(GArray) pieces = g_array_new(false, false, sizeof(Piece));
	bool local = map_home(m->map, ino) == m->self;
	Write w = {
		.m = m, .ino = ino, .off = off, .buf = buf, .len = len, .flags = flags,
		.pages = pages_writing(m->pages, ino, request_thread()), .attr = ret_attr,
	};
	int r = 0;

	if (!len)
		return 0;
	if (off > INT64_MAX - len)
		return -EFBIG;
	if (local || !layouts_split(m->layouts, ino, off, len, pieces)) {
		if (local || len <= WRITE_THROUGH_HOME)
			r = write_home(&w, pieces);
		else
			r = allocate(&w, pieces);
	}
	if (r == 1)
		return (ssize_t)len;
	return r < 0 ? r : write_again(&w, pieces);
}
