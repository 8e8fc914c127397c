/* The stages of a scan: what belongs to the store as such, names, objects, what
 * its mount holds back. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/autoclose.h"
#include "common/heldback.h"
#include "server/entry.h"
#include "server/fsck-internal.h"
#include "server/inode.h"
#include "server/sessions.h"
#include "server/txn.h"

#define SUBDIRS 256u
#define OBJECT_NAME_LEN 16

/* ---- facts. Names in them are as they are: the judge escapes ---- */

rocksdb_iterator_t *scan_iterator(Scan *s)
{
	return rocksdb_create_iterator(s->src->db, s->options);
}

void scan_iterator_end(Scan *s, rocksdb_iterator_t *it)
{
	char *err = NULL;

	rocksdb_iter_get_error(it, &err);
	if (err && !s->error)
		s->error = g_strdup(err);
	if (err)
		rocksdb_free(err);
	rocksdb_iter_destroy(it);
}

bool scan_is_full(const Scan *s)
{
	return s->out->len + SCAN_SLACK > s->limit;
}

void scan_add(Scan *s, FsckFact fact, const void *tail, size_t tail_len)
{
	static const uint8_t zeros[8];

	fact.tail_len = (uint16_t)tail_len;
	g_byte_array_append(s->out, (const guint8 *)&fact, sizeof(fact));
	if (tail_len > 0)
		g_byte_array_append(s->out, tail, (guint)tail_len);
	g_byte_array_append(s->out, zeros, (guint)(-tail_len & 7));
}

void scan_problem(Scan *s, uint64_t ino, int64_t ctime_ns, const char *format, ...)
{
	char text[256];
	va_list ap;

	if (s->problems++ >= SCAN_PROBLEMS_MAX)
		return;
	va_start(ap, format);
	int n = s->problems == SCAN_PROBLEMS_MAX ? g_snprintf(text, sizeof(text), "more than %u things are wrong with it", SCAN_PROBLEMS_MAX - 1)
						  : g_vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	scan_add(s, (FsckFact) { .kind = FSCK_PROBLEM, .ino = ino, .ctime_ns = ctime_ns }, text, MIN((size_t)n, sizeof(text) - 1));
}

/* ---- STORE: the numbers, and what has no place in any slot ---- */

typedef struct Numbers {
	uint64_t next, inodes; /* recorded */
	bool next_known, inodes_known;
	bool running; /* a process has the store open, or was killed */
	uint64_t found, highest; /* counted: inodes, and the highest sequence number */
} Numbers;

static bool number_decode(const uint8_t *value, size_t len, uint64_t *ret_value)
{
	NumberRecord rec;

	if (len != sizeof(rec))
		return false;
	memcpy(&rec, value, sizeof(rec));
	*ret_value = rec.value;
	return rec.version == RECORD_VERSION;
}

static void take_number(Scan *s, Numbers *n, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	Key next = key_slot_name(STORE_SLOT, RECORD_SEQUENCE, NUMBER_NEXT_INODE);
	Key inodes = key_slot_name(STORE_SLOT, RECORD_SEQUENCE, NUMBER_INODES);
	Key running = key_slot_name(STORE_SLOT, RECORD_SEQUENCE, RUNNING);

	if (key_len == next.len && memcmp(key, next.data, key_len) == 0) {
		n->next_known = number_decode(value, len, &n->next);
		if (!n->next_known)
			scan_problem(s, 0, 0, "the counter of inode numbers can't be read");
	} else if (key_len == inodes.len && memcmp(key, inodes.data, key_len) == 0) {
		n->inodes_known = number_decode(value, len, &n->inodes);
		if (!n->inodes_known)
			scan_problem(s, 0, 0, "the count of inodes can't be read");
	} else if (key_len != running.len || memcmp(key, running.data, key_len) != 0) {
		scan_problem(s, 0, 0, "an unknown record of type %#x is behind the last slot", key_len > 2 ? key[2] : 0);
	}
}

