#include "tests/unit/rpc-fixture.h"

static const char *const transports[] = { "tcp,self", "posix,sysv,tcp,self" };

/* ---- inside one process ---- */

static void coroutine_fn local_co(void *arg)
{
	Node *n = arg;
	WireNameReq *q = g_malloc0(sizeof(*q) + 5);
	WireEntryRep rep;
	RpcCall call = { .req = q, .req_len = sizeof(*q) + 5, .rep = &rep };
	WireForgetReq iq = { .ino = 1 };
	RpcCall other = { .req = &iq, .req_len = sizeof(iq) };
	uint8_t buf[100];
	uint64_t sessions[2];

	q->name_len = 5;
	memcpy(q + 1, "hello", 5);
	memset(&rep, 0xff, sizeof(rep));
	g_assert_cmpint(rpc_co_call(n->rpc, 0, WIRE_LOOKUP, &call), ==, 0);
	g_assert_cmpuint(rep.attr.ino, ==, 5);
	g_assert_cmpuint(rep.attr.mode, ==, 0); /* zeroed before the handler */
	q->name_len = 6;
	g_assert_cmpint(rpc_co_call(n->rpc, 0, WIRE_LOOKUP, &call), ==, -EPROTO);
	g_assert_cmpint(co_obj_read(n, 0, buf, sizeof(buf), 3), ==, 0);
	g_assert_cmpint(co_obj_write(n, 0, buf, sizeof(buf), 3), ==, 0);
	g_assert_cmpint(rpc_co_call(n->rpc, 0, WIRE_GETATTR, &other), ==, -EOPNOTSUPP);
	g_assert_cmpint(rpc_co_call(n->rpc, 1, WIRE_GETATTR, &other), ==, -EIO);
	g_assert_cmpint(rpc_co_call(n->rpc, PEER_NONE, WIRE_GETATTR, &other), ==, -EIO);
	g_assert_cmpuint(rpc_sessions(n->rpc, sessions, 2), ==, 1);
	g_assert_cmpuint(sessions[0], ==, rpc_session(n->rpc));
	g_assert_cmpint(rpc_co_call_session(n->rpc, sessions[0], WIRE_FORGET_QUERY, &other), ==, 0);
	g_assert_cmpuint(n->asked_by, ==, sessions[0]);
	g_assert_cmpint(rpc_co_call_session(n->rpc, sessions[0] + 1, WIRE_FORGET_QUERY, &other), ==, -ENOTCONN);
	g_free(q);
}

static void test_local(void)
{
	ReactorOptions ro = { 0 };
	Reactor *reactor = reactor_new(&ro, NULL);
	Node n = { .reactor = reactor, .map = map_new_embedded(), .counters = counters_new() };
	RpcOptions o = { .reactor = reactor, .map = n.map, .counters = n.counters, .self = 0 };
	g_autofree char *text = NULL;

	n.rpc = rpc_new(&o, NULL);
	node_serve(&n);
	rpc_start(n.rpc);
	reactor_run_co(reactor, local_co, &n);
	text = counters_to_text(n.counters, false);
	g_assert_nonnull(strstr(text, "rpc.local.obj_read 1\n"));
	g_assert_null(strstr(text, "rpc.sent."));
	g_assert_null(strstr(text, "rpc.served."));
	node_stop(&n);
	reactor_free(reactor);
}

/* ---- between two ---- */

static void coroutine_fn sizes_co(void *arg)
{
	static const size_t sizes[] = { 0, 1, 100, 8192, 8193, 65536, 131072, 131073, 1 << 20, 16 << 20 };
	Fixture *f = arg;
	uint8_t *buf = g_malloc(16 << 20);

	for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
		memset(buf, 0, sizes[i]);
		g_assert_cmpint(co_obj_read(&f->nodes[0], 1, buf, sizes[i], i * 1000), ==, 0);
		g_assert_cmpint(co_obj_write(&f->nodes[0], 1, buf, sizes[i], i * 1000), ==, 0);
		g_assert_cmpint(co_obj_write(&f->nodes[1], 0, buf, sizes[i], i * 1000), ==, 0);
		if (sizes[i])
			g_assert_cmpint(co_obj_write(&f->nodes[0], 1, buf, sizes[i], 1), ==, -EIO); /* the handler's */
	}
	g_free(buf);
}

