#include "fuse/pieces.h"

bool pieces_shift_valid(uint32_t chunk_shift)
{
	return chunk_shift >= 12 && chunk_shift <= 40;
}

static bool run_valid(const WireRun *run, uint32_t n_peers)
{
	return run->count && run->first <= INT64_MAX && run->count <= INT64_MAX &&
	       run->width >= 1 && run->width <= n_peers && run->target < n_peers;
}

bool pieces_runs_valid(const WireRun *runs, uint32_t n, uint32_t n_peers)
{
	uint64_t next = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (!run_valid(&runs[i], n_peers) || runs[i].first < next)
			return false;
		next = runs[i].first + runs[i].count;
	}
	return true;
}

/* The first run that ends behind chunk; n when there is none. */
static uint32_t find_run(const WireRun *runs, uint32_t n, uint64_t chunk)
{
	uint32_t lo = 0, hi = n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (runs[mid].first + runs[mid].count > chunk)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static uint16_t run_target(const WireRun *run, uint64_t chunk)
{
	if (run->width == 1)
		return run->target;
	return (uint16_t)((run->target + (chunk - run->first)) % run->width);
}

uint16_t pieces_target(const WireRun *runs, uint32_t n, uint64_t chunk)
{
	uint32_t i = find_run(runs, n, chunk);

	if (i == n || runs[i].first > chunk)
		return PEER_NONE;
	return run_target(&runs[i], chunk);
}

/* The target of `chunk`, and the first chunk behind it whose target may differ. */
static uint16_t stretch(const WireRun *runs, uint32_t n, uint64_t chunk, uint64_t *ret_next)
{
	uint32_t i = find_run(runs, n, chunk);

	if (i == n) {
		*ret_next = UINT64_MAX;
		return PEER_NONE;
	}
	if (runs[i].first > chunk) {
		*ret_next = runs[i].first;
		return PEER_NONE;
	}
	*ret_next = runs[i].width == 1 ? runs[i].first + runs[i].count : chunk + 1;
	return run_target(&runs[i], chunk);
}

/* Adds a range, to the last piece when that has the same target. */
static void add_piece(GArray *pieces, uint64_t off, uint64_t len, uint16_t target)
{
	if (pieces->len) {
		Piece *last = &g_array_index(pieces, Piece, pieces->len - 1);
		if (last->target == target) {
			last->len += len;
			return;
		}
	}
	Piece piece = { .off = off, .len = len, .target = target };
	g_array_append_val(pieces, piece);
}

bool pieces_split(const WireRun *runs, uint32_t n, uint32_t chunk_shift, uint64_t off, uint64_t len, GArray *ret_pieces)
{
	uint64_t end = off + len;
	bool whole = true;

	g_array_set_size(ret_pieces, 0);
	while (off < end) {
		uint64_t next;
		uint16_t target = stretch(runs, n, off >> chunk_shift, &next);
		/* next may be as good as infinite: compare chunks, not bytes. */
		uint64_t stop = next > (end - 1) >> chunk_shift ? end : next << chunk_shift;

		add_piece(ret_pieces, off, stop - off, target);
		whole = whole && target != PEER_NONE;
		off = stop;
	}
	return whole;
}
