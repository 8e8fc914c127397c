/*
 * READDIR. Names come in the order of their hashes, which is the order of their
 * keys, and the hash is the cookie: it stays what it is whatever happens to
 * other names, and nothing has to be remembered between two calls.
 *
 * Names with the same hash can't be told apart by a cookie, so a batch holds
 * all of them or none. Where they alone do not fit into the caller's buffer
 * that is -EOVERFLOW, rather than names that are silently left out: with 62
 * bits this takes names made for the purpose, and a larger buffer.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "server/holds.h"
#include "server/names.h"
#include "server/leases.h"
#include "server/record.h"

enum { COOKIE_DOT = 1, COOKIE_DOTDOT = 2 };

typedef struct Listing {
	Server *s;
	const RpcReq *lease;  /* grant it leases; or NULL */
	Inode *dir;
	uint8_t *out;
	size_t cap, len;
	uint32_t count;
	bool plus;
	uint64_t cookie;      /* of the entries now being added */
	size_t group_len;     /* len and count before the first of them */
	uint32_t group_count;
} Listing;

typedef struct ListedName {
	uint64_t ino;
	uint32_t mode;
	const char *name;
	size_t name_len;
} ListedName;

/* 0, or -EOVERFLOW: no room, and nothing was added. */
static int append(Listing *l, const ListedName *n, const WireAttr *attr, uint8_t lease)
{
	WireDirent d = {
		.ino = n->ino, .cookie = l->cookie, .mode = n->mode,
		.name_len = (uint16_t)n->name_len, .have_attr = attr != NULL, .lease = lease,
	};
	size_t size = sizeof(d) + (attr ? sizeof(*attr) : 0) + n->name_len;
	size_t padded = (size + 7) & ~(size_t)7;
	uint8_t *p = l->out + l->len;

	if (padded > l->cap - l->len)
		return -EOVERFLOW;
	memcpy(p, &d, sizeof(d));
	p += sizeof(d);
	if (attr) {
		memcpy(p, attr, sizeof(*attr));
		p += sizeof(*attr);
	}
	memcpy(p, n->name, n->name_len);
	memset(p + n->name_len, 0, padded - size);
	l->len += padded;
	l->count++;
	return 0;
}

static int coroutine_fn append_with_attr(Listing *l, const ListedName *n)
{
	Inode *inode;

	if (!l->plus || map_home(l->s->map, n->ino) != l->s->self)
		return append(l, n, NULL, 0);
	int r = inode_co_get(l->s, n->ino, &inode);
	if (r == -ENOENT)
		return 0; /* removed since the snapshot was taken */
	if (r < 0)
		return append(l, n, NULL, 0); /* its own getattr will tell */
	bool lease = l->lease && leases_grant(l->s, l->lease, inode);
	r = append(l, n, &inode->d.attr, lease ? WIRE_LEASE_INODE : 0);
	inode_unref(l->s, inode);
	return r;
}

static void begin_group(Listing *l, uint64_t cookie)
{
	if (cookie == l->cookie)
		return;
	l->cookie = cookie;
	l->group_len = l->len;
	l->group_count = l->count;
}

/* No room: the batch ends before the group, if anything is before it. */
static int cut(Listing *l)
{
	bool one_fits = l->len > 0;

	l->len = l->group_len;
	l->count = l->group_count;
	if (l->count > 0)
		return 0;
	return one_fits ? -EOVERFLOW : -EINVAL;
}

static int append_dots(Listing *l, uint64_t from)
{
	int r = 0;

	if (from < COOKIE_DOT) {
		begin_group(l, COOKIE_DOT);
		r = append(l, &(ListedName) { l->dir->d.attr.ino, S_IFDIR, ".", 1 }, NULL, 0);
	}
	if (r >= 0 && from < COOKIE_DOTDOT) {
		begin_group(l, COOKIE_DOTDOT);
		r = append(l, &(ListedName) { l->dir->d.parent, S_IFDIR, "..", 2 }, NULL, 0);
	}
	return r;
}

static int coroutine_fn append_entry(Listing *l, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	const size_t at = KEY_TAIL + sizeof(uint64_t);
	ListedName n;

	if (key_len <= at || key_len - at > WIRE_NAME_MAX || !entry_decode(value, len, &n.ino, &n.mode))
		return -EIO;
	n.name = (const char *)key + at;
	n.name_len = key_len - at;
	begin_group(l, key_get_num(key, key_len, KEY_TAIL));
	return append_with_attr(l, &n);
}

/* 1: all of it, 0: the buffer is full, or -errno. */
static int coroutine_fn list(Listing *l, uint64_t from)
{
	uint64_t dir = l->dir->d.attr.ino;
	Key prefix = key_ino(dir, RECORD_DIRENT), start = key_ino_num(dir, RECORD_DIRENT, from + 1);
	const uint8_t *key, *value;
	size_t key_len, len;
	int r = append_dots(l, from);

	if (r < 0)
		return cut(l);
	g_autoptr(MetaIter) it = meta_iter_new(l->s->meta, prefix.data, prefix.len, start.data, start.len);
	while ((r = meta_iter_co_next(it, &key, &key_len, &value, &len)) > 0) {
		r = append_entry(l, key, key_len, value, len);
		if (r == -EOVERFLOW)
			return cut(l);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : 1;
}

int coroutine_fn names_readdir(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireReaddirReq *req = r->req;
	WireReaddirRep *rep = r->rep;
	Listing l = { .s = s, .lease = req->lease ? r : NULL, .out = r->out, .cap = r->out_cap, .plus = req->plus };
	/* every name, and ".." */
	int res = holds_co_wait_settled(s, (HoldKey) { .ino = req->dir, .removing = true });

	if (res >= 0)
		res = entry_co_get_dir(s, req->dir, &l.dir);
	if (res < 0)
		return res;
	uint64_t version = l.dir->version;
	/* no name has a hash above 62 bits */
	res = req->cookie >> 62 ? 1 : list(&l, req->cookie);
	if (res >= 0) {
		*rep = (WireReaddirRep) { .count = l.count, .eof = (uint32_t)res };
		if (l.lease && leases_grant_since(s, r, l.dir, version))
			rep->lease = WIRE_LEASE_INODE;
	}
	inode_unref(s, l.dir);
	if (res < 0)
		return res;
	r->out_len = l.len;
	return 0;
}
