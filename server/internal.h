#pragma once
/* What the files of server/ share: the Server itself. Nobody else includes it. */
#include "common/rpc.h"
#include "server/inode.h"
#include "server/meta.h"
#include "server/object.h"
#include "server/removed.h"
#include "server/server.h"
#include "server/space.h"

typedef struct InodeCache InodeCache;
typedef struct Orphans Orphans;
typedef struct Holds Holds;
typedef struct Txns Txns;
typedef struct Tree Tree;
typedef struct LockTable LockTable;
typedef struct FileMaps FileMaps;
typedef struct Leases Leases;
typedef struct Store Store;
typedef struct Sequences Sequences;
typedef struct Sessions Sessions;

struct Server {
	ServerOptions opts;
	Reactor *reactor;
	const ClusterMap *map;
	uint16_t self;
	Rpc *rpc;          /* borrowed, set by server_attach() */

	Store *store;      /* store.h: directory, lock, identity */
	Space *space;
	Objects *objects;
	Meta *meta;
	Sequences *seqs;   /* names.c and others take new inode numbers from it */
	InodeCache *inodes;
	Orphans *orphans;
	Removed *removed;  /* directories: removed.h */
	Holds *holds;      /* holds.h: what changes that span peers hold here */
	Txns *txns;        /* txn.h: those changes */
	Tree *tree;        /* tree.h; used at the root's home */
	Sessions *sessions; /* that may call: sessions.h */
	LockTable *locks;
	Leases *leases;    /* what mounts keep: leases.h */
	FileMaps *maps;    /* chunk maps: filemap.h */
	GHashTable *cuts;  /* &ino -> truncations whose objects are still to be cut: truncate.c */
	const char *crash_at; /* crashpoint.h */
	int64_t started_ns;
	bool stopping;      /* server_co_stop() has begun */
	CoGroup recovering; /* data_co_recover() */
	struct {
		uint64_t inline_reads, inline_writes, object_writes;
	} stats;
};

/* Each registers its handlers; server_attach() calls them all. ctx: Server. */
void names_attach(Server *s);   /* LOOKUP CREATE TMPFILE UNLINK RENAME LINK READDIR READLINK */
void attrs_attach(Server *s);   /* GETATTR SETATTR ATIME */
void xattrs_attach(Server *s);  /* GETXATTR LISTXATTR SETXATTR REMOVEXATTR */
void txns_attach(Server *s);    /* TXN_PREPARE TXN_FINISH TXN_STATUS TXN_SYNC */
void tree_attach(Server *s);    /* TREE_LOCK TREE_UNLOCK */
void orphans_attach(Server *s); /* ORPHAN_CLOSED */
void data_attach(Server *s);    /* LAYOUT READ WRITE COMMIT FALLOCATE SEEK FSYNC */
void locks_attach(Server *s);   /* LOCK_GET LOCK_SET LOCK_CANCEL */
void fsck_attach(Server *s);    /* FSCK */
void peer_attach(Server *s);    /* PING PEER_INFO STATFS */

/* xattrs.c, for what clears setuid too (writes, chown): the capabilities of a
 * program go when its owner or its bytes change. The inode is locked. */
int coroutine_fn xattrs_co_kill_capability(Server *s, MetaBatch *b, InodeData *d);

/* data.c, for SETATTR and for the removal of inodes. The inode is locked. */
/* Changes the size of a regular file: batch gets the records (not the inode's,
 * which is the caller's to put), *d the new values; objects are cut or zeroed so that no byte behind the size survives,
 * whatever crashes when (a truncation intent is in the batch where objects
 * must be cut, and is settled after the commit by data_co_truncate_finish()). */
int coroutine_fn data_co_truncate_prepare(Server *s, MetaBatch *b, InodeData *d, uint64_t size);
int coroutine_fn data_co_truncate_finish(Server *s, Inode *inode);
/* Removes the objects of an inode on all its targets; 0 when all are gone. An
 * inode has objects where n_blocks > 0, INODE_INLINE or not. */
int coroutine_fn data_co_remove_objects(Server *s, const InodeData *d);
/* Redoes truncations a crash interrupted; at start, from a coroutine. */
void coroutine_fn data_co_recover(Server *s);
/* Text for benchfs.info: chunk map and where each run lives; appended. */
void coroutine_fn data_co_describe(Server *s, Inode *inode, GString *text);

/* ---- life of the parts: server.c calls these ---- */

/* Made by server_new() in this order, after store, space, objects and meta;
 * the parts get at each other through s. No _new() yields or reads the store;
 * _free() takes NULL and runs after every coroutine of the server has ended. */
Sequences *sequences_new(Server *s);
void sequences_free(Sequences *q);
Sessions *sessions_new(Server *s);
void sessions_free(Sessions *ss);
InodeCache *inode_cache_new(Server *s);
void inode_cache_free(InodeCache *c);
Holds *holds_new(void);
void holds_free(Holds *h);
Txns *txns_new(Server *s);
void txns_free(Txns *t);
Tree *tree_new(void);
void tree_free(Tree *t);
Orphans *orphans_new(Server *s);
void orphans_free(Orphans *o);
LockTable *locks_new(Server *s);
void locks_free(LockTable *t);
Leases *leases_new(Server *s);
void leases_free(Leases *l);
/* Ends every wait with -EINTR. From then on a session that ends leaves its
 * locks in the store: it is this process that ends. */
void coroutine_fn locks_co_stop(Server *s);

/* Called by server_new() from a coroutine, before there is an Rpc: makes the
 * root directory where slot 0 is served here and has none. 0 or -errno. */
int coroutine_fn names_co_make_root(Server *s);
/* Also by server_new(): reads what is pending (nothing is settled yet, since
 * that may need other peers) and logs how much it found. */
int coroutine_fn orphans_co_load(Server *s);
int coroutine_fn txns_co_load(Server *s);
int coroutine_fn data_co_load(Server *s);
int coroutine_fn locks_co_load(Server *s);
/* Background work: started by server_start() once calls can be made, stopped
 * by server_co_stop(); _co_stop() returns when no coroutine of theirs is left. */
void txns_start(Server *s);
void coroutine_fn txns_co_stop(Server *s);
void orphans_start(Server *s);
void coroutine_fn orphans_co_stop(Server *s);

/* For STATFS and PEER_INFO. inodes_count(): inodes whose home this store is. */
uint64_t inodes_count(const Server *s);
uint64_t orphans_count(const Server *s);
uint64_t locks_count(const Server *s);