static void test_sizes(const void *tls)
{
	Fixture f;
	g_autofree char *text = NULL;

	fixture_init(&f, tls, 2);
	fixture_run(&f, sizes_co);
	text = counters_to_text(f.nodes[0].counters, false);
	g_assert_nonnull(strstr(text, "rpc.sent.obj_read 10\n"));
	g_assert_nonnull(strstr(text, "rpc.served.obj_write 10\n"));
	g_assert_null(strstr(text, "rpc.local"));
	g_assert_null(strstr(text, "rpc.retries"));
	g_assert_null(strstr(text, "rpc.inflight 0"));
	fixture_deinit(&f);
}

static void coroutine_fn names_co(void *arg)
{
	Fixture *f = arg;
	struct {
		WireNameReq q;
		char name[WIRE_NAME_MAX];
	} q = { .q.name_len = WIRE_NAME_MAX };
	WireEntryRep rep;
	RpcCall call = { .req = &q, .req_len = sizeof(q.q) + WIRE_NAME_MAX, .rep = &rep };

	memset(q.name, 'n', sizeof(q.name));
	g_assert_cmpint(rpc_co_call(f->nodes[0].rpc, 1, WIRE_LOOKUP, &call), ==, 0);
	g_assert_cmpuint(rep.attr.ino, ==, WIRE_NAME_MAX);
	q.name[7] = '/';
	g_assert_cmpint(rpc_co_call(f->nodes[0].rpc, 1, WIRE_LOOKUP, &call), ==, -EINVAL);
	call.req_len--;
	g_assert_cmpint(rpc_co_call(f->nodes[0].rpc, 1, WIRE_LOOKUP, &call), ==, -EPROTO);
	g_assert_cmpuint(f->nodes[1].rpc->stats.bad_message, ==, 0);
	g_assert_cmpint(rpc_co_call(f->nodes[0].rpc, 1, WIRE_GETXATTR, &call), ==, -EOPNOTSUPP);
}

static void test_names(void)
{
	Fixture f;

	fixture_init(&f, NULL, 2);
	fixture_run(&f, names_co);
	fixture_deinit(&f);
}

/* ---- many at once ---- */

typedef struct Many {
	Fixture *f;
	uint32_t i;
} Many;

static void coroutine_fn many_one_co(void *arg)
{
	Many *m = arg;
	Node *n = &m->f->nodes[m->i % 3];
	uint16_t peer = (uint16_t)((m->i + 1 + m->i / 3 % 2) % 3);
	size_t len = m->i % 16 == 0 ? 300000 : m->i * 17;
	uint8_t *buf = g_malloc(len + 1);

	for (int round = 0; round < 4; round++) {
		g_assert_cmpint(co_obj_read(n, peer, buf, len, m->i), ==, 0);
		g_assert_cmpint(co_obj_write(n, peer, buf, len, m->i), ==, 0);
		g_assert_cmpint(co_create(n, peer, m->i % 3, NULL), ==, 0);
	}
	g_free(buf);
	g_free(m);
}

static void coroutine_fn many_co(void *arg)
{
	Fixture *f = arg;
	CoGroup g = { .sched = reactor_sched(f->reactor) };

	for (uint32_t i = 0; i < 600; i++) {
		Many *m = g_new(Many, 1);

		*m = (Many) { f, i };
		co_group_spawn(&g, many_one_co, m);
	}
	co_group_wait(&g);
}

static void test_many(const void *tls)
{
	Fixture f;
	uint64_t creates = 0;

	fixture_init(&f, tls, 3);
	fixture_run(&f, many_co);
	for (int i = 0; i < 3; i++) {
		creates += f.nodes[i].creates;
		g_assert_cmpuint(f.nodes[i].rpc->stats.inflight, ==, 0);
		g_assert_cmpuint(f.nodes[i].rpc->stats.inflight_max, >=, 150);
		g_assert_cmpuint(f.nodes[i].rpc->stats.obj_reads_max, >=, 150);
	}
	g_assert_cmpuint(creates, ==, 600 * 4);
	fixture_deinit(&f);
}

