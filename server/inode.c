#define G_LOG_DOMAIN "server"
#include "server/inode.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "server/exclusive.h"
#include "server/locks.h"
#include "server/record.h"

/* At about 300 bytes each. */
#define CACHED_MAX 65536
#define POINT_DELETES_MAX 1024u

struct InodeCache {
	GHashTable *inodes; /* number (as a pointer; the hash takes its low bits) -> Inode */
	GQueue lru;         /* without references, the latest first */
	uint64_t count;     /* of the store */
	CoMutex counting;   /* held over each commit that changes it: a later count must not land sooner */
	uint64_t hits, loads;
};

typedef struct InodeRecord {
	uint8_t version, pad[3];
	uint32_t flags;
	WireAttr attr;
	uint64_t parent;
	uint32_t n_blocks, symlink_len; /* behind: WireBlocks[], target */
} InodeRecord;
static_assert(sizeof(InodeRecord) == 104, "no holes");

InodeCache *inode_cache_new(Server *s)
{
	InodeCache *c = g_new0(InodeCache, 1);

	c->inodes = g_hash_table_new(g_direct_hash, g_direct_equal);
	g_queue_init(&c->lru);
	if (s->opts.counters) {
		counters_add(s->opts.counters, "inode.hits", &c->hits);
		counters_add(s->opts.counters, "inode.loads", &c->loads);
	}
	s->inodes = c;
	return c;
}

static void inode_free(Inode *inode)
{
	inode_data_clear(&inode->d);
	g_free(inode);
}

void inode_cache_free(InodeCache *c)
{
	GHashTableIter it;
	void *inode;

	if (!c)
		return;
	g_hash_table_iter_init(&it, c->inodes);
	while (g_hash_table_iter_next(&it, NULL, &inode)) {
		g_assert(((Inode *)inode)->refs == 0);
		inode_free(inode);
	}
	g_hash_table_destroy(c->inodes);
	g_free(c);
}

/* ---- the record ---- */

static bool decode_attr_ok(const WireAttr *a, uint64_t ino)
{
	return a->ino == ino && a->chunk_shift >= 12 && a->chunk_shift <= 30 && a->policy <= WIRE_POLICY_STRIPE &&
		a->size <= INT64_MAX;
}

int inode_data_decode(uint64_t ino, const uint8_t *data, size_t len, InodeData *ret_d)
{
	InodeRecord rec;

	if (len < sizeof(rec))
		return -EIO;
	memcpy(&rec, data, sizeof(rec));
	if (rec.version != RECORD_VERSION || !decode_attr_ok(&rec.attr, ino) || rec.n_blocks > PEER_MAX ||
	    rec.symlink_len > WIRE_SYMLINK_MAX || S_ISLNK(rec.attr.mode) != (rec.symlink_len > 0))
		return -EIO;
	size_t blocks_len = rec.n_blocks * sizeof(WireBlocks);
	if (len != sizeof(rec) + blocks_len + rec.symlink_len)
		return -EIO;
	data += sizeof(rec);
	*ret_d = (InodeData) { .attr = rec.attr, .parent = rec.parent, .flags = rec.flags, .n_blocks = rec.n_blocks };
	ret_d->blocks = g_memdup2(data, blocks_len);
	for (uint32_t i = 0; i < rec.n_blocks; i++)
		ret_d->blocks[i].process = 0;
	if (rec.symlink_len > 0)
		ret_d->symlink = g_strndup((const char *)data + blocks_len, rec.symlink_len);
	return 0;
}

void inode_data_put(MetaBatch *b, const InodeData *d)
{
	uint8_t small[512];
	InodeRecord rec = {
		.version = RECORD_VERSION, .flags = d->flags, .attr = d->attr, .parent = d->parent,
		.n_blocks = d->n_blocks, .symlink_len = d->symlink ? (uint32_t)strlen(d->symlink) : 0,
	};
	size_t blocks_len = d->n_blocks * sizeof(WireBlocks);
	size_t len = sizeof(rec) + blocks_len + rec.symlink_len;
	g_autofree uint8_t *big = len > sizeof(small) ? g_malloc(len) : NULL;
	uint8_t *p = big ? big : small;
	Key key = key_ino(d->attr.ino, RECORD_INODE);

	memcpy(p, &rec, sizeof(rec));
	if (blocks_len > 0)
		memcpy(p + sizeof(rec), d->blocks, blocks_len);
	if (rec.symlink_len > 0)
		memcpy(p + sizeof(rec) + blocks_len, d->symlink, rec.symlink_len);
	meta_batch_put(b, key.data, key.len, p, len);
}

