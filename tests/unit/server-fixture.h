#pragma once
/*
 * A peer in a temporary directory, alone, with calls to its handlers: what the
 * tests of the server's parts share. Everything static: each test is one file.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>

#include "server/internal.h"
#include "server/record.h"

typedef struct Peer {
	char *dir;
	Reactor *reactor;
	Counters *counters;
	ClusterMap *map;
	Rpc *rpc;
	Server *server;
	/* what FORGET_QUERY answers, and how often it was asked */
	bool open;
	uint32_t asked;
	/* called by FORGET_QUERY; may be NULL */
	void (*on_query)(struct Peer *p, bool undo);
	void *hidden; /* the hook's */
} Peer;

static int coroutine_fn peer_forget_query(void *ctx, RpcReq *r)
{
	Peer *p = ctx;
	const WireForgetReq *req = r->req;
	WireOpenRep *rep = r->rep;

	p->asked++;
	if (p->on_query)
		p->on_query(p, req->undo);
	rep->open = p->open;
	return 0;
}

static G_GNUC_UNUSED void peer_start(Peer *p)
{
	ReactorOptions ro = { 0 };
	GError *error = NULL;

	p->reactor = reactor_new(&ro, &error);
	g_assert_no_error(error);
	p->counters = counters_new();
	p->map = map_new_embedded();
	RpcOptions rpc_options = { .reactor = p->reactor, .map = p->map, .counters = p->counters };
	p->rpc = rpc_new(&rpc_options, &error);
	g_assert_no_error(error);
	ServerOptions so = {
		.reactor = p->reactor, .counters = p->counters, .map = p->map, .store_path = p->dir, .embedded = true,
		.reserve_bytes = 4096,
	};
	p->server = server_new(&so, &error);
	g_assert_no_error(error);
	server_attach(p->server, p->rpc);
	rpc_serve(p->rpc, WIRE_FORGET_QUERY, peer_forget_query, p);
	rpc_start(p->rpc);
	server_start(p->server);
}

static void coroutine_fn peer_co_stop(void *arg)
{
	Peer *p = arg;

	server_co_stop(p->server);
	rpc_co_stop(p->rpc);
}

static G_GNUC_UNUSED void peer_stop(Peer *p)
{
	reactor_run_co(p->reactor, peer_co_stop, p);
	g_clear_pointer(&p->server, server_free);
	g_clear_pointer(&p->rpc, rpc_free);
	g_clear_pointer(&p->map, map_free);
	g_clear_pointer(&p->counters, counters_free);
	g_clear_pointer(&p->reactor, reactor_free);
}

static G_GNUC_UNUSED void peer_set_up(Peer *p, gconstpointer data)
{
	p->dir = g_dir_make_tmp("test-server-XXXXXX", NULL);
	peer_start(p);
}

static G_GNUC_UNUSED void peer_tear_down(Peer *p, gconstpointer data)
{
	g_autofree char *command = g_strdup_printf("rm -rf '%s'", p->dir);

	peer_stop(p);
	g_assert_cmpint(system(command), ==, 0);
	g_free(p->dir);
}

/* ---- calls; all from a coroutine ---- */

static int coroutine_fn peer_call(Peer *p, WireOp op, const void *req, size_t req_len, void *rep)
{
	RpcCall call = { .req = req, .req_len = (uint32_t)req_len, .rep = rep };

	return rpc_co_call(p->rpc, rpc_self(p->rpc), op, &call);
}

typedef struct Message {
	uint8_t data[WIRE_REQ_MAX];
	size_t len;
} Message;

static G_GNUC_UNUSED void message_add(Message *m, const void *bytes, size_t len)
{
	g_assert(m->len + len <= sizeof(m->data));
	memcpy(m->data + m->len, bytes, len);
	m->len += len;
}

static G_GNUC_UNUSED int coroutine_fn do_lookup(Peer *p, uint64_t dir, const char *name, WireEntryRep *rep)
{
	WireNameReq req = { .dir = dir, .name_len = (uint16_t)strlen(name) };
	Message m = { 0 };

	message_add(&m, &req, sizeof(req));
	message_add(&m, name, strlen(name));
	return peer_call(p, WIRE_LOOKUP, m.data, m.len, rep);
}

static G_GNUC_UNUSED int coroutine_fn do_create_as(Peer *p, WireCreateReq req, const char *name, const char *target, WireEntryRep *rep)
{
	Message m = { 0 };

	req.name_len = (uint16_t)strlen(name);
	message_add(&m, &req, sizeof(req));
	message_add(&m, name, strlen(name));
	RpcCall call = {
		.req = m.data, .req_len = (uint32_t)m.len, .rep = rep,
		.in = target, .in_len = target ? strlen(target) : 0,
	};
	return rpc_co_call(p->rpc, rpc_self(p->rpc), WIRE_CREATE, &call);
}

/* 0 or -errno; *ret_ino may be NULL. */
static G_GNUC_UNUSED int coroutine_fn do_create(Peer *p, uint64_t dir, const char *name, uint32_t mode, uint64_t *ret_ino)
{
	WireEntryRep rep;
	int r = do_create_as(p, (WireCreateReq) { .dir = dir, .mode = mode, .flags = WIRE_CREATE_EXCL, .peer = PEER_NONE }, name, NULL, &rep);

	if (r >= 0 && ret_ino)
		*ret_ino = rep.attr.ino;
	return r;
}

