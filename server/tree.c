#define G_LOG_DOMAIN "server"
#include "server/tree.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "common/ino.h"

/* Far beyond what a path can name; a longer way up is a broken store. */
#define DEPTH_MAX 1000000
#define WAIT_NS INT64_C(4000000000)

struct Tree {
	WireTxnId holder; /* session 0: nobody */
	int64_t since_ns;
};

Tree *tree_new(void)
{
	return g_new0(Tree, 1);
}

void tree_free(Tree *t)
{
	g_free(t);
}

/* ---- at the root's home ---- */

static bool is_taken(Server *s)
{
	const Tree *t = s->tree;

	return t->holder.session && reactor_now_ns(s->reactor) < t->since_ns + TREE_LEASE_NS;
}

static void give_back(Server *s)
{
	s->tree->holder = (WireTxnId) { 0 };
	holds_wake(s);
}

static int coroutine_fn tree_lock(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireTreeReq *req = r->req;
	int64_t until = reactor_now_ns(s->reactor) + WAIT_NS;

	if (map_home(s->map, INO_ROOT) != s->self)
		return -ESTALE;
	while (is_taken(s)) {
		if (holds_co_wait_once(s, until) < 0)
			return -EAGAIN;
	}
	*s->tree = (Tree) { .holder = { r->session, req->number }, .since_ns = reactor_now_ns(s->reactor) };
	return 0;
}

static int coroutine_fn tree_unlock(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	const WireTreeReq *req = r->req;
	WireTxnId id = { r->session, req->number };

	if (txn_id_equal(&s->tree->holder, &id))
		give_back(s);
	return 0;
}

static void session_ended(void *ctx, uint64_t session)
{
	Server *s = ctx;

	if (s->tree->holder.session == session)
		give_back(s);
}

void tree_attach(Server *s)
{
	rpc_serve(s->rpc, WIRE_TREE_LOCK, tree_lock, s);
	rpc_serve(s->rpc, WIRE_TREE_UNLOCK, tree_unlock, s);
	rpc_on_session_ended(s->rpc, session_ended, s);
}

/* ---- everywhere ---- */

static int coroutine_fn call_root(Server *s, WireOp op, uint64_t number)
{
	WireTreeReq req = { number };
	RpcCall call = { .req = &req, .req_len = sizeof(req) };

	return rpc_co_call(s->rpc, map_home(s->map, INO_ROOT), op, &call);
}

int coroutine_fn tree_co_lock(TxnCall *t, uint64_t *ret_number)
{
	uint64_t number = ++t->s->txns->number;
	int64_t start = reactor_now_ns(t->s->reactor);
	int r = call_root(t->s, WIRE_TREE_LOCK, number);

	/* it may be ours, without our knowing */
	if (r < 0 && r != -EAGAIN)
		call_root(t->s, WIRE_TREE_UNLOCK, number);
	if (r < 0)
		return r;
	t->decide_by_ns = start + TREE_DECIDE_NS;
	*ret_number = number;
	return 0;
}

void coroutine_fn tree_co_unlock(TxnCall *t, uint64_t number)
{
	t->decide_by_ns = 0;
	call_root(t->s, WIRE_TREE_UNLOCK, number);
}

/* Through LOOKUP, which waits for changes of the directory under way. */
static int coroutine_fn get_parent(Server *s, uint64_t ino, uint64_t *ret_parent)
{
	struct {
		WireNameReq req;
		char name[2];
	} m = { .req = { .dir = ino, .name_len = 2 }, .name = { '.', '.' } };
	WireEntryRep rep;
	RpcCall call = { .req = &m, .req_len = sizeof(m.req) + 2, .rep = &rep };
	int r = rpc_co_call(s->rpc, map_home(s->map, ino), WIRE_LOOKUP, &call);

	if (r >= 0)
		*ret_parent = rep.attr.ino;
	return r;
}

int coroutine_fn tree_co_check(Server *s, uint64_t moved, uint64_t olddir, uint64_t newdir)
{
	uint64_t ino = newdir;

	for (uint32_t depth = 0; depth < DEPTH_MAX; depth++) {
		if (ino == moved)
			return -EINVAL;
		/* what is above olddir is not below moved */
		if (ino == olddir || ino == INO_ROOT)
			return 0;
		if (!ino_valid(ino))
			return -EIO;
		int r = get_parent(s, ino, &ino);
		if (r < 0)
			return r;
	}
	g_warning("inode %#" PRIx64 ": the way up to the root does not end", newdir);
	return -EIO;
}
