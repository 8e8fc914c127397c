/* Two peers in one process, over loopback: names on one, inodes on the other. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ino.h"
#include "server/entry.h"
#include "server/exclusive.h"
#include "server/record.h"
#include "tests/unit/server-fixture.h"

typedef struct Pair {
	Peer p[2]; /* they share reactor and map */
	char *list;
	uint16_t port[2];
} Pair;

/* Two ports that nobody uses, at this moment. */
static void find_ports(Pair *pair)
{
	int fd[2];

	for (int i = 0; i < 2; i++) {
		struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		socklen_t len = sizeof(a);

		fd[i] = socket(AF_INET, SOCK_STREAM, 0);
		g_assert_cmpint(bind(fd[i], (struct sockaddr *)&a, sizeof(a)), ==, 0);
		g_assert_cmpint(getsockname(fd[i], (struct sockaddr *)&a, &len), ==, 0);
		pair->port[i] = ntohs(a.sin_port);
	}
	close(fd[0]);
	close(fd[1]);
}

static void start_peer(Pair *pair, uint16_t id)
{
	static const uint8_t cluster[16] = "a test's cluster";
	Peer *p = &pair->p[id];
	GError *error = NULL;

	p->counters = counters_new();
	RpcOptions ro = {
		.reactor = p->reactor, .map = p->map, .counters = p->counters, .self = id, .network = true,
		.listen_host = (char *)"127.0.0.1", .listen_port = pair->port[id],
		.secret = (const uint8_t *)"a secret of thirty-two bytes....", .secret_len = 32,
		.ucx_tls = "tcp", .deadline_ns = INT64_C(2000000000),
	};
	memcpy(ro.cluster_id, cluster, sizeof(cluster));
	p->rpc = rpc_new(&ro, &error);
	g_assert_no_error(error);
	ServerOptions so = {
		.reactor = p->reactor, .counters = p->counters, .map = p->map, .store_path = p->dir, .self = id,
		.reserve_bytes = 4096,
	};
	memcpy(so.cluster_id, cluster, sizeof(cluster));
	p->server = server_new(&so, &error);
	g_assert_no_error(error);
	server_attach(p->server, p->rpc);
	rpc_serve(p->rpc, WIRE_FORGET_QUERY, peer_forget_query, p);
	rpc_start(p->rpc);
	server_start(p->server);
}

static void stop_peer(Peer *p)
{
	if (!p->server)
		return;
	reactor_run_co(p->reactor, peer_co_stop, p);
	g_clear_pointer(&p->server, server_free);
	g_clear_pointer(&p->rpc, rpc_free);
	g_clear_pointer(&p->counters, counters_free);
}

static void set_up(Pair *pair, gconstpointer data)
{
	ReactorOptions ro = { 0 };
	GError *error = NULL;
	Reactor *reactor = reactor_new(&ro, &error);

	g_assert_no_error(error);
	find_ports(pair);
	pair->list = g_strdup_printf("127.0.0.1:%u,127.0.0.1:%u", pair->port[0], pair->port[1]);
	ClusterMap *map = map_new_from_list(pair->list, &error);
	g_assert_no_error(error);
	for (uint16_t i = 0; i < 2; i++) {
		pair->p[i] = (Peer) { .reactor = reactor, .map = map, .dir = g_dir_make_tmp("test-remote-XXXXXX", NULL) };
		start_peer(pair, i);
	}
}

static void tear_down(Pair *pair, gconstpointer data)
{
	stop_peer(&pair->p[0]);
	stop_peer(&pair->p[1]);
	map_free(pair->p[0].map);
	reactor_free(pair->p[0].reactor);
	for (int i = 0; i < 2; i++) {
		g_autofree char *command = g_strdup_printf("rm -rf '%s'", pair->p[i].dir);

		g_assert_cmpint(system(command), ==, 0);
		g_free(pair->p[i].dir);
	}
	g_free(pair->list);
}

/* Each call goes to the peer whose handler it is for, from peer 0. */
static int coroutine_fn make_at(Peer *p, uint64_t dir, const char *name, uint16_t peer, uint64_t *ret_ino)
{
	WireEntryRep rep;
	int r = do_create_as(p, (WireCreateReq) { .dir = dir, .mode = S_IFDIR | 0755, .flags = WIRE_CREATE_EXCL, .peer = peer }, name, NULL, &rep);

	if (r >= 0) {
		g_assert_cmpuint(rep.have_attr, ==, 1);
		*ret_ino = rep.attr.ino;
	}
	return r;
}

