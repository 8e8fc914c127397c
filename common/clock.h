#pragma once
/* Clocks as they are now, in ns. Who has a reactor and no need to be that exact
 * asks reactor_now_ns(). */
#include <stdint.h>
#include <time.h>

static inline int64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* What until-times and deadlines count in. */
static inline int64_t clock_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* Since the Epoch, what files' times count in. */
static inline int64_t clock_realtime_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}
