#pragma once
/*
 * What peers say to each other: one table of operations, each with its
 * fixed-size little-endian request and reply structs.
 *
 * A request is its struct, then (where the struct has name lengths) the names,
 * without NUL, in the order of their lengths; both together at most
 * WIRE_REQ_MAX bytes. Bulk data (`in` towards the server, `out` back) travels
 * beside it, at most WIRE_BULK_MAX bytes. A reply is a status (>= 0, or
 * -errno), its struct, and bulk.
 *
 * A handler sees a request whose length is at least its struct's and whose
 * bulk is within bounds; names, numbers and flags are the handler's to check
 * (wire_name()). The same bytes go to a handler in this process.
 */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the wire structs are used as they are: little-endian hosts only"
#endif

#define WIRE_VERSION 4u
#define WIRE_REQ_MAX 1024u
#define WIRE_BULK_MAX (16u << 20)
#define WIRE_NAME_MAX 255u
#define WIRE_XATTR_NAME_MAX 255u
#define WIRE_XATTR_SIZE_MAX 65536u
#define WIRE_SYMLINK_MAX 4095u

enum { WIRE_IDEMPOTENT = 1 << 0, /* may be done twice: not remembered */
       WIRE_WAITS = 1 << 1,      /* may take as long as a disk or a lock does: ends when
                                    the peer stays away, not at a deadline */
       WIRE_TO_MOUNT = 1 << 2,   /* served by the mount, called by a home; never waits */
       WIRE_CHANGES = 1 << 3,    /* changes the inode whose number the request begins with */
       WIRE_CHANGES_TWO = 1 << 4 };/* ... and the one whose number comes next */

/* ---- shared pieces ---- */

enum { WIRE_POLICY_LOCAL = 0, WIRE_POLICY_STRIPE = 1 };

typedef struct WireAttr {
	uint64_t ino;
	uint64_t size;
	uint64_t blocks; /* 512-byte units */
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns; /* since the Epoch */
	uint32_t mode, nlink, uid, gid, rdev;
	uint8_t chunk_shift; /* log2 of the chunk size */
	uint8_t policy;      /* WIRE_POLICY_* */
	uint16_t flags;      /* WIRE_ATTR_* */
} WireAttr;
enum { WIRE_ATTR_HAS_XATTRS = 1 << 0 };
static_assert(sizeof(WireAttr) == 80, "packed by hand");

/* Chunks first .. first+count-1. width 1: all on target. width n > 1: chunk c
 * is on peer (target + (c - first)) % n, for striped files. */
typedef struct WireRun {
	uint64_t first, count;
	uint16_t target, width;
	uint32_t pad;
} WireRun;

/* One directory entry in READDIR's bulk, followed by a WireAttr when
 * have_attr, then the name, then zeros up to a multiple of 8. cookie is what
 * to pass to go on behind this entry. */
typedef struct WireDirent {
	uint64_t ino, cookie;
	uint32_t mode; /* type bits */
	uint16_t name_len;
	uint8_t have_attr, lease; /* lease: WIRE_LEASE_INODE */
} WireDirent;
static_assert(sizeof(WireDirent) == 24, "packed by hand");

/* What an object of a target occupies, 512-byte units, and how many cuts of
 * objects that target's process had made: before a write of it began, or with
 * the last cut of it. Of two numbers of one process the later is ahead. */
typedef struct WireBlocks {
	uint64_t blocks;
	uint16_t target;
	uint16_t process; /* any number, other than that of the process before; 0: not known */
	uint32_t cuts;
} WireBlocks;
/* Had b's target made all the cuts of a when b was written? Not, where they are
 * not of one process. */
static inline bool wire_blocks_since(const WireBlocks *a, const WireBlocks *b)
{
	return a->process == b->process && (int32_t)(b->cuts - a->cuts) >= 0;
}

typedef struct WireNone { uint64_t zero; } WireNone;

/* What a mount holds back of a file under an exclusive lease: all that its
 * COMMITs since would have said. server/exclusive.h, common/heldback.h. */
typedef struct WireHeldBack {
	uint64_t ino;     /* 0: nothing */
	uint64_t end;     /* size is at least that */
	int64_t base_ns;  /* mtime when the lease was granted: what else has moved it came later */
	int64_t mtime_ns, ctime_ns;
	uint64_t blocks;  /* of the target's object, 512-byte units */
	uint16_t target;
	uint16_t pad[3];
} WireHeldBack;
static_assert(sizeof(WireHeldBack) == 56, "packed by hand");
/* HELD_BACK, home to mount: the exclusive lease of an inode is over; what was
 * held back? SETTLE, mount to home: this was, and it is over. */

