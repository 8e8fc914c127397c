#pragma once
/* What the files names*.c share. Nobody else includes it. */
#include "server/entry.h"

int coroutine_fn names_create(void *ctx, RpcReq *r);
int coroutine_fn names_link(void *ctx, RpcReq *r);
int coroutine_fn names_unlink(void *ctx, RpcReq *r);
int coroutine_fn names_rename(void *ctx, RpcReq *r);
int coroutine_fn names_readdir(void *ctx, RpcReq *r);
int coroutine_fn names_tmpfile(void *ctx, RpcReq *r);

/* names-remote.c: directories whose inode lives on another peer than their
 * name. This side changes the name; it decides. The directory of e is locked. */
int coroutine_fn names_co_make_remote(Server *s, Entry *e, const RpcReq *r, WireEntryRep *rep);
int coroutine_fn names_co_remove_remote(Server *s, Entry *e, const RpcReq *r);
/* LOOKUP with WIRE_LOOKUP_CHILD. */
int coroutine_fn names_co_lookup_child(Server *s, Inode *dir, const Name *name, WireEntryRep *rep);

/* Puts into the change what becomes of an inode that loses a name. */
void coroutine_fn names_co_drop_link(Change *c, Inode *inode);
/* The values of a new inode in a directory: number, mode with type, owner. */
void names_new_inode(const InodeData *dir, uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, InodeData *ret_d);
