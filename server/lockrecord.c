#include "server/lockrecord.h"

#include <fcntl.h>
#include <string.h>

#include "server/record.h"

typedef struct LockRecord {
	uint8_t version, type;
	uint16_t peer;
	uint32_t pid;
	uint64_t end;
} LockRecord;
static_assert(sizeof(LockRecord) == 16, "packed by hand");

/* Behind the inode's number, big-endian. */
typedef struct __attribute__((packed)) LockTail {
	uint64_t session;
	uint8_t kind;
	uint64_t owner, start;
} LockTail;

static Key record_key(uint64_t ino, WireLockKind kind, const LockRange *range)
{
	LockTail tail = {
		.session = GUINT64_TO_BE(range->session), .kind = (uint8_t)kind,
		.owner = GUINT64_TO_BE(range->owner), .start = GUINT64_TO_BE(range->start),
	};

	return key_ino_bytes(ino, RECORD_LOCK, &tail, sizeof(tail));
}

void lock_record_put(MetaBatch *b, uint64_t ino, WireLockKind kind, const LockRange *range)
{
	Key key = record_key(ino, kind, range);
	LockRecord rec = {
		.version = RECORD_VERSION, .type = (uint8_t)range->type, .peer = range->peer, .pid = range->pid, .end = range->end,
	};

	meta_batch_put(b, key.data, key.len, &rec, sizeof(rec));
}

static void record_delete(MetaBatch *b, uint64_t ino, WireLockKind kind, const LockRange *range)
{
	Key key = record_key(ino, kind, range);

	meta_batch_delete(b, key.data, key.len);
}

static const LockRange *find_start(const LockSet *s, uint64_t start)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (s->v[i].start == start)
			return &s->v[i];
	return NULL;
}

static bool is_same(const LockRange *a, const LockRange *b)
{
	return a && a->end == b->end && a->type == b->type && a->pid == b->pid;
}

bool lock_records_change(MetaBatch *b, uint64_t ino, WireLockKind kind, const LockSet *set, const LockRange *range)
{
	g_auto(LockSet) before = lockset_touched(set, range), after = lockset_touched(set, range);
	bool any = false;

	lockset_apply(&after, range);
	for (uint32_t i = 0; i < before.n; i++) {
		if (find_start(&after, before.v[i].start))
			continue;
		record_delete(b, ino, kind, &before.v[i]);
		any = true;
	}
	for (uint32_t i = 0; i < after.n; i++) {
		if (is_same(find_start(&before, after.v[i].start), &after.v[i]))
			continue;
		lock_record_put(b, ino, kind, &after.v[i]);
		any = true;
	}
	return any;
}

void lock_records_delete_session(MetaBatch *b, uint64_t ino, uint64_t session)
{
	Key key = key_ino_num(ino, RECORD_LOCK, session);

	meta_batch_delete_prefix(b, key.data, key.len);
}

void lock_records_delete_all(MetaBatch *b, uint64_t ino)
{
	Key key = key_ino(ino, RECORD_LOCK);

	meta_batch_delete_prefix(b, key.data, key.len);
}

bool lock_record_decode(const uint8_t *key, size_t key_len, const uint8_t *value, size_t len, WireLockKind *ret_kind, LockRange *ret_range)
{
	LockRecord rec;
	LockTail tail;

	if (key_len != KEY_TAIL + sizeof(tail) || len != sizeof(rec))
		return false;
	memcpy(&tail, key + KEY_TAIL, sizeof(tail));
	memcpy(&rec, value, sizeof(rec));
	*ret_range = (LockRange) {
		.session = GUINT64_FROM_BE(tail.session), .owner = GUINT64_FROM_BE(tail.owner),
		.start = GUINT64_FROM_BE(tail.start), .end = rec.end,
		.type = rec.type, .pid = rec.pid, .peer = rec.peer,
	};
	*ret_kind = (WireLockKind)tail.kind;
	return rec.version == RECORD_VERSION && tail.kind < WIRE_LOCK_KINDS && ret_range->session != 0 &&
		(rec.type == F_RDLCK || rec.type == F_WRLCK) && ret_range->start <= ret_range->end;
}
