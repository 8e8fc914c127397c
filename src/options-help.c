/* What --help prints, from the table. */
#include "src/options-internal.h"

#include <string.h>

#define HELP_COLUMN 26
#define HELP_WIDTH 79

/* Appends text from HELP_COLUMN on, folded at spaces; the line is at `at`. */
static void append_folded(GString *s, size_t at, const char *text)
{
	g_auto(GStrv) words = g_strsplit(text, " ", -1);

	if (at + 2 > HELP_COLUMN) {
		g_string_append_c(s, '\n');
		at = 0;
	}
	g_string_append_printf(s, "%*s", (int)(HELP_COLUMN - at), "");
	at = HELP_COLUMN;
	for (char **w = words; *w; w++) {
		if (at > HELP_COLUMN && at + 1 + strlen(*w) > HELP_WIDTH) {
			g_string_append_printf(s, "\n%*s", HELP_COLUMN, "");
			at = HELP_COLUMN;
		} else if (at > HELP_COLUMN) {
			g_string_append_c(s, ' ');
			at++;
		}
		g_string_append(s, *w);
		at += strlen(*w);
	}
	g_string_append_c(s, '\n');
}

static void append_option(GString *s, const OptionDef *d)
{
	g_autoptr(GString) head = g_string_new("  ");

	if (d->letter)
		g_string_append_printf(head, "-%c, ", d->letter);
	else
		g_string_append(head, "    ");
	g_string_append_printf(head, "--%s", d->name);
	if (d->arg)
		g_string_append_printf(head, " %s", d->arg);
	g_string_append(s, head->str);
	append_folded(s, head->len, d->help);
}

char *options_help(CommandId cmd)
{
	GString *s = g_string_new(NULL);

	g_string_append_printf(s, "Usage: benchfs %s %s\n\n", command_defs[cmd].name, command_defs[cmd].args);
	g_string_append_printf(s, "%c%s.\n\nOptions:\n", g_ascii_toupper(command_defs[cmd].summary[0]), command_defs[cmd].summary + 1);
	for (uint32_t i = 0; i < option_count; i++)
		if (option_defs[i].commands & 1u << cmd)
			append_option(s, &option_defs[i]);
	return g_string_free(s, false);
}

char *options_help_all(void)
{
	GString *s = g_string_new("Usage: benchfs COMMAND [OPTIONS] [ARGUMENTS]\n\n"
				  "Turns the local disks of a set of machines into one POSIX file system.\n\n"
				  "Commands:\n");

	for (int i = 0; i < CMD_COUNT; i++)
		g_string_append_printf(s, "  %-10s %s\n", command_defs[i].name, command_defs[i].summary);
	g_string_append(s, "\nMount this machine's own disk:  benchfs mount /mnt/benchfs\n"
			   "Each command's options:         benchfs COMMAND --help\n"
			   "More: benchfs(1), mount.benchfs(8), benchfs.conf(5)\n");
	return g_string_free(s, false);
}
