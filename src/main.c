#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/commands.h"

typedef int CommandFn(char **argv, GError **error);

static CommandFn *const functions[CMD_COUNT] = {
	[CMD_MOUNT] = cmd_mount, [CMD_SERVE] = cmd_serve, [CMD_UMOUNT] = cmd_umount,
	[CMD_STATUS] = cmd_status, [CMD_INFO] = cmd_info, [CMD_FSCK] = cmd_fsck,
	[CMD_SECRET] = cmd_secret, [CMD_VERSION] = cmd_version,
};

enum { EXIT_USAGE = 2 };

int cmd_version(char **argv, GError **error)
{
	g_auto(Options) o = { 0 };

	options_init(&o);
	if (!options_parse_args(&o, CMD_VERSION, argv, error) || !options_no_args(&o, CMD_VERSION, error))
		return -1;
	printf("benchfs " BENCHFS_VERSION "\n");
	return EXIT_SUCCESS;
}

static int print_help(char *text)
{
	fputs(text, stdout);
	g_free(text);
	return EXIT_SUCCESS;
}

static bool wants_help(CommandId cmd, char **argv)
{
	g_auto(Options) o = { 0 };

	options_init(&o);
	return options_parse_args(&o, cmd, argv, NULL) && o.help;
}

static int run_command(CommandId cmd, char **argv)
{
	g_autoptr(GError) error = NULL;

	if (wants_help(cmd, argv))
		return print_help(options_help(cmd));
	int status = functions[cmd](argv, &error);
	if (status >= 0)
		return status;
	fprintf(stderr, "benchfs: %s\n", error->message);
	return error->domain == OPTIONS_ERROR ? EXIT_USAGE : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	g_autofree char *name = g_path_get_basename(argc ? argv[0] : "benchfs");
	const char *word = argc > 1 ? argv[1] : NULL;

	if (g_str_has_prefix(name, "mount."))
		return cmd_mount_helper(argv + 1);
	if (!word) {
		fprintf(stderr, "benchfs: a command is missing; 'benchfs --help' lists them\n");
		return EXIT_USAGE;
	}
	if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help"))
		return print_help(options_help_all());
	if (!strcmp(word, "--version") || !strcmp(word, "-V"))
		word = "version";
	int cmd = command_find(word);
	if (cmd < 0) {
		fprintf(stderr, "benchfs: '%s' is not a command; 'benchfs --help' lists them\n", word);
		return EXIT_USAGE;
	}
	return run_command((CommandId)cmd, argv + 2);
}