static G_GNUC_UNUSED uint64_t coroutine_fn make_file(Peer *p, uint64_t dir, const char *name)
{
	uint64_t ino = 0;

	g_assert_cmpint(do_create(p, dir, name, S_IFREG | 0644, &ino), ==, 0);
	return ino;
}

static G_GNUC_UNUSED uint64_t coroutine_fn make_dir(Peer *p, uint64_t dir, const char *name)
{
	uint64_t ino = 0;

	g_assert_cmpint(do_create(p, dir, name, S_IFDIR | 0755, &ino), ==, 0);
	return ino;
}

static G_GNUC_UNUSED int coroutine_fn do_remove(Peer *p, uint64_t dir, const char *name, uint32_t flags)
{
	WireNameReq req = { .dir = dir, .flags = flags, .name_len = (uint16_t)strlen(name) };
	Message m = { 0 };

	message_add(&m, &req, sizeof(req));
	message_add(&m, name, strlen(name));
	return peer_call(p, WIRE_UNLINK, m.data, m.len, NULL);
}

static G_GNUC_UNUSED int coroutine_fn do_unlink(Peer *p, uint64_t dir, const char *name)
{
	return do_remove(p, dir, name, 0);
}

static G_GNUC_UNUSED int coroutine_fn do_rmdir(Peer *p, uint64_t dir, const char *name)
{
	return do_remove(p, dir, name, WIRE_UNLINK_RMDIR);
}

static G_GNUC_UNUSED int coroutine_fn do_rename(Peer *p, uint64_t dir, const char *name, uint64_t newdir, const char *newname, uint32_t flags)
{
	WireRenameReq req = {
		.dir = dir, .newdir = newdir, .flags = flags,
		.name_len = (uint16_t)strlen(name), .newname_len = (uint16_t)strlen(newname),
	};
	Message m = { 0 };

	message_add(&m, &req, sizeof(req));
	message_add(&m, name, strlen(name));
	message_add(&m, newname, strlen(newname));
	return peer_call(p, WIRE_RENAME, m.data, m.len, NULL);
}

static G_GNUC_UNUSED int coroutine_fn do_link(Peer *p, uint64_t ino, uint64_t newdir, const char *name)
{
	WireLinkReq req = { .ino = ino, .newdir = newdir, .name_len = (uint16_t)strlen(name) };
	Message m = { 0 };
	WireEntryRep rep;

	message_add(&m, &req, sizeof(req));
	message_add(&m, name, strlen(name));
	return peer_call(p, WIRE_LINK, m.data, m.len, &rep);
}

static G_GNUC_UNUSED int coroutine_fn do_getattr(Peer *p, uint64_t ino, WireAttr *ret_attr)
{
	WireInoReq req = { .ino = ino };
	WireAttrRep rep;
	int r = peer_call(p, WIRE_GETATTR, &req, sizeof(req), &rep);

	if (r >= 0)
		*ret_attr = rep.attr;
	return r;
}

static G_GNUC_UNUSED WireAttr coroutine_fn attr_of(Peer *p, uint64_t ino)
{
	WireAttr attr;

	g_assert_cmpint(do_getattr(p, ino, &attr), ==, 0);
	return attr;
}

static G_GNUC_UNUSED int coroutine_fn do_setattr(Peer *p, WireSetattrReq req, WireAttr *ret_attr)
{
	WireAttrRep rep;
	int r = peer_call(p, WIRE_SETATTR, &req, sizeof(req), &rep);

	if (r >= 0 && ret_attr)
		*ret_attr = rep.attr;
	return r;
}

/* The number behind a name; 0: none. */
static G_GNUC_UNUSED uint64_t coroutine_fn ino_of(Peer *p, uint64_t dir, const char *name)
{
	WireEntryRep rep;
	int r = do_lookup(p, dir, name, &rep);

	if (r == -ENOENT)
		return 0;
	g_assert_cmpint(r, ==, 0);
	return rep.attr.ino;
}

/* ---- running ---- */

typedef void coroutine_fn PeerTest(Peer *p);

typedef struct PeerRun {
	Peer *p;
	PeerTest *fn;
} PeerRun;

static void coroutine_fn peer_co_run(void *arg)
{
	PeerRun *x = arg;

	x->fn(x->p);
}

/* For g_test_add(): the test is the data, and runs as a coroutine. */
static G_GNUC_UNUSED void peer_run(Peer *p, gconstpointer data)
{
	PeerRun x = { p, (PeerTest *)data };

	reactor_run_co(p->reactor, peer_co_run, &x);
}

#define PEER_TEST(name, fn) \
	g_test_add(name, Peer, (gconstpointer)(fn), peer_set_up, peer_run, peer_tear_down)

/* ---- what is in the store; from a coroutine ---- */

static G_GNUC_UNUSED uint32_t coroutine_fn count_of_slot(Peer *p, uint16_t slot, RecordType type)
{
	Key key = key_slot(slot, type);
	g_autoptr(MetaIter) it = meta_iter_new(p->server->meta, key.data, key.len, NULL, 0);
	const uint8_t *k, *v;
	size_t k_len, v_len;
	uint32_t n = 0;

	while (meta_iter_co_next(it, &k, &k_len, &v, &v_len) > 0)
		n++;
	return n;
}

/* Of those that are in no slot. */
static G_GNUC_UNUSED uint32_t coroutine_fn count_records(Peer *p, RecordType type)
{
	return count_of_slot(p, STORE_SLOT, type);
}
