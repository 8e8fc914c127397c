/* Directories whose name lives elsewhere, seen from the inode's home: what
 * DIR_PREPARE promises, and how it is settled after a crash. The parent is a
 * directory of the same peer here; what counts is who holds which record. */
#include "common/ino.h"
#include "server/entry.h"
#include "server/record.h"
#include "tests/unit/server-fixture.h"

static uint64_t left_ino;

static int coroutine_fn prepare(Peer *p, WireDirPrepareReq req, const char *name, uint64_t *ret_ino)
{
	Message m = { 0 };
	WireAttrRep rep = { 0 };

	req.name_len = (uint16_t)strlen(name);
	message_add(&m, &req, sizeof(req));
	message_add(&m, name, strlen(name));
	int r = peer_call(p, WIRE_DIR_PREPARE, m.data, m.len, &rep);
	if (r >= 0 && ret_ino)
		*ret_ino = rep.attr.ino;
	return r;
}

static int coroutine_fn prepare_make(Peer *p, const char *name, uint64_t *ret_ino)
{
	WireDirPrepareReq req = {
		.kind = WIRE_DIR_MAKE, .parent = INO_ROOT, .mode = S_IFDIR | 02750, .uid = 3, .gid = 4,
		.chunk_shift = 20, .policy = WIRE_POLICY_STRIPE,
	};

	return prepare(p, req, name, ret_ino);
}

static int coroutine_fn prepare_remove(Peer *p, uint64_t ino)
{
	return prepare(p, (WireDirPrepareReq) { .kind = WIRE_DIR_REMOVE, .ino = ino, .parent = INO_ROOT }, "d", NULL);
}

static int coroutine_fn finish(Peer *p, uint64_t ino, uint32_t kind, bool commit)
{
	WireDirFinishReq req = { .ino = ino, .kind = kind, .commit = commit };

	return peer_call(p, WIRE_DIR_FINISH, &req, sizeof(req), NULL);
}

/* What the coordinator's batch does. */
static void coroutine_fn change_name(Peer *p, const char *name, uint64_t ino)
{
	Entry e = { 0 };
	Change c = { 0 };

	e.name.len = strlen(name);
	memcpy(e.name.text, name, e.name.len);
	e.name.hash = name_hash(name, e.name.len);
	g_assert_cmpint(inode_co_get(p->server, INO_ROOT, &e.dir), ==, 0);
	change_begin(&c, p->server);
	entry_count(change_data(&c, e.dir), S_IFDIR, ino ? 1 : -1);
	if (ino)
		entry_put(c.b, &e, ino, S_IFDIR);
	else
		entry_delete(c.b, &e);
	g_assert_cmpint(change_co_commit(&c), ==, 0);
	change_clear(&c);
	entry_close(p->server, &e);
}

static uint32_t coroutine_fn count_intents(Peer *p)
{
	uint32_t n = 0;

	for (uint16_t slot = 0; slot < SLOT_COUNT; slot++) {
		Key key = key_slot(slot, RECORD_INTENT);
		g_autoptr(MetaIter) it = meta_iter_new(p->server->meta, key.data, key.len, NULL, 0);
		const uint8_t *k, *v;
		size_t k_len, v_len;

		while (meta_iter_co_next(it, &k, &k_len, &v, &v_len) > 0)
			n++;
	}
	return n;
}

static void coroutine_fn wait_settled(Peer *p)
{
	for (int i = 0; count_intents(p) > 0; i++) {
		g_assert_cmpint(i, <, 1000);
		reactor_co_sleep(p->reactor, 1000000);
	}
}

