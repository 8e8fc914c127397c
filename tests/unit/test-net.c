/* What comes over the port: peers that do not belong, and bytes that are no
 * peer; messages without a token; a peer that is killed. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "common/net.h"
#include "tests/unit/rpc-fixture.h"

/* ---- peers that do not belong ---- */

typedef struct Refused {
	Fixture *f;
	int error;
	const char *words;
} Refused;

static void coroutine_fn refused_co(void *arg)
{
	Refused *q = arg;
	Node *client = &q->f->nodes[NODES_MAX - 1];
	g_autofree char *reason = NULL;
	int64_t start = g_get_monotonic_time();
	uint64_t sessions[4];

	g_assert_cmpint(rpc_co_connect(client->rpc, 0, 3000 * MS, &reason), ==, q->error);
	g_assert_cmpint(g_get_monotonic_time() - start, <, 2000000); /* it need not wait */
	g_test_message("%s", reason);
	g_assert_nonnull(strstr(reason, q->words));
	g_assert_nonnull(strstr(reason, "127.0.0.1:")); /* names who */
	g_assert_cmpint(co_create(client, 0, 0, NULL), ==, -EIO);
	g_assert_cmpuint(q->f->nodes[0].creates, ==, 0);
	g_assert_cmpuint(rpc_sessions(q->f->nodes[0].rpc, sessions, 4), ==, 1);
}

static void refused_run(Fixture *f, const RpcOptions *o, int error, const char *words)
{
	Refused q = { f, error, words };
	Node *client = node_start_with(f, o);

	reactor_run_co(f->reactor, refused_co, &q);
	g_assert_cmpuint(f->nodes[0].rpc->stats.refused, >, 0);
	node_stop(client);
}

static void test_wrong_secret(void)
{
	Fixture f;
	RpcOptions o;

	fixture_init(&f, NULL, 1);
	o = node_options(&f, PEER_NONE);
	o.secret = (const uint8_t *)"another secret";
	o.secret_len = 14;
	refused_run(&f, &o, -EACCES, "could not prove the secret");
	g_assert_cmpuint(f.nodes[0].rpc->stats.bad_handshake, >, 0);
	fixture_deinit(&f);
}

static void test_other_cluster(void)
{
	Fixture f;
	RpcOptions o;

	fixture_init(&f, NULL, 1);
	o = node_options(&f, PEER_NONE);
	o.cluster_id[3] = 7;
	refused_run(&f, &o, -EXDEV, "another cluster");
	fixture_deinit(&f);
}

static void test_other_list(void)
{
	Fixture f;
	RpcOptions o;
	g_autofree char *more = NULL;

	fixture_init(&f, NULL, 1);
	o = node_options(&f, PEER_NONE);
	more = g_strconcat(f.list, "127.0.0.2", NULL);
	map_free(f.nodes[NODES_MAX - 1].map);
	o.map = f.nodes[NODES_MAX - 1].map = map_new_from_list(more, NULL);
	refused_run(&f, &o, -EXDEV, "another peer list");
	fixture_deinit(&f);
}

/* The process at the address of peer 0 says that it is peer 1. */
static void test_other_peer(void)
{
	Fixture f;
	RpcOptions o, c;
	Node *n;

	fixture_init(&f, NULL, 0);
	o = node_options(&f, 1);
	o.listen_port = f.ports[0];
	n = node_start_with(&f, &o);
	f.nodes[0] = *n; /* for refused_co() to look at */
	c = node_options(&f, PEER_NONE);
	refused_run(&f, &c, -EXDEV, "another peer of the list");
	f.nodes[0] = (Node) { .rpc = NULL };
	fixture_deinit(&f);
}

/* ---- a listener that is no peer, or of another version ---- */

typedef struct Fake {
	Fixture *f;
	int fd;
	const void *answer;
	size_t len;
	bool over, ended;
} Fake;

