#pragma once
/* What the files data*.c, inline.c and truncate.c share. Nobody else includes
 * it. */
#include "server/filemap.h"
#include "server/internal.h"
#include "server/runs.h"
#include "server/targets.h"

/* ---- data.c ---- */

/* A reference to a regular file; -EISDIR, -EINVAL for others. r: who asks, where
 * it knows what it holds back of it, or NULL (inode_co_get_for()). */
int coroutine_fn data_co_get_file(Server *s, uint64_t ino, const RpcReq *r, Inode **ret_inode);
/* ... locked, and not gone. */
int coroutine_fn data_co_lock_file(Server *s, uint64_t ino, const RpcReq *r, Inode **ret_inode);
void data_unlock_file(Server *s, Inode *inode);
/* The same two for a change that r asks for: nobody keeps anything of the file
 * in between (leases.h). True: r is granted a lease on what it is now. */
int coroutine_fn data_co_begin(Server *s, uint64_t ino, const RpcReq *r, Inode **ret_inode);
bool data_end(Server *s, Inode *inode, const RpcReq *r);
/* Puts d into the batch, commits and frees that, publishes d (moved out of the
 * caller's when this returns 0). The inode is locked; leases that are still
 * out are called back. */
int coroutine_fn data_co_commit(Server *s, Inode *inode, MetaBatch *b, InodeData *d);
/* The caller's peer as it says: a peer of the map or PEER_NONE. */
bool data_writer_valid(const Server *s, uint16_t writer);
/* [off, off+len) lies in what a file can have. */
bool data_range_valid(uint64_t off, uint64_t len);

/* Every chunk of [first, first+count) has a target when this returns 0, and
 * the file is not inline any more. The inode is locked; *ret_runs is a
 * reference. */
int coroutine_fn data_co_map(Server *s, Inode *inode, uint16_t writer, uint64_t first, uint64_t count, Runs **ret_runs);
/* Writes the runs of [first, first+count), and a few behind it, into r->out.
 * -ENOBUFS when those of the range don't fit. */
int data_reply_runs(RpcReq *r, const Runs *runs, uint64_t first, uint64_t count, uint32_t *ret_n);

/* ---- inline.c: the record may end before the file does; zeros follow ---- */

/* The bytes of an inline file; to be freed. */
int coroutine_fn inline_co_load(Server *s, const InodeData *d, GByteArray **ret_bytes);
/* Replaces them in the batch, and what they occupy in d. */
void inline_put(MetaBatch *b, InodeData *d, const uint8_t *bytes, size_t len);
/* Reads [off, off+len) into buf, filled up with zeros. 0, -ENODATA: the file
 * is not inline any more, or -errno. */
int coroutine_fn inline_co_read(Server *s, Inode *inode, void *buf, size_t len, uint64_t off);
/* Moves the bytes into the object on `target`, after the record that says so
 * was committed; the file is not inline afterwards. */
int coroutine_fn inline_co_move_out(Server *s, Inode *inode, uint16_t target);

/* ---- truncate.c ---- */

/* Before a file grows: objects that a truncation still has to cut are cut, so
 * that their old bytes don't show again. Changes the inode. */
int coroutine_fn truncate_co_settle(Server *s, Inode *inode);
/* Is there anything to cut? */
bool truncate_is_pending(Server *s, const Inode *inode);

/* ---- registering: data-io.c, data-range.c ---- */
int coroutine_fn data_layout(void *ctx, RpcReq *r);
int coroutine_fn data_read(void *ctx, RpcReq *r);
int coroutine_fn data_write(void *ctx, RpcReq *r);
int coroutine_fn data_commit(void *ctx, RpcReq *r);
int coroutine_fn data_fallocate(void *ctx, RpcReq *r);
int coroutine_fn data_seek(void *ctx, RpcReq *r);
int coroutine_fn data_fsync(void *ctx, RpcReq *r);