/* Replies of what can't be done twice are forgotten as they arrive. */
static void coroutine_fn acks_co(void *arg)
{
	Fixture *f = arg;
	GHashTableIter it;
	void *s;

	for (int i = 0; i < 100; i++)
		g_assert_cmpint(co_create(&f->nodes[0], 1, 0, NULL), ==, 0);
	g_hash_table_iter_init(&it, f->nodes[1].rpc->sessions);
	while (g_hash_table_iter_next(&it, NULL, &s))
		g_assert_cmpuint(g_hash_table_size(((RpcSession *)s)->memos), <=, 1);
}

static void test_acks(void)
{
	Fixture f;

	fixture_init(&f, NULL, 2);
	fixture_run(&f, acks_co);
	fixture_deinit(&f);
}

/* ---- sessions ---- */

static void coroutine_fn back_co(void *arg)
{
	Fixture *f = arg;
	Node *client = &f->nodes[NODES_MAX - 1], *server = &f->nodes[0];
	WireForgetReq q = { .ino = 41 };
	WireOpenRep rep;
	RpcCall call = { .req = &q, .req_len = sizeof(q), .rep = &rep };
	uint64_t sessions[8];

	g_assert_cmpint(co_create(client, 0, 0, NULL), ==, 0);
	g_assert_cmpuint(server->asked_by, ==, rpc_session(client->rpc));
	g_assert_cmpuint(rpc_sessions(server->rpc, sessions, 8), ==, 2);
	g_assert_cmpuint(sessions[0], ==, rpc_session(server->rpc));
	g_assert_cmpuint(sessions[1], ==, rpc_session(client->rpc));
	g_assert_cmpint(rpc_co_call_session(server->rpc, sessions[1], WIRE_FORGET_QUERY, &call), ==, 0);
	g_assert_cmpuint(rep.open, ==, 42);
	g_assert_cmpuint(client->asked_by, ==, rpc_session(server->rpc));
	/* Nobody called the client: it has no callers. */
	g_assert_cmpuint(rpc_sessions(client->rpc, sessions, 8), ==, 1);
	g_assert_cmpint(rpc_co_call_session(client->rpc, rpc_session(server->rpc), WIRE_FORGET_QUERY, &call), ==, -ENOTCONN);
}

static void coroutine_fn settle_co(void *arg)
{
	reactor_co_sleep(((Fixture *)arg)->reactor, 50 * MS);
}

static void test_call_back(void)
{
	Fixture f;
	uint64_t client;

	fixture_init(&f, NULL, 1);
	node_start(&f, PEER_NONE);
	fixture_run(&f, back_co);
	client = rpc_session(f.nodes[NODES_MAX - 1].rpc);
	node_stop(&f.nodes[NODES_MAX - 1]);
	fixture_run(&f, settle_co);
	/* It said good-bye: there is nothing to wait for. */
	g_assert_cmpuint(f.nodes[0].ended, ==, 1);
	g_assert_cmpuint(f.nodes[0].last_ended, ==, client);
	fixture_deinit(&f);
}

static void coroutine_fn away_co(void *arg)
{
	Fixture *f = arg;
	Node *a = &f->nodes[0], *b = &f->nodes[1];
	WireForgetReq q = { .ino = 1 };
	RpcCall call = { .req = &q, .req_len = sizeof(q) };
	uint64_t session = rpc_session(a->rpc);

	g_assert_cmpint(co_create(a, 1, 0, NULL), ==, 0);
	/* A connection that is lost and comes back ends nothing. */
	rpc_conns_fail_all(b->rpc, "the test wants it");
	g_assert_cmpint(rpc_co_call_session(b->rpc, session, WIRE_FORGET_QUERY, &call), ==, 0);
	g_assert_cmpuint(b->ended, ==, 0);
	/* One that stays away does. */
	a->rpc->dirty = true; /* connects no more */
	rpc_conns_fail_all(b->rpc, "the test wants it");
	reactor_co_sleep(f->reactor, 1000 * MS);
	g_assert_cmpuint(b->ended, ==, 0);
	reactor_co_sleep(f->reactor, 2500 * MS);
	g_assert_cmpuint(b->ended, ==, 1);
	g_assert_cmpuint(b->last_ended, ==, session);
	g_assert_cmpint(rpc_co_call_session(b->rpc, session, WIRE_FORGET_QUERY, &call), ==, -ENOTCONN);
	a->rpc->dirty = false;
	co_queue_wake_all(&a->rpc->clean);
	g_assert_cmpint(rpc_co_connect(a->rpc, 1, 5000 * MS, NULL), ==, 0);
	g_assert_cmpint(co_create(a, 1, 0, NULL), ==, 0);
}