static void coroutine_fn fake_co(void *arg)
{
	Fake *q = arg;

	while (!q->over) {
		int fd = uring_co_accept(reactor_uring(q->f->reactor), q->fd, NULL, NULL, SOCK_CLOEXEC);
		uint8_t buf[sizeof(HelloIntro)];

		if (fd < 0)
			break;
		net_co_recv_all(q->f->reactor, fd, buf, sizeof(buf), reactor_now_ns(q->f->reactor) + 1000 * MS);
		net_co_send_all(q->f->reactor, fd, q->answer, q->len);
		close(fd);
	}
	q->ended = true;
}

static void fake_check(const void *answer, size_t len, int error, const char *words)
{
	Fixture f;
	Fake q = { .f = &f, .answer = answer, .len = len };
	Refused r = { &f, error, words };
	RpcOptions o;

	fixture_init(&f, NULL, 0);
	q.fd = net_listen("127.0.0.1", f.ports[0], NULL);
	g_assert_cmpint(q.fd, >=, 0);
	co_spawn(reactor_sched(f.reactor), CO_INTERNAL, fake_co, &q);
	o = node_options(&f, PEER_NONE);
	node_start_with(&f, &o);
	f.nodes[0] = f.nodes[NODES_MAX - 1];
	reactor_run_co(f.reactor, refused_co, &r);
	f.nodes[0] = (Node) { .rpc = NULL };
	q.over = true;
	shutdown(q.fd, SHUT_RDWR);
	node_stop(&f.nodes[NODES_MAX - 1]);
	while (!q.ended)
		reactor_iterate(f.reactor, true);
	fixture_deinit(&f);
	close(q.fd);
}

static void test_other_version(void)
{
	HelloIntro intro;

	hello_intro_init(&intro);
	intro.head.version += 1;
	intro.head.refusal = HELLO_VERSION;
	g_autofree char *words = g_strdup_printf("version %u", WIRE_VERSION + 1);
	fake_check(&intro.head, sizeof(intro.head), -EPROTO, words);
}

static void test_no_peer(void)
{
	static const char answer[] = "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n";

	fake_check(answer, sizeof(answer), -EPROTO, "does not answer like a BenchFS peer");
}

/* A listener with a reflector's idea of proving: it sends back what it got. */
static void test_unproved(void)
{
	struct {
		HelloIntro intro;
		HelloProof proof;
	} answer = { .proof.refusal = HELLO_OK };

	hello_intro_init(&answer.intro);
	fake_check(&answer, sizeof(answer), -EACCES, "could not prove");
}

/* ---- bytes that are no peer ---- */

static int coroutine_fn raw_connect(Fixture *f)
{
	int fd = -1, r = net_co_connect(f->reactor, "127.0.0.1", f->ports[0], reactor_now_ns(f->reactor) + 1000 * MS, &fd);

	g_assert_cmpint(r, ==, 0);
	return fd;
}

/* How long until the other side closes; it may send something before. */
static int64_t coroutine_fn raw_wait_close(Fixture *f, int fd)
{
	int64_t start = g_get_monotonic_time();
	uint8_t buf[256];

	while (uring_co_recv_timeout(reactor_uring(f->reactor), fd, buf, sizeof(buf), 10000 * MS) > 0)
		;
	close(fd);
	return (g_get_monotonic_time() - start) / 1000;
}

static void coroutine_fn garbage_co(void *arg)
{
	Fixture *f = arg;
	HelloIntro good;
	uint8_t junk[600];

	hello_intro_init(&good);
	for (int i = 0; i < 60; i++) {
		int fd = raw_connect(f);
		size_t len = (size_t)(i * 10) + 1;

		for (size_t j = 0; j < len; j++)
			junk[j] = (uint8_t)g_random_int();
		/* As it is; behind the right first words; behind a whole intro. */
		if (i % 3)
			memcpy(junk, &good, MIN(len, i % 3 == 1 ? 12 : sizeof(good)));
		net_co_send_all(f->reactor, fd, junk, len);
		shutdown(fd, SHUT_WR);
		g_assert_cmpint(raw_wait_close(f, fd), <, 500);
	}
	g_assert_cmpuint(f->nodes[0].rpc->stats.bad_handshake, ==, 60);
	g_assert_cmpuint(f->nodes[0].rpc->stats.accepts, ==, 0);
	g_assert_cmpuint(f->nodes[0].rpc->handshakes, ==, 0);
	g_assert_cmpint(co_create(&f->nodes[1], 0, 0, NULL), ==, 0);
}