/* Every inode that it is about, wherever that lives. */
static void tell_unsettled(Scan *s, const TxnRecord *rec)
{
	uint64_t inos[WIRE_STEPS_MAX * 3];
	uint32_t n = 0;

	for (uint32_t i = 0; i < rec->n; i++) {
		WireStep step;

		memcpy(&step, (const uint8_t *)rec->data + i * sizeof(step), sizeof(step));
		const uint64_t of[] = { step.ino, step.old_ino, step.new_ino };
		for (size_t k = 0; k < G_N_ELEMENTS(of); k++)
			if (of[k] != 0)
				inos[n++] = of[k];
	}
	if (!scan_is_full(s))
		scan_add(s, (FsckFact) { .kind = FSCK_UNSETTLED }, inos, n * sizeof(inos[0]));
}

static bool is_there(Scan *s, uint64_t ino)
{
	Key key = key_ino(ino, RECORD_INODE);
	char *err = NULL;
	size_t len;
	char *value = rocksdb_get(s->src->db, s->options, (const char *)key.data, key.len, &len, &err);
	bool there = value || err;

	if (err && !s->error)
		s->error = g_strdup(err);
	rocksdb_free(err);
	rocksdb_free(value);
	return there;
}

/* What is held for a change stays until it is settled; whether it can be read
 * is told with the inodes. One that loses a name may be lost. */
static void check_changed(Scan *s, const TxnRecord *rec)
{
	uint32_t of_store = s->problems;

	s->problems = 0;
	for (uint32_t i = 0; i < rec->n && !scan_is_full(s); i++) {
		WireStep step;

		memcpy(&step, (const uint8_t *)rec->data + i * sizeof(step), sizeof(step));
		if (step.kind != WIRE_STEP_MAKE && step.kind != WIRE_STEP_DROP && !is_there(s, step.ino))
			scan_problem(s, step.ino, 0, "there is no such inode, and unfinished change %016" PRIx64 ".%" PRIu64 " is about it",
				     rec->id.session, rec->id.number);
	}
	s->problems = of_store;
}

/* A process that runs settles it, and so does the one that follows a killed one;
 * one that was stopped should have left none. */
static void take_prepared(Scan *s, bool stopped, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	TxnRecord rec;

	if (!txn_record_get(key, key_len, value, len, &rec) || rec.n == 0 || rec.n > WIRE_STEPS_MAX || rec.len < rec.n * sizeof(WireStep)) {
		scan_problem(s, 0, 0, "the record of a change that spans peers can't be read");
		return;
	}
	tell_unsettled(s, &rec);
	check_changed(s, &rec);
	if (stopped)
		scan_problem(s, 0, rec.age_ns, "it is not in use, and a change that peer %u coordinates is unfinished in it: %016" PRIx64 ".%" PRIu64,
			     rec.peer, rec.id.session, rec.id.number);
}

/* It stays until all that took part have said that they have done it. */
static void take_decision(Scan *s, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	TxnRecord rec;

	if (!txn_record_get(key, key_len, value, len, &rec) || rec.n == 0 || rec.len != rec.n * sizeof(uint16_t))
		scan_problem(s, 0, 0, "the decision of a change that spans peers can't be read");
}

static void take_session(Scan *s, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	uint64_t session;
	uint16_t peer;

	if (!session_record_decode(key, key_len, value, len, &session, &peer))
		scan_problem(s, 0, 0, "the record of a session can't be read");
}

static void take_of_store(Scan *s, Numbers *n, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	Key prepared = key_slot(STORE_SLOT, RECORD_PREPARED), decision = key_slot(STORE_SLOT, RECORD_DECISION);
	Key session = key_slot(STORE_SLOT, RECORD_SESSION);

	if (key_len >= prepared.len && memcmp(key, prepared.data, prepared.len) == 0)
		take_prepared(s, !n->running, key, key_len, value, len);
	else if (key_len >= decision.len && memcmp(key, decision.data, decision.len) == 0)
		take_decision(s, key, key_len, value, len);
	else if (key_len >= session.len && memcmp(key, session.data, session.len) == 0)
		take_session(s, key, key_len, value, len);
	else
		take_number(s, n, key, key_len, value, len);
}

static void count_inodes(Scan *s, rocksdb_iterator_t *it, Numbers *n)
{
	for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
		Key from = key_slot((uint16_t)slot, RECORD_INODE);

		for (rocksdb_iter_seek(it, (const char *)from.data, from.len); rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
			size_t len;
			const uint8_t *key = (const uint8_t *)rocksdb_iter_key(it, &len);

			if (len < from.len || memcmp(key, from.data, from.len) != 0) {
				/* on to the next slot that has anything */
				uint32_t there = len >= 2 ? (uint32_t)(key[0] << 8 | key[1]) : 0;

				slot = there > slot + 1 ? there - 1 : slot;
				break;
			}
			n->found++;
			n->highest = MAX(n->highest, ino_seq(key_get_num(key, len, from.len)));
		}
		if (!rocksdb_iter_valid(it))
			return;
	}
}

