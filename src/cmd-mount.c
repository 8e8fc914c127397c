#include "src/commands.h"
#include "src/run.h"

int cmd_mount(char **argv, GError **error)
{
	g_auto(Options) o = { 0 };

	options_init(&o);
	if (!options_parse(&o, CMD_MOUNT, argv, error))
		return -1;
	const char *mountpoint = options_one_arg(&o, CMD_MOUNT, "mount point", error);
	if (!mountpoint)
		return -1;
	g_autoptr(RunPlan) plan = run_plan_new(&o, mountpoint, NULL, error);
	return plan ? run_plan_execute(plan) : -1;
}