static void test_garbage(void)
{
	Fixture f;

	fixture_init(&f, NULL, 2);
	fixture_run(&f, garbage_co);
	fixture_deinit(&f);
}

/* Every prefix of a good greeting, then nothing more: the end of the
 * connection, and silence. */
static void coroutine_fn truncated_co(void *arg)
{
	Fixture *f = arg;
	HelloIntro good;

	hello_intro_init(&good);
	for (size_t len = 0; len <= sizeof(good); len++) {
		int fd = raw_connect(f);

		if (len)
			net_co_send_all(f->reactor, fd, &good, len);
		if (len % 2)
			shutdown(fd, SHUT_WR);
		else
			shutdown(fd, SHUT_RDWR);
		g_assert_cmpint(raw_wait_close(f, fd), <, 500);
	}
	g_assert_cmpint(co_create(&f->nodes[1], 0, 0, NULL), ==, 0);
}

static void test_truncated(void)
{
	Fixture f;

	fixture_init(&f, NULL, 2);
	fixture_run(&f, truncated_co);
	fixture_deinit(&f);
}

static void coroutine_fn slow_co(void *arg)
{
	Fixture *f = arg;
	HelloIntro good;
	int fds[100], open = 0;
	int64_t ms;

	hello_intro_init(&good);
	for (int i = 0; i < 100; i++) {
		fds[i] = raw_connect(f);
		net_co_send_all(f->reactor, fds[i], &good, 10);
	}
	reactor_co_sleep(f->reactor, 200 * MS);
	for (int i = 0; i < 100; i++)
		open += recv(fds[i], &good, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
	g_assert_cmpint(open, ==, 64); /* and no more */
	for (int i = 1; i < 100; i++)
		close(fds[i]);
	reactor_co_sleep(f->reactor, 50 * MS);
	/* One that dawdles keeps nobody out, and is not waited for for ever. */
	g_assert_cmpint(co_create(&f->nodes[1], 0, 0, NULL), ==, 0);
	ms = raw_wait_close(f, fds[0]);
	g_assert_cmpint(ms, >, 4000);
	g_assert_cmpint(ms, <, 5500);
}

static void test_slow(void)
{
	Fixture f;

	fixture_init(&f, NULL, 2);
	fixture_run(&f, slow_co);
	fixture_deinit(&f);
}

static void coroutine_fn version_raw_co(void *arg)
{
	Fixture *f = arg;
	HelloIntro intro;
	HelloHead answer;
	int fd = raw_connect(f);

	hello_intro_init(&intro);
	intro.head.version = 77;
	net_co_send_all(f->reactor, fd, &intro.head, sizeof(intro.head));
	g_assert_cmpint(net_co_recv_all(f->reactor, fd, &answer, sizeof(answer), reactor_now_ns(f->reactor) + 1000 * MS), ==, 0);
	g_assert_cmpuint(answer.version, ==, WIRE_VERSION);
	g_assert_cmpuint(answer.refusal, ==, HELLO_VERSION);
	g_assert_cmpint(raw_wait_close(f, fd), <, 500);
}

static void test_version_answer(void)
{
	Fixture f;

	fixture_init(&f, NULL, 1);
	fixture_run(&f, version_raw_co);
	fixture_deinit(&f);
}

/* ---- messages ---- */

typedef struct Stranger {
	Fixture *f;
	Ucx *ucx;
	UcxEp *ep;
	UcxOp op;
	uint32_t sent, received;
} Stranger;

static bool stranger_recv(void *arg, const UcxMsg *msg)
{
	((Stranger *)arg)->received++;
	return false;
}

static void stranger_broken(void *arg, int error)
{
}

static void stranger_done(UcxOp *op, int res)
{
}

/* Who knows no token, but reaches the worker. */
static void coroutine_fn stranger_co(void *arg)
{
	Stranger *s = arg;
	Fixture *f = s->f;
	struct {
		RpcMsg m;
		uint8_t body[64];
	} msg;
	uint8_t *big = g_malloc0(1 << 20);
	size_t len;
	const void *address = ucx_address(f->nodes[0].rpc->ucx, &len);
	UcxOp ops[60];

	g_assert_cmpint(ucx_ep_new(s->ucx, address, stranger_broken, s, &s->ep), ==, 0);
	memset(&msg, 0, sizeof(msg));
	msg.m = (RpcMsg) { .seq = 1, .op = WIRE_CREATE, .body_len = sizeof(WireCreateReq) };
	for (uint32_t i = 0; i < 60; i++) {
		size_t header_len = i % 7 == 0 ? sizeof(RpcMsg) - 1 : sizeof(RpcMsg) + sizeof(WireCreateReq);

		msg.m.token = rpc_random();
		ops[i].done = stranger_done;
		ucx_ep_send(s->ep, i % RPC_MSG_IDS, &msg, header_len, big, i % 5 == 0 ? 1 << 20 : i, &ops[i]);
		reactor_co_sleep(f->reactor, 2 * MS);
	}
	reactor_co_sleep(f->reactor, 100 * MS);
	g_assert_cmpuint(f->nodes[0].rpc->stats.unauthenticated, ==, 60);
	g_assert_cmpuint(f->nodes[0].creates, ==, 0);
	g_assert_cmpuint(s->received, ==, 0);
	g_assert_cmpint(co_create(&f->nodes[1], 0, 0, NULL), ==, 0);
	s->op.done = stranger_done;
	ucx_ep_close(s->ep, &s->op);
	reactor_co_sleep(f->reactor, 50 * MS);
	g_free(big);
}

static void test_stranger(void)
{
	Fixture f;
	Stranger s = { .f = &f };
	UcxOptions o = { .tls = "tcp,self", .devices = "lo", .ids = RPC_MSG_IDS, .header_max = 1000, .recv = stranger_recv, .arg = &s };

	fixture_init(&f, NULL, 2);
	o.reactor = f.reactor;
	s.ucx = ucx_new(&o, NULL);
	reactor_run_co(f.reactor, stranger_co, &s);
	ucx_free(s.ucx);
	fixture_deinit(&f);
}

/* A peer that knows the token and talks nonsense. */
static void coroutine_fn nonsense_co(void *arg)
{
	Fixture *f = arg;
	Node *server = &f->nodes[0], *client = &f->nodes[1];
	const struct {
		RpcMsg m;
		uint16_t id;
		size_t bulk;
	} rows[] = {
		{ { .seq = 1, .op = WIRE_OP_COUNT, .body_len = 8 }, RPC_MSG_REQUEST, 0 },
		{ { .seq = 1, .op = UINT16_MAX, .body_len = 8 }, RPC_MSG_REQUEST, 0 },
		{ { .seq = 0, .op = WIRE_PING, .body_len = 8 }, RPC_MSG_REQUEST, 0 },
		{ { .seq = 1, .op = WIRE_PING, .body_len = 9 }, RPC_MSG_REQUEST, 0 },
		{ { .seq = 1, .op = WIRE_CREATE, .body_len = 8 }, RPC_MSG_REQUEST, 0 },
		{ { .seq = 1, .op = WIRE_PING, .body_len = UINT32_MAX }, RPC_MSG_REQUEST, 0 },
		{ { .seq = 1, .op = WIRE_PING, .body_len = 8, .acks = 5 }, RPC_MSG_REQUEST, 0 },
		{ { .seq = 1, .op = WIRE_PING, .body_len = 8 }, RPC_MSG_REQUEST, WIRE_BULK_MAX + 1 },
	};
	uint8_t *bulk = g_malloc0(WIRE_BULK_MAX + 1);

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		UcxOp op = { .done = stranger_done };
		struct {
			RpcMsg m;
			uint64_t body;
		} msg = { .m = rows[i].m };

		g_assert_cmpint(rpc_co_connect(client->rpc, 0, 5000 * MS, NULL), ==, 0);
		g_assert_cmpint(co_create(client, 0, 0, NULL), ==, 0);
		msg.m.token = client->rpc->peers[0].link.conn->peer_token;
		ucx_ep_send(client->rpc->peers[0].link.conn->ep, rows[i].id, &msg, sizeof(msg), bulk, rows[i].bulk, &op);
		reactor_co_sleep(f->reactor, 50 * MS);
		g_assert_cmpuint(server->rpc->stats.bad_message, ==, i + 1);
		g_assert_cmpuint(client->rpc->stats.lost, ==, i + 1);
	}
	g_assert_cmpint(rpc_co_connect(client->rpc, 0, 5000 * MS, NULL), ==, 0);
	g_assert_cmpint(co_create(client, 0, 0, NULL), ==, 0);
	g_assert_cmpuint(server->ended, ==, 0);
	g_free(bulk);
}

