/*
 * The INODES stage. In each slot, one iterator for each type of record goes
 * over the inodes together, in the order of their numbers; so all that belongs
 * to one inode is seen at once, from one snapshot, and what is wrong with it by
 * itself is told here.
 */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "server/entry.h"
#include "server/exclusive.h"
#include "server/filemap.h"
#include "server/fsck-internal.h"
#include "server/inode.h"
#include "server/lockrecord.h"
#include "server/runs.h"

/* What the records of one inode say. */
typedef struct Found {
	uint64_t ino;
	uint32_t slot;
	bool has_inode, readable;
	bool lost; /* not in the slot of its number, where nobody finds it */
	InodeData d;
	uint64_t names, subdirs;
	uint64_t runs, runs_end; /* runs_end: of the last in chunks */
	uint64_t xattrs, inline_len;
	bool has_inline, has_orphan;
	uint32_t intents;        /* a bit for each kind */
	GArray *targets;         /* of FsckTarget: the table of blocks, with its ends from the runs */
} Found;

typedef void TakeRecord(Scan *s, Found *f, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len);

static TakeRecord take_inode, take_run, take_dirent, take_inline, take_orphan, take_intent, take_xattr, take_lock;

/* Every type of record that belongs to an inode. The inode's own comes first:
 * the others are looked at with what it says. A new type needs a row here. */
static const struct {
	RecordType type;
	const char *name; /* of several */
	TakeRecord *take;
} types[] = {
	{ RECORD_INODE, "inode", take_inode },
	{ RECORD_CHUNKS, "chunk map", take_run },
	{ RECORD_DIRENT, "name", take_dirent },
	{ RECORD_INLINE, "inline data", take_inline },
	{ RECORD_ORPHAN, "orphan", take_orphan },
	{ RECORD_INTENT, "intent", take_intent },
	{ RECORD_XATTR, "attribute", take_xattr },
	{ RECORD_LOCK, "lock", take_lock },
};
#define TYPES G_N_ELEMENTS(types)

/* Every kind of intent. */
static const struct {
	RecordIntentKind kind;
	const char *name;
	size_t len;
} intent_kinds[] = {
	{ INTENT_TRUNCATE, "truncate", 1 },
};

static int64_t ctime_of(const Found *f)
{
	return f->readable ? f->d.attr.ctime_ns : 0;
}

#define bad(s, f, ...) scan_problem(s, (f)->ino, ctime_of(f), __VA_ARGS__)

/* ---- one record each ---- */

static void take_inode(Scan *s, Found *f, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	f->has_inode = true;
	if (key_len != KEY_TAIL) {
		bad(s, f, "the key of its record has bytes too many");
		return;
	}
	if (f->readable)
		return;
	f->readable = inode_data_decode(f->ino, value, len, &f->d) == 0;
	if (!f->readable) {
		bad(s, f, "its record can't be read");
		return;
	}
	for (uint32_t i = 0; i < f->d.n_blocks; i++) {
		FsckTarget t = { .target = f->d.blocks[i].target, .blocks = f->d.blocks[i].blocks };

		g_array_append_val(f->targets, t);
	}
}

static FsckTarget *find_target(Found *f, uint16_t target)
{
	for (guint i = 0; i < f->targets->len; i++) {
		FsckTarget *t = &g_array_index(f->targets, FsckTarget, i);

		if (t->target == target)
			return t;
	}
	return NULL;
}

/* A striped run has its end on each of its peers: exact is not needed. */
static void note_run(Scan *s, Found *f, const WireRun *run)
{
	uint64_t n = MIN(run->count, run->width);

	for (uint64_t c = 0; c < n; c++) {
		uint16_t target = run_target(run, run->first + c);
		FsckTarget *t = find_target(f, target);

		if (t)
			t->end = MAX(t->end, run_end(run) << f->d.attr.chunk_shift);
		else
			bad(s, f, "its chunk map has chunks on peer %u, which its record does not know of", target);
	}
}

static void take_run(Scan *s, Found *f, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	uint32_t peers = s->src->peers;
	WireRun run;

	f->runs++;
	if (!f->readable)
		return;
	if (!filemap_decode_run(key, key_len, value, len, &run) || !run_valid(&run, f->d.attr.chunk_shift)) {
		bad(s, f, "a record of its chunk map can't be read");
		return;
	}
	if (run.target >= peers || run.width > peers) {
		bad(s, f, "its chunk map has chunks on a peer that there is not");
		return;
	}
	if (run.first < f->runs_end)
		bad(s, f, "chunk %" PRIu64 " is in its chunk map twice", run.first);
	f->runs_end = run_end(&run);
	note_run(s, f, &run);
}