/* What is there and never was written counts as a new store's. */
static void judge_numbers(Scan *s, const Numbers *n)
{
	uint64_t next = n->next_known ? n->next : NUMBER_FIRST_INODE;

	if (next < NUMBER_FIRST_INODE || next > INO_SEQ_MASK)
		scan_problem(s, 0, 0, "the counter of inode numbers makes no sense: %" PRIu64, next);
	else if (n->highest >= next)
		scan_problem(s, 0, 0, "the counter of inode numbers is at %" PRIu64 ", and %" PRIu64 " is in use", next, n->highest);
	if (n->inodes_known || n->found > 0) {
		if (!n->inodes_known)
			scan_problem(s, 0, 0, "there is no count of inodes, and there are %" PRIu64, n->found);
		else if (n->inodes != n->found)
			scan_problem(s, 0, 0, "the count of inodes says %" PRIu64 ", and there are %" PRIu64, n->inodes, n->found);
	}
}

static bool is_running(rocksdb_iterator_t *it)
{
	Key key = key_slot_name(STORE_SLOT, RECORD_SEQUENCE, RUNNING);
	size_t len;

	rocksdb_iter_seek(it, (const char *)key.data, key.len);
	if (!rocksdb_iter_valid(it))
		return false;
	const char *found = rocksdb_iter_key(it, &len);
	return len == key.len && memcmp(found, key.data, len) == 0;
}

static void scan_store(Scan *s)
{
	rocksdb_iterator_t *it = scan_iterator(s);
	Numbers n = { .running = is_running(it) };
	const uint8_t end[2] = { SLOT_COUNT >> 8, SLOT_COUNT & 0xff };

	for (rocksdb_iter_seek(it, (const char *)end, 2); rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
		size_t key_len, len;
		const uint8_t *key = (const uint8_t *)rocksdb_iter_key(it, &key_len);
		const uint8_t *value = (const uint8_t *)rocksdb_iter_value(it, &len);

		take_of_store(s, &n, key, key_len, value, len);
	}
	count_inodes(s, it, &n);
	judge_numbers(s, &n);
	scan_iterator_end(s, it);
	*s->place = (WireFsckPlace) { .stage = FSCK_STAGE_INODES };
}

/* ---- NAMES ---- */

bool scan_name_is_sound(const uint8_t *key, size_t key_len)
{
	const size_t at = KEY_TAIL + sizeof(uint64_t);

	if (key_len <= at || key_len - at > WIRE_NAME_MAX)
		return false;
	const char *name = (const char *)key + at;
	size_t len = key_len - at;

	if (memchr(name, '/', len) || memchr(name, '\0', len))
		return false;
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return false;
	return name_hash(name, len) == key_get_num(key, key_len, KEY_TAIL);
}

/* Adds a name and moves the place behind it; what is no name the INODES stage
 * has told. */
static void take_name(Scan *s, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	const size_t at = KEY_TAIL + sizeof(uint64_t);
	uint64_t dir = key_get_num(key, key_len, KEY_TAIL - 8), hash = key_get_num(key, key_len, KEY_TAIL);
	FsckFact fact = { .kind = FSCK_NAME, .dir = dir };

	if (!scan_name_is_sound(key, key_len) || !entry_decode(value, len, &fact.ino, &fact.mode))
		return;
	scan_add(s, fact, key + at, key_len - at);
	if (s->place->a == dir && s->place->b == hash)
		s->place->skip++;
	else
		*s->place = (WireFsckPlace) { .stage = FSCK_STAGE_NAMES, .a = dir, .b = hash, .skip = 1 };
}

static bool has_slot_and_type(const uint8_t *key, size_t len, uint32_t slot, RecordType type)
{
	return len >= 3 && key[0] == slot >> 8 && key[1] == (slot & 0xff) && key[2] == type;
}