static void coroutine_fn wait_settled(Peer *p)
{
	for (int i = 0; count_records(p, RECORD_PREPARED) + count_records(p, RECORD_DECISION) > 0; i++) {
		g_assert_cmpint(i, <, 1000);
		reactor_co_sleep(p->reactor, INT64_C(10000000));
	}
}

static void coroutine_fn wait_gone(Peer *p, uint64_t ino)
{
	WireAttr a;

	/* Of a directory it is still known what it was (removed.h). */
	for (int i = 0; do_getattr(p, ino, &a) == 0 && (!S_ISDIR(a.mode) || a.nlink > 0); i++) {
		g_assert_cmpint(i, <, 1000);
		reactor_co_sleep(p->reactor, INT64_C(10000000));
	}
}

static void coroutine_fn co_directories(void *arg)
{
	Pair *pair = arg;
	Peer *a = &pair->p[0], *b = &pair->p[1];
	uint64_t far, near, deep, yonder;
	WireEntryRep rep;

	g_assert_cmpint(make_at(a, INO_ROOT, "far", 1, &far), ==, 0);
	g_assert_cmpuint(map_home(a->map, far), ==, 1);
	g_assert_cmpint(make_at(a, INO_ROOT, "far", 1, &near), ==, -EEXIST);
	g_assert_cmpint(make_at(a, INO_ROOT, "near", 0, &near), ==, 0);
	g_assert_cmpuint(map_home(a->map, near), ==, 0);
	wait_settled(b);
	/* the name's home knows the number and the type, the inode's all */
	g_assert_cmpint(do_lookup(a, INO_ROOT, "far", &rep), ==, 0);
	g_assert_cmpuint(rep.have_attr, ==, 0);
	g_assert_cmpuint(rep.attr.ino, ==, far);
	g_assert_cmpuint(rep.attr.mode, ==, S_IFDIR);
	g_assert_cmpuint(attr_of(a, INO_ROOT).nlink, ==, 4);
	g_assert_cmpuint(attr_of(b, far).nlink, ==, 2);
	g_assert_cmpint(do_getattr(a, far, &rep.attr), ==, -ESTALE);
	g_assert_cmpint(do_create(a, far, "x", S_IFREG, NULL), ==, -ESTALE);
	/* what spans both */
	uint64_t f = make_file(a, INO_ROOT, "f"), g = make_file(b, far, "g");
	g_assert_cmpint(do_rename(a, INO_ROOT, "none", far, "f", 0), ==, -ENOENT);
	g_assert_cmpint(do_rename(a, INO_ROOT, "f", far, "f", 0), ==, 0);
	g_assert_cmpuint(ino_of(a, INO_ROOT, "f"), ==, 0);
	g_assert_cmpuint(ino_of(b, far, "f"), ==, f);
	g_assert_cmpint(do_link(a, g, INO_ROOT, "g"), ==, 0);
	g_assert_cmpint(do_link(a, g, INO_ROOT, "g"), ==, -EEXIST);
	g_assert_cmpint(do_link(a, far, INO_ROOT, "h"), ==, -EPERM);
	g_assert_cmpuint(attr_of(b, g).nlink, ==, 2);
	g_assert_cmpint(do_unlink(a, INO_ROOT, "g"), ==, 0);
	g_assert_cmpuint(attr_of(b, g).nlink, ==, 1);
	g_assert_cmpint(do_unlink(b, far, "f"), ==, 0);
	wait_gone(a, f);
	g_assert_cmpint(do_rename(a, INO_ROOT, "far", near, "far", 0), ==, 0);
	g_assert_cmpuint(ino_of(b, far, ".."), ==, near);
	g_assert_cmpint(do_rename(a, INO_ROOT, "near", far, "near", 0), ==, -EINVAL);
	g_assert_cmpint(do_rename(a, near, "far", INO_ROOT, "far", 0), ==, 0);
	g_assert_cmpint(do_rename(a, INO_ROOT, "near", INO_ROOT, "far", 0), ==, -ENOTEMPTY);
	/* within one directory it does not matter where the inode is */
	g_assert_cmpint(do_rename(a, INO_ROOT, "far", INO_ROOT, "far2", 0), ==, 0);
	g_assert_cmpint(do_rename(a, INO_ROOT, "far2", INO_ROOT, "near", RENAME_EXCHANGE), ==, 0);
	g_assert_cmpuint(ino_of(a, INO_ROOT, "near"), ==, far);
	g_assert_cmpint(do_rename(a, INO_ROOT, "far2", INO_ROOT, "near", RENAME_EXCHANGE), ==, 0);
	/* ways up that end at the root, in the old parent, or leave the peer */
	g_assert_cmpint(make_at(b, far, "deep", 1, &deep), ==, 0);
	g_assert_cmpint(do_create(b, deep, "sub", S_IFDIR, NULL), ==, 0);
	g_assert_cmpint(do_rename(b, deep, "sub", far, "sub", 0), ==, 0);
	g_assert_cmpint(do_rename(b, far, "sub", deep, "sub", 0), ==, 0);
	g_assert_cmpint(do_rename(b, far, "deep", deep, "x", 0), ==, -EINVAL);
	g_assert_cmpint(make_at(a, near, "yonder", 1, &yonder), ==, 0);
	g_assert_cmpint(do_rename(b, deep, "sub", yonder, "sub", 0), ==, 0);
	g_assert_cmpint(do_rename(b, yonder, "sub", deep, "sub", 0), ==, 0);
	g_assert_cmpint(do_rmdir(a, near, "yonder"), ==, 0);
	wait_gone(b, yonder);
	g_assert_cmpint(do_rmdir(b, deep, "sub"), ==, 0);
	/* and it goes when it is empty */
	g_assert_cmpint(do_unlink(a, INO_ROOT, "far2"), ==, -EISDIR);
	g_assert_cmpint(do_rmdir(a, INO_ROOT, "far2"), ==, -ENOTEMPTY);
	g_assert_cmpint(do_unlink(b, far, "g"), ==, 0);
	g_assert_cmpint(do_rmdir(b, far, "deep"), ==, 0);
	g_assert_cmpint(do_rmdir(a, INO_ROOT, "far2"), ==, 0);
	wait_gone(b, far);
	wait_settled(b);
	g_assert_cmpuint(attr_of(a, INO_ROOT).nlink, ==, 3);
	g_assert_cmpuint(inodes_count(b->server), ==, 0);
}

