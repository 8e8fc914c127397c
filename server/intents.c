#define G_LOG_DOMAIN "server"
#include "server/intents.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "server/acl.h"
#include "server/acls.h"
#include "server/change.h"
#include "server/entry.h"
#include "server/names.h"
#include "server/orphans.h"
#include "server/record.h"
#include "server/seq.h"

/* Well beyond a call's deadline: by then the other side has given up. */
#define SETTLE_AFTER_NS INT64_C(30000000000)
#define RETRY_MIN_NS INT64_C(1000000000)
#define RETRY_MAX_NS INT64_C(30000000000)
#define MAKE_BYTES 1024

typedef struct Intent {
	uint64_t ino, parent;
	uint32_t kind;
	uint32_t generation; /* differs after it was prepared once more */
	int64_t due_ns, retry_ns;
} Intent;

struct Intents {
	Server *s;
	GHashTable *table; /* inode number -> Intent */
	CoGroup group;
	ReactorTimer timer;
	uint32_t generation;
	bool settling;
};

typedef struct IntentRecord {
	uint8_t version, kind, pad[6];
	uint64_t parent;
} IntentRecord;
static_assert(sizeof(IntentRecord) == 16, "no holes");

static void timer_fired(ReactorTimer *t);

Intents *intents_new(Server *s)
{
	Intents *in = g_new0(Intents, 1);

	*in = (Intents) {
		.s = s, .table = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, g_free),
		.group.sched = reactor_sched(s->reactor), .timer.fire = timer_fired,
	};
	return in;
}

void intents_free(Intents *in)
{
	if (!in)
		return;
	reactor_timer_cancel(in->s->reactor, &in->timer);
	g_hash_table_destroy(in->table);
	g_free(in);
}

static Intent *find(Intents *in, uint64_t ino, uint32_t kind)
{
	Intent *intent = g_hash_table_lookup(in->table, (void *)ino);

	return intent && intent->kind == kind ? intent : NULL;
}

/* One for each directory, the latest. */
static void remember(Intents *in, uint64_t ino, uint64_t parent, uint32_t kind)
{
	Intent *intent = g_new0(Intent, 1);

	*intent = (Intent) {
		.ino = ino, .parent = parent, .kind = kind, .generation = ++in->generation,
		.due_ns = reactor_now_ns(in->s->reactor) + SETTLE_AFTER_NS,
	};
	g_hash_table_replace(in->table, (void *)ino, intent);
}

static void intent_put(MetaBatch *b, uint64_t ino, uint64_t parent, uint32_t kind)
{
	IntentRecord rec = { .version = RECORD_VERSION, .kind = (uint8_t)kind, .parent = parent };
	Key key = key_ino_kind(ino, RECORD_INTENT, (uint8_t)kind);

	meta_batch_put(b, key.data, key.len, &rec, sizeof(rec));
}

static void intent_delete(MetaBatch *b, uint64_t ino, uint32_t kind)
{
	Key key = key_ino_kind(ino, RECORD_INTENT, (uint8_t)kind);

	meta_batch_delete(b, key.data, key.len);
}

static void arm(Intents *in)
{
	int64_t next = INT64_MAX;
	GHashTableIter it;
	void *value;

	g_hash_table_iter_init(&it, in->table);
	while (g_hash_table_iter_next(&it, NULL, &value))
		next = MIN(next, ((Intent *)value)->due_ns);
	if (next != INT64_MAX && !in->s->stopping)
		reactor_timer_arm(in->s->reactor, &in->timer, next);
}

/* ---- preparing ---- */

/* The default ACL that came with the request; NULL: none. */
static int take_acl(const RpcReq *r, GByteArray **ret_acl)
{
	if (r->in_len == 0)
		return 0;
	if (acl_check(r->in, r->in_len) < 0 || acl_is_empty(r->in_len))
		return -EPROTO;
	*ret_acl = g_byte_array_sized_new((guint)r->in_len);
	g_byte_array_append(*ret_acl, r->in, (guint)r->in_len);
	return 0;
}