static void coroutine_fn test_make(Peer *p)
{
	uint64_t d;
	uint64_t count = inodes_count(p->server);
	WireAttr a;

	g_assert_cmpint(prepare_make(p, "d", &d), ==, 0);
	g_assert_cmpuint(count_intents(p), ==, 1);
	a = attr_of(p, d);
	g_assert_cmpuint(a.mode, ==, S_IFDIR | 02750);
	g_assert_cmpuint(a.uid, ==, 3);
	g_assert_cmpuint(a.gid, ==, 4);
	g_assert_cmpuint(a.nlink, ==, 2);
	g_assert_cmpuint(a.chunk_shift, ==, 20);
	g_assert_cmpuint(a.policy, ==, WIRE_POLICY_STRIPE);
	g_assert_cmpuint(ino_of(p, d, ".."), ==, INO_ROOT);
	change_name(p, "d", d);
	g_assert_cmpint(finish(p, d, WIRE_DIR_MAKE, true), ==, 0);
	g_assert_cmpuint(count_intents(p), ==, 0);
	g_assert_cmpint(finish(p, d, WIRE_DIR_MAKE, true), ==, 0);
	/* too late, and without effect */
	g_assert_cmpint(finish(p, d, WIRE_DIR_MAKE, false), ==, 0);
	g_assert_cmpint(finish(p, d, WIRE_DIR_REMOVE, true), ==, 0);
	g_assert_cmpuint(ino_of(p, INO_ROOT, "d"), ==, d);
	g_assert_cmpuint(attr_of(p, d).nlink, ==, 2);
	/* taken back */
	g_assert_cmpint(prepare_make(p, "e", &d), ==, 0);
	g_assert_cmpint(finish(p, d, WIRE_DIR_MAKE, false), ==, 0);
	g_assert_cmpint(do_getattr(p, d, &a), ==, -ENOENT);
	g_assert_cmpuint(count_intents(p), ==, 0);
	g_assert_cmpuint(inodes_count(p->server), ==, count + 1);
}

static void coroutine_fn test_remove(Peer *p)
{
	uint64_t d = make_dir(p, INO_ROOT, "d"), f = make_file(p, d, "f");
	WireAttr a;

	g_assert_cmpint(prepare_remove(p, d), ==, -ENOTEMPTY);
	g_assert_cmpint(prepare_remove(p, f), ==, -ENOTDIR);
	g_assert_cmpint(prepare_remove(p, 4711), ==, -ENOENT);
	g_assert_cmpint(prepare(p, (WireDirPrepareReq) { .kind = WIRE_DIR_REMOVE, .ino = d, .parent = d }, "d", NULL), ==, -EPROTO);
	g_assert_cmpint(prepare(p, (WireDirPrepareReq) { .kind = 9, .ino = d, .parent = d }, "d", NULL), ==, -EPROTO);
	g_assert_cmpint(do_unlink(p, d, "f"), ==, 0);
	g_assert_cmpint(prepare_remove(p, d), ==, 0);
	/* takes no names any more; is asked again; comes back */
	g_assert_cmpint(do_create(p, d, "g", S_IFREG, NULL), ==, -ENOENT);
	g_assert_cmpint(do_create(p, d, "g", S_IFDIR, NULL), ==, -ENOENT);
	g_assert_cmpint(do_link(p, make_file(p, INO_ROOT, "x"), d, "g"), ==, -ENOENT);
	g_assert_cmpint(do_rename(p, INO_ROOT, "x", d, "g", 0), ==, -ENOENT);
	g_assert_cmpint(prepare_remove(p, d), ==, 0);
	g_assert_cmpuint(count_intents(p), ==, 1);
	g_assert_cmpint(finish(p, d, WIRE_DIR_REMOVE, false), ==, 0);
	g_assert_cmpuint(count_intents(p), ==, 0);
	g_assert_cmpint(do_create(p, d, "g", S_IFREG, NULL), ==, 0);
	g_assert_cmpint(do_unlink(p, d, "g"), ==, 0);
	/* and goes */
	g_assert_cmpint(prepare_remove(p, d), ==, 0);
	change_name(p, "d", 0);
	g_assert_cmpint(finish(p, d, WIRE_DIR_REMOVE, true), ==, 0);
	g_assert_cmpint(do_getattr(p, d, &a), ==, -ENOENT);
	g_assert_cmpuint(count_intents(p), ==, 0);
	g_assert_cmpint(finish(p, d, WIRE_DIR_REMOVE, true), ==, 0);
}

/* Made, and already to be removed before the word that it was made. */
static void coroutine_fn test_remove_while_making(Peer *p)
{
	uint64_t d;
	WireAttr a;

	g_assert_cmpint(prepare_make(p, "d", &d), ==, 0);
	change_name(p, "d", d);
	g_assert_cmpint(prepare_remove(p, d), ==, 0);
	g_assert_cmpuint(count_intents(p), ==, 1);
	g_assert_cmpint(finish(p, d, WIRE_DIR_MAKE, true), ==, 0); /* the late word */
	g_assert_cmpuint(count_intents(p), ==, 1);
	g_assert_cmpint(do_create(p, d, "x", S_IFREG, NULL), ==, -ENOENT);
	change_name(p, "d", 0);
	g_assert_cmpint(finish(p, d, WIRE_DIR_REMOVE, true), ==, 0);
	g_assert_cmpint(do_getattr(p, d, &a), ==, -ENOENT);
}

