/*
 * A tree of nodes on the heap. A node's number is its address, and it lives
 * while it has a name or the kernel knows it. Reads give zeros, writes change
 * size and times. Nothing waits.
 */
#include "nulltree.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <glib.h>

typedef struct Node Node;
struct Node {
	struct stat st;
	uint64_t lookups;
	char *target;        /* symlink */
	GHashTable *by_name; /* directory: name -> index + 1 in entries */
	GArray *entries;     /* directory, of Entry; a removed one has no node */
};

typedef struct Entry {
	char *name; /* the hash table's key, too */
	Node *node;
} Entry;

struct NullTree {
	NullTreeOptions opts;
	Node *root;
};

static NullTree *tree_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static Node *node_of(fuse_req_t req, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? tree_of(req)->root : (Node *)(uintptr_t)ino;
}

static void touch(Node *n)
{
	clock_gettime(CLOCK_REALTIME, &n->st.st_mtim);
	n->st.st_ctim = n->st.st_mtim;
}

static Node *node_new(mode_t mode, uid_t uid, gid_t gid)
{
	Node *n = g_new0(Node, 1);

	n->st = (struct stat) {
		.st_ino = (ino_t)(uintptr_t)n, .st_mode = mode, .st_nlink = 1,
		.st_uid = uid, .st_gid = gid, .st_blksize = 4096,
	};
	touch(n);
	n->st.st_atim = n->st.st_mtim;
	if (S_ISDIR(mode)) {
		n->by_name = g_hash_table_new(g_str_hash, g_str_equal);
		n->entries = g_array_new(FALSE, FALSE, sizeof(Entry));
	}
	return n;
}

static void node_free(Node *n)
{
	if (n->entries) {
		g_hash_table_destroy(n->by_name);
		for (guint i = 0; i < n->entries->len; i++)
			g_free(g_array_index(n->entries, Entry, i).name);
		g_array_free(n->entries, TRUE);
	}
	g_free(n->target);
	g_free(n);
}

static void node_unless_used(Node *n)
{
	if (!n->lookups && !n->st.st_nlink)
		node_free(n);
}

static void node_set_size(Node *n, off_t size)
{
	n->st.st_size = size;
	n->st.st_blocks = (size + 511) / 512;
}

static Entry *dir_find(Node *dir, const char *name)
{
	guint i = GPOINTER_TO_UINT(g_hash_table_lookup(dir->by_name, name));

	return i ? &g_array_index(dir->entries, Entry, i - 1) : NULL;
}

static void dir_add(Node *dir, const char *name, Node *n)
{
	Entry e = { g_strdup(name), n };

	g_array_append_val(dir->entries, e);
	g_hash_table_insert(dir->by_name, e.name, GUINT_TO_POINTER(dir->entries->len));
	touch(dir);
}

/* Offsets of a listing under way stay right: slots are reused only when the
 * directory is empty. */
static void dir_remove(Node *dir, Entry *e)
{
	g_hash_table_remove(dir->by_name, e->name);
	g_free(e->name);
	*e = (Entry) { NULL, NULL };
	if (!g_hash_table_size(dir->by_name))
		g_array_set_size(dir->entries, 0);
	touch(dir);
}

/* ---- operations ---- */

static struct fuse_entry_param entry_param(fuse_req_t req, Node *n)
{
	double timeout = tree_of(req)->opts.timeout_s;

	return (struct fuse_entry_param) {
		.ino = (fuse_ino_t)(uintptr_t)n, .generation = 1, .attr = n->st,
		.attr_timeout = timeout, .entry_timeout = timeout,
	};
}

static void reply_entry(fuse_req_t req, Node *n)
{
	struct fuse_entry_param e = entry_param(req, n);

	n->lookups++;
	fuse_reply_entry(req, &e);
}

static void null_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	Entry *e = dir_find(node_of(req, parent), name);
	struct fuse_entry_param none = { .entry_timeout = tree_of(req)->opts.timeout_s };

	if (e)
		reply_entry(req, e->node);
	else if (none.entry_timeout > 0)
		fuse_reply_entry(req, &none); /* the kernel may remember that */
	else
		fuse_reply_err(req, ENOENT);
}

static void forget_one(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	Node *n = node_of(req, ino);

	if (n == tree_of(req)->root)
		return;
	n->lookups -= MIN(n->lookups, count);
	node_unless_used(n);
}

static void null_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	forget_one(req, ino, count);
	fuse_reply_none(req);
}

