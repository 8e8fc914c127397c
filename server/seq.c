#define G_LOG_DOMAIN "server"
#include "server/seq.h"

#include <errno.h>
#include <string.h>

#include "server/record.h"

#define BLOCK (UINT64_C(1) << 16)

struct Sequences {
	uint64_t next, limit; /* [next, limit) is reserved; both 0: not read yet */
	bool reserving;
	int result;           /* of the last reservation */
	CoQueue waiters;
	CoGroup ahead;
};

Sequences *sequences_new(Server *s)
{
	Sequences *q = g_new0(Sequences, 1);

	q->ahead.sched = reactor_sched(s->reactor);
	return q;
}

void sequences_free(Sequences *q)
{
	if (q)
		g_assert(q->ahead.running == 0);
	g_free(q);
}

void coroutine_fn sequences_co_stop(Server *s)
{
	co_group_wait(&s->seqs->ahead);
}

/* Where the last process's reservation ended. */
static int coroutine_fn load(Server *s, uint64_t *ret_limit)
{
	Key key = key_slot_name(STORE_SLOT, RECORD_SEQUENCE, NUMBER_NEXT_INODE);
	MetaValue v = { 0 };
	NumberRecord rec;
	int r = meta_co_get(s->meta, key.data, key.len, &v);

	if (r == -ENOENT) {
		*ret_limit = NUMBER_FIRST_INODE;
		return 0;
	}
	if (r < 0)
		return r;
	if (v.len == sizeof(rec))
		memcpy(&rec, v.data, sizeof(rec));
	if (v.len != sizeof(rec) || rec.version != RECORD_VERSION || rec.value < NUMBER_FIRST_INODE || rec.value > INO_SEQ_MASK - BLOCK) {
		g_warning("the counter of inode numbers can't be read: no new files");
		r = -EIO;
	} else {
		*ret_limit = rec.value;
	}
	meta_value_clear(&v);
	return r;
}

static int coroutine_fn store_limit(Server *s, uint64_t limit)
{
	Key key = key_slot_name(STORE_SLOT, RECORD_SEQUENCE, NUMBER_NEXT_INODE);
	NumberRecord rec = { .version = RECORD_VERSION, .value = limit };
	MetaBatch *b = meta_batch_new(s->meta);

	meta_batch_put(b, key.data, key.len, &rec, sizeof(rec));
	int r = meta_batch_co_commit(b);
	if (r < 0)
		return r;
	return meta_co_sync(s->meta);
}

static void coroutine_fn reserve(void *arg)
{
	Server *s = arg;
	Sequences *q = s->seqs;
	uint64_t limit = q->limit;
	int r = 0;

	if (limit == 0)
		r = load(s, &limit);
	if (r >= 0)
		r = store_limit(s, limit + BLOCK);
	if (r >= 0) {
		if (q->limit == 0)
			q->next = limit;
		q->limit = limit + BLOCK;
	}
	q->result = r;
	q->reserving = false;
	co_queue_wake_all(&q->waiters);
}

int coroutine_fn sequences_co_take(Server *s, uint16_t slot, uint64_t *ret_ino)
{
	Sequences *q = s->seqs;

	/* ahead of need, so that nobody waits for a disk */
	if (q->limit - q->next < BLOCK / 2 && !q->reserving && !s->stopping) {
		q->reserving = true;
		co_group_spawn(&q->ahead, reserve, s);
	}
	while (q->next == q->limit) {
		if (!q->reserving)
			return q->result < 0 ? q->result : -EIO;
		co_queue_wait(&q->waiters);
	}
	*ret_ino = ino_make(slot, q->next++);
	return 0;
}