/* The names of a slot from where the iterator is; false: the piece is full. */
static bool scan_names_of_slot(Scan *s, rocksdb_iterator_t *it, uint32_t slot, uint32_t skip)
{
	for (; rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
		size_t key_len, len;
		const uint8_t *key = (const uint8_t *)rocksdb_iter_key(it, &key_len);
		const uint8_t *value = (const uint8_t *)rocksdb_iter_value(it, &len);

		if (!has_slot_and_type(key, key_len, slot, RECORD_DIRENT))
			return true;
		/* in another slot than its directory's nobody finds it */
		if (key_len < KEY_TAIL || ino_slot(key_get_num(key, key_len, 3)) != slot || !scan_name_is_sound(key, key_len))
			continue;
		if (skip > 0 && key_get_num(key, key_len, 3) == s->place->a && key_get_num(key, key_len, KEY_TAIL) == s->place->b) {
			skip--;
			continue;
		}
		if (scan_is_full(s))
			return false;
		take_name(s, key, key_len, value, len);
	}
	return true;
}

static void scan_names(Scan *s)
{
	rocksdb_iterator_t *it = scan_iterator(s);
	uint32_t slot = ino_slot(s->place->a);
	Key from = key_ino_num(s->place->a, RECORD_DIRENT, s->place->b);
	uint32_t skip = s->place->skip;
	bool done = true;

	while (slot < SLOT_COUNT) {
		rocksdb_iter_seek(it, (const char *)from.data, from.len);
		done = scan_names_of_slot(s, it, slot, skip);
		if (!done || !rocksdb_iter_valid(it))
			break;
		size_t len;
		const uint8_t *key = (const uint8_t *)rocksdb_iter_key(it, &len);
		uint32_t there = len >= 2 ? (uint32_t)(key[0] << 8 | key[1]) : 0;

		slot = MAX(slot + 1, there);
		skip = 0;
		if (slot < SLOT_COUNT)
			from = key_slot((uint16_t)slot, RECORD_DIRENT);
	}
	scan_iterator_end(s, it);
	if (done)
		*s->place = (WireFsckPlace) { .stage = FSCK_STAGE_OBJECTS };
}

/* ---- OBJECTS ---- */

typedef struct Found {
	uint64_t ino;
	uint64_t length;
} Found;

static int compare_found(const void *a, const void *b)
{
	uint64_t x = ((const Found *)a)->ino, y = ((const Found *)b)->ino;

	return (x > y) - (x < y);
}

static bool parse_object_name(const char *name, uint32_t sub, uint64_t *ret_ino)
{
	if (strlen(name) != OBJECT_NAME_LEN || strspn(name, "0123456789abcdef") != OBJECT_NAME_LEN)
		return false;
	*ret_ino = g_ascii_strtoull(name, NULL, 16);
	return ino_valid(*ret_ino) && *ret_ino % SUBDIRS == sub;
}