static void test_away(void)
{
	Fixture f;

	fixture_init(&f, NULL, 2);
	fixture_run(&f, away_co);
	fixture_deinit(&f);
}

/* ---- broken connections ---- */

typedef struct Slow {
	Fixture *f;
	uint32_t ms;
	int result;
	uint64_t number;
	bool done;
} Slow;

static void coroutine_fn slow_create_co(void *arg)
{
	Slow *s = arg;

	s->result = co_create(&s->f->nodes[0], 1, s->ms, &s->number);
	s->done = true;
}

static void coroutine_fn twice_co(void *arg)
{
	Fixture *f = arg;
	Slow s[2] = { { .f = f, .ms = 400 }, { .f = f, .ms = 50 } };
	CoGroup g = { .sched = reactor_sched(f->reactor) };

	g_assert_cmpint(co_create(&f->nodes[0], 1, 0, NULL), ==, 0);
	for (int side = 0; side < 2; side++) {
		uint64_t before = f->nodes[1].creates;

		co_group_spawn(&g, slow_create_co, &s[0]);
		co_group_spawn(&g, slow_create_co, &s[1]);
		for (int i = 0; i < 5; i++) {
			reactor_co_sleep(f->reactor, 40 * MS);
			rpc_conns_fail_all(f->nodes[side].rpc, "the test wants it");
		}
		co_group_wait(&g);
		for (int i = 0; i < 2; i++)
			g_assert_cmpint(s[i].result, ==, 0);
		g_assert_cmpuint(s[0].number + s[1].number, ==, 2 * before + 3);
		g_assert_cmpuint(f->nodes[1].creates, ==, before + 2); /* each one once */
		g_assert_cmpuint(f->nodes[1].rpc->stats.duplicates, >, 0);
		g_assert_cmpuint(f->nodes[0].rpc->stats.retries, >, 0);
		reactor_co_sleep(f->reactor, 200 * MS);
	}
}

static void test_not_twice(const void *tls)
{
	Fixture f;

	fixture_init(&f, tls, 2);
	fixture_run(&f, twice_co);
	fixture_deinit(&f);
}

/* Traffic of all sizes while connections break all the time. */
typedef struct Storm {
	Fixture *f;
	bool over;
	uint32_t calls, failed;
} Storm;

static void coroutine_fn storm_one_co(void *arg)
{
	Storm *s = arg;
	Node *n = &s->f->nodes[0];
	uint8_t *buf = g_malloc(1 << 20);

	for (uint32_t i = 0; !s->over; i++) {
		size_t len = (i * 77777) % (1 << 20);
		int r = co_obj_read(n, 1, buf, len, i);

		if (r == 0)
			r = co_obj_write(n, 1, buf, len, i);
		s->calls++;
		s->failed += r < 0;
		g_assert_true(r == 0 || r == -EIO);
		if (r < 0)
			reactor_co_sleep(s->f->reactor, 10 * MS);
	}
	g_free(buf);
}