static void null_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *list)
{
	for (size_t i = 0; i < count; i++)
		forget_one(req, list[i].ino, list[i].nlookup);
	fuse_reply_none(req);
}

static void reply_attr(fuse_req_t req, const Node *n)
{
	fuse_reply_attr(req, &n->st, tree_of(req)->opts.timeout_s);
}

static void null_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	reply_attr(req, node_of(req, ino));
}

static void set_times(Node *n, const struct stat *attr, int to_set)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	n->st.st_ctim = now;
	if (to_set & FUSE_SET_ATTR_ATIME)
		n->st.st_atim = to_set & FUSE_SET_ATTR_ATIME_NOW ? now : attr->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME)
		n->st.st_mtim = to_set & FUSE_SET_ATTR_MTIME_NOW ? now : attr->st_mtim;
}

static void null_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	Node *n = node_of(req, ino);

	if (to_set & FUSE_SET_ATTR_MODE)
		n->st.st_mode = (n->st.st_mode & S_IFMT) | (attr->st_mode & 07777);
	if (to_set & FUSE_SET_ATTR_UID)
		n->st.st_uid = attr->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		n->st.st_gid = attr->st_gid;
	if (to_set & FUSE_SET_ATTR_SIZE)
		node_set_size(n, attr->st_size);
	set_times(n, attr, to_set);
	reply_attr(req, n);
}

static Node *make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	Node *dir = node_of(req, parent), *n;

	if (dir_find(dir, name)) {
		fuse_reply_err(req, EEXIST);
		return NULL;
	}
	n = node_new(mode, ctx->uid, ctx->gid);
	n->st.st_rdev = rdev;
	dir_add(dir, name, n);
	return n;
}

static void null_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	Node *n = make(req, parent, name, mode, rdev);

	if (n)
		reply_entry(req, n);
}

static void null_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	Node *n = make(req, parent, name, S_IFDIR | mode, 0);

	if (!n)
		return;
	n->st.st_nlink = 2;
	node_of(req, parent)->st.st_nlink++;
	reply_entry(req, n);
}

static void null_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	Node *n = make(req, parent, name, S_IFLNK | 0777, 0);

	if (!n)
		return;
	n->target = g_strdup(target);
	n->st.st_size = (off_t)strlen(target);
	reply_entry(req, n);
}

static void null_readlink(fuse_req_t req, fuse_ino_t ino)
{
	fuse_reply_readlink(req, node_of(req, ino)->target);
}

static void null_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *name)
{
	Node *n = node_of(req, ino), *dir = node_of(req, newparent);

	if (dir_find(dir, name)) {
		fuse_reply_err(req, EEXIST);
		return;
	}
	n->st.st_nlink++;
	dir_add(dir, name, n);
	reply_entry(req, n);
}

/* Takes a name away, and the node with its last name. Returns an errno. */
static int drop(Node *dir, const char *name, bool want_dir)
{
	Entry *e = dir_find(dir, name);
	Node *n;

	if (!e)
		return ENOENT;
	n = e->node;
	if (S_ISDIR(n->st.st_mode) != want_dir)
		return want_dir ? ENOTDIR : EISDIR;
	if (want_dir && g_hash_table_size(n->by_name))
		return ENOTEMPTY;
	dir_remove(dir, e);
	n->st.st_nlink -= want_dir ? 2 : 1;
	dir->st.st_nlink -= want_dir;
	node_unless_used(n);
	return 0;
}

static void null_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, drop(node_of(req, parent), name, false));
}

static void null_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, drop(node_of(req, parent), name, true));
}

static void null_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
			fuse_ino_t newparent, const char *newname, unsigned int flags)
{
	Node *from = node_of(req, parent), *to = node_of(req, newparent), *n;
	Entry *e = dir_find(from, name), *old = dir_find(to, newname);
	int r = 0;

	if (flags)
		r = EINVAL;
	else if (!e)
		r = ENOENT;
	else if (old && old->node != e->node)
		r = drop(to, newname, S_ISDIR(e->node->st.st_mode));
	if (r || (old && old->node == e->node)) {
		fuse_reply_err(req, r);
		return;
	}
	n = e->node;
	dir_remove(from, e);
	dir_add(to, newname, n);
	from->st.st_nlink -= S_ISDIR(n->st.st_mode);
	to->st.st_nlink += S_ISDIR(n->st.st_mode);
	fuse_reply_err(req, 0);
}

static void null_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->keep_cache = tree_of(req)->opts.timeout_s > 0;
	fuse_reply_open(req, fi);
}