static int coroutine_fn prepare_make(Server *s, const RpcReq *msg, WireAttrRep *rep)
{
	const WireDirPrepareReq *req = msg->req;
	const InodeData parent = { .attr = { .ino = req->parent, .chunk_shift = req->chunk_shift, .policy = req->policy } };
	g_auto(InodeData) d = { 0 };
	g_auto(Change) c = { 0 };
	g_autoptr(GByteArray) acl = NULL;
	uint64_t ino;
	int r = space_take(s->space, MAKE_BYTES);

	if (r >= 0)
		r = take_acl(msg, &acl);
	if (r < 0)
		return r;
	if (req->chunk_shift < 12 || req->chunk_shift > 30 || req->policy > WIRE_POLICY_STRIPE || !S_ISDIR(req->mode))
		return -EPROTO;
	r = sequences_co_take(s, map_slot_of_peer(s->map, s->self, g_random_int()), &ino);
	if (r < 0)
		return r;
	names_new_inode(&parent, ino, req->mode, req->uid, req->gid, &d);
	change_begin(&c, s);
	acls_inherit(c.b, &d, acl, req->umask);
	inode_data_put(c.b, &d);
	intent_put(c.b, ino, req->parent, WIRE_DIR_MAKE);
	c.count = 1;
	r = change_co_commit(&c);
	if (r < 0)
		return r;
	remember(s->intents, ino, req->parent, WIRE_DIR_MAKE);
	rep->attr = d.attr;
	inode_unref(s, inode_co_add(s, &d));
	return 0;
}

/* Being asked a second time is fine: the first answer was lost. An intent to
 * make it is settled by the fact that its name is being removed. */
static int coroutine_fn prepare_remove_locked(Server *s, Inode *dir, uint64_t parent)
{
	g_auto(Change) c = { 0 };

	if (dir->gone || dir->d.attr.nlink == 0)
		return -ENOENT;
	if (dir->d.parent != parent)
		return -EPROTO;
	int r = entry_co_dir_is_empty(s, &dir->d);
	if (r <= 0)
		return r < 0 ? r : -ENOTEMPTY;
	change_begin(&c, s);
	change_data(&c, dir)->flags |= INODE_DYING;
	intent_delete(c.b, dir->d.attr.ino, WIRE_DIR_MAKE);
	intent_put(c.b, dir->d.attr.ino, parent, WIRE_DIR_REMOVE);
	r = change_co_commit(&c);
	if (r >= 0)
		remember(s->intents, dir->d.attr.ino, parent, WIRE_DIR_REMOVE);
	return r;
}

static int coroutine_fn prepare_remove(Server *s, const WireDirPrepareReq *req, WireAttrRep *rep)
{
	Inode *dir;
	int r = entry_co_get_dir(s, req->ino, &dir);

	if (r < 0)
		return r;
	co_mutex_lock(&dir->lock);
	r = prepare_remove_locked(s, dir, req->parent);
	rep->attr = dir->d.attr;
	co_mutex_unlock(&dir->lock);
	inode_unref(s, dir);
	return r;
}

static int coroutine_fn dir_prepare(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireDirPrepareReq *req = r->req;
	Name name;
	int res = name_parse(r, sizeof(*req), 0, req->name_len, false, &name);

	if (res < 0)
		return res;
	if (!ino_valid(req->parent))
		return -EPROTO;
	if (req->kind == WIRE_DIR_MAKE)
		res = prepare_make(s, r, r->rep);
	else if (req->kind == WIRE_DIR_REMOVE)
		res = prepare_remove(s, req, r->rep);
	else
		res = -EPROTO;
	arm(s->intents);
	return res;
}

/* ---- finishing ---- */

/* The four ways it ends, in one batch each. */
static void coroutine_fn finish_in(Change *c, Inode *dir, uint32_t kind, bool commit)
{
	intent_delete(c->b, dir->d.attr.ino, kind);
	if (kind == WIRE_DIR_MAKE && !commit) {
		if (dir->d.attr.size > 0)
			g_warning("directory %#" PRIx64 " has names but none itself, keeping it", dir->d.attr.ino);
		else
			change_delete(c, dir);
	}
	if (kind == WIRE_DIR_REMOVE && commit)
		change_co_orphan(c, dir);
	if (kind == WIRE_DIR_REMOVE && !commit)
		change_data(c, dir)->flags &= ~(uint32_t)INODE_DYING;
}