static void coroutine_fn storm_co(void *arg)
{
	Fixture *f = arg;
	CoGroup g = { .sched = reactor_sched(f->reactor) };
	Storm s = { .f = f };
	uint8_t buf[10];

	g_assert_cmpint(co_create(&f->nodes[0], 1, 0, NULL), ==, 0);
	for (int i = 0; i < 8; i++)
		co_group_spawn(&g, storm_one_co, &s);
	for (int i = 0; i < 30; i++) {
		reactor_co_sleep(f->reactor, 30 * MS);
		rpc_conns_fail_all(f->nodes[i % 2].rpc, "the test wants it");
	}
	s.over = true;
	co_group_wait(&g);
	g_test_message("%u calls, %u failed", s.calls, s.failed);
	g_assert_cmpuint(s.calls, >, 20);
	g_assert_cmpint(co_obj_read(&f->nodes[0], 1, buf, sizeof(buf), 0), ==, 0);
}

static void test_storm(const void *tls)
{
	Fixture f;

	fixture_init(&f, tls, 2);
	fixture_run(&f, storm_co);
	fixture_deinit(&f);
}

/* ---- time ---- */

/* An operation with a deadline, which takes `flags` milliseconds. */
static int coroutine_fn serve_slow(void *ctx, RpcReq *r)
{
	Node *n = ctx;
	const WireXattrReq *q = r->req;

	reactor_co_sleep(n->rpc->reactor, q->flags * MS);
	return 0;
}

static void coroutine_fn deadline_co(void *arg)
{
	Fixture *f = arg;
	Node *n = &f->nodes[0];
	WireXattrReq q = { .flags = 1000 };
	RpcCall call = { .req = &q, .req_len = sizeof(q), .timeout_ns = 200 * MS };
	int64_t start = g_get_monotonic_time();

	rpc_serve(f->nodes[1].rpc, WIRE_SETXATTR, serve_slow, &f->nodes[1]);
	g_assert_cmpint(rpc_co_call(n->rpc, 1, WIRE_SETXATTR, &call), ==, -EIO);
	g_assert_cmpint(g_get_monotonic_time() - start, <, 600000);
	g_assert_cmpint(g_get_monotonic_time() - start, >=, 190000); /* the reactor's clock stands still while it works */
	/* The connection is none the worse. */
	g_assert_cmpint(co_create(n, 1, 0, NULL), ==, 0);
	g_assert_cmpuint(n->rpc->stats.lost, ==, 0);
	/* Its late reply bothers nobody. */
	reactor_co_sleep(f->reactor, 1000 * MS);
	g_assert_cmpint(co_create(n, 1, 0, NULL), ==, 0);
	g_assert_cmpuint(n->rpc->stats.bad_message + n->rpc->stats.unauthenticated, ==, 0);
}

static void test_deadline(void)
{
	Fixture f;

	fixture_init(&f, NULL, 2);
	fixture_run(&f, deadline_co);
	fixture_deinit(&f);
}

static void coroutine_fn down_co(void *arg)
{
	Fixture *f = arg;
	Node *n = &f->nodes[0];
	int64_t start = g_get_monotonic_time();

	g_assert_cmpint(rpc_peer_state(n->rpc, 0), ==, RPC_PEER_SELF);
	g_assert_cmpint(rpc_peer_state(n->rpc, 1), ==, RPC_PEER_IDLE);
	g_assert_cmpint(co_create(n, 1, 0, NULL), ==, -EIO);
	g_assert_cmpint(g_get_monotonic_time() - start, >=, 1400000);
	g_assert_cmpint(g_get_monotonic_time() - start, <, 2500000);
	while (rpc_peer_state(n->rpc, 1) != RPC_PEER_DOWN)
		reactor_co_sleep(f->reactor, 20 * MS);
	start = g_get_monotonic_time();
	g_assert_cmpint(co_create(n, 1, 0, NULL), ==, -EIO); /* at once */
	g_assert_cmpint(g_get_monotonic_time() - start, <, 50000);
}

static void coroutine_fn leave_soon(void *arg)
{
	Fixture *f = arg;

	reactor_co_sleep(f->reactor, 50 * MS);
	rpc_leave(f->nodes[0].rpc);
}

