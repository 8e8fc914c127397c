/* Changes that span peers, seen from a participant: what TXN_PREPARE promises,
 * who may wait for whom, and how it is settled after a crash. */
#include "common/ino.h"
#include "server/entry.h"
#include "server/holds.h"
#include "server/record.h"
#include "server/txn.h"
#include "tests/unit/server-fixture.h"

static uint64_t next_number;

static WireStep step_name(uint64_t dir, const char *name, uint64_t old, uint64_t new, uint32_t mode)
{
	WireStep step = {
		.kind = WIRE_STEP_NAME, .ino = dir, .name_len = (uint16_t)strlen(name),
		.old_ino = old, .old_mode = mode, .new_ino = new, .new_mode = mode,
	};

	memcpy(step.name, name, strlen(name));
	return step;
}

static WireStep step_make(uint64_t parent)
{
	return (WireStep) {
		.kind = WIRE_STEP_MAKE, .new_ino = parent, .new_mode = S_IFDIR | 02750, .uid = 3, .gid = 4,
		.chunk_shift = 20, .policy = WIRE_POLICY_STRIPE,
	};
}

static int coroutine_fn prepare(Peer *p, WireTxnId id, int64_t age, const WireStep *steps, uint32_t n, WireAttr *ret_made)
{
	WireTxnPrepareReq req = { .id = id, .age_ns = age, .steps = n };
	WireAttrRep rep = { 0 };
	RpcCall call = {
		.req = &req, .req_len = sizeof(req), .rep = &rep, .in = steps, .in_len = n * sizeof(*steps),
	};
	int r = rpc_co_call(p->rpc, rpc_self(p->rpc), WIRE_TXN_PREPARE, &call);

	if (ret_made)
		*ret_made = rep.attr;
	return r;
}

static WireTxnId next_id(void)
{
	return (WireTxnId) { 4711, ++next_number };
}

static int coroutine_fn finish(Peer *p, WireTxnId id, bool commit)
{
	WireTxnFinishReq req = { .id = id, .commit = commit };

	return peer_call(p, WIRE_TXN_FINISH, &req, sizeof(req), NULL);
}

static void coroutine_fn wait_settled(Peer *p)
{
	for (int i = 0; count_records(p, RECORD_PREPARED) > 0; i++) {
		g_assert_cmpint(i, <, 1000);
		reactor_co_sleep(p->reactor, 10000000);
	}
}

static void coroutine_fn test_make(Peer *p)
{
	uint64_t count = inodes_count(p->server);
	WireTxnId id = next_id();
	WireAttr made, a;
	WireStep step = step_make(INO_ROOT);

	g_assert_cmpint(prepare(p, id, 1, &step, 1, &made), ==, 0);
	g_assert_cmpuint(made.mode, ==, S_IFDIR | 02750);
	g_assert_cmpuint(count_records(p, RECORD_PREPARED), ==, 1);
	g_assert_cmpuint(inodes_count(p->server), ==, count);
	g_assert_cmpint(finish(p, id, true), ==, 0);
	g_assert_cmpint(finish(p, id, true), ==, 0);
	g_assert_cmpint(finish(p, id, false), ==, 0);
	a = attr_of(p, made.ino);
	g_assert_cmpmem(&a, sizeof(a), &made, sizeof(made));
	g_assert_cmpuint(a.uid, ==, 3);
	g_assert_cmpuint(a.gid, ==, 4);
	g_assert_cmpuint(a.nlink, ==, 2);
	g_assert_cmpuint(a.chunk_shift, ==, 20);
	g_assert_cmpuint(a.policy, ==, WIRE_POLICY_STRIPE);
	g_assert_cmpuint(ino_of(p, made.ino, ".."), ==, INO_ROOT);
	g_assert_cmpuint(inodes_count(p->server), ==, count + 1);
	/* taken back */
	id = next_id();
	g_assert_cmpint(prepare(p, id, 1, &step, 1, &made), ==, 0);
	g_assert_cmpint(finish(p, id, false), ==, 0);
	g_assert_cmpint(do_getattr(p, made.ino, &a), ==, -ENOENT);
	g_assert_cmpuint(count_records(p, RECORD_PREPARED), ==, 0);
	g_assert_cmpuint(inodes_count(p->server), ==, count + 1);
}

/* ---- a directory that inherits an ACL ---- */

typedef struct AclEntry {
	uint16_t tag, perm;
	uint32_t id;
} AclEntry;

