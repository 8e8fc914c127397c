/* The command line. */
#include "src/options-internal.h"

#include <string.h>

static const OptionDef *find_letter(char letter)
{
	for (uint32_t i = 0; i < option_count; i++)
		if (option_defs[i].letter && option_defs[i].letter == letter)
			return &option_defs[i];
	return NULL;
}

typedef struct Parser {
	Options *o;
	CommandId cmd;
	char **argv; /* what is left */
	GPtrArray *args;
} Parser;

static bool unknown_option(const Parser *p, const char *text, GError **error)
{
	options_set_error(error, "%s has no option '%s'; see 'benchfs %s --help'",
			  command_name(p->cmd), text, command_name(p->cmd));
	return false;
}

/* value: what stands behind '=' or the letter, or NULL: the next argument. */
static bool take_option(Parser *p, const OptionDef *d, const char *value, const char *origin, GError **error)
{
	if (d->type == TYPE_FLAG) {
		if (value) {
			options_set_error(error, "%s takes no value, but '%s' was given", origin, value);
			return false;
		}
		value = "true";
	} else if (!value) {
		value = *p->argv;
		if (!value) {
			options_set_error(error, "%s needs a value: %s %s", origin, origin, d->arg);
			return false;
		}
		p->argv++;
	}
	return option_set_value(p->o, d, value, origin, NULL, error);
}

static bool parse_long(Parser *p, const char *text, GError **error)
{
	const char *name = text + 2;
	size_t len = strcspn(name, "=");
	const OptionDef *d = option_find(name, len);
	g_autofree char *origin = g_strndup(text, len + 2);

	if (!d || !(d->commands & 1u << p->cmd))
		return unknown_option(p, origin, error);
	return take_option(p, d, name[len] ? name + len + 1 : NULL, origin, error);
}

static bool parse_letters(Parser *p, const char *text, GError **error)
{
	for (const char *c = text + 1; *c; c++) {
		const OptionDef *d = find_letter(*c);
		char origin[3] = { '-', *c, 0 };

		if (!d || !(d->commands & 1u << p->cmd))
			return unknown_option(p, origin, error);
		if (d->type != TYPE_FLAG)
			return take_option(p, d, c[1] ? c + 1 : NULL, origin, error);
		if (!take_option(p, d, NULL, origin, error))
			return false;
	}
	return true;
}

bool options_parse_args(Options *o, CommandId cmd, char **argv, GError **error)
{
	g_autoptr(GPtrArray) args = g_ptr_array_new_null_terminated(4, g_free, true);
	Parser p = { .o = o, .cmd = cmd, .argv = argv, .args = args };
	bool ok = true, only_args = false;

	while (ok && *p.argv) {
		const char *text = *p.argv++;
		if (only_args || text[0] != '-' || !text[1])
			g_ptr_array_add(args, g_strdup(text));
		else if (!strcmp(text, "--"))
			only_args = true;
		else if (text[1] == '-')
			ok = parse_long(&p, text, error);
		else
			ok = parse_letters(&p, text, error);
	}
	if (ok) {
		g_strfreev(o->args);
		o->args = (char **)g_ptr_array_free(g_steal_pointer(&args), false);
	}
	return ok;
}

/* Twice over the command line: the first look finds --config and mistakes. */
bool options_parse(Options *o, CommandId cmd, char **argv, GError **error)
{
	g_auto(Options) look = { 0 };

	options_init(&look);
	if (!options_parse_args(&look, cmd, argv, error))
		return false;
	if (!look.help && !options_load_config(o, look.config, error))
		return false;
	return options_parse_args(o, cmd, argv, error);
}

const char *options_one_arg(const Options *o, CommandId cmd, const char *what, GError **error)
{
	uint32_t n = g_strv_length(o->args);

	if (n == 1 && *o->args[0])
		return o->args[0];
	if (n < 2)
		options_set_error(error, "%s needs a %s; see 'benchfs %s --help'", command_name(cmd), what, command_name(cmd));
	else
		options_set_error(error, "%s takes one %s, and '%s' is one too many", command_name(cmd), what, o->args[1]);
	return NULL;
}

bool options_no_args(const Options *o, CommandId cmd, GError **error)
{
	if (!*o->args)
		return true;
	options_set_error(error, "%s takes no argument, but '%s' was given", command_name(cmd), o->args[0]);
	return false;
}
