#pragma once
/* What the files names*.c share. Nobody else includes it. */
#include <errno.h>

#include "server/entry.h"

int coroutine_fn names_create(void *ctx, RpcReq *r);
int coroutine_fn names_link(void *ctx, RpcReq *r);
int coroutine_fn names_unlink(void *ctx, RpcReq *r);
int coroutine_fn names_rename(void *ctx, RpcReq *r);
int coroutine_fn names_readdir(void *ctx, RpcReq *r);
int coroutine_fn names_tmpfile(void *ctx, RpcReq *r);

/* names-across.c: what no single peer can do. The calls above return
 * NAMES_ACROSS inside this process when they find out. */
#define NAMES_ACROSS (-EREMOTE)
int coroutine_fn names_co_make_across(Server *s, Entry *e, const RpcReq *caller, WireEntryRep *rep);
int coroutine_fn names_co_link_across(Server *s, Entry *e, const RpcReq *caller, WireEntryRep *rep);
int coroutine_fn names_co_remove_across(Server *s, Entry *e, const RpcReq *caller);
/* names-rename-across.c */
int coroutine_fn names_co_rename_across(Server *s, Entry *from, const Name *newname, const RpcReq *caller);

/* A NAME step. */
WireStep names_step(uint64_t dir, const Name *name, uint64_t old_ino, uint32_t old_mode, uint64_t new_ino, uint32_t new_mode);

/* As ext4. */
#define LINK_LIMIT 65000
/* 0 when a name of type `mode` may stand for what one of type `old` stood for. */
int names_check_types(uint32_t mode, uint32_t old);
/* Puts into the change what becomes of an inode that loses a name. */
void coroutine_fn names_co_drop_link(Change *c, Inode *inode);
/* The values of a new inode in a directory: number, mode with type, owner. */
void names_new_inode(const InodeData *dir, uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, InodeData *ret_d);
