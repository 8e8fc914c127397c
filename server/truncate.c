/*
 * Changing a file's size, and the end of its objects.
 *
 * Cutting objects takes calls that can fail, so a truncation is: in one batch
 * the new size and an intent; then the objects are cut; then the intent goes.
 * Where a target can't be reached the intent stays, in the store and in
 * s->cuts, and the file can't grow before it is settled: nothing that was cut
 * off is ever seen again.
 */
#define G_LOG_DOMAIN "server"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "server/data.h"
#include "server/record.h"

static Key intent_key(uint64_t ino)
{
	return key_ino_kind(ino, RECORD_INTENT, INTENT_TRUNCATE);
}

static bool has_objects(const InodeData *d)
{
	return d->n_blocks > 0;
}

static bool has_cut(Server *s, uint64_t ino)
{
	return g_hash_table_contains(s->cuts, &ino);
}

/* Cuts all objects at the file's size and takes what they then occupy into d. */
static int coroutine_fn cut_objects(Server *s, InodeData *d)
{
	WireObjReq req = { .ino = d->attr.ino, .off = d->attr.size };
	size_t n;
	g_autofree TargetCall *calls = targets_of(d, NULL, &req, &n);
	int r = targets_co_call(s, WIRE_OBJ_TRUNCATE, calls, n);

	targets_note_blocks(d, calls, n);
	for (size_t i = 0; i < n; i++)
		if (calls[i].r >= 0)
			inode_data_note_cut(d, calls[i].target, calls[i].rep.process, calls[i].rep.cuts);
	return r;
}

static int coroutine_fn cut_and_forget(Server *s, Inode *inode)
{
	uint64_t ino = inode->d.attr.ino;
	Key key = intent_key(ino);
	g_auto(InodeData) d = { 0 };

	inode_data_copy(&d, &inode->d);
	int r = cut_objects(s, &d);
	if (r < 0)
		return r;
	MetaBatch *b = meta_batch_new(s->meta);

	meta_batch_delete(b, key.data, key.len);
	r = data_co_commit(s, inode, b, &d);
	if (r == 0)
		g_hash_table_remove(s->cuts, &ino);
	return r;
}

bool truncate_is_pending(Server *s, const Inode *inode)
{
	return has_cut(s, inode->d.attr.ino);
}

int coroutine_fn truncate_co_settle(Server *s, Inode *inode)
{
	return truncate_is_pending(s, inode) ? cut_and_forget(s, inode) : 0;
}

/* ---- SETATTR's part ---- */

static int coroutine_fn cut_inline(Server *s, MetaBatch *b, InodeData *d, uint64_t size)
{
	g_autoptr(GByteArray) bytes = NULL;
	int r = inline_co_load(s, d, &bytes);
	if (r < 0)
		return r;
	if (bytes->len > size)
		inline_put(b, d, bytes->data, size);
	return 0;
}

/* d is a copy, the inode itself is not at hand: cut before the size grows, and
 * let the batch forget the intent. s->cuts keeps it until finish. */
static int coroutine_fn settle_copy(Server *s, MetaBatch *b, InodeData *d)
{
	Key key = intent_key(d->attr.ino);
	int r = cut_objects(s, d);

	if (r == 0)
		meta_batch_delete(b, key.data, key.len);
	return r;
}

int coroutine_fn data_co_truncate_prepare(Server *s, MetaBatch *b, InodeData *d, uint64_t size)
{
	uint64_t ino = d->attr.ino, old = d->attr.size;
	int r = 0;

	if (size > INT64_MAX)
		return -EFBIG;
	if (size < old && (d->flags & INODE_INLINE))
		r = cut_inline(s, b, d, size);
	else if (size > old && has_cut(s, ino))
		r = settle_copy(s, b, d);
	if (r < 0)
		return r;
	if (size < old && has_objects(d)) {
		uint8_t version = RECORD_VERSION;
		Key key = intent_key(ino);

		meta_batch_put(b, key.data, key.len, &version, 1);
	}
	d->attr.size = size;
	return 0;
}

