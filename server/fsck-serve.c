/* FSCK: the facts of this peer's store, a piece at a time, while it is in use.
 * On a thread: the piece is read from a snapshot, and nobody waits for it. */
#include <errno.h>
#include <string.h>

#include "server/fsck.h"
#include "server/internal.h"
#include "server/store.h"

typedef struct Piece {
	FsckSource src;
	WireFsckPlace place;
	GByteArray *facts;
	size_t limit;
	char *why;
} Piece;

static int read_piece(struct rocksdb_t *db, void *arg)
{
	Piece *p = arg;

	p->src.db = db;
	return fsck_scan(&p->src, &p->place, p->facts, p->limit, &p->why);
}

static int coroutine_fn fsck_handler(void *ctx, RpcReq *r)
{
	Server *s = ctx;
	Piece p = {
		.src = { .storefd = store_dirfd(s->store), .self = s->self, .peers = map_peer_count(s->map) },
		.limit = MIN(r->out_cap, FSCK_PIECE),
	};

	if (r->out_cap < FSCK_PIECE / 2)
		return -ERANGE;
	memcpy(&p.place, r->req, sizeof(p.place));
	p.facts = g_byte_array_new();
	int res = meta_co_read(s->meta, read_piece, &p);
	g_assert(p.facts->len <= r->out_cap);
	if (p.why)
		g_warning("checking the store: %s", p.why);
	g_free(p.why);
	if (res >= 0) {
		memcpy(r->rep, &p.place, sizeof(p.place));
		if (p.facts->len > 0)
			memcpy(r->out, p.facts->data, p.facts->len);
		r->out_len = p.facts->len;
	}
	g_byte_array_free(p.facts, TRUE);
	return res;
}

void fsck_attach(Server *s)
{
	rpc_serve(s->rpc, WIRE_FSCK, fsck_handler, s);
}
