#pragma once
/* Private to plan.c and run.c. */
#include "src/node.h"
#include "src/run.h"

struct RunPlan {
	const Options *o;
	NodeOptions node; /* reactor not set; points into what follows */
	ClusterMap *map;  /* until the node has it */
	GBytes *secret;
	char *store, *mountpoint, *fsname, *kernel_opts;
};
