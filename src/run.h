#pragma once
/* What `mount`, `serve` and mount.benchfs have in common: options checked,
 * a daemon started, a node run until it is told to end. */
#include <glib.h>

#include "src/options.h"

typedef struct RunPlan RunPlan;

/* Checks everything that can be checked before anything is changed; errors of
 * OPTIONS_ERROR. o is borrowed. mountpoint NULL: no mount. source is what
 * /proc/mounts shows, NULL: made up from the peers. */
RunPlan *run_plan_new(Options *o, const char *mountpoint, const char *source, GError **error);
void run_plan_free(RunPlan *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RunPlan, run_plan_free)

/* Forks unless --foreground. In the parent: returns when the node is ready, or
 * has failed. In the child, when it has ended. Returns the exit status, after
 * any sentence was printed. */
int run_plan_execute(RunPlan *p);