static void test_nonsense(void)
{
	Fixture f;

	fixture_init(&f, NULL, 2);
	fixture_run(&f, nonsense_co);
	fixture_deinit(&f);
}

/* ---- a peer that is killed ---- */

#define CALLS_MAX 100000u

typedef struct Victim {
	Fixture *f;
	const char *self_path, *tls;
	char *counts_path;
	uint8_t *counts; /* how often each was done, shared with the peer */
	pid_t pid;
	uint32_t next;
	bool over;
	uint32_t ok, failed, reads;
	int64_t longest_ms;
} Victim;

static uint8_t *counts_map(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	uint8_t *p;

	g_assert_cmpint(ftruncate(fd, CALLS_MAX), ==, 0);
	p = mmap(NULL, CALLS_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	g_assert_true(p != MAP_FAILED);
	close(fd);
	return p;
}

static int coroutine_fn serve_counted(void *ctx, RpcReq *r)
{
	const WireCreateReq *q = r->req;
	uint8_t *counts = ctx;

	g_assert_cmpuint(q->dir, <, CALLS_MAX);
	counts[q->dir]++;
	return 0;
}

/* The peer's program: --peer LIST PORT TLS COUNTS */
static void G_GNUC_NORETURN peer_main(char **argv)
{
	ReactorOptions ro = { 0 };
	Fixture f = { .list = argv[2], .tls = argv[4], .reactor = reactor_new(&ro, NULL) };
	RpcOptions o;
	Node *n = &f.nodes[1];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	f.ports[1] = (uint16_t)atoi(argv[3]);
	o = node_options(&f, 1);
	n->rpc = rpc_new(&o, NULL);
	g_assert_nonnull(n->rpc);
	rpc_serve(n->rpc, WIRE_CREATE, serve_counted, counts_map(argv[5]));
	rpc_serve(n->rpc, WIRE_OBJ_READ, serve_obj_read, n);
	rpc_serve(n->rpc, WIRE_OBJ_WRITE, serve_obj_write, n);
	rpc_start(n->rpc);
	for (;;) /* until it is killed */
		reactor_iterate(f.reactor, true);
}

static void victim_start(Victim *v)
{
	g_autofree char *port = g_strdup_printf("%u", v->f->ports[1]);
	char *argv[] = { (char *)v->self_path, (char *)"--peer", v->f->list, port, (char *)v->tls, v->counts_path, NULL };
	g_autoptr(GError) error = NULL;

	g_spawn_async(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &v->pid, &error);
	g_assert_no_error(error);
}

static void victim_kill(Victim *v)
{
	kill(v->pid, SIGKILL);
	waitpid(v->pid, NULL, 0);
}

static void victim_account(Victim *v, int64_t start, int r)
{
	v->longest_ms = MAX(v->longest_ms, (g_get_monotonic_time() - start) / 1000);
	g_assert_true(r == 0 || r == -EIO);
	v->ok += r == 0;
	v->failed += r < 0;
}

static void coroutine_fn victim_create_co(void *arg)
{
	Victim *v = arg;

	while (!v->over && v->next < CALLS_MAX) {
		WireCreateReq q = { .dir = v->next++ };
		RpcCall call = { .req = &q, .req_len = sizeof(q) };
		int64_t start = g_get_monotonic_time();
		int r = rpc_co_call(v->f->nodes[0].rpc, 1, WIRE_CREATE, &call);

		victim_account(v, start, r);
		if (r == 0)
			g_assert_cmpuint(v->counts[q.dir], ==, 1);
		reactor_co_sleep(v->f->reactor, (r < 0 ? 20 : 1) * MS);
	}
}

static void coroutine_fn victim_bulk_co(void *arg)
{
	Victim *v = arg;
	uint8_t *buf = g_malloc(4 << 20);

	pattern_fill(buf, 5, 4 << 20);
	while (!v->over) {
		int64_t start = g_get_monotonic_time();
		int r = v->reads++ % 2 ? co_obj_read(&v->f->nodes[0], 1, buf, 4 << 20, 5) : co_obj_write(&v->f->nodes[0], 1, buf, 4 << 20, 5);

		victim_account(v, start, r);
		if (r < 0) {
			pattern_fill(buf, 5, 4 << 20);
			reactor_co_sleep(v->f->reactor, 20 * MS);
		}
	}
	g_free(buf);
}

static void coroutine_fn victim_co(void *arg)
{
	Victim *v = arg;
	Reactor *r = v->f->reactor;
	CoGroup g = { .sched = reactor_sched(r) };

	victim_start(v);
	g_assert_cmpint(rpc_co_connect(v->f->nodes[0].rpc, 1, 20000 * MS, NULL), ==, 0);
	for (int i = 0; i < 8; i++)
		co_group_spawn(&g, i % 2 ? victim_bulk_co : victim_create_co, v);
	for (int i = 0; i < 4; i++) {
		uint32_t ok;

		reactor_co_sleep(r, 200 * MS);
		victim_kill(v);
		reactor_co_sleep(r, (i == 2 ? 2500 : 100) * MS);
		if (i == 2)
			g_assert_cmpint(rpc_peer_state(v->f->nodes[0].rpc, 1), ==, RPC_PEER_DOWN);
		victim_start(v);
		g_assert_cmpint(rpc_co_connect(v->f->nodes[0].rpc, 1, 20000 * MS, NULL), ==, 0);
		ok = v->ok;
		while (v->ok < ok + 20)
			reactor_co_sleep(r, 10 * MS);
	}
	v->over = true;
	co_group_wait(&g);
	victim_kill(v);
}

static const char *self_path;

static void test_killed(const void *tls)
{
	Fixture f;
	Victim v = { .f = &f, .self_path = self_path, .tls = tls, .counts_path = g_strdup_printf("%s/benchfs-test-net-%d", g_get_tmp_dir(), getpid()) };

	v.counts = counts_map(v.counts_path);
	fixture_init(&f, tls, 1);
	reactor_run_co(f.reactor, victim_co, &v);
	for (uint32_t i = 0; i < v.next; i++)
		g_assert_cmpuint(v.counts[i], <=, 1);
	g_test_message("%u calls done, %u failed, the longest took %d ms, %u retries", v.ok, v.failed, (int)v.longest_ms, (unsigned)f.nodes[0].rpc->stats.retries);
	g_assert_cmpuint(v.failed, >, 0);
	/* The deadline, and what UCX may take to let go of the buffers. */
	g_assert_cmpint(v.longest_ms, <, 1500 + 2500);
	fixture_deinit(&f);
	munmap(v.counts, CALLS_MAX);
	unlink(v.counts_path);
	g_free(v.counts_path);
}

/* A peer that is stopped, not dead: nobody closes its connections. */
static void coroutine_fn frozen_co(void *arg)
{
	Victim *v = arg;
	Node *n = &v->f->nodes[0];
	WireCreateReq q = { .dir = 0 };
	RpcCall call = { .req = &q, .req_len = sizeof(q), .timeout_ns = 20000 * MS };
	int64_t start;

	victim_start(v);
	g_assert_cmpint(rpc_co_connect(n->rpc, 1, 20000 * MS, NULL), ==, 0);
	kill(v->pid, SIGSTOP);
	start = g_get_monotonic_time();
	g_assert_cmpint(rpc_co_call(n->rpc, 1, WIRE_CREATE, &call), ==, -EIO);
	g_assert_cmpint(g_get_monotonic_time() - start, <, 17000000);
	g_assert_cmpuint(n->rpc->stats.lost, >=, 1);
	kill(v->pid, SIGCONT);
	while (rpc_peer_state(n->rpc, 1) != RPC_PEER_UP)
		reactor_co_sleep(v->f->reactor, 10 * MS);
	q.dir = 1;
	g_assert_cmpint(rpc_co_call(n->rpc, 1, WIRE_CREATE, &call), ==, 0);
	victim_kill(v);
}

static void test_frozen(void)
{
	Fixture f;
	Victim v = { .f = &f, .self_path = self_path, .tls = "tcp,self", .counts_path = g_strdup_printf("%s/benchfs-test-net-%d", g_get_tmp_dir(), getpid()) };

	v.counts = counts_map(v.counts_path);
	fixture_init(&f, NULL, 1);
	reactor_run_co(f.reactor, frozen_co, &v);
	g_assert_cmpuint(v.counts[0], <=, 1);
	g_assert_cmpuint(v.counts[1], ==, 1);
	fixture_deinit(&f);
	munmap(v.counts, CALLS_MAX);
	unlink(v.counts_path);
	g_free(v.counts_path);
}

int main(int argc, char **argv)
{
	g_autofree char *path = g_file_read_link("/proc/self/exe", NULL);

	if (argc == 6 && strcmp(argv[1], "--peer") == 0)
		peer_main(argv);
	self_path = path;
	g_test_init(&argc, &argv, NULL);
	/* Warnings about peers that are refused or away are what this is about. */
	g_log_set_always_fatal(G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
	g_test_add_func("/net/wrong-secret", test_wrong_secret);
	g_test_add_func("/net/other-cluster", test_other_cluster);
	g_test_add_func("/net/other-list", test_other_list);
	g_test_add_func("/net/other-peer", test_other_peer);
	g_test_add_func("/net/other-version", test_other_version);
	g_test_add_func("/net/no-peer", test_no_peer);
	g_test_add_func("/net/unproved", test_unproved);
	g_test_add_func("/net/garbage", test_garbage);
	g_test_add_func("/net/truncated", test_truncated);
	g_test_add_func("/net/slow", test_slow);
	g_test_add_func("/net/version-answer", test_version_answer);
	g_test_add_func("/net/stranger", test_stranger);
	g_test_add_func("/net/nonsense", test_nonsense);
	g_test_add_data_func("/net/tcp/killed", "tcp,self", test_killed);
	g_test_add_data_func("/net/shm/killed", "posix,sysv,tcp,self", test_killed);
	g_test_add_func("/net/frozen", test_frozen);
	return g_test_run();
}