static void test_directories(Pair *pair, gconstpointer data)
{
	reactor_run_co(pair->p[0].reactor, co_directories, pair);
}

/* A file that another mount has open outlives its name. */
static void coroutine_fn co_orphans(void *arg)
{
	Pair *pair = arg;
	Peer *a = &pair->p[0], *b = &pair->p[1];
	uint64_t f = make_file(a, INO_ROOT, "f");
	WireAttr attr;

	/* a asks those who have ever called it */
	WireInoReq req = { .ino = f };
	WireAttrRep rep;
	RpcCall get = { .req = &req, .req_len = sizeof(req), .rep = &rep };
	g_assert_cmpint(rpc_co_call(b->rpc, 0, WIRE_GETATTR, &get), ==, 0);
	g_assert_cmpuint(rep.attr.ino, ==, f);
	b->open = true;
	g_assert_cmpint(do_unlink(a, INO_ROOT, "f"), ==, 0);
	for (int i = 0; b->asked == 0; i++) {
		g_assert_cmpint(i, <, 500);
		reactor_co_sleep(a->reactor, INT64_C(10000000));
	}
	reactor_co_sleep(a->reactor, INT64_C(50000000));
	g_assert_cmpint(do_getattr(a, f, &attr), ==, 0);
	g_assert_cmpuint(attr.nlink, ==, 0);
	b->open = false;
	RpcCall call = { .req = &req, .req_len = sizeof(req) };
	g_assert_cmpint(rpc_co_call(b->rpc, 0, WIRE_ORPHAN_CLOSED, &call), ==, 0);
	wait_gone(a, f);
}

static void test_orphans(Pair *pair, gconstpointer data)
{
	reactor_run_co(pair->p[0].reactor, co_orphans, pair);
}

/* ---- what the other peer holds back ---- */

