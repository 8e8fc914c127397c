#pragma once
/* What the files of fuse/ share: the Mount itself. Nobody else includes it. */
#include <fuse_lowlevel.h>

#include "common/ino.h"
#include "common/log.h"
#include "common/rpc.h"
#include "fuse/atime.h"
#include "fuse/channel.h"
#include "fuse/held.h"
#include "fuse/init.h"
#include "fuse/kmount.h"
#include "fuse/layout.h"
#include "fuse/listings.h"
#include "fuse/lock-owners.h"
#include "fuse/mount.h"
#include "fuse/open-table.h"
#include "fuse/owed.h"
#include "fuse/pages.h"
#include "fuse/pins.h"
#include "fuse/places.h"
#include "fuse/submounts.h"
#include "fuse/xattr-hints.h"

#define OPCODES 64
#define EARLY_INTERRUPTS 32

struct Mount {
	MountOptions opts;
	Reactor *reactor;
	Rpc *rpc;
	const ClusterMap *map;
	uint16_t self;

	Kmount *kmount;
	int fd;                  /* the session's once that is there, which closes it */
	struct fuse_session *se;
	Channel *classic, *uring;
	Follow *follow;
	InitWishes wishes;
	uint64_t agreed;         /* INIT's flags */
	uint32_t kernel_minor;   /* of the protocol */
	bool ready, ended, stopping, stopped;

	GQueue requests;         /* of Request.link: under way */
	CoQueue idle;            /* waits for `requests` to be empty */
	CoQueue changes;         /* waits for one of them to end */
	uint64_t early[EARLY_INTERRUPTS]; /* INTERRUPTs whose request is not here yet */
	uint32_t early_next;
	uint32_t lock_waits;     /* requests waiting for a lock */
	CoGroup background;      /* what goes on behind replies */

	OpenTable *opens;
	Held *held;              /* NULL: alone, no leases are needed */
	Pages *pages;            /* the same */
	HeldBack *heldback;      /* the same, and without a store of our own */
	Listings *listings;      /* the same */
	Places *places;          /* the same */
	Submounts *submounts;    /* the same */
	int64_t names_until_ns;  /* the kernel was told no name to keep for longer */
	int64_t stuck_until_ns;  /* until then it may use names that no lease covers */
	GHashTable *page_drops;  /* recall.c's: of mapped files, under way */
	Pins *pins;
	LockOwners *lock_owners;
	Owed *owed;              /* releases of locks */
	Layouts *layouts;
	XattrHints *xattr_hints;
	Atimes *atimes;
	uint64_t next_fh;
	double timeout;          /* seconds the kernel may keep names and attributes */
	WireStatfsRep *statfs;   /* the last answer of each peer */
	LogLimit statfs_limit;

	/* counters */
	uint64_t requests_of[OPCODES], other_requests, inflight;
	uint64_t bytes_read, bytes_written, lock_waits_refused;
};

extern const struct fuse_lowlevel_ops mount_ops;

static inline Mount *mount_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* The kernel's message, for what libfuse hides. */
static inline Request *request_current(void)
{
	return co_get_local();
}

/* The thread that asks; 0: one of a process namespace that ours does not see. */
static inline uint32_t request_thread(void)
{
	return request_current()->in->pid;
}

static inline const void *request_arg(void)
{
	return request_current()->in + 1;
}

/* A call to the home of ino. -ESTALE for a number that has none; an answer
 * that made no sense is -EIO. What is kept of inodes that the request changes
 * (wire_changes()) is given up before. */
int coroutine_fn mount_co_call(Mount *m, uint64_t ino, WireOp op, RpcCall *call);
/* The same for a change whose reply may grant leases on what it has changed:
 * mount_keep() takes them. */
int coroutine_fn mount_co_change(Mount *m, uint64_t ino, WireOp op, RpcCall *call, HeldChange *ret_change);
void mount_keep(Mount *m, const HeldChange *c, uint32_t which, bool granted, const WireAttr *attr);
/* ... and for one of the inode that the request begins with, answered with its
 * attributes. pages: of pages_writing() before it began. Errors as of
 * mount_co_call_ino(). */
int coroutine_fn mount_co_change_ino(Mount *m, WireOp op, RpcCall *call, uint32_t pages, WireAttrRep *rep);
/* The same, for requests about the inode itself: that there is no such inode
 * is -ESTALE, upon which the kernel looks the name up again. */
int coroutine_fn mount_co_call_ino(Mount *m, uint64_t ino, WireOp op, RpcCall *call);
int coroutine_fn mount_co_getattr(Mount *m, uint64_t ino, WireAttr *ret_attr);
/* Sends the kernel a message that invalidates an inode's attributes alone,
 * which takes no lock of the kernel's. */
