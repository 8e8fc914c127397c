#pragma once
/*
 * When to make a file system call on the reactor's own thread.
 *
 * ext4 takes no buffered write, create or unlink without leave to block, so
 * io_uring hands each to a kernel worker and wakes it and us again. Measured
 * on ext4, 2 virtual processors, median in microseconds, called plainly /
 * through the ring:
 *
 *    4 KiB write, extending    3 / 47        overwriting     2 / 60
 *   64 KiB                    14 / 50                        8 / 57
 *  128 KiB                    26 / 31..57                   13 / 17..22
 *    1 MiB              170..2400 / 260                 88..106 / 96..170
 *
 * So calls are made plainly while they are quick. One that was slow (dirty
 * pages are being throttled, the journal is full, the disk is at its limit)
 * says that the next ones will be too: for a while they go through the ring,
 * where only their own request waits.
 */
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define PACE_SLOW_NS (INT64_C(1500) * 1000)
#define PACE_AVOID_NS (INT64_C(20) * 1000 * 1000)

typedef struct Pace {
	int64_t avoid_until_ns;
	uint64_t slow; /* how often a plain call was slow */
} Pace;

static inline int64_t pace_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* True: go ahead, then pace_end() with *ret_start. */
static inline bool pace_begin(const Pace *p, int64_t *ret_start)
{
	*ret_start = pace_now();
	return *ret_start >= p->avoid_until_ns;
}

static inline void pace_end(Pace *p, int64_t start)
{
	int64_t now = pace_now();

	if (now - start > PACE_SLOW_NS) {
		p->avoid_until_ns = now + PACE_AVOID_NS;
		p->slow++;
	}
}
