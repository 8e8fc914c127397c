#include "src/options-internal.h"

#include <errno.h>
#include <string.h>

GQuark options_error_quark(void)
{
	return g_quark_from_static_string("benchfs-options");
}

void options_set_error(GError **error, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	g_autofree char *text = g_strdup_vprintf(format, ap);
	va_end(ap);
	g_set_error_literal(error, OPTIONS_ERROR, 0, text);
}

void options_init(Options *o)
{
	*o = (Options) { .wait_s = 60, .inline_max = UINT64_MAX };
}

void options_clear(Options *o)
{
	for (uint32_t i = 0; i < option_count; i++) {
		const OptionDef *d = &option_defs[i];
		if (d->type == TYPE_TEXT || d->type == TYPE_FILE || d->type == TYPE_CHOICE)
			g_free(G_STRUCT_MEMBER(char *, o, d->offset));
	}
	g_strfreev(o->args);
	*o = (Options) { 0 };
}

const OptionDef *option_find(const char *name, size_t len)
{
	for (uint32_t i = 0; i < option_count; i++)
		if (strlen(option_defs[i].name) == len && !memcmp(option_defs[i].name, name, len))
			return &option_defs[i];
	return NULL;
}

bool options_is_config_key(const char *name)
{
	const OptionDef *d = option_find(name, strlen(name));

	return d && !(d->flags & ON_COMMAND_LINE_ONLY);
}

bool options_given(const Options *o, const char *name)
{
	const OptionDef *d = option_find(name, strlen(name));

	g_assert(d);
	return o->set >> (d - option_defs) & 1;
}

/* ---- values ---- */

static bool parse_number(const char *text, uint64_t *ret_value, const char **ret_rest)
{
	char *end;

	if (!g_ascii_isdigit(*text))
		return false;
	errno = 0;
	*ret_value = g_ascii_strtoull(text, &end, 10);
	*ret_rest = end;
	return errno == 0;
}

static bool parse_seconds(const char *text, uint64_t *ret_value)
{
	const char *rest;

	return parse_number(text, ret_value, &rest) && (!*rest || !strcmp(rest, "s")) && *ret_value <= 86400;
}

/* 4096, 64K, 4M, 4MiB, 1G, 1T */
static bool parse_size(const char *text, uint64_t *ret_value)
{
	static const char units[] = "KMGT";
	uint64_t n;
	const char *rest;

	if (!parse_number(text, &n, &rest))
		return false;
	const char *unit = *rest ? strchr(units, g_ascii_toupper(*rest)) : NULL;
	if (unit) {
		uint32_t shift = 10 * (uint32_t)(unit - units + 1);
		if (n > UINT64_C(1) << 62 >> shift)
			return false;
		n <<= shift;
		rest += g_str_has_prefix(rest + 1, "iB") ? 3 : 1;
	}
	*ret_value = n;
	return !*rest && n <= UINT64_C(1) << 62;
}

static bool parse_bool(const char *text, bool *ret_value)
{
	static const char *const yes[] = { "true", "yes", "on", "1", NULL };
	static const char *const no[] = { "false", "no", "off", "0", NULL };

	*ret_value = g_strv_contains(yes, text);
	return *ret_value || g_strv_contains(no, text);
}

static bool is_choice(const char *choices, const char *text)
{
	g_auto(GStrv) list = g_strsplit(choices, "|", -1);

	return g_strv_contains((const char *const *)list, text);
}

/* Words that stand where a file name could. */
static bool is_word(const OptionDef *d, const char *value)
{
	return (d->offset == AT(store) && !strcmp(value, "none")) ||
	       (d->offset == AT(log_file) && !strcmp(value, "syslog"));
}

static void replace_text(Options *o, const OptionDef *d, char *text)
{
	char **p = &G_STRUCT_MEMBER(char *, o, d->offset);

	g_free(*p);
	*p = text;
}

/* Two ways to say one thing: the later one counts. */
static void drop_rival(Options *o, const OptionDef *d)
{
	if (d->offset == AT(peers))
		g_clear_pointer(&o->hostfile, g_free);
	else if (d->offset == AT(hostfile))
		g_clear_pointer(&o->peers, g_free);
	else if (d->offset == AT(store))
		o->client = false;
	else if (d->offset == AT(client) && o->client)
		g_clear_pointer(&o->store, g_free);
}

bool option_set_value(Options *o, const OptionDef *d, const char *value, const char *origin, const char *dir, GError **error)
{
	void *p = (char *)o + d->offset;
	const char *wanted = NULL;

	switch (d->type) {
	case TYPE_FLAG:
		wanted = parse_bool(value, p) ? NULL : "true or false";
		break;
	case TYPE_SECONDS:
		wanted = parse_seconds(value, p) ? NULL : "a number of seconds from 0 to 86400";
		break;
	case TYPE_SIZE:
		wanted = parse_size(value, p) ? NULL : "a size like 65536, 64K or 4M";
		break;
	case TYPE_CHOICE:
		wanted = is_choice(d->arg, value) ? NULL : d->arg;
		if (!wanted)
			replace_text(o, d, g_strdup(value));
		break;
	case TYPE_TEXT:
		wanted = *value ? NULL : "a value";
		if (!wanted)
			replace_text(o, d, g_strdup(value));
		break;
	case TYPE_FILE: /* absolute: the daemon leaves its working directory */
		wanted = *value ? NULL : "a file name";
		if (!wanted)
			replace_text(o, d, is_word(d, value) ? g_strdup(value) : g_canonicalize_filename(value, dir));
		break;
	case TYPE_MOUNT_LIST:
		if (!options_set_mount_list(o, value, error))
			return false;
		break;
	}
	if (wanted) {
		options_set_error(error, "%s takes %s, not '%s'", origin, wanted, value);
		return false;
	}
	o->set |= UINT64_C(1) << (d - option_defs);
	drop_rival(o, d);
	return true;
}

bool options_set_named(Options *o, const char *name, const char *value, const char *origin, const char *dir, GError **error)
{
	const OptionDef *d = option_find(name, strlen(name));

	if (!d || d->type == TYPE_MOUNT_LIST) {
		options_set_error(error, "%s is an unknown option", origin);
		return false;
	}
	if (!value && d->type != TYPE_FLAG) {
		options_set_error(error, "%s needs a value: %s=%s", origin, name, d->arg);
		return false;
	}
	return option_set_value(o, d, value ? value : "true", origin, dir, error);
}
