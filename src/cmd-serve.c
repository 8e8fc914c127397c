#include "src/commands.h"
#include "src/run.h"

int cmd_serve(char **argv, GError **error)
{
	g_auto(Options) o = { 0 };

	options_init(&o);
	if (!options_parse(&o, CMD_SERVE, argv, error) || !options_no_args(&o, CMD_SERVE, error))
		return -1;
	g_autoptr(RunPlan) plan = run_plan_new(&o, NULL, NULL, error);
	return plan ? run_plan_execute(plan) : -1;
}
