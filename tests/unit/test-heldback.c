/* What is held back, and that it is there for the next process. */
#include "common/heldback.h"
#include "common/ino.h"
#include "server-fixture.h"
#include "server/exclusive.h"

typedef struct Fixture {
	Peer peer;
	HeldBack *h;
	uint64_t recalled, settling; /* what the user was told last */
	WireHeldBack drop;           /* then, of the same inode */
} Fixture;

static void on_recalled(void *arg, uint64_t ino)
{
	((Fixture *)arg)->recalled = ino;
}

static void on_settling(void *arg, uint64_t ino)
{
	Fixture *f = arg;

	f->settling = ino;
	if (f->drop.ino != ino)
		return;
	heldback_drop(f->h, &f->drop);
	g_assert_cmpint(heldback_get(f->h, ino).mtime_ns, ==, f->drop.mtime_ns);
}

static void open_file(Fixture *f)
{
	HeldBackUser user = { .recalled = on_recalled, .settling = on_settling, .arg = f };
	GError *error = NULL;

	f->h = heldback_new(f->peer.rpc, f->peer.counters, f->peer.dir, &error);
	g_assert_no_error(error);
	heldback_set_user(f->h, &user);
}

static void set_up(Fixture *f, gconstpointer data)
{
	peer_set_up(&f->peer, data);
	open_file(f);
}

static void coroutine_fn stop(void *arg)
{
	heldback_co_stop(arg);
}

static void tear_down(Fixture *f, gconstpointer data)
{
	if (f->h)
		reactor_run_co(f->peer.reactor, stop, f->h);
	heldback_free(f->h);
	peer_tear_down(&f->peer, data);
}

/* Under a lease with base 10. */
static WireHeldBack held(uint64_t ino, int64_t mtime_ns)
{
	return (WireHeldBack) {
		.ino = ino, .end = (uint64_t)mtime_ns, .base_ns = 10, .mtime_ns = mtime_ns, .ctime_ns = mtime_ns,
	};
}

static uint64_t files(Fixture *f)
{
	g_autofree char *text = counters_to_text(f->peer.counters, true);

	return g_ascii_strtoull(strstr(text, "heldback.files ") + strlen("heldback.files "), NULL, 10);
}

static bool put(Fixture *f, uint64_t ino, int64_t mtime_ns)
{
	WireHeldBack one = held(ino, mtime_ns), state = held(ino, 10);

	if (!heldback_get(f->h, ino).ino) {
		if (!heldback_ask(f->h, ino))
			return false;
		heldback_granted(f->h, &state);
	}
	return heldback_put(f->h, &one);
}

static int64_t mtime_of(Fixture *f, uint64_t ino)
{
	return heldback_get(f->h, ino).mtime_ns;
}

static void test_the_latest_is_kept_until_just_that_is_known(Fixture *f, gconstpointer data)
{
	WireHeldBack older = held(7, 100), latest = held(7, 200);

	g_assert_cmpint(mtime_of(f, 7), ==, 0);
	g_assert_true(put(f, 7, 100));
	g_assert_true(put(f, 7, 200));
	g_assert_true(put(f, 8, 300));
	g_assert_cmpuint(heldback_get(f->h, 7).end, ==, 200);
	heldback_drop(f->h, &older);
	g_assert_cmpint(mtime_of(f, 7), ==, 200);
	heldback_drop(f->h, &latest);
	g_assert_cmpint(mtime_of(f, 7), ==, 0);
	g_assert_cmpint(mtime_of(f, 8), ==, 300);
}

static void test_what_belongs_to_another_lease_does_not_mix(Fixture *f, gconstpointer data)
{
	WireHeldBack other = held(7, 300);

	g_assert_true(put(f, 7, 100));
	other.base_ns = 20;
	g_assert_false(heldback_put(f->h, &other));
	g_assert_cmpint(mtime_of(f, 7), ==, 100);
}

/* As when it is killed. */
static void end_process(Fixture *f)
{
	heldback_free(g_steal_pointer(&f->h));
	peer_stop(&f->peer);
	peer_start(&f->peer);
}

static void test_the_next_process_finds_it(Fixture *f, gconstpointer data)
{
	g_assert_true(put(f, 7, 100));
	g_assert_true(put(f, 8, 200));
	g_assert_true(put(f, 7, 300));
	end_process(f);
	open_file(f);
	g_assert_cmpint(mtime_of(f, 7), ==, 300);
	g_assert_cmpint(mtime_of(f, 8), ==, 200);
}

