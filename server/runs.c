#include "server/runs.h"

#include <string.h>

Runs *runs_new(void)
{
	Runs *r = g_new0(Runs, 1);

	r->refs = 1;
	return r;
}

Runs *runs_ref(Runs *r)
{
	r->refs++;
	return r;
}

void runs_unref(Runs *r)
{
	if (!r || --r->refs > 0)
		return;
	g_free(r->v);
	g_free(r);
}

Runs *runs_copy(const Runs *r)
{
	Runs *copy = runs_new();

	copy->n = copy->cap = r->n;
	copy->v = g_memdup2(r->v, r->n * sizeof(WireRun));
	return copy;
}

/* ---- arithmetic ---- */

uint16_t run_target(const WireRun *run, uint64_t chunk)
{
	g_assert(run_has(run, chunk));
	if (run->width <= 1)
		return run->target;
	return (uint16_t)((run->target + (chunk - run->first)) % run->width);
}

uint64_t run_same_target(const WireRun *run, uint64_t chunk)
{
	return run->width <= 1 ? run_end(run) - chunk : 1;
}

bool run_valid(const WireRun *run, uint8_t shift)
{
	uint64_t last = chunk_last(shift);

	if (run->count == 0 || run->first > last || run->count > last - run->first + 1)
		return false;
	return run->target < PEER_MAX && run->width >= 1 && run->width <= PEER_MAX &&
		(run->width == 1 || run->target < run->width);
}

/* ---- looking ---- */

uint32_t runs_index(const Runs *r, uint64_t chunk)
{
	uint32_t lo = 0, hi = r->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (run_end(&r->v[mid]) > chunk)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

const WireRun *runs_find(const Runs *r, uint64_t chunk)
{
	uint32_t i = runs_index(r, chunk);

	return i < r->n && r->v[i].first <= chunk ? &r->v[i] : NULL;
}

bool runs_next_gap(const Runs *r, uint64_t first, uint64_t count, uint64_t *ret_first, uint64_t *ret_count)
{
	uint64_t at = first, end = first + count;
	uint32_t i = runs_index(r, first);

	while (i < r->n && r->v[i].first <= at)
		at = run_end(&r->v[i++]);
	if (at >= end)
		return false;
	*ret_first = at;
	*ret_count = (i < r->n ? MIN(end, r->v[i].first) : end) - at;
	return true;
}

bool runs_all_on(const Runs *r, uint64_t first, uint64_t count, uint16_t peer)
{
	uint64_t end = first + count;

	for (uint32_t i = runs_index(r, first); i < r->n && r->v[i].first < end; i++) {
		const WireRun *run = &r->v[i];
		uint64_t from = MAX(first, run->first);
		uint64_t to = MIN(end, run_end(run));

		/* Two neighbours of a striped run are on two peers. */
		if (run_target(run, from) != peer || (run->width > 1 && to - from > 1))
			return false;
	}
	return true;
}

void runs_targets(const Runs *r, uint64_t set[PEER_MAX / 64])
{
	for (uint32_t i = 0; i < r->n; i++) {
		const WireRun *run = &r->v[i];
		uint64_t n = MIN(run->count, run->width);

		for (uint64_t c = 0; c < n; c++) {
			uint16_t t = run_target(run, run->first + c);

			set[t / 64] |= UINT64_C(1) << (t % 64);
		}
	}
}

/* ---- changing ---- */

static void insert_at(Runs *r, uint32_t i, const WireRun *run)
{
	g_assert(r->refs == 1);
	if (r->n == r->cap) {
		r->cap = MAX(4, r->cap * 2);
		r->v = g_renew(WireRun, r->v, r->cap);
	}
	memmove(&r->v[i + 1], &r->v[i], (r->n - i) * sizeof(WireRun));
	r->v[i] = *run;
	r->n++;
}

static void remove_at(Runs *r, uint32_t i)
{
	g_assert(r->refs == 1);
	memmove(&r->v[i], &r->v[i + 1], (r->n - i - 1) * sizeof(WireRun));
	r->n--;
}

bool runs_append(Runs *r, const WireRun *run)
{
	if (r->n > 0 && run_end(&r->v[r->n - 1]) > run->first)
		return false;
	insert_at(r, r->n, run);
	return true;
}

/* Does b go on where a ends, so that one run can say both? */
static bool continues(const WireRun *a, const WireRun *b)
{
	if (run_end(a) != b->first || a->width != b->width)
		return false;
	if (a->width <= 1)
		return a->target == b->target;
	return (a->target + a->count) % a->width == b->target;
}

void runs_insert(Runs *r, const WireRun *run, WireRun *ret_merged, uint64_t *ret_dropped)
{
	uint32_t i = runs_index(r, run->first);

	g_assert(i == r->n || r->v[i].first >= run_end(run));
	if (i > 0 && continues(&r->v[i - 1], run))
		r->v[--i].count += run->count;
	else
		insert_at(r, i, run);
	*ret_dropped = UINT64_MAX;
	if (i + 1 < r->n && continues(&r->v[i], &r->v[i + 1])) {
		*ret_dropped = r->v[i + 1].first;
		r->v[i].count += r->v[i + 1].count;
		remove_at(r, i + 1);
	}
	*ret_merged = r->v[i];
}