/* Leases: a mount that asks for one (`lease` of a request 1) may keep what the
 * reply says of an inode until the home recalls it, when the reply grants it
 * (WIRE_LEASE_*). See server/leases.h, fuse/held.h. */
enum { WIRE_LEASE_INODE = 1 << 0, /* attributes, data, names in it where it is a directory */
       WIRE_LEASE_DIR = 1 << 1,   /* LOOKUP: the same of the directory asked */
       WIRE_LEASE_EXCLUSIVE = 1 << 2 };/* COMMIT: the caller may hold back the next ones */

typedef struct WireInoReq {
	uint64_t ino;
	uint32_t lease, pad; /* GETATTR */
} WireInoReq;
typedef struct WireAttrRep {
	WireAttr attr;
	uint32_t lease, pad; /* WIRE_LEASE_INODE: granted, also by changes */
	int64_t prev_mtime_ns; /* SETATTR, COMMIT, FALLOCATE: before the change */
} WireAttrRep;

/* ---- names and attributes: served by the home ---- */

typedef struct WireNameReq {
	uint64_t dir;
	uint32_t flags; /* UNLINK: WIRE_UNLINK_RMDIR; LOOKUP: WIRE_LOOKUP_LEASE */
	uint16_t name_len, pad;
} WireNameReq;
/* UNLINK answers with the attributes of the directory, where it grants a lease. */
enum { WIRE_UNLINK_RMDIR = 1 << 0,
       /* grant leases, and answer that there is no such name with number 0, so
        * that this too comes with a lease of the directory */
       WIRE_LOOKUP_LEASE = 1 << 1 };

/* have_attr 0: an inode whose home is elsewhere; only attr.ino and the type
 * bits of attr.mode are set, ask its home. */
typedef struct WireEntryRep {
	WireAttr attr;
	uint32_t have_attr, created;
	uint32_t lease, pad; /* LOOKUP, CREATE: WIRE_LEASE_* */
	WireAttr dir;        /* CREATE: the directory's, where a lease on it is granted */
} WireEntryRep;

typedef struct WireSetattrReq {
	uint64_t ino;
	uint64_t size;
	int64_t atime_ns, mtime_ns;
	uint32_t valid; /* WIRE_SET_* */
	uint32_t mode, uid, gid;
} WireSetattrReq;
enum { WIRE_SET_MODE = 1 << 0, WIRE_SET_UID = 1 << 1, WIRE_SET_GID = 1 << 2,
       WIRE_SET_SIZE = 1 << 3, WIRE_SET_ATIME = 1 << 4, WIRE_SET_MTIME = 1 << 5,
       WIRE_SET_ATIME_NOW = 1 << 6, WIRE_SET_MTIME_NOW = 1 << 7,
       WIRE_SET_KILL_SUIDGID = 1 << 8 };

/* The inode was read: atime becomes now where relatime has it so, or always.
 * The status is 1 when it moved. */
typedef struct WireAtimeReq {
	uint64_t ino;
	uint32_t always, pad;
} WireAtimeReq;

/* Files, special files, symlinks (target in `in`) and directories, by the type
 * bits of mode. An existing name without WIRE_CREATE_EXCL is answered with its
 * entry and created 0. A new directory goes to a slot of `peer`. */
typedef struct WireCreateReq {
	uint64_t dir;
	uint32_t mode, uid, gid, rdev;
	uint32_t flags; /* WIRE_CREATE_* */
	uint16_t name_len;
	uint16_t peer; /* the caller's store, or PEER_NONE */
	uint32_t umask; /* the caller's, where no default ACL takes its place */
	uint32_t pad;
} WireCreateReq;
enum { WIRE_CREATE_EXCL = 1 << 0 };

/* A regular file in dir, without a name: an orphan that its maker has open. */
typedef struct WireTmpfileReq {
	uint64_t dir;
	uint32_t mode, uid, gid, umask;
	uint32_t linkable, pad; /* 1: LINK may give it a name */
} WireTmpfileReq;

/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE of renameat2(2). */
typedef struct WireRenameReq {
	uint64_t dir, newdir;
	uint32_t flags;
	uint16_t name_len, newname_len;
} WireRenameReq;