/* Peer 1 is there, peer 2 is not. */
static void coroutine_fn leave_co(void *arg)
{
	Fixture *f = arg;
	Node *n = &f->nodes[0];
	int64_t start = g_get_monotonic_time();

	g_assert_cmpint(co_create(n, 1, 0, NULL), ==, 0);
	co_spawn(reactor_sched(f->reactor), CO_INTERNAL, leave_soon, f);
	g_assert_cmpint(co_create(n, 2, 0, NULL), ==, -EIO); /* under way */
	g_assert_cmpint(co_create(n, 2, 0, NULL), ==, -EIO);
	g_assert_cmpint(g_get_monotonic_time() - start, <, 1000000);
	g_assert_cmpint(co_create(n, 1, 0, NULL), ==, 0);
}

static void test_leave(void)
{
	Fixture f;

	fixture_init(&f, NULL, 2);
	fixture_run(&f, leave_co);
	fixture_deinit(&f);
}

static void coroutine_fn back_up_co(void *arg)
{
	Fixture *f = arg;
	int64_t start = g_get_monotonic_time();

	while (rpc_peer_state(f->nodes[0].rpc, 1) != RPC_PEER_UP)
		reactor_co_sleep(f->reactor, 10 * MS);
	g_assert_cmpint(g_get_monotonic_time() - start, <, 3000000);
	g_assert_cmpint(co_create(&f->nodes[0], 1, 0, NULL), ==, 0);
}

static void test_down(void)
{
	Fixture f;

	fixture_init(&f, NULL, 1);
	g_test_expect_message("rpc", G_LOG_LEVEL_WARNING, "peer 1 *refuses connections*");
	fixture_run(&f, down_co);
	g_test_assert_expected_messages();
	node_start(&f, 1);
	fixture_run(&f, back_up_co);
	/* The first call after a peer was restarted, and what it did before. */
	node_stop(&f.nodes[1]);
	node_start(&f, 1);
	fixture_run(&f, back_up_co);
	g_assert_cmpuint(f.nodes[1].creates, ==, 1);
	fixture_deinit(&f);
}

/* A disk may take its time: as long as its peer lives, no data is refused. */
static void coroutine_fn slow_disk_co(void *arg)
{
	Fixture *f = arg;
	WireObjReq q = { .mode = 2000 };
	RpcCall call = { .req = &q, .req_len = sizeof(q) };

	g_assert_cmpint(f->nodes[0].rpc->deadline_ns, <, 2000 * MS);
	g_assert_cmpint(rpc_co_call(f->nodes[0].rpc, 1, WIRE_OBJ_WRITE, &call), ==, 0);
}

static void test_slow_disk(void)
{
	Fixture f;

	fixture_init(&f, NULL, 2);
	fixture_run(&f, slow_disk_co);
	fixture_deinit(&f);
}

static void coroutine_fn lock_co(void *arg)
{
	Slow *s = arg;
	WireLockReq q = { .wait = 1 };
	RpcCall call = { .req = &q, .req_len = sizeof(q) };

	s->result = rpc_co_call(s->f->nodes[0].rpc, 1, WIRE_LOCK_SET, &call);
	s->done = true;
}

static void coroutine_fn waits_co(void *arg)
{
	Fixture *f = arg;
	Slow s = { .f = f };
	CoGroup g = { .sched = reactor_sched(f->reactor) };

	/* Longer than any deadline, and over a reconnect. */
	co_group_spawn(&g, lock_co, &s);
	reactor_co_sleep(f->reactor, 1000 * MS);
	rpc_conns_fail_all(f->nodes[0].rpc, "the test wants it");
	reactor_co_sleep(f->reactor, 1000 * MS);
	g_assert_false(s.done);
	f->nodes[1].let_go = true;
	co_queue_wake_all(&f->nodes[1].locks);
	co_group_wait(&g);
	g_assert_cmpint(s.result, ==, 0);
	g_assert_cmpuint(f->nodes[1].rpc->stats.duplicates, ==, 1);
	/* But not when its peer stays away. */
	f->nodes[1].let_go = false;
	s.done = false;
	co_group_spawn(&g, lock_co, &s);
	reactor_co_sleep(f->reactor, 100 * MS);
	f->nodes[0].rpc->dirty = true; /* connects no more */
	rpc_conns_fail_all(f->nodes[0].rpc, "the test wants it");
	reactor_co_sleep(f->reactor, 1300 * MS);
	g_assert_false(s.done);
	co_group_wait(&g);
	g_assert_cmpint(s.result, ==, -EIO);
	f->nodes[0].rpc->dirty = false;
	co_queue_wake_all(&f->nodes[0].rpc->clean);
}