typedef struct MakeMessage {
	WireStep step;
	uint32_t version;
	AclEntry entries[5];
} MakeMessage;

/* rwx for the owner, user 5 and the mask, r-x for the group */
static MakeMessage make_with_acl(void)
{
	MakeMessage m = {
		.step = step_make(INO_ROOT), .version = 2,
		.entries = { { 1, 7, UINT32_MAX }, { 2, 7, 5 }, { 4, 5, UINT32_MAX }, { 16, 7, UINT32_MAX }, { 32, 0, UINT32_MAX } },
	};

	m.step.new_mode = S_IFDIR | 0777;
	m.step.umask = 077;
	m.step.acl_len = sizeof(m.version) + sizeof(m.entries);
	return m;
}

static int coroutine_fn prepare_make(Peer *p, WireTxnId id, const MakeMessage *m, size_t len, WireAttr *ret_made)
{
	WireTxnPrepareReq req = { .id = id, .age_ns = 1, .steps = 1 };
	WireAttrRep rep = { 0 };
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep, .in = m, .in_len = len };
	int r = rpc_co_call(p->rpc, rpc_self(p->rpc), WIRE_TXN_PREPARE, &call);

	*ret_made = rep.attr;
	return r;
}

static void coroutine_fn test_acl_is_checked(Peer *p)
{
	MakeMessage m = make_with_acl();
	size_t len = sizeof(m.step) + m.step.acl_len;
	WireAttr made;

	g_assert_cmpint(prepare_make(p, next_id(), &m, len - 1, &made), ==, -EPROTO);
	g_assert_cmpint(prepare_make(p, next_id(), &m, sizeof(m.step), &made), ==, -EPROTO);
	m.entries[1].tag = 99;
	g_assert_cmpint(prepare_make(p, next_id(), &m, len, &made), ==, -EPROTO);
	m.step.acl_len = 0;
	g_assert_cmpint(prepare_make(p, next_id(), &m, len, &made), ==, -EPROTO);
	m.step.umask = 01000;
	g_assert_cmpint(prepare_make(p, next_id(), &m, sizeof(m.step), &made), ==, -EPROTO);
	g_assert_cmpuint(count_records(p, RECORD_PREPARED), ==, 0);
}

static void coroutine_fn test_checks(Peer *p)
{
	uint64_t d = make_dir(p, INO_ROOT, "d"), f = make_file(p, d, "f");
	const struct { WireStep step; int result; } rows[] = {
		{ { .kind = WIRE_STEP_DROP, .ino = d, .old_mode = S_IFDIR }, -ENOTEMPTY },
		{ { .kind = WIRE_STEP_DROP, .ino = f, .old_mode = S_IFDIR }, -EIO },
		{ { .kind = WIRE_STEP_LINK, .ino = d }, -EPERM },
		{ { .kind = WIRE_STEP_LINK, .ino = 4711 }, -ENOENT },
		{ { .kind = WIRE_STEP_MOVE, .ino = 4711, .new_ino = d }, -EAGAIN },
		{ { .kind = WIRE_STEP_MOVE, .ino = f }, -EPROTO },
		{ { .kind = 9, .ino = f }, -EPROTO },
		{ { .kind = WIRE_STEP_LINK, .ino = UINT64_MAX }, -EPROTO },
		{ step_name(d, "f", f, f, S_IFREG), 0 },
		{ step_name(d, "f", 0, f, S_IFREG), -EAGAIN },
		{ step_name(d, "g", f, f, S_IFREG), -EAGAIN },
		{ step_name(d, "a/b", 0, f, S_IFREG), -EPROTO },
		{ step_name(d, "", 0, f, S_IFREG), -EPROTO },
		{ step_name(d, ".", 0, f, S_IFREG), -EPROTO },
		{ step_name(d, "..", 0, f, S_IFREG), -EPROTO },
		{ step_name(f, "g", 0, f, S_IFREG), -ENOTDIR },
		{ step_name(4711, "g", 0, f, S_IFREG), -ENOENT },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		WireTxnId id = next_id();

		g_assert_cmpint(prepare(p, id, 1, &rows[i].step, 1, NULL), ==, rows[i].result);
		g_assert_cmpint(finish(p, id, false), ==, 0);
	}
	WireStep twice[] = { { .kind = WIRE_STEP_DROP, .ino = f }, { .kind = WIRE_STEP_DROP, .ino = f } };
	g_assert_cmpint(prepare(p, next_id(), 1, twice, 2, NULL), ==, -EPROTO);
	g_assert_cmpuint(count_records(p, RECORD_PREPARED), ==, 0);
	g_assert_cmpuint(attr_of(p, f).nlink, ==, 1);
}

