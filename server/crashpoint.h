#pragma once
/*
 * For tests alone: where BENCHFS_TEST_CRASH is in the environment and names one
 * of these steps of a change that spans peers, the process ends there as by
 * kill -9. Without it a step costs a comparison.
 *
 * coordinator:  holding (its own names), prepared (all the others are), decided,
 *               told (all the others have done it), forgotten (the decision)
 * participant:  asked, recorded (prepared, durably), done (before it says so)
 */
#include <signal.h>
#include <string.h>

#include "server/internal.h"

static inline const char *crash_point_from_environment(void)
{
	return g_getenv("BENCHFS_TEST_CRASH");
}

static inline void crash_point(const Server *s, const char *step)
{
	if (G_UNLIKELY(s->crash_at) && strcmp(s->crash_at, step) == 0)
		raise(SIGKILL);
}
