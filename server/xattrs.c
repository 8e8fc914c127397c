/*
 * Extended attributes: a record each. user., trusted., security. and POSIX ACLs
 * are kept; other namespaces are -EOPNOTSUPP. Limits and errnos are those of
 * xattr(7).
 */
#include "server/xattrs.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "server/acls.h"
#include "server/change.h"
#include "server/record.h"

/* What listxattr(2) can return. */
#define LIST_MAX 65536
#define RECORD_BYTES 128
#define CAPABILITY "security.capability"

typedef struct XattrName {
	size_t len;
	char text[WIRE_XATTR_NAME_MAX + 1];
} XattrName;

static int parse_name(const RpcReq *r, XattrName *ret_name)
{
	const WireXattrReq *req = r->req;
	const char *name = (const char *)(req + 1);

	if (req->name_len > r->req_len - sizeof(*req))
		return -EPROTO;
	if (req->name_len == 0 || req->name_len > WIRE_XATTR_NAME_MAX)
		return -ERANGE;
	if (memchr(name, '\0', req->name_len))
		return -EINVAL;
	memcpy(ret_name->text, name, req->name_len);
	ret_name->text[req->name_len] = '\0';
	ret_name->len = req->name_len;
	return 0;
}

/* 0, or why there can be no such attribute at an inode of this mode. */
static int check_namespace(const XattrName *n, uint32_t mode, bool change)
{
	static const char *const stored[] = { "user.", "trusted.", "security." };

	if (xattr_is_own(n->text) || acls_is_name(n->text))
		return 0;
	for (size_t i = 0; i < G_N_ELEMENTS(stored); i++) {
		if (!g_str_has_prefix(n->text, stored[i]))
			continue;
		if (!n->text[strlen(stored[i])])
			return -EINVAL;
		/* or everyone could fill a device node or a sticky symlink */
		if (i == 0 && !S_ISREG(mode) && !S_ISDIR(mode))
			return change ? -EPERM : -ENODATA;
		return 0;
	}
	return -EOPNOTSUPP;
}

static Key xattr_key(uint64_t ino, const XattrName *n)
{
	return key_ino_bytes(ino, RECORD_XATTR, n->text, n->len);
}

/* Bytes for the caller: with no room at all it asks for the length. */
static int give(RpcReq *r, const void *data, size_t len)
{
	if (r->out_cap == 0)
		return (int)len;
	if (len > r->out_cap)
		return -ERANGE;
	if (len > 0)
		memcpy(r->out, data, len);
	r->out_len = len;
	return (int)len;
}

int coroutine_fn xattrs_co_load(Server *s, const InodeData *d, const char *name, GByteArray **ret_value)
{
	Key key = key_ino_bytes(d->attr.ino, RECORD_XATTR, name, strlen(name));
	MetaValue v = { 0 };
	int r;

	if (!(d->attr.flags & WIRE_ATTR_HAS_XATTRS))
		return -ENODATA;
	r = meta_co_get(s->meta, key.data, key.len, &v);
	if (r < 0)
		return r == -ENOENT ? -ENODATA : r;
	if (v.len >= 1 && v.data[0] == RECORD_VERSION) {
		*ret_value = g_byte_array_sized_new((guint)v.len);
		g_byte_array_append(*ret_value, v.data + 1, (guint)v.len - 1);
	} else {
		r = -EIO;
	}
	meta_value_clear(&v);
	return r;
}

void xattrs_put(MetaBatch *b, InodeData *d, const char *name, const void *value, size_t len)
{
	Key key = key_ino_bytes(d->attr.ino, RECORD_XATTR, name, strlen(name));
	g_autofree uint8_t *record = g_malloc(1 + len);

	record[0] = RECORD_VERSION;
	if (len > 0)
		memcpy(record + 1, value, len);
	meta_batch_put(b, key.data, key.len, record, 1 + len);
	d->attr.flags |= WIRE_ATTR_HAS_XATTRS;
}

static int coroutine_fn get_stored(Server *s, Inode *inode, const XattrName *n, RpcReq *r)
{
	g_autoptr(GByteArray) value = NULL;
	int res = xattrs_co_load(s, &inode->d, n->text, &value);

	return res < 0 ? res : give(r, value->data, value->len);
}