/* ---- who waits for whom ---- */

typedef struct Later {
	Peer *p;
	uint64_t dir;
	int result;
	bool done;
	CoGroup group;
} Later;

static void coroutine_fn create_later(void *arg)
{
	Later *l = arg;

	l->result = do_create(l->p, l->dir, "x", S_IFREG | 0644, NULL);
	l->done = true;
}

static void start_later(Later *l, Peer *p, CoFn *fn)
{
	l->p = p;
	l->group.sched = reactor_sched(p->reactor);
	co_group_spawn(&l->group, fn, l);
}

static void coroutine_fn test_calls_wait(Peer *p)
{
	for (int commit = 0; commit < 2; commit++) {
		uint64_t d = make_dir(p, INO_ROOT, "d");
		WireStep steps[] = { step_name(INO_ROOT, "d", d, 0, S_IFDIR), { .kind = WIRE_STEP_DROP, .ino = d, .old_mode = S_IFDIR } };
		WireTxnId id = next_id();
		Later l = { .dir = d };

		g_assert_cmpint(prepare(p, id, 1, steps, 2, NULL), ==, 0);
		start_later(&l, p, create_later);
		/* other names go on */
		make_file(p, INO_ROOT, "other");
		reactor_co_sleep(p->reactor, 20000000);
		g_assert_false(l.done);
		g_assert_cmpint(finish(p, id, commit), ==, 0);
		co_group_wait(&l.group);
		g_assert_cmpint(l.result, ==, commit ? -ENOENT : 0);
		if (!commit) {
			g_assert_cmpint(do_unlink(p, d, "x"), ==, 0);
			g_assert_cmpint(do_rmdir(p, INO_ROOT, "d"), ==, 0);
		}
		g_assert_cmpint(do_unlink(p, INO_ROOT, "other"), ==, 0);
	}
}

static void coroutine_fn look_later(void *arg)
{
	Later *l = arg;

	l->result = ino_of(l->p, INO_ROOT, "f") != 0;
	l->done = true;
}

/* Nobody sees a change half: who looks a name up waits for its end. */
static void coroutine_fn test_readers_wait(Peer *p)
{
	uint64_t f = make_file(p, INO_ROOT, "f");
	WireStep step = step_name(INO_ROOT, "f", f, 0, S_IFREG);
	WireTxnId id = next_id();
	Later l = { 0 };

	g_assert_cmpint(prepare(p, id, 1, &step, 1, NULL), ==, 0);
	start_later(&l, p, look_later);
	reactor_co_sleep(p->reactor, 20000000);
	g_assert_false(l.done);
	g_assert_cmpint(finish(p, id, true), ==, 0);
	co_group_wait(&l.group);
	g_assert_cmpint(l.result, ==, 0);
}

static void coroutine_fn prepare_older(void *arg)
{
	Later *l = arg;
	WireStep step = { .kind = WIRE_STEP_LINK, .ino = l->dir };
	WireTxnId id = next_id();

	l->result = prepare(l->p, id, 1, &step, 1, NULL);
	l->done = true;
	finish(l->p, id, true);
}

static void coroutine_fn test_older_waits_younger_dies(Peer *p)
{
	uint64_t f = make_file(p, INO_ROOT, "f");
	WireStep step = { .kind = WIRE_STEP_LINK, .ino = f };
	WireTxnId id = next_id();
	Later l = { .dir = f };

	g_assert_cmpint(prepare(p, id, 5, &step, 1, NULL), ==, 0);
	g_assert_cmpint(prepare(p, next_id(), 6, &step, 1, NULL), ==, -EAGAIN);
	start_later(&l, p, prepare_older);
	reactor_co_sleep(p->reactor, 20000000);
	g_assert_false(l.done);
	g_assert_cmpint(finish(p, id, true), ==, 0);
	co_group_wait(&l.group);
	g_assert_cmpint(l.result, ==, 0);
	g_assert_cmpuint(attr_of(p, f).nlink, ==, 3);
	g_assert_cmpuint(count_records(p, RECORD_PREPARED), ==, 0);
}

/* ---- the first name of a file without one ---- */

