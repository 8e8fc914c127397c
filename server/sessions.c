#define G_LOG_DOMAIN "server"
#include "server/sessions.h"

#include <inttypes.h>
#include <string.h>

#include "server/record.h"

struct Sessions {
	GHashTable *written; /* &session, owned -> its peer */
	CoMutex lock;        /* one that ended may be back while its record goes */
	CoGroup group;       /* of deletions */
};

typedef struct SessionRecord {
	uint8_t version, pad;
	uint16_t peer; /* or PEER_NONE */
	uint32_t pad2;
} SessionRecord;
static_assert(sizeof(SessionRecord) == 8, "packed by hand");

Sessions *sessions_new(Server *s)
{
	Sessions *ss = g_new0(Sessions, 1);

	ss->written = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	ss->group.sched = reactor_sched(s->reactor);
	return ss;
}

void sessions_free(Sessions *ss)
{
	if (ss)
		g_hash_table_destroy(ss->written);
	g_free(ss);
}

static void note_written(Sessions *ss, uint64_t session, uint16_t peer)
{
	g_hash_table_insert(ss->written, g_memdup2(&session, sizeof(session)), GUINT_TO_POINTER(peer));
}

bool sessions_loaded(const Server *s, uint64_t session)
{
	return g_hash_table_contains(s->sessions->written, &session);
}

/* ---- while it runs ---- */

static void session_ended(void *ctx, uint64_t session);

static int coroutine_fn put_session(Server *s, uint64_t session, uint16_t peer)
{
	SessionRecord rec = { .version = RECORD_VERSION, .peer = peer };
	Key key = key_session(session);
	MetaBatch *b = meta_batch_new(s->meta);

	meta_batch_put(b, key.data, key.len, &rec, sizeof(rec));
	int r = meta_batch_co_commit(b);
	if (r >= 0)
		note_written(s->sessions, session, peer);
	return r;
}

/* Its calls are served all the same where that fails: it would lose something
 * only if this process were killed as well. */
static void coroutine_fn session_begins(void *ctx, uint64_t session, uint16_t peer)
{
	Server *s = ctx;
	Sessions *ss = s->sessions;

	co_mutex_lock(&ss->lock);
	int r = g_hash_table_contains(ss->written, &session) ? 0 : put_session(s, session, peer);
	if (r < 0)
		g_warning("session %016" PRIx64 " of peer %u can't be recorded: %s, ignoring", session, peer, g_strerror(-r));
	co_mutex_unlock(&ss->lock);
	if (!rpc_has_session(s->rpc, session))
		session_ended(s, session); /* meanwhile */
}

typedef struct Ended {
	Server *s;
	uint64_t session;
} Ended;

static void coroutine_fn delete_session(void *arg)
{
	g_autofree Ended *e = arg;
	Sessions *ss = e->s->sessions;
	Key key = key_session(e->session);
	int r = 0;

	co_mutex_lock(&ss->lock);
	if (!g_hash_table_contains(ss->written, &e->session)) {
		MetaBatch *b = meta_batch_new(e->s->meta);

		meta_batch_delete(b, key.data, key.len);
		r = meta_batch_co_commit(b);
	}
	/* the next process expects it for a while */
	if (r < 0)
		g_warning("session %016" PRIx64 " stays recorded: %s, ignoring", e->session, g_strerror(-r));
	co_mutex_unlock(&ss->lock);
}

static void session_ended(void *ctx, uint64_t session)
{
	Server *s = ctx;

	if (s->stopping || !g_hash_table_remove(s->sessions->written, &session))
		return;
	Ended *e = g_new(Ended, 1);
	*e = (Ended) { .s = s, .session = session };
	co_group_spawn(&s->sessions->group, delete_session, e);
}

void coroutine_fn sessions_co_stop(Server *s)
{
	co_group_wait(&s->sessions->group);
}

/* ---- what the last process left ---- */

bool session_record_decode(const uint8_t *key, size_t key_len, const uint8_t *value, size_t len, uint64_t *ret_session, uint16_t *ret_peer)
{
	size_t at = key_slot(STORE_SLOT, RECORD_SESSION).len;
	SessionRecord rec;

	if (key_len != at + sizeof(*ret_session) || len != sizeof(rec))
		return false;
	memcpy(&rec, value, sizeof(rec));
	if (rec.version != RECORD_VERSION || (rec.peer >= PEER_MAX && rec.peer != PEER_NONE))
		return false;
	*ret_session = key_get_num(key, key_len, at);
	*ret_peer = rec.peer;
	return true;
}

int coroutine_fn sessions_co_load(Server *s)
{
	Key prefix = key_slot(STORE_SLOT, RECORD_SESSION);
	g_autoptr(MetaIter) it = meta_iter_new(s->meta, prefix.data, prefix.len, NULL, 0);
	const uint8_t *k, *v;
	size_t k_len, v_len;
	uint64_t session;
	uint16_t peer;
	int r;

	while ((r = meta_iter_co_next(it, &k, &k_len, &v, &v_len)) > 0) {
		if (session_record_decode(k, k_len, v, v_len, &session, &peer))
			note_written(s->sessions, session, peer);
		else
			g_warning("the record of a session can't be read, ignoring");
	}
	return r;
}

void sessions_attach(Server *s)
{
	GHashTableIter it;
	void *session, *peer;

	rpc_on_session_begins(s->rpc, session_begins, s);
	rpc_on_session_ended(s->rpc, session_ended, s);
	g_hash_table_iter_init(&it, s->sessions->written);
	while (g_hash_table_iter_next(&it, &session, &peer))
		rpc_expect_session(s->rpc, *(uint64_t *)session, (uint16_t)GPOINTER_TO_UINT(peer));
}