static void null_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	Node *n = make(req, parent, name, mode, 0);

	if (!n)
		return;
	e = entry_param(req, n);
	n->lookups++;
	fuse_reply_create(req, &e, fi);
}

static void null_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	NullTree *t = tree_of(req);
	off_t left = node_of(req, ino)->st.st_size - off;
	void *buf;

	if (left <= 0) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	size = MIN(size, (size_t)left);
	/* whoever has data must put it somewhere: so do we, with zeros */
	buf = t->opts.reply_buffer(t->opts.arg, req, size);
	memset(buf, 0, size);
	fuse_reply_buf(req, buf, size);
}

static void null_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	Node *n = node_of(req, ino);

	if (off + (off_t)size > n->st.st_size)
		node_set_size(n, off + (off_t)size);
	touch(n);
	fuse_reply_write(req, size);
}

static void null_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	Node *n = node_of(req, ino);

	if (mode) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	if (off + len > n->st.st_size)
		node_set_size(n, off + len);
	fuse_reply_err(req, 0);
}

static void null_ok(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

static void null_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

static size_t add_entry(fuse_req_t req, char *buf, size_t left, Entry *e, off_t next, bool plus)
{
	struct fuse_entry_param p;
	size_t len;

	if (!plus)
		return fuse_add_direntry(req, buf, left, e->name, &e->node->st, next);
	p = entry_param(req, e->node);
	len = fuse_add_direntry_plus(req, buf, left, e->name, &p, next);
	if (len <= left)
		e->node->lookups++;
	return len;
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	NullTree *t = tree_of(req);
	Node *dir = node_of(req, ino);
	char *buf = t->opts.reply_buffer(t->opts.arg, req, size);
	size_t used = 0;

	for (guint i = (guint)off; i < dir->entries->len; i++) {
		Entry *e = &g_array_index(dir->entries, Entry, i);
		size_t len;

		if (!e->node)
			continue;
		len = add_entry(req, buf + used, size - used, e, i + 1, plus);
		if (len > size - used)
			break;
		used += len;
	}
	fuse_reply_buf(req, buf, used);
}

static void null_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	list(req, ino, size, off, false);
}

static void null_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	list(req, ino, size, off, true);
}

static void null_statfs(fuse_req_t req, fuse_ino_t ino)
{
	const struct statvfs st = {
		.f_bsize = 4096, .f_frsize = 4096, .f_blocks = 1 << 28, .f_bfree = 1 << 28,
		.f_bavail = 1 << 28, .f_files = 1 << 28, .f_ffree = 1 << 28, .f_namemax = 255,
	};

	fuse_reply_statfs(req, &st);
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = null_lookup,
	.forget = null_forget,
	.forget_multi = null_forget_multi,
	.getattr = null_getattr,
	.setattr = null_setattr,
	.readlink = null_readlink,
	.mknod = null_mknod,
	.mkdir = null_mkdir,
	.symlink = null_symlink,
	.unlink = null_unlink,
	.rmdir = null_rmdir,
	.rename = null_rename,
	.link = null_link,
	.open = null_open,
	.create = null_create,
	.read = null_read,
	.write = null_write,
	.flush = null_ok,
	.release = null_ok,
	.fsync = null_fsync,
	.readdir = null_readdir,
	.readdirplus = null_readdirplus,
	.fsyncdir = null_fsync,
	.statfs = null_statfs,
	.fallocate = null_fallocate,
};

const struct fuse_lowlevel_ops *null_tree_ops(void)
{
	return &ops;
}

NullTree *null_tree_new(const NullTreeOptions *opts)
{
	NullTree *t = g_new(NullTree, 1);

	*t = (NullTree) { .opts = *opts, .root = node_new(S_IFDIR | 0755, getuid(), getgid()) };
	t->root->st.st_ino = FUSE_ROOT_ID;
	t->root->st.st_nlink = 2;
	return t;
}

void *null_tree_arg(const NullTree *t)
{
	return t->opts.arg;
}

static void free_subtree(Node *n)
{
	for (guint i = 0; n->entries && i < n->entries->len; i++) {
		Node *child = g_array_index(n->entries, Entry, i).node;

		/* a file with several names is freed with the last */
		if (child && (S_ISDIR(child->st.st_mode) || --child->st.st_nlink == 0))
			free_subtree(child);
	}
	node_free(n);
}

/* Unlinked nodes that the kernel still knows stay: the process ends here. */
void null_tree_free(NullTree *t)
{
	if (!t)
		return;
	free_subtree(t->root);
	g_free(t);
}