/* Key by key while they are few: each tombstone of a range makes all later
 * reads slower (10,000 files with chunks went at 200 a second). */
static int coroutine_fn delete_all(Server *s, MetaBatch *b, const Key *prefix)
{
	g_autoptr(MetaIter) it = meta_iter_new(s->meta, prefix->data, prefix->len, NULL, 0);
	const uint8_t *key, *value;
	size_t key_len, len;
	uint32_t n = 0;
	int r;

	while ((r = meta_iter_co_next(it, &key, &key_len, &value, &len)) > 0) {
		if (n++ == POINT_DELETES_MAX) {
			meta_batch_delete_prefix(b, prefix->data, prefix->len);
			return 0;
		}
		meta_batch_delete(b, key, key_len);
	}
	return r;
}

int coroutine_fn inode_data_co_delete(Server *s, MetaBatch *b, const InodeData *d)
{
	uint64_t ino = d->attr.ino;
	const struct { RecordType type; bool some, many; } rows[] = {
		{ RECORD_INODE, true, false },
		{ RECORD_INLINE, d->flags & INODE_INLINE, false },
		{ RECORD_ORPHAN, d->flags & INODE_ORPHAN, false },
		{ RECORD_CHUNKS, d->n_blocks > 0, true },
		{ RECORD_XATTR, d->attr.flags & WIRE_ATTR_HAS_XATTRS, true },
		{ RECORD_INTENT, d->n_blocks > 0, true },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		Key key = key_ino(ino, rows[i].type);
		int r = rows[i].some && rows[i].many ? delete_all(s, b, &key) : 0;

		if (r < 0)
			return r;
		if (rows[i].some && !rows[i].many)
			meta_batch_delete(b, key.data, key.len);
	}
	locks_delete_records(s->locks, b, ino);
	return 0;
}

/* ---- references ---- */

static void cache_insert(InodeCache *c, uint64_t ino, Inode *inode)
{
	inode->refs = 1;
	inode->lru.data = inode;
	g_hash_table_insert(c->inodes, (void *)ino, inode);
}

static int coroutine_fn inode_co_load(Server *s, uint64_t ino, Inode *inode)
{
	Key key = key_ino(ino, RECORD_INODE);
	MetaValue v = { 0 };
	int r = meta_co_get(s->meta, key.data, key.len, &v);

	s->inodes->loads++;
	if (r < 0)
		return r;
	r = inode_data_decode(ino, v.data, v.len, &inode->d);
	meta_value_clear(&v);
	if (r < 0)
		g_warning("inode %#" PRIx64 ": its record can't be read", ino);
	return r;
}

/* The number is taken in the cache before the record is read, so that nobody
 * can read an old record, yield, and find the inode changed and forgotten. */
static int coroutine_fn inode_co_get_new(Server *s, uint64_t ino, Inode **ret_inode)
{
	Inode *inode = g_new0(Inode, 1);

	inode->loading = true;
	inode->d.attr.ino = ino;
	cache_insert(s->inodes, ino, inode);
	inode->load_result = inode_co_load(s, ino, inode);
	inode->loading = false;
	co_queue_wake_all(&inode->loaded);
	if (inode->load_result < 0) {
		int r = inode->load_result;

		inode->gone = true;
		inode_unref(s, inode);
		return r;
	}
	*ret_inode = inode;
	return 0;
}

static int coroutine_fn inode_co_ref(Server *s, Inode *inode)
{
	if (inode->refs++ == 0)
		g_queue_unlink(&s->inodes->lru, &inode->lru);
	while (inode->loading)
		co_queue_wait(&inode->loaded);
	s->inodes->hits++;
	if (inode->load_result < 0)
		return inode->load_result;
	return inode->gone ? -ENOENT : 0;
}

