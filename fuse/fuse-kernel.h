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
