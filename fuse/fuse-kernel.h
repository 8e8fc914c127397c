#pragma once
/*
 * The FUSE protocol as the kernel headers say it, plus what newer kernels
 * speak and the headers of older distributions lack. Each addition names the
 * kernel that brought it; none is used unless that kernel offered it.
 */
#include <linux/fuse.h>

/* Bits 32 and up of the 64-bit INIT flags travel in flags2 (5.17, FUSE_INIT_EXT). */
#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36) /* 6.6 */
#endif
#ifndef FUSE_PASSTHROUGH
#define FUSE_PASSTHROUGH (1ULL << 37) /* 6.9 */
#endif
#ifndef FUSE_NO_EXPORT_SUPPORT
#define FUSE_NO_EXPORT_SUPPORT (1ULL << 38) /* 6.9 */
#endif
#ifndef FUSE_ALLOW_IDMAP
#define FUSE_ALLOW_IDMAP (1ULL << 40) /* 6.12 */
#endif
#ifndef FUSE_OVER_IO_URING
#define FUSE_OVER_IO_URING (1ULL << 41) /* 6.14 */
#endif

/* A notification (6.16): each name that the kernel keeps is to be looked up again
 * before its next use. Takes none of the kernel's locks. */
#define FUSE_NOTIFY_INC_EPOCH_CODE 8
#define FUSE_NOTIFY_INC_EPOCH_MINOR 44

/* FUSE over io_uring (6.14): what lies in the buffers that an entry registers,
 * and in the second half of its 128-byte SQE. */
#ifndef FUSE_URING_IN_OUT_HEADER_SZ
#include <stdint.h>
#define FUSE_URING_IN_OUT_HEADER_SZ 128
#define FUSE_URING_OP_IN_OUT_SZ 128
struct fuse_uring_ent_in_out {
	uint64_t flags;
	uint64_t commit_id;  /* names the request in the commit */
	uint32_t payload_sz; /* of the request's payload, then of the reply's */
	uint32_t padding;
	uint64_t reserved;
};
struct fuse_uring_req_header {
	char in_out[FUSE_URING_IN_OUT_HEADER_SZ]; /* fuse_in_header, then fuse_out_header */
	char op_in[FUSE_URING_OP_IN_OUT_SZ];      /* the operation's struct */
	struct fuse_uring_ent_in_out ring_ent_in_out;
};
enum fuse_uring_cmd {
	FUSE_IO_URING_CMD_INVALID = 0,
	FUSE_IO_URING_CMD_REGISTER = 1,
	FUSE_IO_URING_CMD_COMMIT_AND_FETCH = 2,
};
struct fuse_uring_cmd_req {
	uint64_t flags;
	uint64_t commit_id;
	uint16_t qid;
	uint8_t padding[6];
};
#endif

/* 6.1 */
#if FUSE_KERNEL_MINOR_VERSION < 37
enum { FUSE_TMPFILE = 51 };
#endif

/* 6.6 */
#if FUSE_KERNEL_MINOR_VERSION < 39
enum { FUSE_STATX = 52 };
struct fuse_statx_in {
	uint32_t getattr_flags, reserved;
	uint64_t fh;
	uint32_t sx_flags, sx_mask;
};
struct fuse_sx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t __reserved;
};
struct fuse_statx {
	uint32_t mask, blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, __spare0[1];
	uint64_t ino, size, blocks, attributes_mask;
	struct fuse_sx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t __spare2[14];
};
struct fuse_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec, flags;
	uint64_t spare[2];
	struct fuse_statx stat;
};
#endif

/* SETXATTR without FUSE_SETXATTR_EXT (before 5.13): size and flags alone. */
#ifndef FUSE_COMPAT_SETXATTR_IN_SIZE
#define FUSE_COMPAT_SETXATTR_IN_SIZE 8
#endif
