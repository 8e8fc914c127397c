#include <stdio.h>
#include <stdlib.h>

#include "src/commands.h"
#include "src/peers.h"

int cmd_secret(char **argv, GError **error)
{
	g_auto(Options) o = { 0 };

	options_init(&o);
	if (!options_parse_args(&o, CMD_SECRET, argv, error))
		return -1;
	const char *arg = *o.args ? options_one_arg(&o, CMD_SECRET, "file", error) : NULL;
	if (*o.args && !arg)
		return -1;
	g_autofree char *path = arg ? g_canonicalize_filename(arg, NULL) : secret_default_path();
	if (!secret_create(path, error))
		return -1;
	printf("%s holds a new secret: copy it to every peer, readable for its owner alone\n", path);
	return EXIT_SUCCESS;
}
