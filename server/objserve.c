/* OBJ_*: the target's side. Checks what a home or a mount sent, then calls
 * object.h. ctx: Objects. */
#include <errno.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "common/ino.h"
#include "common/rpc.h"
#include "server/object.h"

static int check(const WireObjReq *q, uint64_t len)
{
	if (!ino_valid(q->ino))
		return -EINVAL;
	return q->off > INT64_MAX || len > INT64_MAX - q->off ? -EFBIG : 0;
}

static int coroutine_fn obj_read(void *ctx, RpcReq *r)
{
	const WireObjReq *q = r->req;
	int ok = check(q, q->len);
	if (ok < 0)
		return ok;
	if (q->len > WIRE_BULK_MAX || q->len > r->out_cap)
		return -EINVAL;
	ssize_t n = object_co_read(ctx, q->ino, r->out, q->len, q->off);
	r->out_len = n > 0 ? (size_t)n : 0;
	return (int)n;
}

static int coroutine_fn obj_write(void *ctx, RpcReq *r)
{
	const WireObjReq *q = r->req;
	WireObjRep *rep = r->rep;
	int ok = r->in_len == 0 ? -EINVAL : check(q, r->in_len);

	/* A cut that ends from now on may take what is written along. */
	rep->cuts = objects_cuts(ctx, &rep->process);
	return ok < 0 ? ok : object_co_write(ctx, q->ino, r->in, r->in_len, q->off, &rep->blocks);
}

static int coroutine_fn obj_truncate(void *ctx, RpcReq *r)
{
	const WireObjReq *q = r->req;
	WireObjRep *rep = r->rep;
	int ok = check(q, 0);
	if (ok < 0)
		return ok;
	ok = object_co_truncate(ctx, q->ino, q->off, &rep->blocks);
	rep->cuts = objects_cuts(ctx, &rep->process);
	return ok;
}

static int coroutine_fn obj_fallocate(void *ctx, RpcReq *r)
{
	const WireObjReq *q = r->req;
	WireObjRep *rep = r->rep;
	uint32_t kind = q->mode & ~(uint32_t)FALLOC_FL_KEEP_SIZE;
	int ok = check(q, q->len);
	if (ok < 0)
		return ok;
	if (q->len == 0)
		return -EINVAL;
	if (kind != 0 && kind != FALLOC_FL_PUNCH_HOLE && kind != FALLOC_FL_ZERO_RANGE)
		return -EOPNOTSUPP;
	return object_co_fallocate(ctx, q->ino, (int)kind, q->off, q->len, &rep->blocks);
}

static int coroutine_fn obj_seek(void *ctx, RpcReq *r)
{
	const WireObjReq *q = r->req;
	WireObjRep *rep = r->rep;
	int ok = check(q, 0);
	if (ok < 0)
		return ok;
	if (q->mode != SEEK_DATA && q->mode != SEEK_HOLE)
		return -EINVAL;
	return object_co_seek(ctx, q->ino, q->off, (int)q->mode, &rep->off);
}

static int coroutine_fn obj_fsync(void *ctx, RpcReq *r)
{
	const WireObjReq *q = r->req;
	int ok = check(q, 0);

	return ok < 0 ? ok : object_co_fsync(ctx, q->ino, q->mode != 0);
}

static int coroutine_fn obj_remove(void *ctx, RpcReq *r)
{
	const WireObjReq *q = r->req;
	int ok = check(q, 0);

	return ok < 0 ? ok : object_co_remove(ctx, q->ino);
}

void objects_attach(Objects *o, struct Rpc *rpc)
{
	rpc_serve(rpc, WIRE_OBJ_READ, obj_read, o);
	rpc_serve(rpc, WIRE_OBJ_WRITE, obj_write, o);
	rpc_serve(rpc, WIRE_OBJ_TRUNCATE, obj_truncate, o);
	rpc_serve(rpc, WIRE_OBJ_FALLOCATE, obj_fallocate, o);
	rpc_serve(rpc, WIRE_OBJ_SEEK, obj_seek, o);
	rpc_serve(rpc, WIRE_OBJ_FSYNC, obj_fsync, o);
	rpc_serve(rpc, WIRE_OBJ_REMOVE, obj_remove, o);
}