/* One that went away between listing and looking is none. */
static void take_file(Scan *s, int fd, uint32_t sub, const char *name, uint64_t after, GArray *found)
{
	struct stat st;
	Found f;
	bool is_object = parse_object_name(name, sub, &f.ino);

	if ((is_object && f.ino <= after) || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (is_object && S_ISREG(st.st_mode)) {
		f.length = (uint64_t)st.st_size;
		g_array_append_val(found, f);
	} else if (after == 0) {
		scan_problem(s, 0, 0, "objects/%02x/%.64s is no object", sub, name);
	}
}

static void list_sub(Scan *s, int objects, uint32_t sub, uint64_t after, GArray *found)
{
	char path[4];
	DIR *dir = NULL;

	snprintf(path, sizeof(path), "%02x", sub);
	int fd = openat(objects, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return;
	if (fd < 0 || !(dir = fdopendir(fd))) {
		scan_problem(s, 0, 0, "objects/%s can't be listed: %s", path, g_strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(dir));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			take_file(s, fd, sub, e->d_name, after, found);
	closedir(dir);
	g_array_sort(found, compare_found);
}

/* Only the subdirectories are looked into: what else is there hides from all. */
static void check_top(Scan *s, int objects)
{
	int fd = openat(objects, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

	if (!dir) {
		scan_problem(s, 0, 0, "objects can't be listed: %s", g_strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(dir));)
		if (e->d_name[0] != '.' && (strlen(e->d_name) != 2 || strspn(e->d_name, "0123456789abcdef") != 2))
			scan_problem(s, 0, 0, "objects/%.64s is no directory of objects", e->d_name);
	closedir(dir);
}

static void scan_objects(Scan *s)
{
	autoclose int objects = openat(s->src->storefd, "objects", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	uint64_t after = s->place->b;

	if (objects < 0 && errno != ENOENT)
		scan_problem(s, 0, 0, "objects can't be opened: %s", g_strerror(errno));
	if (objects >= 0 && s->place->a == 0 && after == 0)
		check_top(s, objects);
	for (uint64_t sub = s->place->a; objects >= 0 && sub < SUBDIRS; sub++, after = 0) {
		g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(Found));

		if (scan_is_full(s)) {
			*s->place = (WireFsckPlace) { .stage = FSCK_STAGE_OBJECTS, .a = sub, .b = after };
			return;
		}
		s->problems = 0;
		list_sub(s, objects, (uint32_t)sub, after, found);
		for (guint i = 0; i < found->len; i++) {
			const Found *f = &g_array_index(found, Found, i);

			if (scan_is_full(s)) {
				*s->place = (WireFsckPlace) { .stage = FSCK_STAGE_OBJECTS, .a = sub, .b = i > 0 ? f[-1].ino : after };
				return;
			}
			scan_add(s, (FsckFact) { .kind = FSCK_OBJECT, .ino = f->ino, .length = f->length }, NULL, 0);
		}
	}
	*s->place = (WireFsckPlace) { .stage = FSCK_STAGE_HELD };
}

/* ---- HELD ---- */

static void take_held(Scan *s, uint32_t slot, const WireHeldBack *held)
{
	s->problems = 0;
	if (heldback_valid(held, held->ino, s->src->peers))
		scan_add(s, (FsckFact) { .kind = FSCK_HELD, .ino = held->ino }, held, sizeof(*held));
	else
		scan_problem(s, 0, held->mtime_ns, "what is held back in slot %u of held-back makes no sense: inode %#" PRIx64, slot, held->ino);
}

static void scan_held(Scan *s)
{
	g_autofree WireHeldBack *slots = NULL;
	int r = heldback_read(s->src->storefd, &slots);

	if (r == -EINVAL)
		scan_problem(s, 0, 0, "held-back is no file of sizes held back, or of another version");
	else if (r < 0)
		scan_problem(s, 0, 0, "held-back can't be read: %s", g_strerror(-r));
	for (uint64_t i = s->place->a; slots && i < HELDBACK_SLOTS; i++) {
		if (slots[i].ino == 0)
			continue;
		if (scan_is_full(s)) {
			*s->place = (WireFsckPlace) { .stage = FSCK_STAGE_HELD, .a = i };
			return;
		}
		take_held(s, (uint32_t)i, &slots[i]);
	}
	*s->place = (WireFsckPlace) { .stage = FSCK_STAGE_END };
}

/* ---- all of it ---- */

bool fsck_place_is_behind(const WireFsckPlace *a, const WireFsckPlace *b)
{
	if (a->stage != b->stage)
		return a->stage > b->stage;
	if (a->a != b->a)
		return a->a > b->a;
	return a->b != b->b ? a->b > b->b : a->skip > b->skip;
}

int fsck_scan(const FsckSource *src, WireFsckPlace *place, GByteArray *out, size_t limit, char **ret_why)
{
	static void (*const stages[])(Scan *s) = {
		[FSCK_STAGE_STORE] = scan_store, [FSCK_STAGE_INODES] = scan_inodes,
		[FSCK_STAGE_NAMES] = scan_names, [FSCK_STAGE_OBJECTS] = scan_objects,
		[FSCK_STAGE_HELD] = scan_held,
	};
	Scan s = { .src = src, .place = place, .out = out, .limit = out->len + limit };

	g_assert(limit >= FSCK_PIECE / 2);
	if (place->stage >= G_N_ELEMENTS(stages))
		return -EINVAL;
	s.snapshot = rocksdb_create_snapshot(src->db);
	s.options = rocksdb_readoptions_create();
	rocksdb_readoptions_set_snapshot(s.options, s.snapshot);
	rocksdb_readoptions_set_fill_cache(s.options, 0);
	stages[place->stage](&s);
	rocksdb_readoptions_destroy(s.options);
	rocksdb_release_snapshot(src->db, s.snapshot);
	if (!s.error)
		return 0;
	*ret_why = s.error;
	return -EIO;
}
