#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/commands.h"
#include "src/mounts.h"

#define INFO_TIMEOUT_S 30

static bool info(const char *path)
{
	g_autofree char *text = mounts_get_xattr(path, "benchfs.info", INFO_TIMEOUT_S);

	if (text) {
		printf("%s\n%s%s", path, text, g_str_has_suffix(text, "\n") ? "" : "\n");
		return true;
	}
	if (errno == ENODATA || errno == ENOTSUP || errno == EPERM)
		fprintf(stderr, "benchfs: %s is not on a BenchFS mount\n", path);
	else
		fprintf(stderr, "benchfs: cannot ask about %s: %s\n", path, strerror(errno));
	return false;
}

int cmd_info(char **argv, GError **error)
{
	g_auto(Options) o = { 0 };
	int status = EXIT_SUCCESS;

	options_init(&o);
	if (!options_parse_args(&o, CMD_INFO, argv, error))
		return -1;
	if (!*o.args) {
		options_set_error(error, "info needs a path; see 'benchfs info --help'");
		return -1;
	}
	for (char **p = o.args; *p; p++)
		if (!info(*p))
			status = EXIT_FAILURE;
	return status;
}