static void coroutine_fn test_lookup_child(Peer *p)
{
	uint64_t d = make_dir(p, INO_ROOT, "d"), e = make_dir(p, d, "e");
	const struct { uint64_t dir, child; int result; } rows[] = {
		{ INO_ROOT, d, 0 }, { d, e, 0 }, { INO_ROOT, e, -ENOENT }, { d, d, -ENOENT }, { e, d, -ENOENT },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		WireNameReq req = { .dir = rows[i].dir, .flags = WIRE_LOOKUP_CHILD };
		Message m = { 0 };
		WireEntryRep rep;
		char text[24];

		req.name_len = (uint16_t)g_snprintf(text, sizeof(text), "%" G_GUINT64_FORMAT, rows[i].child);
		message_add(&m, &req, sizeof(req));
		message_add(&m, text, req.name_len);
		g_assert_cmpint(peer_call(p, WIRE_LOOKUP, m.data, m.len, &rep), ==, rows[i].result);
	}
}

/* ---- after a crash ---- */

typedef struct Crash {
	PeerTest *before, *after;
} Crash;

static void test_crash(Peer *p, gconstpointer data)
{
	const Crash *c = data;

	peer_run(p, c->before);
	peer_stop(p);
	peer_start(p); /* settles at once */
	peer_run(p, wait_settled);
	peer_run(p, c->after);
}

static void coroutine_fn is_gone(Peer *p)
{
	WireAttr a;

	g_assert_cmpint(do_getattr(p, left_ino, &a), ==, -ENOENT);
	g_assert_cmpuint(inodes_count(p->server), ==, 1);
}

static void coroutine_fn is_kept(Peer *p)
{
	g_assert_cmpuint(attr_of(p, left_ino).nlink, ==, 2);
	make_file(p, left_ino, "takes names");
}

static void coroutine_fn made_not_named(Peer *p)
{
	g_assert_cmpint(prepare_make(p, "d", &left_ino), ==, 0);
}

static void coroutine_fn made_and_named(Peer *p)
{
	made_not_named(p);
	change_name(p, "d", left_ino);
}

/* The name it has now is not the one that was asked for. */
static void coroutine_fn made_named_renamed(Peer *p)
{
	made_and_named(p);
	g_assert_cmpint(do_rename(p, INO_ROOT, "d", INO_ROOT, "other", 0), ==, 0);
}

static void coroutine_fn dying_with_name(Peer *p)
{
	left_ino = make_dir(p, INO_ROOT, "d");
	g_assert_cmpint(prepare_remove(p, left_ino), ==, 0);
}

static void coroutine_fn dying_renamed(Peer *p)
{
	dying_with_name(p);
	g_assert_cmpint(do_rename(p, INO_ROOT, "d", INO_ROOT, "other", 0), ==, 0);
}

static void coroutine_fn dying_without_name(Peer *p)
{
	dying_with_name(p);
	change_name(p, "d", 0);
}

int main(int argc, char **argv)
{
	static const Crash crashes[] = {
		{ made_not_named, is_gone }, { made_and_named, is_kept }, { made_named_renamed, is_kept },
		{ dying_with_name, is_kept }, { dying_renamed, is_kept }, { dying_without_name, is_gone },
	};

	g_test_init(&argc, &argv, NULL);
	PEER_TEST("/intents/make", test_make);
	PEER_TEST("/intents/remove", test_remove);
	PEER_TEST("/intents/remove-while-making", test_remove_while_making);
	PEER_TEST("/intents/lookup-child", test_lookup_child);
	for (size_t i = 0; i < G_N_ELEMENTS(crashes); i++) {
		g_autofree char *name = g_strdup_printf("/intents/crash/%zu", i);

		g_test_add(name, Peer, &crashes[i], peer_set_up, test_crash, peer_tear_down);
	}
	return g_test_run();
}