static int coroutine_fn held_back(void *ctx, RpcReq *r)
{
	const WireAttr *attr = ctx;

	*(WireHeldBack *)r->rep = (WireHeldBack) {
		.ino = attr->ino, .end = 100, .base_ns = attr->mtime_ns, .mtime_ns = attr->mtime_ns + 1, .ctime_ns = attr->ctime_ns + 1,
	};
	return 0;
}

static void coroutine_fn set_holder(Peer *p, uint64_t ino, uint16_t peer)
{
	InodeData d;
	Inode *inode;

	g_assert_cmpint(inode_co_get_as_is(p->server, ino, &inode), ==, 0);
	inode_data_copy(&d, &inode->d);
	exclusive_set(&d, peer);
	inode_publish(inode, &d);
	inode_unref(p->server, inode);
}

/* Who makes what is there already asks for it with the name locked. */
static void coroutine_fn co_found(void *arg)
{
	Pair *pair = arg;
	Peer *a = &pair->p[0];
	WireCreateReq again = { .dir = INO_ROOT, .mode = S_IFREG | 0644, .peer = PEER_NONE };
	uint64_t f = make_file(a, INO_ROOT, "f");
	WireAttr before = attr_of(a, f);
	WireEntryRep rep;

	rpc_serve(pair->p[1].rpc, WIRE_HELD_BACK, held_back, &before);
	set_holder(a, f, 1);
	g_assert_cmpint(do_create_as(a, again, "f", NULL, &rep), ==, 0);
	g_assert_cmpuint(rep.attr.ino, ==, f);
	g_assert_cmpuint(rep.created, ==, 0);
	g_assert_cmpuint(rep.attr.size, ==, 100);
	again.flags = WIRE_CREATE_EXCL;
	set_holder(a, f, 1);
	g_assert_cmpint(do_create_as(a, again, "f", NULL, &rep), ==, -EEXIST);
}

static void test_found(Pair *pair, gconstpointer data)
{
	reactor_run_co(pair->p[0].reactor, co_found, pair);
}

/* ---- the other peer is away ---- */

static uint64_t left;

static void coroutine_fn co_before(void *arg)
{
	Pair *pair = arg;

	g_assert_cmpint(make_at(&pair->p[0], INO_ROOT, "far", 1, &left), ==, 0);
	wait_settled(&pair->p[1]);
}

static void coroutine_fn co_away(void *arg)
{
	Pair *pair = arg;
	Peer *a = &pair->p[0];
	uint64_t ino;
	int64_t start = g_get_monotonic_time();

	g_assert_cmpint(make_at(a, INO_ROOT, "other", 1, &ino), ==, -EIO);
	g_assert_cmpint(do_rmdir(a, INO_ROOT, "far"), ==, -EIO);
	g_assert_cmpint(g_get_monotonic_time() - start, <, 10 * G_USEC_PER_SEC);
	/* nothing happened, and what is here goes on */
	g_assert_cmpuint(ino_of(a, INO_ROOT, "far"), ==, left);
	g_assert_cmpuint(ino_of(a, INO_ROOT, "other"), ==, 0);
	make_file(a, INO_ROOT, "f");
}

static void coroutine_fn co_back(void *arg)
{
	Pair *pair = arg;
	int r;

	for (int i = 0; (r = do_rmdir(&pair->p[0], INO_ROOT, "far")) == -EIO; i++) {
		g_assert_cmpint(i, <, 300);
		reactor_co_sleep(pair->p[0].reactor, INT64_C(100000000)); /* it is tried again only every so often */
	}
	g_assert_cmpint(r, ==, 0);
	wait_gone(&pair->p[1], left);
}

static void test_away(Pair *pair, gconstpointer data)
{
	Reactor *r = pair->p[0].reactor;

	reactor_run_co(r, co_before, pair);
	stop_peer(&pair->p[1]);
	reactor_run_co(r, co_away, pair);
	start_peer(pair, 1);
	reactor_run_co(r, co_back, pair);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_log_set_always_fatal(G_LOG_LEVEL_ERROR); /* a peer that is away is worth a warning */
#define TEST(name, fn) g_test_add("/remote/" name, Pair, NULL, set_up, fn, tear_down)
	TEST("directories", test_directories);
	TEST("orphans", test_orphans);
	TEST("found", test_found);
	TEST("away", test_away);
	return g_test_run();
}