static void test_it_is_bounded(Fixture *f, gconstpointer data)
{
	uint64_t n = 0;
	WireHeldBack first = held(1, 100);

	while (n < 100000 && put(f, n + 1, 100))
		n++;
	g_assert_cmpuint(n, ==, 4096);
	g_assert_true(put(f, 5, 200));
	heldback_drop(f->h, &first);
	g_assert_true(put(f, n + 1, 100));
	g_assert_false(put(f, n + 2, 100));
}

static void coroutine_fn ask(void *arg)
{
	Fixture *f = arg;
	WireInoReq req = { .ino = 7 };
	WireHeldBack rep;

	g_assert_cmpint(peer_call(&f->peer, WIRE_HELD_BACK, &req, sizeof(req), &rep), ==, 0);
	g_assert_cmpint(rep.mtime_ns, ==, 100);
	req.ino = 8;
	g_assert_cmpint(peer_call(&f->peer, WIRE_HELD_BACK, &req, sizeof(req), &rep), ==, 0);
	g_assert_cmpuint(rep.ino, ==, 0);
}

static void test_a_home_that_asks_ends_the_lease_and_is_answered(Fixture *f, gconstpointer data)
{
	put(f, 7, 100);
	reactor_run_co(f->peer.reactor, ask, f);
	g_assert_cmpuint(f->recalled, ==, 8);
	g_assert_cmpint(mtime_of(f, 7), ==, 100); /* the answer may be lost */
}

/* What was asked for and what was granted ends too, in the next process. */
static void test_what_a_home_may_believe_is_kept(Fixture *f, gconstpointer data)
{
	WireHeldBack state = held(8, 10), asked = { .ino = 7 };

	g_assert_true(heldback_ask(f->h, 7));
	g_assert_true(heldback_ask(f->h, 8));
	heldback_granted(f->h, &state);
	g_assert_false(heldback_any(&state));
	g_assert_cmpuint(heldback_get(f->h, 8).ino, ==, 0);
	heldback_drop(f->h, &asked); /* not while it is under way */
	g_assert_cmpuint(files(f), ==, 2);
	heldback_failed(f->h, 7);
	heldback_drop(f->h, &asked);
	heldback_drop(f->h, &state);
	g_assert_cmpuint(files(f), ==, 0);
}

/* The home here knows no such inode, so there is nothing left to tell. */
static void test_it_is_settled_by_itself(Fixture *f, gconstpointer data)
{
	int64_t until = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;

	put(f, ino_make(0, 12345), 100);
	heldback_start(f->h);
	while (mtime_of(f, ino_make(0, 12345)) && g_get_monotonic_time() < until)
		reactor_iterate(f->peer.reactor, true);
	g_assert_cmpint(mtime_of(f, ino_make(0, 12345)), ==, 0);
	g_assert_cmpuint(f->settling, ==, ino_make(0, 12345));
}

static int coroutine_fn do_not_answer(void *ctx, RpcReq *r)
{
	reactor_co_sleep(ctx, INT64_C(1000000000));
	return -ETIMEDOUT;
}

static void stop_and_open_again(Fixture *f)
{
	heldback_start(f->h);
	reactor_run_co(f->peer.reactor, stop, f->h);
	end_process(f);
	open_file(f);
}

/* With the file of the fixture's peer, which answers. */
static void test_a_home_that_is_away_does_not_keep_the_process(Fixture *f, gconstpointer data)
{
	Counters *counters = counters_new();
	RpcOptions o = { .reactor = f->peer.reactor, .map = f->peer.map, .counters = counters };
	GError *error = NULL;
	Rpc *rpc = rpc_new(&o, &error);
	int64_t start = g_get_monotonic_time();

	g_assert_no_error(error);
	rpc_serve(rpc, WIRE_SETTLE, do_not_answer, f->peer.reactor);
	heldback_free(f->h);
	f->h = heldback_new(rpc, counters, f->peer.dir, &error);
	g_assert_no_error(error);
	for (uint32_t i = 0; i < 500; i++)
		put(f, ino_make(0, 12345 + i), 100);
	heldback_start(f->h);
	reactor_run_co(f->peer.reactor, stop, f->h);
	g_assert_cmpint(g_get_monotonic_time() - start, <, 10 * G_USEC_PER_SEC);
	heldback_free(f->h);
	rpc_free(rpc);
	counters_free(counters);
	peer_stop(&f->peer);
	peer_start(&f->peer);
	open_file(f);
	g_assert_cmpuint(files(f), ==, 500);
	stop_and_open_again(f);
	g_assert_cmpuint(files(f), ==, 0);
}

