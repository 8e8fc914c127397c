#define G_LOG_DOMAIN "server"
#include "server/entry.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "server/holds.h"
#include "server/leases.h"
#include "server/record.h"

typedef struct DirentRecord {
	uint8_t version, pad[3];
	uint32_t mode;
	uint64_t ino;
} DirentRecord;
static_assert(sizeof(DirentRecord) == 16, "no holes");

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

int name_parse(const RpcReq *r, size_t fixed, size_t skip, uint16_t name_len, bool dots, Name *ret_name)
{
	int res = wire_name(r->req, r->req_len, fixed, skip, name_len, ret_name->text);

	if (res < 0)
		return res;
	if (!dots && is_dots(ret_name->text))
		return -EINVAL;
	ret_name->len = name_len;
	ret_name->hash = name_hash(ret_name->text, name_len);
	return 0;
}

int coroutine_fn entry_co_get_dir(Server *s, uint64_t ino, Inode **ret_dir)
{
	Inode *dir;
	int r = inode_co_get(s, ino, &dir);

	if (r < 0)
		return r;
	if (!S_ISDIR(dir->d.attr.mode)) {
		inode_unref(s, dir);
		return -ENOTDIR;
	}
	*ret_dir = dir;
	return 0;
}

/* ---- records ---- */

bool entry_decode(const uint8_t *value, size_t len, uint64_t *ret_ino, uint32_t *ret_mode)
{
	DirentRecord rec;

	if (len != sizeof(rec))
		return false;
	memcpy(&rec, value, sizeof(rec));
	if (rec.version != RECORD_VERSION || !ino_valid(rec.ino))
		return false;
	*ret_ino = rec.ino;
	*ret_mode = rec.mode & S_IFMT;
	return true;
}

static Key entry_key(const Entry *e)
{
	return key_dirent(e->dir->d.attr.ino, e->name.hash, e->name.text, e->name.len);
}

int coroutine_fn entry_co_read(Server *s, Entry *e)
{
	Key key = entry_key(e);
	MetaValue v = { 0 };
	int r = meta_co_get(s->meta, key.data, key.len, &v);

	e->ino = 0;
	e->mode = 0;
	if (r < 0)
		return r;
	if (!entry_decode(v.data, v.len, &e->ino, &e->mode)) {
		g_warning("directory %#" PRIx64 ": the record of '%s' can't be read", e->dir->d.attr.ino, e->name.text);
		r = -EIO;
	}
	meta_value_clear(&v);
	return r;
}

void entry_put(MetaBatch *b, const Entry *e, uint64_t ino, uint32_t mode)
{
	DirentRecord rec = { .version = RECORD_VERSION, .mode = mode & S_IFMT, .ino = ino };
	Key key = entry_key(e);

	meta_batch_put(b, key.data, key.len, &rec, sizeof(rec));
}

void entry_delete(MetaBatch *b, const Entry *e)
{
	Key key = entry_key(e);

	meta_batch_delete(b, key.data, key.len);
}

/* ---- locking ---- */

int coroutine_fn entry_co_open(Server *s, const RpcReq *r, uint64_t dir, size_t fixed, size_t skip, uint16_t name_len, Entry *e)
{
	int res = name_parse(r, fixed, skip, name_len, false, &e->name);

	return res < 0 ? res : entry_co_get_dir(s, dir, &e->dir);
}

static void drop_inode(Server *s, Entry *e)
{
	inode_unref(s, e->inode);
	e->inode = NULL;
}

void entry_close(Server *s, Entry *e)
{
	drop_inode(s, e);
	inode_unref(s, e->dir);
	e->dir = NULL;
}

/* Without a lock: may be out of date at once. */
static int coroutine_fn find_inode(Server *s, Entry *e)
{
	drop_inode(s, e);
	e->version = e->dir->version;
	int r = entry_co_read(s, e);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (map_home(s->map, e->ino) != s->self)
		return 0;
	/* Names are changed also while what a mount holds back of it can't be had. */
	return inode_co_get_as_is(s, e->ino, &e->inode);
}

static uint32_t collect(Entry *e, uint32_t n, Inode *also, Inode *ret[5])
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < n; i++) {
		ret[count++] = e[i].dir;
		ret[count++] = e[i].inode;
	}
	if (also)
		ret[count++] = also;
	return count;
}

void entry_unlock(Entry *e, uint32_t n, Inode *also)
{
	Inode *inodes[5];

	inode_unlock_many(inodes, collect(e, n, also, inodes));
}