static uint64_t coroutine_fn make_nameless(Peer *p, bool linkable)
{
	WireTmpfileReq req = { .dir = INO_ROOT, .mode = S_IFREG | 0600, .linkable = linkable };
	WireAttrRep rep = { 0 };

	g_assert_cmpint(peer_call(p, WIRE_TMPFILE, &req, sizeof(req), &rep), ==, 0);
	return rep.attr.ino;
}

static void coroutine_fn close_orphan(Peer *p, uint64_t ino)
{
	WireInoReq req = { .ino = ino };

	g_assert_cmpint(peer_call(p, WIRE_ORPHAN_CLOSED, &req, sizeof(req), NULL), ==, 0);
}

static void coroutine_fn wait_for_orphans(Peer *p, uint64_t count)
{
	for (int i = 0; orphans_count(p->server) != count; i++) {
		g_assert_cmpint(i, <, 1000);
		reactor_co_sleep(p->reactor, 10000000);
	}
}

static bool taken_back;

static void note_undo(Peer *p, bool undo)
{
	taken_back |= undo;
}

/* Whoever closes it meanwhile: it stays until it is known whether it has a name. */
static void coroutine_fn test_first_name(Peer *p)
{
	p->on_query = note_undo;
	for (int commit = 0; commit < 2; commit++) {
		uint64_t ino = make_nameless(p, true);
		WireStep step = { .kind = WIRE_STEP_LINK, .ino = ino };
		WireTxnId id = next_id();
		WireAttr a;

		taken_back = false;
		/* asked for, so that it has to be taken back */
		p->open = true;
		close_orphan(p, ino);
		reactor_co_sleep(p->reactor, 20000000);
		g_assert_cmpint(prepare(p, id, 1, &step, 1, NULL), ==, 0);
		g_assert_true(taken_back);
		p->open = false;
		uint32_t asked = p->asked;
		close_orphan(p, ino);
		reactor_co_sleep(p->reactor, 20000000);
		g_assert_cmpuint(p->asked, ==, asked);
		g_assert_cmpuint(orphans_count(p->server), ==, 1);
		g_assert_cmpint(finish(p, id, commit), ==, 0);
		wait_for_orphans(p, 0);
		g_assert_cmpint(do_getattr(p, ino, &a), ==, commit ? 0 : -ENOENT);
		g_assert_cmpuint(count_of_slot(p, ino_slot(ino), RECORD_ORPHAN), ==, 0);
		if (commit)
			g_assert_cmpuint(a.nlink, ==, 1);
	}
	p->on_query = NULL;
}

/* Made with O_EXCL, or one that has had a name. */
static void coroutine_fn test_first_name_is_for_few(Peer *p)
{
	uint64_t ino = make_nameless(p, false), named = make_nameless(p, true);
	WireStep step = { .kind = WIRE_STEP_LINK, .ino = ino };
	WireStep both[] = { { .kind = WIRE_STEP_LINK, .ino = ino }, { .kind = WIRE_STEP_LINK, .ino = named } };
	WireStep drop = { .kind = WIRE_STEP_DROP, .ino = named, .old_mode = S_IFREG };
	WireTxnId id = next_id();

	p->open = true;
	g_assert_cmpint(prepare(p, next_id(), 1, &step, 1, NULL), ==, -ENOENT);
	g_assert_cmpint(prepare(p, next_id(), 1, both, 2, NULL), ==, -EPROTO);
	step.ino = named;
	g_assert_cmpint(prepare(p, id, 1, &step, 1, NULL), ==, 0);
	g_assert_cmpint(finish(p, id, true), ==, 0);
	id = next_id();
	g_assert_cmpint(prepare(p, id, 1, &drop, 1, NULL), ==, 0);
	g_assert_cmpint(finish(p, id, true), ==, 0);
	g_assert_cmpuint(attr_of(p, named).nlink, ==, 0);
	g_assert_cmpint(prepare(p, next_id(), 1, &step, 1, NULL), ==, -ENOENT);
	p->open = false;
	close_orphan(p, ino);
	close_orphan(p, named);
	wait_for_orphans(p, 0);
}

static void coroutine_fn link_later(void *arg)
{
	Later *l = arg;

	l->result = do_link(l->p, l->dir, INO_ROOT, "here");
	l->done = true;
}