static int coroutine_fn get_own(Server *s, Inode *inode, const XattrName *n, RpcReq *r)
{
	GString *value = g_string_new(NULL);
	int res = xattr_own_co_get(s, inode, n->text, value);

	if (res >= 0)
		res = give(r, value->str, value->len);
	g_string_free(value, TRUE);
	return res;
}

static int coroutine_fn getxattr_handler(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireXattrReq *req = r->req;
	XattrName n;
	Inode *inode;
	int res = parse_name(r, &n);

	if (res < 0)
		return res;
	res = inode_co_get(s, req->ino, &inode);
	if (res < 0)
		return res;
	res = check_namespace(&n, inode->d.attr.mode, false);
	if (res >= 0)
		res = xattr_is_own(n.text) ? get_own(s, inode, &n, r) : get_stored(s, inode, &n, r);
	inode_unref(s, inode);
	return res;
}

/* ---- LISTXATTR ---- */

/* All names, each with its NUL. */
static int coroutine_fn list_names(Server *s, uint64_t ino, GByteArray *names)
{
	Key prefix = key_ino(ino, RECORD_XATTR);
	g_autoptr(MetaIter) it = meta_iter_new(s->meta, prefix.data, prefix.len, NULL, 0);
	const uint8_t *key, *value;
	size_t key_len, len;
	int r;

	while ((r = meta_iter_co_next(it, &key, &key_len, &value, &len)) > 0) {
		g_byte_array_append(names, key + prefix.len, (guint)(key_len - prefix.len));
		g_byte_array_append(names, (const guint8 *)"", 1);
	}
	return r;
}

static int coroutine_fn listxattr_handler(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireInoReq *req = r->req;
	Inode *inode;
	int res = inode_co_get(s, req->ino, &inode);

	if (res < 0)
		return res;
	GByteArray *names = g_byte_array_new();
	if (inode->d.attr.flags & WIRE_ATTR_HAS_XATTRS)
		res = list_names(s, req->ino, names);
	if (res >= 0)
		res = give(r, names->data, names->len);
	g_byte_array_free(names, TRUE);
	inode_unref(s, inode);
	return res;
}

/* ---- changing ---- */