static void test_waits(void)
{
	Fixture f;

	fixture_init(&f, NULL, 2);
	fixture_run(&f, waits_co);
	fixture_deinit(&f);
}

/* UCX loses everything while TCP goes on: what a firewall can do. */
static void coroutine_fn deaf_co(void *arg)
{
	Fixture *f = arg;
	Slow s = { .f = f };
	CoGroup g = { .sched = reactor_sched(f->reactor) };
	GHashTableIter it;
	void *conn;

	g_assert_cmpint(co_create(&f->nodes[0], 1, 0, NULL), ==, 0);
	g_hash_table_iter_init(&it, f->nodes[1].rpc->conns);
	g_assert_true(g_hash_table_iter_next(&it, NULL, &conn));
	g_hash_table_iter_steal(&it); /* its token is not known any more */
	co_group_spawn(&g, lock_co, &s);
	reactor_co_sleep(f->reactor, 500 * MS);
	f->nodes[1].let_go = true;
	g_assert_false(s.done);
	co_group_wait(&g); /* it has come over another connection */
	g_assert_cmpint(s.result, ==, 0);
	g_assert_cmpuint(f->nodes[0].rpc->stats.lost, ==, 1);
	g_assert_cmpuint(f->nodes[0].rpc->stats.connects, ==, 2);
}

static void test_deaf(void)
{
	Fixture f;

	fixture_init(&f, NULL, 2);
	fixture_run(&f, deaf_co);
	fixture_deinit(&f);
}

/* ... and a handler that takes long is no reason. */
static void coroutine_fn patient_co(void *arg)
{
	Fixture *f = arg;
	Slow s = { .f = f };
	CoGroup g = { .sched = reactor_sched(f->reactor) };

	co_group_spawn(&g, lock_co, &s);
	reactor_co_sleep(f->reactor, 6000 * MS);
	g_assert_false(s.done);
	f->nodes[1].let_go = true;
	co_queue_wake_all(&f->nodes[1].locks);
	co_group_wait(&g);
	g_assert_cmpint(s.result, ==, 0);
	g_assert_cmpuint(f->nodes[0].rpc->stats.lost, ==, 0);
}

static void test_patient(void)
{
	Fixture f;

	fixture_init(&f, NULL, 2);
	fixture_run(&f, patient_co);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	/* Warnings about peers that are away are what some tests are about. */
	g_log_set_always_fatal(G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
	g_test_add_func("/rpc/local", test_local);
	for (size_t i = 0; i < G_N_ELEMENTS(transports); i++) {
		static const struct { const char *name; GTestDataFunc fn; } tests[] = {
			{ "sizes", test_sizes }, { "many", test_many },
			{ "not-twice", test_not_twice }, { "storm", test_storm },
		};

		for (size_t t = 0; t < G_N_ELEMENTS(tests); t++) {
			g_autofree char *path = g_strdup_printf("/rpc/%s/%s", i ? "shm" : "tcp", tests[t].name);

			g_test_add_data_func(path, transports[i], tests[t].fn);
		}
	}
	g_test_add_func("/rpc/names", test_names);
	g_test_add_func("/rpc/acks", test_acks);
	g_test_add_func("/rpc/call-back", test_call_back);
	g_test_add_func("/rpc/away", test_away);
	g_test_add_func("/rpc/deadline", test_deadline);
	g_test_add_func("/rpc/slow-disk", test_slow_disk);
	g_test_add_func("/rpc/down", test_down);
	g_test_add_func("/rpc/leave", test_leave);
	g_test_add_func("/rpc/waits", test_waits);
	g_test_add_func("/rpc/deaf", test_deaf);
	g_test_add_func("/rpc/patient", test_patient);
	return g_test_run();
}