typedef struct WireLinkReq {
	uint64_t ino, newdir;
	uint16_t name_len, pad[3];
} WireLinkReq;

typedef struct WireReaddirReq {
	uint64_t dir, cookie; /* 0: from the start */
	uint32_t plus, lease;
} WireReaddirReq;
typedef struct WireReaddirRep {
	uint32_t count, eof;
	uint32_t lease, pad; /* WIRE_LEASE_INODE: of the directory */
} WireReaddirRep;

/* GETXATTR, SETXATTR, REMOVEXATTR; flags: XATTR_CREATE, XATTR_REPLACE, and for
 * an access ACL that setgid goes, since the caller is not of the group */
typedef struct WireXattrReq {
	uint64_t ino;
	uint32_t flags;
	uint16_t name_len, pad;
} WireXattrReq;
enum { WIRE_XATTR_KILL_SGID = 1 << 8 };

typedef struct WireStatfsRep {
	uint64_t total, free, avail; /* bytes */
	uint64_t inodes_used, inodes_free;
} WireStatfsRep;

/* ---- changes that span peers: server/txn.h ---- */

/* One step of a change, done by the home of ino. Travels as bulk, an array. */
typedef struct WireStep {
	uint64_t ino;            /* NAME: the directory; MAKE: 0, the number is the home's to give */
	uint64_t old_ino, new_ino; /* NAME: what the name stands for before and after, 0: nothing;
	                              MOVE, MAKE: new_ino is the new parent */
	int64_t time_ns;         /* MAKE: set by the home */
	uint32_t old_mode, new_mode; /* NAME: their type bits; MAKE: new_mode is the mode */
	uint32_t uid, gid;       /* MAKE */
	uint16_t peer;           /* MAKE: the home */
	uint16_t name_len;       /* NAME */
	uint8_t kind;            /* WIRE_STEP_* */
	uint8_t chunk_shift, policy, pad; /* MAKE */
	uint32_t acl_len;        /* MAKE: of the default ACL that it inherits, behind the steps; at most once */
	uint16_t umask, pad2;    /* MAKE: where it inherits none */
	char name[256];          /* NAME */
} WireStep;
static_assert(sizeof(WireStep) == 320, "packed by hand");
enum { WIRE_STEP_NAME = 1, /* a name stands for something else, or nothing */
       WIRE_STEP_LINK = 2, /* an inode has one name more, or its first (O_TMPFILE); at most once */
       WIRE_STEP_DROP = 3, /* ... or less; of a directory the only one */
       WIRE_STEP_MOVE = 4, /* an inode's name has moved, to another parent perhaps */
       WIRE_STEP_MAKE = 5 }; /* a directory is made */
#define WIRE_STEPS_MAX 6u

typedef struct WireTxnId {
	uint64_t session, number; /* of the coordinator */
} WireTxnId;

/* `in`: WireStep[], and an ACL where one of them says so. -EAGAIN: not now, a change that is older comes first, or
 * the names are no longer what they were said to be. attr: of what is made. */
typedef struct WireTxnPrepareReq {
	WireTxnId id;
	int64_t age_ns; /* when the call began: the older one wins */
	uint64_t session; /* of the mount whose call it is; 0: not known */
	uint32_t steps, pad;
} WireTxnPrepareReq;
typedef struct WireTxnFinishReq {
	WireTxnId id;
	uint32_t commit, pad;
} WireTxnFinishReq;
typedef struct WireTxnStatusRep { uint64_t status; } WireTxnStatusRep;
enum { WIRE_TXN_ABORTED = 0, WIRE_TXN_COMMITTED = 1, WIRE_TXN_PENDING = 2 };

/* The lock of the tree, at the root's home: its holder alone gives directories
 * other parents. -EAGAIN: not now. */
typedef struct WireTreeReq {
	uint64_t number; /* with the session: the holder */
} WireTreeReq;

/* ---- data: served by the home ---- */

/* alloc: chunks without a target get one, chosen for `writer`; inline data
 * moves out first. Bulk out: WireRun[] that cover what is assigned in
 * [first, first+count), possibly more behind it. */
typedef struct WireLayoutReq {
	uint64_t ino, first, count;
	uint16_t writer, alloc;
	uint32_t pad;
} WireLayoutReq;
typedef struct WireLayoutRep {
	uint64_t size;
	uint32_t runs, is_inline;
	uint8_t chunk_shift, pad[7];
} WireLayoutRep;