/* A link by this peer alone comes after it. */
static void coroutine_fn test_second_name_waits_for_the_first(Peer *p)
{
	for (int commit = 0; commit < 2; commit++) {
		uint64_t ino = make_nameless(p, true);
		WireStep step = { .kind = WIRE_STEP_LINK, .ino = ino };
		WireTxnId id = next_id();
		Later l = { .dir = ino };

		p->open = true;
		g_assert_cmpint(prepare(p, id, 1, &step, 1, NULL), ==, 0);
		start_later(&l, p, link_later);
		reactor_co_sleep(p->reactor, 20000000);
		g_assert_false(l.done);
		g_assert_cmpint(finish(p, id, commit), ==, 0);
		co_group_wait(&l.group);
		g_assert_cmpint(l.result, ==, 0);
		g_assert_cmpuint(attr_of(p, ino).nlink, ==, 1 + commit);
		g_assert_cmpuint(orphans_count(p->server), ==, 0);
		g_assert_cmpint(do_unlink(p, INO_ROOT, "here"), ==, 0);
		p->open = false;
		close_orphan(p, ino);
		wait_for_orphans(p, 0);
	}
}

/* ---- what mounts keep ---- */

static uint32_t coroutine_fn lease_of(Peer *p, uint64_t dir, const char *name)
{
	struct {
		WireNameReq req;
		char name[WIRE_NAME_MAX];
	} m = { .req = { .dir = dir, .name_len = (uint16_t)strlen(name), .flags = WIRE_LOOKUP_LEASE } };
	WireEntryRep rep = { 0 };

	memcpy(m.name, name, strlen(name));
	g_assert_cmpint(peer_call(p, WIRE_LOOKUP, &m, (uint32_t)(sizeof(m.req) + strlen(name)), &rep), ==, 0);
	return rep.lease;
}

static uint64_t recalls(Peer *p)
{
	g_autofree char *text = counters_to_text(p->counters, true);

	return g_ascii_strtoull(strstr(text, "lease.recalls ") + strlen("lease.recalls "), NULL, 10);
}

/* Who sees the change at one peer must not keep what was before at another, so
 * nobody keeps it from when it is prepared until it is settled. */
static void coroutine_fn test_nobody_keeps_what_is_prepared(Peer *p)
{
	uint64_t d = make_dir(p, INO_ROOT, "d"), f = make_file(p, d, "f");
	WireStep steps[] = { step_name(d, "f", f, 0, S_IFREG), { .kind = WIRE_STEP_DROP, .ino = f, .old_mode = S_IFREG } };

	make_file(p, d, "other");
	for (int commit = 0; commit < 2; commit++) {
		WireTxnId id = next_id();

		g_assert_cmpuint(lease_of(p, d, "other"), ==, WIRE_LEASE_INODE | WIRE_LEASE_DIR);
		uint64_t n = recalls(p);
		g_assert_cmpint(prepare(p, id, 1, steps, 2, NULL), ==, 0);
		g_assert_cmpuint(recalls(p), ==, n + 1);
		g_assert_cmpuint(lease_of(p, d, "other"), ==, WIRE_LEASE_INODE);
		g_assert_cmpint(finish(p, id, commit), ==, 0);
	}
	g_assert_cmpuint(lease_of(p, d, "other"), ==, WIRE_LEASE_INODE | WIRE_LEASE_DIR);
}

/* ---- after a crash ---- */

static uint64_t left;
static WireTxnId left_id;

static void coroutine_fn leave_prepared(Peer *p)
{
	WireStep step = { .kind = WIRE_STEP_LINK };

	step.ino = left = make_file(p, INO_ROOT, "f");
	left_id = next_id();
	g_assert_cmpint(prepare(p, left_id, 1, &step, 1, NULL), ==, 0);
	g_assert_cmpuint(count_records(p, RECORD_PREPARED), ==, 1);
}

/* The coordinator is this peer as well; here is what its batch would hold. */
static void coroutine_fn decide(Peer *p)
{
	const uint16_t self = 0;
	MetaBatch *b = meta_batch_new(p->server->meta);

	txn_record_put(b, RECORD_DECISION, &(TxnRecord) { .id = left_id, .n = 1, .data = &self, .len = sizeof(self) });
	g_assert_cmpint(meta_batch_co_commit(b), ==, 0);
}

static void coroutine_fn leave_decided(Peer *p)
{
	leave_prepared(p);
	decide(p);
}

