#include "common/wire.h"

#include <errno.h>
#include <string.h>

static const WireOpInfo wire_ops[] = {
#define OP(name, text, req, rep, flags) { #text, sizeof(req), sizeof(rep), flags },
	WIRE_OPS(OP)
#undef OP
};
static_assert(sizeof(wire_ops) / sizeof(wire_ops[0]) == WIRE_OP_COUNT, "one row an operation");

/* Sizes are multiples of 8, so that what follows a struct stays aligned and no
 * padding byte of the compiler's ever travels. */
#define OP(name, text, req, rep, flags) \
	static_assert(sizeof(req) <= WIRE_REQ_MAX && sizeof(req) % 8 == 0, #req); \
	static_assert(sizeof(rep) <= WIRE_REP_MAX && sizeof(rep) % 8 == 0, #rep);
WIRE_OPS(OP)
#undef OP

/* What wire_changes() relies on. */
static_assert(offsetof(WireRenameReq, dir) == 0 && offsetof(WireRenameReq, newdir) == 8, "inodes first");
static_assert(offsetof(WireLinkReq, ino) == 0 && offsetof(WireLinkReq, newdir) == 8, "inodes first");

const WireOpInfo *wire_op_info(uint32_t op)
{
	return op < WIRE_OP_COUNT ? &wire_ops[op] : NULL;
}

uint32_t wire_changes(WireOp op, const void *req, uint64_t ret_inos[2])
{
	uint32_t flags = wire_op_info(op)->flags;
	uint32_t n = flags & WIRE_CHANGES_TWO ? 2 : flags & WIRE_CHANGES ? 1 : 0;

	memcpy(ret_inos, req, n * sizeof(uint64_t));
	return n;
}

int wire_name(const void *req, uint32_t req_len, size_t fixed, size_t skip, uint16_t name_len, char buf[WIRE_NAME_MAX + 1])
{
	const char *name = (const char *)req + fixed + skip;

	if (fixed > req_len || skip > req_len - fixed || name_len > req_len - fixed - skip)
		return -EPROTO;
	if (name_len == 0)
		return -EINVAL;
	if (name_len > WIRE_NAME_MAX)
		return -ENAMETOOLONG;
	if (memchr(name, '/', name_len) || memchr(name, '\0', name_len))
		return -EINVAL;

	memcpy(buf, name, name_len);
	buf[name_len] = '\0';
	return 0;
}
