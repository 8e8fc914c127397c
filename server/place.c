#include "server/place.h"

#include "common/ino.h"

/* The home knows its own store only: of the writer's it takes the word. */
uint16_t place_local_target(const Place *p)
{
	uint16_t t = p->writer < p->peers ? p->writer : p->self;

	if (t != p->self || !p->self_full || p->peers < 2)
		return t;
	return (uint16_t)((p->self + 1 + p->ino % (p->peers - 1u)) % p->peers);
}

/* As many as the run so far has, so that it doubles: a sequential writer asks
 * ten times for the first gigabyte and then once for each. A run of another
 * target does not grow: several writers share the file. */
static uint64_t window(const WireRun *before, const WireRun *run)
{
	if (!before || before->width != run->width)
		return 1;
	if (run->width == 1 && before->target != run->target)
		return 1;
	return MIN(before->count, PLACE_WINDOW_MAX);
}

WireRun place_run(const Place *p, const WireRun *before, uint64_t first, uint64_t count, uint64_t room)
{
	WireRun run = { .first = first, .width = 1 };

	/* Counted from chunk 0, so that runs made apart continue each other. */
	if (p->policy == WIRE_POLICY_STRIPE && p->peers > 1) {
		run.width = p->peers;
		run.target = (uint16_t)((ino_seq(p->ino) % p->peers + first % p->peers) % p->peers);
	} else {
		run.target = place_local_target(p);
	}
	run.count = MIN(MAX(count, window(before, &run)), room);
	return run;
}