/* READ: bulk out is the data (kind DATA, status = bytes; short at the end of
 * the file only) where the home has it, else WireRun[] (kind RUNS). */
typedef struct WireReadReq {
	uint64_t ino, off;
	uint32_t len, lease;
} WireReadReq;
typedef struct WireReadRep {
	uint64_t size; /* of the file */
	uint32_t kind, runs;
	uint8_t chunk_shift, pad[3];
	uint32_t lease; /* WIRE_LEASE_INODE: attr is set */
	WireAttr attr;
} WireReadRep;
enum { WIRE_KIND_DATA = 1, WIRE_KIND_RUNS = 2 };

/* WRITE: `in` is the data. kind DATA: done, all of it, and committed. kind
 * RUNS: nothing was written; bulk out is WireRun[] with targets for all of it:
 * write there, then COMMIT. */
typedef struct WireWriteReq {
	uint64_t ino, off;
	uint32_t flags; /* WIRE_WRITE_* */
	uint16_t writer, pad;
} WireWriteReq;
enum { WIRE_WRITE_KILL_SUIDGID = 1 << 0 };
typedef struct WireWriteRep {
	WireAttr attr;
	uint32_t kind, runs;
	uint32_t lease, pad; /* WIRE_LEASE_INODE */
	int64_t prev_mtime_ns; /* before the change */
} WireWriteRep;

/* Data has landed up to `end` (exclusive; 0: no new size): size becomes at
 * least that, times move. `in`: WireBlocks[] of the objects written. -EAGAIN:
 * objects had still to be cut at the size, so what was written behind it is
 * gone: write it again. */
typedef struct WireCommitReq {
	uint64_t ino, end;
	uint32_t flags, pad; /* WIRE_WRITE_*, WIRE_COMMIT_EXCLUSIVE */
	WireHeldBack held;   /* until now; in the same step */
} WireCommitReq;
enum { WIRE_COMMIT_EXCLUSIVE = 1 << 1 }; /* an exclusive lease is welcome */

typedef struct WireFallocateReq {
	uint64_t ino, off, len;
	uint32_t mode; /* FALLOC_FL_* */
	uint16_t writer, pad;
} WireFallocateReq;

typedef struct WireSeekReq {
	uint64_t ino, off;
	uint32_t whence, pad; /* SEEK_DATA, SEEK_HOLE */
} WireSeekReq;
typedef struct WireSeekRep { uint64_t off; } WireSeekRep;

typedef struct WireFsyncReq {
	uint64_t ino;
	uint32_t datasync, pad;
} WireFsyncReq;

/* ---- objects: served by the target. Offsets are file offsets. ---- */

typedef struct WireObjReq {
	uint64_t ino, off, len; /* READ, FALLOCATE, SEEK; TRUNCATE: off is the size */
	uint32_t mode, pad;     /* FALLOCATE: FALLOC_FL_*; SEEK: whence; FSYNC: datasync */
} WireObjReq;
typedef struct WireObjRep {
	uint64_t blocks; /* WRITE, TRUNCATE, FALLOCATE: the object's, 512 bytes */
	uint64_t off;    /* SEEK */
	uint32_t cuts;   /* WRITE, TRUNCATE: as in WireBlocks */
	uint16_t process, pad;
} WireObjRep;

/* ---- locks: served by the home ---- */

typedef struct WireLock {
	uint64_t start, end; /* inclusive; end UINT64_MAX: to the end */
	uint32_t type;       /* F_RDLCK, F_WRLCK, F_UNLCK */
	uint32_t pid;
} WireLock;
typedef struct WireLockReq {
	uint64_t ino, owner;
	WireLock lock;
	uint32_t kind; /* WIRE_LOCK_* */
	uint32_t wait;
	uint64_t wait_id; /* names a waiting request, for LOCK_CANCEL */
} WireLockReq;
/* Locks of different kinds don't meet. APPEND is a mount's, for the time of one
 * write to the end of a file. */
typedef enum WireLockKind { WIRE_LOCK_FCNTL, WIRE_LOCK_FLOCK, WIRE_LOCK_APPEND, WIRE_LOCK_KINDS } WireLockKind;
typedef struct WireLockRep { WireLock lock; } WireLockRep;

/* ---- peers ---- */

/* FORGET_QUERY, home to mount: the inode has lost its last name. Answer: is it
 * open here? When not, it must not be opened by number any more. When it is,
 * ORPHAN_CLOSED follows, mount to home, after the last close. */
