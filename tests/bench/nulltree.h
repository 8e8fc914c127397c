#pragma once
/* The files of nullfs: names and attributes in memory, data nowhere. */
#include <fuse_lowlevel.h>

typedef struct NullTree NullTree;

typedef struct NullTreeOptions {
	double timeout_s; /* how long the kernel may keep names and attributes */
	/* a buffer for `size` bytes of the reply to `req` */
	void *(*reply_buffer)(void *arg, fuse_req_t req, size_t size);
	void *arg;
} NullTreeOptions;

NullTree *null_tree_new(const NullTreeOptions *opts);
void null_tree_free(NullTree *t);
/* opts.arg */
void *null_tree_arg(const NullTree *t);
/* For fuse_session_new() with the tree as userdata. Every operation replies
 * before it returns. */
const struct fuse_lowlevel_ops *null_tree_ops(void);