/* 1: the name still stands for the inode that is locked; 0: look again. Every
 * change of a name publishes its directory, so mostly nothing is to be read. */
static int coroutine_fn check(Server *s, Entry *e)
{
	if (e->dir->gone || e->dir->d.attr.nlink == 0)
		return -ENOENT;
	if (e->inode && e->inode->gone)
		return 0;
	if (e->dir->version == e->version)
		return 1;
	Entry now = { .dir = e->dir, .name = e->name };
	int r = entry_co_read(s, &now);
	if (r < 0 && r != -ENOENT)
		return r;
	return now.ino == e->ino;
}

/* Does a change that spans peers hold something of it? */
static bool is_held(Server *s, const Entry *e, uint32_t n, const Inode *also)
{
	for (uint32_t i = 0; i < n; i++) {
		HoldKey name = { .ino = e[i].dir->d.attr.ino, .hash = e[i].name.hash };

		if (holds_find(s, name, NULL))
			return true;
		if (e[i].inode && holds_find(s, (HoldKey) { .ino = e[i].ino, .removing = S_ISDIR(e[i].mode) }, NULL))
			return true;
	}
	return also && holds_find(s, (HoldKey) { .ino = also->d.attr.ino }, NULL);
}

static int coroutine_fn check_all(Server *s, Entry *e, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		int r = check(s, &e[i]);

		if (r <= 0)
			return r;
	}
	return 1;
}

int coroutine_fn entry_co_lock(Server *s, Entry *e, uint32_t n, Inode *also)
{
	int64_t until = reactor_now_ns(s->reactor) + HOLDS_WAIT_NS;
	Inode *inodes[5];

	for (uint32_t tries = 0; tries < 1000; tries++) {
		int r = 0;

		for (uint32_t i = 0; r >= 0 && i < n; i++)
			r = find_inode(s, &e[i]);
		if (r == -ENOENT)
			continue; /* it went away between name and inode */
		if (r < 0)
			return r;
		inode_co_lock_many(inodes, collect(e, n, also, inodes));
		bool held = is_held(s, e, n, also);
		r = held ? 0 : check_all(s, e, n);
		if (r > 0)
			return 0;
		entry_unlock(e, n, also);
		if (held) {
			r = holds_co_wait_once(s, until);
			tries--;
		}
		if (r < 0)
			return r;
	}
	g_warning("directory %#" PRIx64 ": '%s' stands for an inode that is not there", e[0].dir->d.attr.ino, e[0].name.text);
	return -EIO;
}

/* ---- directories ---- */

/* The count of names is part of every batch that changes them. */
int coroutine_fn entry_co_dir_is_empty(Server *s, const InodeData *dir)
{
	Key prefix = key_ino(dir->attr.ino, RECORD_DIRENT);
	const uint8_t *key, *value;
	size_t key_len, len;

	if (dir->attr.size == 0)
		return 1;
	g_autoptr(MetaIter) it = meta_iter_new(s->meta, prefix.data, prefix.len, NULL, 0);
	int r = meta_iter_co_next(it, &key, &key_len, &value, &len);
	if (r < 0)
		return r;
	if (r == 0)
		g_warning("directory %#" PRIx64 ": has no names but counts %" PRIu64 ", ignoring", dir->attr.ino, dir->attr.size);
	return r == 0;
}

int coroutine_fn entry_co_reply(Server *s, uint64_t ino, uint32_t mode, const RpcReq *lease, WireEntryRep *rep)
{
	Inode *inode;

	if (map_home(s->map, ino) != s->self) {
		rep->attr.ino = ino;
		rep->attr.mode = mode & S_IFMT;
		return 0;
	}
	int r = holds_co_wait_settled(s, (HoldKey) { .ino = ino });
	if (r >= 0)
		r = inode_co_get(s, ino, &inode);
	/* Size and times can't be had: whoever wants them will ask, and be told
	 * so, but the name can be removed. */
	if (r == -EIO) {
		r = inode_co_get_as_is(s, ino, &inode);
		lease = NULL;
	}
	if (r < 0)
		return r;
	rep->attr = inode->d.attr;
	rep->have_attr = 1;
	if (lease && leases_grant(s, lease, inode))
		rep->lease |= WIRE_LEASE_INODE;
	inode_unref(s, inode);
	return 0;
}

void entry_count(InodeData *dir, uint32_t mode, int delta)
{
	dir->attr.size += (uint64_t)(int64_t)delta;
	if (S_ISDIR(mode))
		dir->attr.nlink += (uint32_t)delta;
}
