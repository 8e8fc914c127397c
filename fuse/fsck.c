/* "system.benchfs.fsck.PEER.STAGE.A.B.SKIP", an extended attribute of the root:
 * a piece of what a peer tells of its store, for `benchfs fsck --online`. The
 * value is the place to go on from, then the facts. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fuse/internal.h"

bool fsck_is_asked(fuse_ino_t ino, const char *name)
{
	return ino == INO_ROOT && g_str_has_prefix(name, FSCK_XATTR);
}

static bool parse(const char *name, uint32_t *ret_peer, WireFsckPlace *ret_place)
{
	int end = 0;
	int n = sscanf(name + strlen(FSCK_XATTR), "%" SCNu32 ".%" SCNu32 ".%" SCNx64 ".%" SCNx64 ".%" SCNu32 "%n",
		       ret_peer, &ret_place->stage, &ret_place->a, &ret_place->b, &ret_place->skip, &end);

	return n == 5 && !name[strlen(FSCK_XATTR) + (size_t)end];
}

/* It reads every name there is, and takes a thread of each peer's. */
static bool is_allowed(fuse_req_t req)
{
	uid_t uid = fuse_req_ctx(req)->uid;

	return uid == 0 || uid == geteuid();
}

static int coroutine_fn co_piece(Mount *m, const char *name, uint8_t *buf, size_t size, size_t *ret_len)
{
	WireFsckPlace place = { 0 }, next;
	uint32_t peer;

	if (!parse(name, &peer, &place) || peer >= map_peer_count(m->map))
		return -ENODATA;
	if (size < sizeof(next))
		return -ERANGE;
	RpcCall call = {
		.req = &place, .req_len = sizeof(place), .rep = &next,
		.out = buf + sizeof(next), .out_cap = size - sizeof(next),
	};
	int r = rpc_co_call(m->rpc, (uint16_t)peer, WIRE_FSCK, &call);
	if (r < 0)
		return r;
	memcpy(buf, &next, sizeof(next));
	*ret_len = sizeof(next) + call.out_len;
	return 0;
}

void coroutine_fn fsck_co_reply(Mount *m, fuse_req_t req, const char *name, size_t size)
{
	g_autofree uint8_t *buf = g_malloc(size);
	size_t len = 0;
	int r = is_allowed(req) ? co_piece(m, name, buf, size, &len) : -EPERM;

	if (r < 0)
		ops_reply(req, r);
	else
		fuse_reply_buf(req, (const char *)buf, len);
}