static void take_dirent(Scan *s, Found *f, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	uint64_t ino;
	uint32_t mode;

	f->names++;
	if (!scan_name_is_sound(key, key_len)) {
		bad(s, f, "the key of a name in it makes no sense");
		return;
	}
	if (entry_decode(value, len, &ino, &mode)) {
		f->subdirs += S_ISDIR(mode);
		return;
	}
	const size_t at = KEY_TAIL + sizeof(uint64_t);
	g_autofree char *name = g_strndup((const char *)key + at, key_len - at);

	bad(s, f, "the record of the name '%.128s' in it can't be read", name);
}

static void take_inline(Scan *s, Found *f, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	f->has_inline = true;
	if (key_len != KEY_TAIL || len < 1 || value[0] != RECORD_VERSION)
		bad(s, f, "its inline data can't be read");
	else
		f->inline_len = len - 1;
}

static void take_orphan(Scan *s, Found *f, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	f->has_orphan = true;
	if (key_len != KEY_TAIL || len != 8 || value[0] != RECORD_VERSION)
		bad(s, f, "its record as an orphan can't be read");
}

static void take_intent(Scan *s, Found *f, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	uint8_t kind = key_len == KEY_TAIL + 1 ? key[KEY_TAIL] : 0;

	for (size_t i = 0; i < G_N_ELEMENTS(intent_kinds); i++) {
		if (intent_kinds[i].kind != kind)
			continue;
		f->intents |= 1u << i;
		if (len != intent_kinds[i].len || value[0] != RECORD_VERSION)
			bad(s, f, "its intent to %s can't be read", intent_kinds[i].name);
		return;
	}
	bad(s, f, "it has an intent of an unknown kind: %u", kind);
}

static void take_xattr(Scan *s, Found *f, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	size_t name_len = key_len - KEY_TAIL;

	f->xattrs++;
	if (name_len < 1 || name_len > WIRE_XATTR_NAME_MAX || memchr(key + KEY_TAIL, '\0', name_len) ||
	    len < 1 || len - 1 > WIRE_XATTR_SIZE_MAX || value[0] != RECORD_VERSION)
		bad(s, f, "an extended attribute of it can't be read");
}

static void take_lock(Scan *s, Found *f, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	WireLockKind kind;
	LockRange range;

	if (!lock_record_decode(key, key_len, value, len, &kind, &range))
		bad(s, f, "the record of a lock on it can't be read");
}

/* ---- what they say together ---- */

static bool has_intent(const Found *f, RecordIntentKind kind)
{
	for (size_t i = 0; i < G_N_ELEMENTS(intent_kinds); i++)
		if (intent_kinds[i].kind == kind)
			return f->intents >> i & 1;
	return false;
}

static void check_dir(Scan *s, const Found *f)
{
	const WireAttr *a = &f->d.attr;

	if (a->size != f->names)
		bad(s, f, "it counts %" PRIu64 " names and has %" PRIu64, a->size, f->names);
	if (a->nlink > 0 && a->nlink != f->subdirs + 2)
		bad(s, f, "its link count is %u, and with %" PRIu64 " directories in it should be %" PRIu64,
		    a->nlink, f->subdirs, f->subdirs + 2);
	if (a->nlink == 0 && f->names > 0)
		bad(s, f, "it is unlinked and has %" PRIu64 " names in it", f->names);
	if (!ino_valid(f->d.parent))
		bad(s, f, "its parent is %#" PRIx64 ", which is no inode number", f->d.parent);
	else if ((f->ino == INO_ROOT) != (f->d.parent == f->ino))
		bad(s, f, "its parent is %#" PRIx64, f->d.parent);
	if (f->ino == INO_ROOT && a->nlink == 0)
		bad(s, f, "the root is unlinked");
}

static void check_not_dir(Scan *s, const Found *f)
{
	if (f->names > 0)
		bad(s, f, "it is no directory and has %" PRIu64 " names in it", f->names);
	if (f->d.symlink && strlen(f->d.symlink) != f->d.attr.size)
		bad(s, f, "it is a symbolic link of %zu bytes and its size is %" PRIu64, strlen(f->d.symlink), f->d.attr.size);
}