static int coroutine_fn intent_exists(Server *s, uint64_t ino)
{
	MetaValue v = { 0 };
	Key key = intent_key(ino);
	int r = meta_co_get(s->meta, key.data, key.len, &v);

	meta_value_clear(&v);
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

static void add_cut(Server *s, uint64_t ino)
{
	g_hash_table_add(s->cuts, g_memdup2(&ino, sizeof(ino)));
}

int coroutine_fn data_co_truncate_finish(Server *s, Inode *inode)
{
	uint64_t ino = inode->d.attr.ino;

	if (!has_objects(&inode->d))
		return 0;
	int r = intent_exists(s, ino);
	if (r == 0) {
		g_hash_table_remove(s->cuts, &ino);
		return 0;
	}
	/* Until proved otherwise there is something to cut. */
	add_cut(s, ino);
	return r < 0 ? r : cut_and_forget(s, inode);
}

/* ---- the end of an inode ---- */

int coroutine_fn data_co_remove_objects(Server *s, const InodeData *d)
{
	WireObjReq req = { .ino = d->attr.ino };
	g_autoptr(Runs) runs = NULL;
	size_t n;
	/* A map that can't be read must not keep the inode from being deleted:
	 * the table of blocks has every target too. */
	int r = filemap_co_get(s, d, &runs);
	if (r < 0 && r != -EIO)
		return r;
	g_autofree TargetCall *calls = targets_of(d, runs, &req, &n);

	r = targets_co_call(s, WIRE_OBJ_REMOVE, calls, n);
	if (r == 0) {
		filemap_forget(s, d->attr.ino);
		g_hash_table_remove(s->cuts, &d->attr.ino);
	}
	return r;
}

/* ---- starting ---- */

static int coroutine_fn load_slot(Server *s, uint16_t slot)
{
	Key prefix = key_slot(slot, RECORD_INTENT);
	g_autoptr(MetaIter) it = meta_iter_new(s->meta, prefix.data, prefix.len, NULL, 0);
	const uint8_t *key, *value;
	size_t key_len, len;
	int r;

	while ((r = meta_iter_co_next(it, &key, &key_len, &value, &len)) > 0)
		if (key_len == KEY_TAIL + 1 && key[KEY_TAIL] == INTENT_TRUNCATE)
			add_cut(s, key_get_num(key, key_len, KEY_TAIL - 8));
	return r;
}

int coroutine_fn data_co_load(Server *s)
{
	for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
		int r = map_slot_peer(s->map, (uint16_t)slot) == s->self ? load_slot(s, (uint16_t)slot) : 0;
		if (r < 0)
			return r;
	}
	uint32_t n = g_hash_table_size(s->cuts);
	if (n > 0)
		g_message("%u truncation%s to finish", n, n == 1 ? "" : "s");
	return 0;
}

static int coroutine_fn recover_one(Server *s, uint64_t ino)
{
	Inode *inode;
	int r = data_co_lock_file(s, ino, NULL, &inode);
	if (r == -ENOENT || r == -EISDIR || r == -EINVAL) {
		g_hash_table_remove(s->cuts, &ino);
		return 0;
	}
	if (r < 0)
		return r;
	r = truncate_co_settle(s, inode);
	data_unlock_file(s, inode);
	return r;
}

/* Whatever can't be reached now is settled before its file grows. */
void coroutine_fn data_co_recover(Server *s)
{
	guint n;
	g_autofree uint64_t **keys = (uint64_t **)g_hash_table_get_keys_as_array(s->cuts, &n);
	g_autofree uint64_t *inos = g_new(uint64_t, n + 1);

	for (guint i = 0; i < n; i++)
		inos[i] = *keys[i];
	for (guint i = 0; i < n && !s->stopping; i++) {
		int r = recover_one(s, inos[i]);

		if (r < 0)
			g_warning("inode %#" PRIx64 ": can't finish its truncation yet: %s, ignoring", inos[i], g_strerror(-r));
	}
}