typedef struct WireForgetReq {
	uint64_t ino;
	uint32_t undo, pad; /* 1: the name could not be taken away, as if never asked */
} WireForgetReq;
typedef struct WireOpenRep { uint64_t open; } WireOpenRep;

/* RECALL, home to mount: these inodes are about to change; what the mount keeps
 * of them is no longer good once it has answered. */
#define WIRE_RECALL_MAX 4u
typedef struct WireRecallReq {
	uint32_t n, pad;
	uint64_t inos[WIRE_RECALL_MAX];
} WireRecallReq;

typedef struct WirePeerInfoRep {
	uint64_t total, free, avail; /* bytes of the store */
	uint64_t uptime_s;
	uint32_t slots, sessions;
	uint32_t has_store, has_mount;
	uint64_t inodes, orphans, locks;
} WirePeerInfoRep;

/* FSCK: facts about a store, from a place on: server/fsck.h. Bulk out: the
 * facts; the reply says where to go on. */
typedef struct WireFsckPlace {
	uint64_t a, b;
	uint32_t stage, skip;
} WireFsckPlace;

/* name, name for people, request, reply, flags */
#define WIRE_OPS(OP) \
	OP(PING, ping, WireNone, WireNone, WIRE_IDEMPOTENT) \
	OP(PEER_INFO, peer_info, WireNone, WirePeerInfoRep, WIRE_IDEMPOTENT) \
	OP(STATFS, statfs, WireNone, WireStatfsRep, WIRE_IDEMPOTENT) \
	OP(LOOKUP, lookup, WireNameReq, WireEntryRep, WIRE_IDEMPOTENT) \
	OP(GETATTR, getattr, WireInoReq, WireAttrRep, WIRE_IDEMPOTENT) \
	OP(SETATTR, setattr, WireSetattrReq, WireAttrRep, WIRE_WAITS | WIRE_CHANGES) \
	OP(ATIME, atime, WireAtimeReq, WireAttrRep, WIRE_IDEMPOTENT) \
	OP(CREATE, create, WireCreateReq, WireEntryRep, WIRE_WAITS | WIRE_CHANGES) \
	OP(TMPFILE, tmpfile, WireTmpfileReq, WireAttrRep, 0) \
	OP(UNLINK, unlink, WireNameReq, WireAttrRep, WIRE_WAITS | WIRE_CHANGES) \
	OP(RENAME, rename, WireRenameReq, WireNone, WIRE_WAITS | WIRE_CHANGES | WIRE_CHANGES_TWO) \
	OP(LINK, link, WireLinkReq, WireEntryRep, WIRE_WAITS | WIRE_CHANGES | WIRE_CHANGES_TWO) \
	OP(READLINK, readlink, WireInoReq, WireNone, WIRE_IDEMPOTENT) \
	OP(READDIR, readdir, WireReaddirReq, WireReaddirRep, WIRE_IDEMPOTENT) \
	OP(GETXATTR, getxattr, WireXattrReq, WireNone, WIRE_IDEMPOTENT) \
	OP(LISTXATTR, listxattr, WireInoReq, WireNone, WIRE_IDEMPOTENT) \
	OP(SETXATTR, setxattr, WireXattrReq, WireNone, WIRE_CHANGES) \
	OP(REMOVEXATTR, removexattr, WireXattrReq, WireNone, WIRE_CHANGES) \
	OP(LAYOUT, layout, WireLayoutReq, WireLayoutRep, WIRE_IDEMPOTENT | WIRE_CHANGES) \
	OP(READ, read, WireReadReq, WireReadRep, WIRE_IDEMPOTENT | WIRE_WAITS) \
	OP(WRITE, write, WireWriteReq, WireWriteRep, WIRE_WAITS | WIRE_CHANGES) \
	OP(SETTLE, settle, WireHeldBack, WireNone, WIRE_IDEMPOTENT | WIRE_WAITS) \
	OP(COMMIT, commit, WireCommitReq, WireAttrRep, WIRE_WAITS | WIRE_CHANGES) \
	OP(FALLOCATE, fallocate, WireFallocateReq, WireAttrRep, WIRE_WAITS | WIRE_CHANGES) \
	OP(SEEK, seek, WireSeekReq, WireSeekRep, WIRE_IDEMPOTENT | WIRE_WAITS) \
	OP(FSYNC, fsync, WireFsyncReq, WireNone, WIRE_IDEMPOTENT | WIRE_WAITS) \
	OP(TXN_PREPARE, txn_prepare, WireTxnPrepareReq, WireAttrRep, 0) \
	OP(TXN_FINISH, txn_finish, WireTxnFinishReq, WireNone, WIRE_IDEMPOTENT) \
	OP(TXN_STATUS, txn_status, WireTxnId, WireTxnStatusRep, WIRE_IDEMPOTENT) \
	OP(TXN_SYNC, txn_sync, WireNone, WireNone, WIRE_IDEMPOTENT | WIRE_WAITS) \
	OP(TREE_LOCK, tree_lock, WireTreeReq, WireNone, 0) \
	OP(TREE_UNLOCK, tree_unlock, WireTreeReq, WireNone, WIRE_IDEMPOTENT) \
	OP(OBJ_READ, obj_read, WireObjReq, WireObjRep, WIRE_IDEMPOTENT | WIRE_WAITS) \
	OP(OBJ_WRITE, obj_write, WireObjReq, WireObjRep, WIRE_IDEMPOTENT | WIRE_WAITS) \
	OP(OBJ_TRUNCATE, obj_truncate, WireObjReq, WireObjRep, WIRE_IDEMPOTENT | WIRE_WAITS) \
	OP(OBJ_FALLOCATE, obj_fallocate, WireObjReq, WireObjRep, WIRE_IDEMPOTENT | WIRE_WAITS) \
	OP(OBJ_SEEK, obj_seek, WireObjReq, WireObjRep, WIRE_IDEMPOTENT | WIRE_WAITS) \
	OP(OBJ_FSYNC, obj_fsync, WireObjReq, WireNone, WIRE_IDEMPOTENT | WIRE_WAITS) \
	OP(OBJ_REMOVE, obj_remove, WireObjReq, WireNone, WIRE_IDEMPOTENT | WIRE_WAITS) \
	OP(LOCK_GET, lock_get, WireLockReq, WireLockRep, WIRE_IDEMPOTENT) \
	OP(LOCK_SET, lock_set, WireLockReq, WireNone, WIRE_WAITS | WIRE_IDEMPOTENT) \
	OP(LOCK_CANCEL, lock_cancel, WireLockReq, WireNone, WIRE_IDEMPOTENT) \
	OP(ORPHAN_CLOSED, orphan_closed, WireInoReq, WireNone, WIRE_IDEMPOTENT) \
	OP(FSCK, fsck, WireFsckPlace, WireFsckPlace, WIRE_IDEMPOTENT | WIRE_WAITS) \
	OP(FORGET_QUERY, forget_query, WireForgetReq, WireOpenRep, WIRE_IDEMPOTENT | WIRE_TO_MOUNT) \
	OP(RECALL, recall, WireRecallReq, WireNone, WIRE_IDEMPOTENT | WIRE_WAITS | WIRE_TO_MOUNT) \
	OP(HELD_BACK, held_back, WireInoReq, WireHeldBack, WIRE_IDEMPOTENT | WIRE_WAITS | WIRE_TO_MOUNT)

typedef enum WireOp {
#define OP(name, text, req, rep, flags) WIRE_##name,
	WIRE_OPS(OP)
#undef OP
	WIRE_OP_COUNT
} WireOp;

/* The largest reply struct. */
#define WIRE_REP_MAX 256u

typedef struct WireOpInfo {
	const char *name; /* lower case, for counters and logs */
	uint16_t req_size, rep_size;
	uint32_t flags;
} WireOpInfo;
/* NULL when op is not in the table. */
const WireOpInfo *wire_op_info(uint32_t op);

/* The inodes that a request of op says it changes: how many, and their numbers.
 * req is at least the operation's struct. */
uint32_t wire_changes(WireOp op, const void *req, uint64_t ret_inos[2]);

/* The i-th name behind a fixed struct of `fixed` bytes in a request of
 * req_len bytes, given the lengths of all names. Copies it, NUL-terminated,
 * into buf (WIRE_NAME_MAX + 1 bytes). -EPROTO when it does not fit its
 * message, -EINVAL when it is empty or holds '/' or NUL, -ENAMETOOLONG. */
int wire_name(const void *req, uint32_t req_len, size_t fixed, size_t skip, uint16_t name_len, char buf[WIRE_NAME_MAX + 1]);