static void check_blocks(Scan *s, const Found *f)
{
	uint64_t sum = 0;

	for (guint i = 0; i < f->targets->len; i++) {
		const FsckTarget *t = &g_array_index(f->targets, FsckTarget, i);

		sum += t->blocks;
		if (t->target >= s->src->peers)
			bad(s, f, "its record has blocks on peer %u, which there is not", t->target);
		else if (t->end == 0)
			bad(s, f, "its record has blocks on peer %u, and none of its chunks is there", t->target);
		for (guint k = 0; k < i; k++)
			if (g_array_index(f->targets, FsckTarget, k).target == t->target)
				bad(s, f, "its record has peer %u twice", t->target);
	}
	if (!(f->d.flags & INODE_INLINE) && sum != f->d.attr.blocks)
		bad(s, f, "it counts %" PRIu64 " blocks, and its objects have %" PRIu64, f->d.attr.blocks, sum);
}

/* A file that is to move out of its inline record has both for a moment. */
static void check_file(Scan *s, const Found *f)
{
	bool is_inline = f->d.flags & INODE_INLINE;

	if (f->has_inline && !is_inline)
		bad(s, f, "its data is in objects, and it has inline data");
	if (f->has_inline && is_inline && f->inline_len > f->d.attr.size)
		bad(s, f, "it has %" PRIu64 " bytes of inline data, and its size is %" PRIu64, f->inline_len, f->d.attr.size);
	if (has_intent(f, INTENT_TRUNCATE) && f->d.n_blocks == 0)
		bad(s, f, "there is an intent to truncate it, and it has no objects");
	check_blocks(s, f);
}

static void check_not_file(Scan *s, const Found *f)
{
	if (f->has_inline || (f->d.flags & INODE_INLINE))
		bad(s, f, "it is no file and has inline data");
	if (f->runs > 0 || f->d.n_blocks > 0)
		bad(s, f, "it is no file and has chunks");
	if (has_intent(f, INTENT_TRUNCATE))
		bad(s, f, "it is no file and there is an intent to truncate it");
}

static void check_orphan(Scan *s, const Found *f)
{
	bool unlinked = f->d.attr.nlink == 0;

	if (f->has_orphan != unlinked)
		bad(s, f, unlinked ? "its link count is 0, and it has no record as an orphan: it stays for ever"
				   : "it has links and a record as an orphan");
	if (!!(f->d.flags & INODE_ORPHAN) != f->has_orphan)
		bad(s, f, f->has_orphan ? "it has a record as an orphan and is not marked as one"
					: "it is marked as an orphan and has no record as one");
}

/* Whom the home would ask, whenever anybody wants to know the size. */
static void check_holder(Scan *s, const Found *f)
{
	uint16_t holder = exclusive_holder(&f->d);

	if (!(f->d.flags & INODE_EXCLUSIVE))
		return;
	if (!S_ISREG(f->d.attr.mode))
		bad(s, f, "it is no file, and peer %u has an exclusive lease of it", holder);
	else if (holder >= s->src->peers)
		bad(s, f, "peer %u has an exclusive lease of it, and there is no such peer", holder);
	else if (holder == s->src->self)
		bad(s, f, "peer %u, its home, has an exclusive lease of it", holder);
}

static void check_inode(Scan *s, const Found *f)
{
	uint32_t mode = f->d.attr.mode;

	switch (mode & S_IFMT) {
	case S_IFREG: case S_IFDIR: case S_IFLNK: case S_IFCHR: case S_IFBLK: case S_IFIFO: case S_IFSOCK:
		break;
	default:
		bad(s, f, "its mode is %#o, which is of no type of file", mode);
		return;
	}
	if (S_ISDIR(mode))
		check_dir(s, f);
	else
		check_not_dir(s, f);
	if (S_ISREG(mode))
		check_file(s, f);
	else
		check_not_file(s, f);
	check_holder(s, f);
	check_orphan(s, f);
	/* the mark alone may outlive the last attribute */
	if (f->xattrs > 0 && !(f->d.attr.flags & WIRE_ATTR_HAS_XATTRS))
		bad(s, f, "it has %" PRIu64 " extended attributes and is not marked, so they are not seen", f->xattrs);
}

