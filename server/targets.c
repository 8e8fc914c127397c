#include "server/targets.h"

#define PARALLEL 64u

typedef struct Batch {
	Server *s;
	WireOp op;
	TargetCall *calls;
	size_t n, next;
} Batch;

static void coroutine_fn call_one(Server *s, WireOp op, TargetCall *c)
{
	RpcCall call = { .req = &c->req, .req_len = sizeof(c->req), .rep = &c->rep };

	c->r = rpc_co_call(s->rpc, c->target, op, &call);
}

/* One of the workers of a batch: takes calls until none is left. */
static void coroutine_fn worker(void *arg)
{
	Batch *b = arg;

	while (b->next < b->n)
		call_one(b->s, b->op, &b->calls[b->next++]);
}

int coroutine_fn targets_co_call(Server *s, WireOp op, TargetCall *calls, size_t n)
{
	Batch b = { .s = s, .op = op, .calls = calls, .n = n };
	CoGroup group = { .sched = reactor_sched(s->reactor) };

	for (size_t i = 1; i < MIN(n, PARALLEL); i++)
		co_group_spawn(&group, worker, &b);
	worker(&b);
	co_group_wait(&group);
	for (size_t i = 0; i < n; i++)
		if (calls[i].r < 0)
			return calls[i].r;
	return 0;
}

TargetCall *targets_of(const InodeData *d, const Runs *runs, const WireObjReq *req, size_t *ret_n)
{
	uint64_t set[PEER_MAX / 64] = { 0 };
	size_t n = 0;

	if (runs)
		runs_targets(runs, set);
	for (uint32_t i = 0; i < d->n_blocks; i++)
		if (d->blocks[i].target < PEER_MAX)
			set[d->blocks[i].target / 64] |= UINT64_C(1) << (d->blocks[i].target % 64);
	for (uint32_t i = 0; i < PEER_MAX / 64; i++)
		n += (size_t)__builtin_popcountll(set[i]);
	TargetCall *calls = g_new0(TargetCall, n + 1);
	*ret_n = 0;
	for (uint16_t t = 0; t < PEER_MAX; t++)
		if (set[t / 64] >> (t % 64) & 1)
			calls[(*ret_n)++] = (TargetCall) { .target = t, .req = *req };
	return calls;
}

void targets_note_blocks(InodeData *d, const TargetCall *calls, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (calls[i].r >= 0)
			inode_data_set_blocks(d, calls[i].target, calls[i].rep.blocks);
}