static int coroutine_fn finish_locked(Server *s, Inode *dir, uint32_t kind, bool commit, uint32_t generation, Change *c)
{
	Intent *intent = find(s->intents, dir->d.attr.ino, kind);

	if (dir->gone || !intent || (generation && intent->generation != generation))
		return 0;
	change_begin(c, s);
	finish_in(c, dir, kind, commit);
	int r = change_co_commit(c);
	if (r >= 0)
		g_hash_table_remove(s->intents->table, (void *)dir->d.attr.ino);
	return r;
}

/* Nothing to finish is fine. generation 0: whichever it is. */
static int coroutine_fn finish(Server *s, uint64_t ino, uint32_t kind, bool commit, uint32_t generation)
{
	g_auto(Change) c = { 0 };
	Inode *dir;
	int r = inode_co_get(s, ino, &dir);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	co_mutex_lock(&dir->lock);
	r = finish_locked(s, dir, kind, commit, generation, &c);
	co_mutex_unlock(&dir->lock);
	change_co_reap(&c);
	inode_unref(s, dir);
	return r;
}

static int coroutine_fn dir_finish(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireDirFinishReq *req = r->req;

	if (req->kind != WIRE_DIR_MAKE && req->kind != WIRE_DIR_REMOVE)
		return -EPROTO;
	return finish(s, req->ino, req->kind, req->commit, 0);
}

void intents_attach(Server *s)
{
	rpc_serve(s->rpc, WIRE_DIR_PREPARE, dir_prepare, s);
	rpc_serve(s->rpc, WIRE_DIR_FINISH, dir_finish, s);
}

void coroutine_fn intents_co_tell(Server *s, uint64_t ino, uint32_t kind, bool commit)
{
	WireDirFinishReq req = { .ino = ino, .kind = kind, .commit = commit };
	RpcCall call = { .req = &req, .req_len = sizeof(req) };
	int r = rpc_co_call(s->rpc, map_home(s->map, ino), WIRE_DIR_FINISH, &call);

	if (r < 0)
		g_debug("directory %#" PRIx64 ": can't tell its home how it ended: %s", ino, g_strerror(-r));
}

typedef struct Tell {
	Server *s;
	uint64_t ino;
	uint32_t kind;
} Tell;

static void coroutine_fn tell(void *arg)
{
	g_autofree Tell *t = arg;

	intents_co_tell(t->s, t->ino, t->kind, true);
}

void intents_tell_behind(Server *s, uint64_t ino, uint32_t kind)
{
	Tell *t;

	/* Nobody would wait for it; the other side finds out by itself. */
	if (s->stopping)
		return;
	t = g_new(Tell, 1);
	*t = (Tell) { .s = s, .ino = ino, .kind = kind };
	co_group_spawn(&s->intents->group, tell, t);
}

/* ---- settling ---- */

/* 1: the parent has a name for it, 0: it has not, -errno: not known. No lock is
 * held: the answer may have to wait for our own answer to a question. */
static int coroutine_fn ask_parent(Server *s, uint64_t parent, uint64_t ino)
{
	struct {
		WireNameReq req;
		char name[24];
	} m = { .req = { .dir = parent, .flags = WIRE_LOOKUP_CHILD } };
	WireEntryRep rep;

	m.req.name_len = (uint16_t)g_snprintf(m.name, sizeof(m.name), "%" PRIu64, ino);
	RpcCall call = { .req = &m, .req_len = (uint32_t)sizeof(m.req) + m.req.name_len, .rep = &rep };
	int r = rpc_co_call(s->rpc, map_home(s->map, parent), WIRE_LOOKUP, &call);
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	return r < 0 ? r : 1;
}

static int coroutine_fn settle_one(Server *s, const Intent *intent)
{
	int r = ask_parent(s, intent->parent, intent->ino);

	if (r < 0)
		return r;
	g_message("directory %#" PRIx64 ": %s it, as its parent says", intent->ino, r ? "keeping" : "removing");
	return finish(s, intent->ino, intent->kind, (r == 1) == (intent->kind == WIRE_DIR_MAKE), intent->generation);
}