static void tell_inode(Scan *s, const Found *f)
{
	const WireAttr *a = &f->d.attr;
	FsckFact fact = { .kind = FSCK_INODE, .ino = f->ino };
	guint n = MIN(f->targets->len, SCAN_SLACK / 2 / sizeof(FsckTarget));

	if (f->readable) {
		fact.dir = S_ISDIR(a->mode) ? f->d.parent : 0;
		fact.ctime_ns = a->ctime_ns;
		fact.mtime_ns = a->mtime_ns;
		if (f->d.flags & INODE_EXCLUSIVE)
			fact.flags |= FSCK_EXCLUSIVE | (uint32_t)exclusive_holder(&f->d) << 16;
		fact.mode = a->mode;
		fact.nlink = a->nlink;
		scan_add(s, fact, f->targets->data, S_ISREG(a->mode) ? n * sizeof(FsckTarget) : 0);
	} else {
		fact.flags |= FSCK_UNREADABLE;
		scan_add(s, fact, NULL, 0);
	}
}

/* ---- going over them ---- */

typedef struct Cursor {
	rocksdb_iterator_t *it;
	const uint8_t *key;
	size_t key_len;
	uint64_t ino; /* of the key */
	bool valid;   /* there is a record of this type in this slot */
} Cursor;

static bool key_is_of(const uint8_t *key, size_t len, uint32_t slot, RecordType type)
{
	return len >= 3 && key[0] == slot >> 8 && key[1] == (slot & 0xff) && key[2] == type;
}

/* Where the iterator is now. Keys that are too short to have an inode count as
 * of inode 0. */
static void look(Cursor *c, uint32_t slot, RecordType type)
{
	c->valid = false;
	if (!rocksdb_iter_valid(c->it))
		return;
	c->key = (const uint8_t *)rocksdb_iter_key(c->it, &c->key_len);
	c->valid = key_is_of(c->key, c->key_len, slot, type);
	c->ino = c->key_len >= KEY_TAIL ? key_get_num(c->key, c->key_len, 3) : 0;
}

static void seek(Cursor *c, uint32_t slot, RecordType type, uint64_t ino)
{
	uint8_t key[KEY_TAIL] = { (uint8_t)(slot >> 8), (uint8_t)slot, (uint8_t)type };
	uint64_t be = GUINT64_TO_BE(ino);

	memcpy(key + 3, &be, sizeof(be));
	/* with 0 the shortest keys come too */
	rocksdb_iter_seek(c->it, (const char *)key, ino > 0 ? sizeof(key) : 3);
	look(c, slot, type);
}

/* All of one inode's records of one type. */
static uint64_t take_all(Scan *s, Found *f, Cursor *c, size_t t)
{
	uint64_t n = 0;

	for (; c->valid && c->ino == f->ino; n++) {
		size_t len;
		const uint8_t *value = (const uint8_t *)rocksdb_iter_value(c->it, &len);

		if (c->key_len >= KEY_TAIL && !f->lost)
			types[t].take(s, f, c->key, c->key_len, len > 0 ? value : (const uint8_t *)"", len);
		rocksdb_iter_next(c->it);
		look(c, f->slot, types[t].type);
	}
	return n;
}

/* A lock that was asked for while its inode went goes when the peer next starts,
 * or before. */
static bool may_outlive(RecordType type)
{
	return type == RECORD_LOCK;
}

static void take_records(Scan *s, Found *f, Cursor *cursors)
{
	uint64_t count[TYPES], others = 0;
	size_t other = 0;

	s->problems = 0;
	f->lost = !ino_valid(f->ino) || ino_slot(f->ino) != f->slot;
	for (size_t t = 0; t < TYPES; t++) {
		count[t] = take_all(s, f, &cursors[t], t);
		if (t > 0 && count[t] > 0 && (f->lost || !may_outlive(types[t].type))) {
			other = t;
			others += count[t];
		}
	}
	if (f->lost) {
		bad(s, f, "%" PRIu64 " record%s of it in slot %u, which is not its own", count[0] + others,
		    count[0] + others == 1 ? " is" : "s are", f->slot);
		return;
	}
	if (f->slot % s->src->peers != s->src->self)
		bad(s, f, "its home is peer %u, and it is in the store of peer %u", f->slot % s->src->peers, s->src->self);
	if (!f->has_inode && others > 0)
		bad(s, f, "there is no such inode, but %" PRIu64 " other record%s of it (%s)", others, others == 1 ? "" : "s", types[other].name);
	if (f->readable)
		check_inode(s, f);
	if (f->has_inode)
		tell_inode(s, f);
}