/* As by a COMMIT that was under way before. */
static void test_it_stays_while_it_is_being_settled(Fixture *f, gconstpointer data)
{
	f->drop = held(ino_make(0, 12345), 100);
	test_it_is_settled_by_itself(f, data);
	g_assert_cmpuint(files(f), ==, 0);
}

/* Of pages of the file that were written at different times. */
static void test_of_one_that_is_there_twice_the_later_counts(Fixture *f, gconstpointer data)
{
	g_autofree char *path = g_build_filename(f->peer.dir, "held-back", NULL);
	WireHeldBack later = held(7, 300);
	g_autofree char *text = NULL;
	gsize len;

	g_assert_true(put(f, 7, 200));
	end_process(f);
	g_assert_true(g_file_get_contents(path, &text, &len, NULL));
	for (gsize at = 64 * 3; at < 64 * 6; at += 64)
		memcpy(text + at, &later, sizeof(later));
	g_assert_true(g_file_set_contents(path, text, (gssize)len, NULL));
	open_file(f);
	g_assert_cmpuint(files(f), ==, 1);
	g_assert_cmpint(mtime_of(f, 7), ==, 300);
	heldback_drop(f->h, &later);
	end_process(f);
	open_file(f);
	g_assert_cmpuint(files(f), ==, 0);
}

static void test_who_has_no_store_holds_nothing_back(Fixture *f, gconstpointer data)
{
	RpcReq client = { .peer = PEER_NONE };
	InodeData d = { .attr = { .ino = 7, .mtime_ns = 10 } };
	WireHeldBack one = held(7, 100);

	g_assert_cmpint(exclusive_merge(f->peer.server, &d, &client, &one), ==, 0);
	g_assert_cmpuint(d.attr.size, ==, 0);
}

static void test_other_files_are_refused(Fixture *f, gconstpointer data)
{
	g_autofree char *path = g_build_filename(f->peer.dir, "held-back", NULL);
	g_autofree char *text = NULL;
	gsize len;
	g_autoptr(GError) error = NULL;

	heldback_free(g_steal_pointer(&f->h));
	g_assert_true(g_file_get_contents(path, &text, &len, NULL));
	text[0] ^= 1;
	g_assert_true(g_file_set_contents(path, text, (gssize)len, NULL));
	g_assert_null(heldback_new(f->peer.rpc, f->peer.counters, f->peer.dir, &error));
	g_assert_nonnull(strstr(error->message, "another version"));
	g_clear_error(&error);
	g_assert_true(g_file_set_contents(path, "short", 5, NULL));
	g_assert_null(heldback_new(f->peer.rpc, f->peer.counters, f->peer.dir, &error));
	g_assert_nonnull(strstr(error->message, "bytes"));
	/* What a crash may leave of the first start is none of them. */
	memset(text, 0, len);
	g_assert_true(g_file_set_contents(path, text, (gssize)len / 2, NULL));
	peer_stop(&f->peer);
	peer_start(&f->peer);
	open_file(f);
}

static void test_what_makes_no_sense_is_not_valid(void)
{
	WireHeldBack good = held(7, 100), bad;

	g_assert_true(heldback_valid(&good, 7, 1));
	g_assert_false(heldback_valid(&good, 8, 1));
	bad = good, bad.ino = UINT64_MAX;
	g_assert_false(heldback_valid(&bad, UINT64_MAX, 1));
	bad = good, bad.ctime_ns = INT64_MAX;
	g_assert_false(heldback_valid(&bad, 7, 1));
	bad = good, bad.target = 1;
	g_assert_false(heldback_valid(&bad, 7, 1));
	bad = good, bad.end = UINT64_MAX;
	g_assert_false(heldback_valid(&bad, 7, 1));
	bad = good, bad.blocks = UINT64_MAX;
	g_assert_false(heldback_valid(&bad, 7, 1));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/heldback/" #name, Fixture, NULL, set_up, test_##name, tear_down)
	ADD(the_latest_is_kept_until_just_that_is_known);
	ADD(what_belongs_to_another_lease_does_not_mix);
	ADD(the_next_process_finds_it);
	ADD(it_is_bounded);
	ADD(a_home_that_asks_ends_the_lease_and_is_answered);
	ADD(what_a_home_may_believe_is_kept);
	ADD(it_is_settled_by_itself);
	ADD(it_stays_while_it_is_being_settled);
	ADD(a_home_that_is_away_does_not_keep_the_process);
	ADD(of_one_that_is_there_twice_the_later_counts);
	ADD(who_has_no_store_holds_nothing_back);
	ADD(other_files_are_refused);
	g_test_add_func("/heldback/what_makes_no_sense_is_not_valid", test_what_makes_no_sense_is_not_valid);
	return g_test_run();
}