int coroutine_fn inode_co_get_as_is(Server *s, uint64_t ino, Inode **ret_inode)
{
	if (!ino_valid(ino))
		return -ENOENT;
	if (map_home(s->map, ino) != s->self)
		return -ESTALE;
	Inode *inode = g_hash_table_lookup(s->inodes->inodes, (void *)ino);
	if (!inode)
		return inode_co_get_new(s, ino, ret_inode);
	int r = inode_co_ref(s, inode);
	if (r < 0)
		inode_unref(s, inode);
	else
		*ret_inode = inode;
	return r;
}

int coroutine_fn inode_co_get_for(Server *s, uint64_t ino, const RpcReq *r, Inode **ret_inode)
{
	int res = inode_co_get_as_is(s, ino, ret_inode);

	if (res < 0 || !((*ret_inode)->d.flags & INODE_EXCLUSIVE) || (r && exclusive_is_holder(*ret_inode, r->peer)))
		return res;
	res = exclusive_co_take_back(s, *ret_inode);
	if (res < 0)
		inode_unref(s, *ret_inode);
	return res;
}

int coroutine_fn inode_co_get(Server *s, uint64_t ino, Inode **ret_inode)
{
	return inode_co_get_for(s, ino, NULL, ret_inode);
}

static void forget(InodeCache *c, Inode *inode)
{
	void *ino = (void *)inode->d.attr.ino;

	/* another may have taken the place of one that could not be read */
	if (g_hash_table_lookup(c->inodes, ino) == inode)
		g_hash_table_remove(c->inodes, ino);
	inode_free(inode);
}

Inode *inode_ref(Inode *inode)
{
	g_assert(inode->refs > 0);
	inode->refs++;
	return inode;
}

void inode_unref(Server *s, Inode *inode)
{
	InodeCache *c = s->inodes;

	if (!inode || --inode->refs > 0)
		return;
	if (inode->gone) {
		forget(c, inode);
		return;
	}
	g_queue_push_head_link(&c->lru, &inode->lru);
	if (g_hash_table_size(c->inodes) > CACHED_MAX) {
		GList *last = g_queue_pop_tail_link(&c->lru);

		forget(c, last->data);
	}
}

/* Someone may have asked for the number between the commit and now, or even
 * before it was ours: where that read the record, it is the inode. */
Inode *coroutine_fn inode_co_add(Server *s, InodeData *d)
{
	Inode *inode = g_hash_table_lookup(s->inodes->inodes, (void *)d->attr.ino);

	if (inode) {
		if (inode_co_ref(s, inode) == 0) {
			inode_data_clear(d);
			return inode;
		}
		inode_unref(s, inode);
	}
	inode = g_new0(Inode, 1);
	inode->d = *d;
	*d = (InodeData) { 0 };
	cache_insert(s->inodes, inode->d.attr.ino, inode);
	return inode;
}

void inode_set_gone(Server *s, Inode *inode)
{
	inode->gone = true;
}

/* ---- locking ---- */

/* Sorted by number, without NULL and repetitions. */
static uint32_t normalise(Inode *const inodes[], uint32_t n, Inode *ret[4])
{
	uint32_t count = 0;

	g_assert(n <= 4);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = count;

		if (!inodes[i])
			continue;
		while (at > 0 && ret[at - 1]->d.attr.ino > inodes[i]->d.attr.ino)
			at--;
		if (at > 0 && ret[at - 1] == inodes[i])
			continue;
		memmove(&ret[at + 1], &ret[at], (count - at) * sizeof(ret[0]));
		ret[at] = inodes[i];
		count++;
	}
	return count;
}

void coroutine_fn inode_co_lock_many(Inode *inodes[], uint32_t n)
{
	Inode *sorted[4];

	n = normalise(inodes, n, sorted);
	for (uint32_t i = 0; i < n; i++)
		co_mutex_lock(&sorted[i]->lock);
}

void inode_unlock_many(Inode *inodes[], uint32_t n)
{
	Inode *sorted[4];

	n = normalise(inodes, n, sorted);
	while (n > 0)
		co_mutex_unlock(&sorted[--n]->lock);
}

/* ---- values ---- */

void inode_data_copy(InodeData *dst, const InodeData *src)
{
	*dst = *src;
	dst->blocks = g_memdup2(src->blocks, src->n_blocks * sizeof(WireBlocks));
	dst->symlink = g_strdup(src->symlink);
}