static void scan_inode(Scan *s, uint32_t slot, uint64_t ino, Cursor *cursors)
{
	Found f = { .ino = ino, .slot = slot, .targets = g_array_new(FALSE, FALSE, sizeof(FsckTarget)) };

	take_records(s, &f, cursors);
	inode_data_clear(&f.d);
	g_array_free(f.targets, TRUE);
}

/* false: the piece is full. */
static bool scan_slot(Scan *s, uint32_t slot, uint64_t from, Cursor *cursors)
{
	for (size_t t = 0; t < TYPES; t++)
		seek(&cursors[t], slot, types[t].type, from);
	for (;;) {
		uint64_t ino = UINT64_MAX;
		bool some = false;

		for (size_t t = 0; t < TYPES; t++) {
			if (!cursors[t].valid)
				continue;
			ino = MIN(ino, cursors[t].ino);
			some = true;
		}
		if (!some)
			return true;
		if (scan_is_full(s)) {
			*s->place = (WireFsckPlace) { .stage = FSCK_STAGE_INODES, .a = slot, .b = ino };
			return false;
		}
		scan_inode(s, slot, ino, cursors);
	}
}

static bool type_is_known(uint8_t type)
{
	for (size_t t = 0; t < TYPES; t++)
		if (types[t].type == type)
			return true;
	return false;
}

/* Jumps from type to type over what is known. A slot of nothing costs nothing. */
static void tell_unknown(Scan *s, uint32_t slot, Cursor *c)
{
	const uint8_t first[2] = { (uint8_t)(slot >> 8), (uint8_t)slot };

	s->problems = 0;
	rocksdb_iter_seek(c->it, (const char *)first, sizeof(first));
	for (look(c, slot, 0); rocksdb_iter_valid(c->it); look(c, slot, 0)) {
		if (c->key_len < 2 || c->key[0] != slot >> 8 || c->key[1] != (slot & 0xff))
			return;
		uint8_t type = c->key_len > 2 ? c->key[2] : 0;
		bool known = type_is_known(type);

		if (!known)
			scan_problem(s, 0, 0, "records of an unknown type %#x are in slot %u", type, slot);
		if (c->key_len < 3)
			rocksdb_iter_next(c->it);
		else if (type == UINT8_MAX)
			return;
		else
			seek(c, slot, (RecordType)(type + 1), 0);
	}
}

/* The first slot from `slot` on that has anything; SLOT_COUNT: none. */
static uint32_t next_slot(Scan *s, uint32_t slot, Cursor *c)
{
	const uint8_t key[2] = { (uint8_t)(slot >> 8), (uint8_t)slot };
	size_t len;

	s->problems = 0;
	for (rocksdb_iter_seek(c->it, (const char *)key, sizeof(key)); rocksdb_iter_valid(c->it); rocksdb_iter_next(c->it)) {
		const uint8_t *found = (const uint8_t *)rocksdb_iter_key(c->it, &len);

		if (len >= 2)
			return (uint32_t)(found[0] << 8 | found[1]);
		scan_problem(s, 0, 0, "there is a record in no slot");
	}
	return SLOT_COUNT;
}

void scan_inodes(Scan *s)
{
	Cursor cursors[TYPES], lead = { .it = scan_iterator(s) };
	uint64_t from = s->place->b;
	bool done = true;

	for (size_t t = 0; t < TYPES; t++)
		cursors[t] = (Cursor) { .it = scan_iterator(s) };
	for (uint64_t slot = s->place->a; done && slot < SLOT_COUNT; slot++, from = 0) {
		uint32_t there = next_slot(s, (uint32_t)slot, &lead);

		if (there >= SLOT_COUNT)
			break;
		if (scan_is_full(s)) {
			*s->place = (WireFsckPlace) { .stage = FSCK_STAGE_INODES, .a = slot, .b = from };
			done = false;
			break;
		}
		from = there == slot ? from : 0;
		slot = there;
		if (from == 0)
			tell_unknown(s, there, &lead);
		done = scan_slot(s, there, from, cursors);
	}
	for (size_t t = 0; t < TYPES; t++)
		scan_iterator_end(s, cursors[t].it);
	scan_iterator_end(s, lead.it);
	if (done)
		*s->place = (WireFsckPlace) { .stage = FSCK_STAGE_NAMES };
}
