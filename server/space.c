#include "server/space.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/statvfs.h>

#define MIB (UINT64_C(1) << 20)
/* Between two looks at the kernel's figures what others take goes unseen, so
 * that a look is also due after a time. */
#define LOOK_NS (INT64_C(200) * 1000 * 1000)

struct Space {
	int fd;
	uint64_t reserve, total, free; /* bytes; free: also what is kept for root */
	uint64_t credit;   /* bytes that may be taken without looking */
	int64_t looked_ns; /* when; 0: look now */
};

/* Bytes that others than root may still use; 0 where it can't be known. */
static uint64_t look(Space *s)
{
	struct statvfs v;

	if (fstatvfs(s->fd, &v) < 0)
		return 0;
	s->total = (uint64_t)v.f_blocks * v.f_frsize;
	s->free = (uint64_t)v.f_bfree * v.f_frsize;
	return (uint64_t)v.f_bavail * v.f_frsize;
}

static uint64_t default_reserve(uint64_t total)
{
	uint64_t reserve = CLAMP(total / 100, 16 * MIB, 1024 * MIB);

	return MIN(reserve, total / 4);
}

Space *space_new(int fd, uint64_t reserve_bytes)
{
	Space *s = g_new0(Space, 1);

	s->fd = fd;
	look(s);
	s->reserve = reserve_bytes ? reserve_bytes : default_reserve(s->total);
	return s;
}

void space_free(Space *s)
{
	g_free(s);
}

static uint64_t available(Space *s)
{
	uint64_t left = look(s);

	return left > s->reserve ? left - s->reserve : 0;
}

/*
 * After a look, a sixteenth of what is available may go without another: with
 * delayed allocation the kernel's figure follows what was written (ext4 counts
 * reserved blocks as used), so the guard never overshoots by more than that.
 */
int space_take(Space *s, uint64_t bytes)
{
	int64_t now = g_get_monotonic_time() * 1000;

	if (s->looked_ns == 0 || now - s->looked_ns > LOOK_NS || bytes > s->credit) {
		uint64_t avail = available(s);

		s->looked_ns = now;
		s->credit = 0;
		if (bytes > avail)
			return -ENOSPC;
		s->credit = MAX(bytes, avail / 16);
	}
	s->credit -= bytes;
	return 0;
}

void space_refresh(Space *s)
{
	s->looked_ns = 0;
}

void space_statfs(Space *s, WireStatfsRep *ret)
{
	uint64_t avail = available(s);

	*ret = (WireStatfsRep) { .total = s->total, .free = s->free, .avail = avail };
}