void inode_data_clear(InodeData *d)
{
	g_free(d->blocks);
	g_free(d->symlink);
	d->blocks = NULL;
	d->symlink = NULL;
	d->n_blocks = 0;
}

void inode_publish(Inode *inode, InodeData *d)
{
	g_assert(inode->d.attr.ino == d->attr.ino);
	inode_data_clear(&inode->d);
	inode->d = *d;
	inode->version++;
	*d = (InodeData) { 0 };
}

void inode_data_count_blocks(InodeData *d)
{
	d->attr.blocks = S_ISREG(d->attr.mode) && (d->flags & INODE_INLINE) ? (d->attr.size + 511) / 512 : 0;
	for (uint32_t i = 0; i < d->n_blocks; i++)
		d->attr.blocks += d->blocks[i].blocks;
}

static WireBlocks *find_blocks(const InodeData *d, uint16_t target)
{
	for (uint32_t i = 0; i < d->n_blocks; i++) {
		if (d->blocks[i].target == target)
			return &d->blocks[i];
	}
	return NULL;
}

void inode_data_set_blocks(InodeData *d, uint16_t target, uint64_t blocks)
{
	WireBlocks *b = find_blocks(d, target);

	if (!b) {
		d->blocks = g_renew(WireBlocks, d->blocks, ++d->n_blocks);
		b = &d->blocks[d->n_blocks - 1];
		*b = (WireBlocks) { .target = target };
	}
	b->blocks = blocks;
	inode_data_count_blocks(d);
}

void inode_data_note_cut(InodeData *d, uint16_t target, uint16_t process, uint32_t cuts)
{
	WireBlocks *b = find_blocks(d, target);

	if (b) {
		b->process = process;
		b->cuts = cuts;
	}
}

bool inode_written_since_cut(Inode *inode, const WireBlocks *b)
{
	WireBlocks *known = find_blocks(&inode->d, b->target);

	if (!known || !known->process || !b->process || wire_blocks_since(known, b))
		return true;
	if (known->process != b->process) {
		known->process = b->process;
		known->cuts = b->cuts;
	}
	return false;
}

/* mtime follows ctime, which nobody can set: it too moves with each change,
 * and comes back from a future that utimensat(2) put it into. */
void inode_data_touch(InodeData *d, bool mtime)
{
	WireAttr *a = &d->attr;
	int64_t now = MAX(clock_realtime_ns(), a->ctime_ns + 1);

	if (mtime && a->mtime_ns == now)
		now++;
	a->ctime_ns = now;
	if (mtime)
		a->mtime_ns = now;
}

bool inode_data_kill_suidgid(InodeData *d)
{
	uint32_t mode = d->attr.mode;

	mode &= ~(uint32_t)S_ISUID;
	if (mode & S_IXGRP)
		mode &= ~(uint32_t)S_ISGID;
	if (mode == d->attr.mode)
		return false;
	d->attr.mode = mode;
	return true;
}

/* ---- the count ---- */

int coroutine_fn inode_count_co_commit(Server *s, MetaBatch *b, int delta)
{
	Key key = key_slot_name(STORE_SLOT, RECORD_SEQUENCE, NUMBER_INODES);
	NumberRecord rec = { .version = RECORD_VERSION };

	co_mutex_lock(&s->inodes->counting);
	rec.value = s->inodes->count + (uint64_t)(int64_t)delta;
	meta_batch_put(b, key.data, key.len, &rec, sizeof(rec));
	int r = meta_batch_co_commit(b);
	if (r >= 0)
		s->inodes->count = rec.value;
	co_mutex_unlock(&s->inodes->counting);
	return r;
}

int coroutine_fn inode_count_co_load(Server *s)
{
	Key key = key_slot_name(STORE_SLOT, RECORD_SEQUENCE, NUMBER_INODES);
	MetaValue v = { 0 };
	NumberRecord rec = { 0 };
	int r = meta_co_get(s->meta, key.data, key.len, &v);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (v.len == sizeof(rec))
		memcpy(&rec, v.data, sizeof(rec));
	if (rec.version == RECORD_VERSION)
		s->inodes->count = rec.value;
	else
		g_warning("the count of inodes can't be read; df will show few, ignoring");
	meta_value_clear(&v);
	return 0;
}

uint64_t inodes_count(const Server *s)
{
	return s->inodes->count;
}
