#include "server/lockset.h"

#include <fcntl.h>

void lockset_clear(LockSet *s)
{
	g_free(s->v);
	*s = (LockSet) { 0 };
}

static void append(LockSet *s, const LockRange *range)
{
	if (s->n == s->cap) {
		s->cap = MAX(4, s->cap * 2);
		s->v = g_renew(LockRange, s->v, s->cap);
	}
	s->v[s->n++] = *range;
}

static void remove_at(LockSet *s, uint32_t i)
{
	s->v[i] = s->v[--s->n];
}

static bool overlap(const LockRange *a, const LockRange *b)
{
	return a->start <= b->end && b->start <= a->end;
}

/* Overlapping, or with nothing between them. */
static bool touch(const LockRange *a, const LockRange *b)
{
	return overlap(a, b) || (a->end != UINT64_MAX && a->end + 1 == b->start) ||
		(b->end != UINT64_MAX && b->end + 1 == a->start);
}

const LockRange *lockset_conflict(const LockSet *s, const LockRange *want, uint32_t *at)
{
	for (; *at < s->n; ++*at) {
		const LockRange *have = &s->v[*at];

		if (!lock_same_owner(have, want) && overlap(have, want) &&
		    (have->type == F_WRLCK || want->type == F_WRLCK))
			return have;
	}
	return NULL;
}

/* Leaves of the i-th range what lies on both sides of `cut`. What this moves
 * or appends lies at i or behind, where the caller has already been. */
static void keep_rest(LockSet *s, uint32_t i, const LockRange *cut)
{
	LockRange left = s->v[i], right = s->v[i];
	bool has_left = left.start < cut->start, has_right = right.end > cut->end;

	left.end = cut->start - 1;
	right.start = cut->end + 1;
	if (has_left)
		s->v[i] = left;
	else if (has_right)
		s->v[i] = right;
	else
		remove_at(s, i);
	if (has_left && has_right)
		append(s, &right);
}

void lockset_apply(LockSet *s, const LockRange *range)
{
	LockRange new = *range;

	for (uint32_t i = s->n; i-- > 0;) {
		LockRange *old = &s->v[i];

		if (!lock_same_owner(old, &new))
			continue;
		if (old->type == new.type && touch(old, &new)) {
			new.start = MIN(new.start, old->start);
			new.end = MAX(new.end, old->end);
			remove_at(s, i);
		} else if (overlap(old, &new)) {
			keep_rest(s, i, &new);
		}
	}
	if (new.type != F_UNLCK)
		append(s, &new);
}

bool lockset_splits(const LockSet *s, const LockRange *range)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (lock_same_owner(&s->v[i], range) && s->v[i].start < range->start && range->end < s->v[i].end)
			return true;
	return false;
}

LockSet lockset_touched(const LockSet *s, const LockRange *range)
{
	LockSet touched = { 0 };

	for (uint32_t i = 0; i < s->n; i++)
		if (lock_same_owner(&s->v[i], range) && touch(&s->v[i], range))
			append(&touched, &s->v[i]);
	return touched;
}

bool lockset_drop_session(LockSet *s, uint64_t session)
{
	uint32_t before = s->n;

	for (uint32_t i = s->n; i-- > 0;)
		if (s->v[i].session == session)
			remove_at(s, i);
	return s->n != before;
}