static int coroutine_fn exists(Server *s, const InodeData *d, const XattrName *n)
{
	Key key = xattr_key(d->attr.ino, n);
	MetaValue v = { 0 };
	int r;

	if (!(d->attr.flags & WIRE_ATTR_HAS_XATTRS))
		return 0;
	r = meta_co_get(s->meta, key.data, key.len, &v);
	meta_value_clear(&v);
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

static int coroutine_fn check_list_room(Server *s, const InodeData *d, const XattrName *n)
{
	GByteArray *names = g_byte_array_new();
	int r = list_names(s, d->attr.ino, names);

	if (r >= 0)
		r = names->len + n->len + 1 <= LIST_MAX ? 0 : -ENOSPC;
	g_byte_array_free(names, TRUE);
	return r;
}

static int coroutine_fn check_set(Server *s, const InodeData *d, const XattrName *n, uint32_t flags)
{
	int there = exists(s, d, n);

	if (there < 0)
		return there;
	if (there > 0 && (flags & XATTR_CREATE))
		return -EEXIST;
	if (there == 0 && (flags & XATTR_REPLACE))
		return -ENODATA;
	return there == 0 && (d->attr.flags & WIRE_ATTR_HAS_XATTRS) ? check_list_room(s, d, n) : 0;
}

static int coroutine_fn put_stored(Change *c, InodeData *d, const XattrName *n, const RpcReq *r)
{
	const WireXattrReq *req = r->req;
	int res = check_set(c->s, d, n, req->flags);

	if (res < 0)
		return res;
	res = space_take(c->s->space, r->in_len + RECORD_BYTES);
	if (res < 0)
		return res;
	xattrs_put(c->b, d, n->text, r->in, r->in_len);
	return 0;
}

static int set_own(Server *s, InodeData *d, const XattrName *n, const RpcReq *r)
{
	const WireXattrReq *req = r->req;

	if (req->flags & XATTR_CREATE)
		return -EEXIST;
	return xattr_own_set(s, d, n->text, r->in ? r->in : "", r->in_len);
}

static int coroutine_fn remove_stored(Server *s, MetaBatch *b, InodeData *d, const XattrName *n)
{
	Key key = xattr_key(d->attr.ino, n);
	int there = exists(s, d, n);

	if (there <= 0)
		return there < 0 ? there : -ENODATA;
	GByteArray *names = g_byte_array_new();
	int r = list_names(s, d->attr.ino, names);
	if (r >= 0 && names->len == n->len + 1)
		d->attr.flags &= (uint16_t)~WIRE_ATTR_HAS_XATTRS;
	g_byte_array_free(names, TRUE);
	meta_batch_delete(b, key.data, key.len);
	return r;
}

static int coroutine_fn set_acl(Change *c, InodeData *d, const XattrName *n, const RpcReq *r)
{
	const WireXattrReq *req = r->req;
	bool drop;
	int res = acls_check_set(d, n->text, r->in, r->in_len, &drop);

	if (res < 0)
		return res;
	if (!drop)
		drop = acls_take_mode(d, n->text, r->in, r->in_len, req->flags & WIRE_XATTR_KILL_SGID);
	if (!drop)
		return put_stored(c, d, n, r);
	res = remove_stored(c->s, c->b, d, n);
	return res == -ENODATA ? 0 : res;
}

static int coroutine_fn change_xattr(Change *c, InodeData *d, const XattrName *n, const RpcReq *r)
{
	bool own = xattr_is_own(n->text);

	if (r->op == WIRE_SETXATTR && acls_is_name(n->text))
		return set_acl(c, d, n, r);
	if (r->op == WIRE_REMOVEXATTR)
		return own ? xattr_own_set(c->s, d, n->text, NULL, 0) : remove_stored(c->s, c->b, d, n);
	return own ? set_own(c->s, d, n, r) : put_stored(c, d, n, r);
}

static int coroutine_fn change_locked(Server *s, Inode *inode, const XattrName *n, const RpcReq *r)
{
	g_auto(Change) c = { .caller = r };

	if (inode->gone)
		return -ENOENT;
	int res = check_namespace(n, inode->d.attr.mode, true);
	if (res < 0)
		return res;
	change_begin(&c, s);
	InodeData *d = change_data(&c, inode);
	res = change_xattr(&c, d, n, r);
	if (res < 0)
		return res;
	inode_data_touch(d, false);
	return change_co_commit(&c);
}

/* SETXATTR and REMOVEXATTR */
static int coroutine_fn change_handler(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireXattrReq *req = r->req;
	XattrName n;
	Inode *inode;
	int res = parse_name(r, &n);

	if (res < 0)
		return res;
	if (r->in_len > WIRE_XATTR_SIZE_MAX)
		return -E2BIG;
	if (req->flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE | WIRE_XATTR_KILL_SGID))
		return -EINVAL;
	res = inode_co_get(s, req->ino, &inode);
	if (res < 0)
		return res;
	co_mutex_lock(&inode->lock);
	res = change_locked(s, inode, &n, r);
	co_mutex_unlock(&inode->lock);
	inode_unref(s, inode);
	return res;
}

int coroutine_fn xattrs_co_kill_capability(Server *s, MetaBatch *b, InodeData *d)
{
	static const XattrName n = { .len = sizeof(CAPABILITY) - 1, .text = CAPABILITY };
	int r = remove_stored(s, b, d, &n);

	return r == -ENODATA ? 0 : r;
}

void xattrs_attach(Server *s)
{
	rpc_serve(s->rpc, WIRE_GETXATTR, getxattr_handler, s);
	rpc_serve(s->rpc, WIRE_LISTXATTR, listxattr_handler, s);
	rpc_serve(s->rpc, WIRE_SETXATTR, change_handler, s);
	rpc_serve(s->rpc, WIRE_REMOVEXATTR, change_handler, s);
}