static void coroutine_fn leave_nameless(Peer *p)
{
	WireStep step = { .kind = WIRE_STEP_LINK };

	step.ino = left = make_nameless(p, true);
	left_id = next_id();
	g_assert_cmpint(prepare(p, left_id, 1, &step, 1, NULL), ==, 0);
}

static void coroutine_fn leave_nameless_decided(Peer *p)
{
	leave_nameless(p);
	decide(p);
}

static void coroutine_fn is_named(Peer *p)
{
	g_assert_cmpuint(attr_of(p, left).nlink, ==, 1);
	wait_for_orphans(p, 0);
	g_assert_cmpuint(count_of_slot(p, ino_slot(left), RECORD_ORPHAN), ==, 0);
}

static void coroutine_fn is_reaped(Peer *p)
{
	WireAttr a;

	wait_for_orphans(p, 0);
	g_assert_cmpint(do_getattr(p, left, &a), ==, -ENOENT);
}

/* With its ACL, which the record has as well. */
static void coroutine_fn leave_make_decided(Peer *p)
{
	MakeMessage m = make_with_acl();
	WireAttr made;

	left_id = next_id();
	g_assert_cmpint(prepare_make(p, left_id, &m, sizeof(m.step) + m.step.acl_len, &made), ==, 0);
	g_assert_cmpuint(made.mode, ==, S_IFDIR | 0770);
	left = made.ino;
	decide(p);
}

static void coroutine_fn is_made(Peer *p)
{
	wait_settled(p);
	WireAttr a = attr_of(p, left);

	g_assert_cmpuint(a.mode, ==, S_IFDIR | 0770);
	g_assert_true(a.flags & WIRE_ATTR_HAS_XATTRS);
	g_assert_cmpuint(count_of_slot(p, ino_slot(left), RECORD_XATTR), ==, 2);
}

static void coroutine_fn is_dropped(Peer *p)
{
	g_assert_cmpuint(attr_of(p, left).nlink, ==, 1);
}

static void coroutine_fn is_done(Peer *p)
{
	g_assert_cmpuint(attr_of(p, left).nlink, ==, 2);
	for (int i = 0; count_records(p, RECORD_DECISION) > 0; i++) {
		g_assert_cmpint(i, <, 1000);
		reactor_co_sleep(p->reactor, 10000000);
	}
}

typedef struct Crash {
	PeerTest *before, *after;
} Crash;

static void test_crash(Peer *p, gconstpointer data)
{
	const Crash *c = data;

	peer_run(p, c->before);
	peer_stop(p);
	peer_start(p);
	peer_run(p, c->after); /* waits for the change to be settled */
	peer_run(p, wait_settled);
	peer_run(p, c->after);
}

int main(int argc, char **argv)
{
	static const Crash undecided = { leave_prepared, is_dropped }, decided = { leave_decided, is_done };
	static const Crash made = { leave_make_decided, is_made };
	static const Crash nameless = { leave_nameless, is_reaped }, named = { leave_nameless_decided, is_named };

	g_test_init(&argc, &argv, NULL);
	g_log_set_always_fatal(G_LOG_LEVEL_ERROR);
	PEER_TEST("/txn/make", test_make);
	PEER_TEST("/txn/acl-is-checked", test_acl_is_checked);
	PEER_TEST("/txn/checks", test_checks);
	PEER_TEST("/txn/calls-wait", test_calls_wait);
	PEER_TEST("/txn/readers-wait", test_readers_wait);
	PEER_TEST("/txn/first-name", test_first_name);
	PEER_TEST("/txn/first-name-is-for-few", test_first_name_is_for_few);
	PEER_TEST("/txn/second-name-waits-for-the-first", test_second_name_waits_for_the_first);
	PEER_TEST("/txn/nobody-keeps-what-is-prepared", test_nobody_keeps_what_is_prepared);
	PEER_TEST("/txn/older-waits-younger-dies", test_older_waits_younger_dies);
	g_test_add("/txn/crash/undecided", Peer, &undecided, peer_set_up, test_crash, peer_tear_down);
	g_test_add("/txn/crash/decided", Peer, &decided, peer_set_up, test_crash, peer_tear_down);
	g_test_add("/txn/crash/made", Peer, &made, peer_set_up, test_crash, peer_tear_down);
	g_test_add("/txn/crash/nameless", Peer, &nameless, peer_set_up, test_crash, peer_tear_down);
	g_test_add("/txn/crash/named", Peer, &named, peer_set_up, test_crash, peer_tear_down);
	return g_test_run();
}