/* Those that are due now, copied: the table changes while they are settled. */
static GArray *due_intents(Intents *in)
{
	GArray *due = g_array_new(FALSE, FALSE, sizeof(Intent));
	int64_t now = reactor_now_ns(in->s->reactor);
	GHashTableIter it;
	void *value;

	g_hash_table_iter_init(&it, in->table);
	while (g_hash_table_iter_next(&it, NULL, &value)) {
		if (((Intent *)value)->due_ns <= now)
			g_array_append_vals(due, value, 1);
	}
	return due;
}

static void try_later(Intents *in, const Intent *copy)
{
	Intent *intent = find(in, copy->ino, copy->kind);

	if (!intent || intent->generation != copy->generation)
		return;
	intent->retry_ns = CLAMP(intent->retry_ns * 2, RETRY_MIN_NS, RETRY_MAX_NS);
	intent->due_ns = reactor_now_ns(in->s->reactor) + intent->retry_ns;
}

/* A peer that is away costs one deadline a round, whatever waits for it. */
static void coroutine_fn settle_due(void *arg)
{
	Intents *in = arg;
	g_autoptr(GArray) due = due_intents(in);
	g_autoptr(GHashTable) away = g_hash_table_new(g_direct_hash, g_direct_equal);

	for (guint i = 0; i < due->len && !in->s->stopping; i++) {
		const Intent *intent = &g_array_index(due, Intent, i);
		void *home = GUINT_TO_POINTER(map_home(in->s->map, intent->parent));

		if (!g_hash_table_contains(away, home) && settle_one(in->s, intent) >= 0)
			continue;
		g_hash_table_add(away, home);
		try_later(in, intent);
	}
	in->settling = false;
	arm(in);
}

static void timer_fired(ReactorTimer *t)
{
	Intents *in = (Intents *)((char *)t - G_STRUCT_OFFSET(Intents, timer));

	if (in->settling)
		return; /* it arms the timer when it ends */
	in->settling = true;
	co_group_spawn(&in->group, settle_due, in);
}

static void load_one(Server *s, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	IntentRecord rec;
	uint64_t ino = key_get_num(key, key_len, 3);
	uint8_t kind = key[key_len - 1];

	if (kind != INTENT_DIR_MAKE && kind != INTENT_DIR_REMOVE)
		return;
	if (len == sizeof(rec))
		memcpy(&rec, value, sizeof(rec));
	if (len != sizeof(rec) || rec.version != RECORD_VERSION || !ino_valid(ino) || !ino_valid(rec.parent)) {
		g_warning("inode %#" PRIx64 ": an unfinished change can't be read, ignoring", ino);
		return;
	}
	remember(s->intents, ino, rec.parent, kind);
}

static int coroutine_fn load_slot(Server *s, uint16_t slot)
{
	Key prefix = key_slot(slot, RECORD_INTENT);
	g_autoptr(MetaIter) it = meta_iter_new(s->meta, prefix.data, prefix.len, NULL, 0);
	const uint8_t *key, *value;
	size_t key_len, len;
	int r;

	while ((r = meta_iter_co_next(it, &key, &key_len, &value, &len)) > 0)
		load_one(s, key, key_len, value, len);
	return r;
}

int coroutine_fn intents_co_load(Server *s)
{
	for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
		if (map_slot_peer(s->map, (uint16_t)slot) != s->self)
			continue;
		int r = load_slot(s, (uint16_t)slot);
		if (r < 0)
			return r;
	}
	if (g_hash_table_size(s->intents->table) > 0)
		g_message("directories being made or removed when the last process ended: %u", g_hash_table_size(s->intents->table));
	return 0;
}

void intents_start(Server *s)
{
	GHashTableIter it;
	void *value;

	g_hash_table_iter_init(&it, s->intents->table);
	while (g_hash_table_iter_next(&it, NULL, &value))
		((Intent *)value)->due_ns = reactor_now_ns(s->reactor);
	arm(s->intents);
}

void coroutine_fn intents_co_stop(Server *s)
{
	reactor_timer_cancel(s->reactor, &s->intents->timer);
	co_group_wait(&s->intents->group);
	sequences_co_stop(s);
}
