/*
 * Small files in the metadata store. The record holds the bytes up to the last
 * one written; what the file has beyond that are zeros, so that growing one by
 * truncate(2) costs nothing. Reading takes no lock: a file that moves out in
 * the meantime is noticed by its flag.
 */
#include <errno.h>
#include <string.h>

#include "server/data.h"
#include "server/record.h"

/* 0 and the bytes behind the version; -ENOENT: none. */
static int coroutine_fn get_record(Server *s, uint64_t ino, MetaValue *v)
{
	Key key = key_ino(ino, RECORD_INLINE);
	int r = meta_co_get(s->meta, key.data, key.len, v);
	if (r < 0)
		return r;
	if (v->len < 1 || v->data[0] != RECORD_VERSION) {
		meta_value_clear(v);
		return -EIO;
	}
	return 0;
}

int coroutine_fn inline_co_load(Server *s, const InodeData *d, GByteArray **ret_bytes)
{
	MetaValue v = { 0 };
	int r = -ENOENT;

	/* A file that never had bytes has no record to look for. */
	if (d->attr.size > 0)
		r = get_record(s, d->attr.ino, &v);
	if (r < 0 && r != -ENOENT)
		return r;
	*ret_bytes = g_byte_array_new();
	if (r == 0)
		g_byte_array_append(*ret_bytes, v.data + 1, (guint)MIN(v.len - 1, d->attr.size));
	meta_value_clear(&v);
	return 0;
}

void inline_put(MetaBatch *b, InodeData *d, const uint8_t *bytes, size_t len)
{
	Key key = key_ino(d->attr.ino, RECORD_INLINE);

	if (len > 0) {
		g_autofree uint8_t *value = g_malloc(len + 1);

		value[0] = RECORD_VERSION;
		memcpy(value + 1, bytes, len);
		meta_batch_put(b, key.data, key.len, value, len + 1);
	} else {
		meta_batch_delete(b, key.data, key.len);
	}
	d->attr.blocks = (len + 511) / 512;
}

int coroutine_fn inline_co_read(Server *s, Inode *inode, void *buf, size_t len, uint64_t off)
{
	MetaValue v = { 0 };
	size_t n = 0;
	int r = get_record(s, inode->d.attr.ino, &v);

	if (!(inode->d.flags & INODE_INLINE)) {
		meta_value_clear(&v);
		return -ENODATA;
	}
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && off < v.len - 1) {
		n = MIN(len, v.len - 1 - off);
		memcpy(buf, v.data + 1 + off, n);
	}
	meta_value_clear(&v);
	memset((uint8_t *)buf + n, 0, len - n);
	return 0;
}

static int coroutine_fn write_object(Server *s, uint64_t ino, uint16_t target, const GByteArray *bytes, WireObjRep *rep)
{
	WireObjReq req = { .ino = ino };
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = rep };

	/* A crash may have left an earlier attempt there, from when the file was
	 * longer. */
	int r = rpc_co_call(s->rpc, target, WIRE_OBJ_TRUNCATE, &call);
	if (r < 0)
		return r;
	call.in = bytes->data;
	call.in_len = bytes->len;
	return rpc_co_call(s->rpc, target, WIRE_OBJ_WRITE, &call);
}

int coroutine_fn inline_co_move_out(Server *s, Inode *inode, uint16_t target)
{
	g_autoptr(GByteArray) bytes = NULL;
	g_auto(InodeData) d = { 0 };
	WireObjRep rep = { 0 };
	int r = inline_co_load(s, &inode->d, &bytes);
	if (r < 0)
		return r;
	if (bytes->len > 0)
		r = write_object(s, inode->d.attr.ino, target, bytes, &rep);
	if (r < 0)
		return r;
	MetaBatch *b = meta_batch_new(s->meta);

	inode_data_copy(&d, &inode->d);
	inline_put(b, &d, NULL, 0);
	d.flags &= ~(uint32_t)INODE_INLINE;
	inode_data_set_blocks(&d, target, rep.blocks);
	return data_co_commit(s, inode, b, &d);
}