void mount_forget_attr(Mount *m, uint64_t ino);
/* fn(arg) behind the reply, which it must not delay. */
void mount_spawn(Mount *m, CoFn *fn, void *arg);
/* The same with an argument that is about one inode; fn frees it. */
typedef struct InodeTask {
	Mount *m;
	uint64_t ino;
} InodeTask;
void mount_spawn_for(Mount *m, CoFn *fn, uint64_t ino);

/* ---- ops.c: between the wire's structs and libfuse's ---- */

void ops_reply(fuse_req_t req, int r); /* 0 or -errno */
void ops_fill_stat(const WireAttr *attr, struct stat *ret_st);
struct timespec ops_timespec(int64_t ns);
void ops_fill_entry(const Mount *m, const WireAttr *attr, struct fuse_entry_param *ret_entry);
/* Attributes as a home has them are on their way to the kernel. */
void ops_note_attr(Mount *m, const WireAttr *attr);
/* The same, and no page that it keeps of a file is older. Not for replies to
 * SETATTR: until that is there the kernel may hold back the writing of pages that
 * are to be dropped. */
void coroutine_fn ops_co_show_attr(Mount *m, const WireAttr *attr);
/* Completes an entry whose attributes are at another home. */
int coroutine_fn ops_co_complete(Mount *m, WireEntryRep *rep);
/* An entry was looked up in parent. Returns when the kernel can take it. */
void coroutine_fn ops_co_place(Mount *m, uint64_t parent, const WireAttr *attr);
/* timeout: seconds the kernel may keep the name. */
void coroutine_fn ops_reply_entry(fuse_req_t req, const WireEntryRep *rep, double timeout);
/* timeout: seconds the kernel may keep them. */
void ops_reply_attr(fuse_req_t req, const WireAttr *attr, double timeout);
/* Copies a name behind a request struct. Its length, or -ENAMETOOLONG. */
int ops_put_name(char *dest, const char *name);

/* Request structs with room for their names. */
typedef struct NameMsg { WireNameReq req; char name[WIRE_NAME_MAX]; } NameMsg;
typedef struct CreateMsg { WireCreateReq req; char name[WIRE_NAME_MAX]; } CreateMsg;
typedef struct RenameMsg { WireRenameReq req; char names[2 * WIRE_NAME_MAX]; } RenameMsg;
typedef struct LinkMsg { WireLinkReq req; char name[WIRE_NAME_MAX]; } LinkMsg;
typedef struct XattrMsg { WireXattrReq req; char name[WIRE_XATTR_NAME_MAX]; } XattrMsg;

/* ops-name.c */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);
/* Makes a file, special file, symlink (target not NULL) or directory. */
int coroutine_fn ops_co_create(fuse_req_t req, fuse_ino_t parent, const char *name, uint32_t mode, uint32_t rdev, uint32_t flags, const char *target, WireEntryRep *ret_rep);

/* atime.c: the current request has read from an inode, or is about to; moves
 * its atime behind the reply where that is due. open_flags: of the file. */
void ops_note_read(Mount *m, uint64_t ino, bool is_dir, int open_flags);

/* ops-attr.c */
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi);
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_statfs(fuse_req_t req, fuse_ino_t ino);
/* What O_TRUNC does. */
int coroutine_fn ops_co_truncate(Mount *m, fuse_ino_t ino, bool kill_suidgid);
/* Clears setuid and setgid. */
int coroutine_fn ops_co_kill_suidgid(Mount *m, fuse_ino_t ino);

/* ops-file.c */
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
/* What the kernel is told of an open file. */
void ops_fill_open(Mount *m, uint64_t ino, struct fuse_file_info *fi);
/* One open less. */
void ops_close(Mount *m, uint64_t ino);
/* Registers FORGET_QUERY. */
void ops_file_attach(Mount *m);

/* ops-raw.c: operations that libfuse does not know. False: none of them. */
bool coroutine_fn ops_raw_serve(Mount *m, Request *req);

/* ops-data.c */
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags);

/* ops-dir.c */
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* ops-xattr.c */
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* fsck.c */
#define FSCK_XATTR "system.benchfs.fsck."
bool fsck_is_asked(fuse_ino_t ino, const char *name);
void coroutine_fn fsck_co_reply(Mount *m, fuse_req_t req, const char *name, size_t size);

/* ops-lock.c */
void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock);
void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int sleep);
void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op);
/* Sets or drops a lock for the current request, whose signals end the waiting
 * with -EINTR; -EAGAIN when another has it and !wait. */
int coroutine_fn ops_co_lock(Mount *m, const WireLockReq *lock, bool wait);
/* Gives up all of an owner's locks on an inode. An error: its home is to hear of
 * it later (owed.h). */
int coroutine_fn ops_co_unlock_all(Mount *m, uint64_t ino, uint64_t owner, WireLockKind kind);
