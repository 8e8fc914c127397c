#include "src/options.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/*
 * The table. Adding an option: a member of Options, a row here, its entry in
 * man/benchfs.1 (and benchfs.conf.5) and in completion/benchfs.
 */
typedef enum OptionType {
	TYPE_FLAG, TYPE_TEXT, TYPE_FILE, TYPE_CHOICE, TYPE_SECONDS, TYPE_SIZE, TYPE_MOUNT_LIST
} OptionType;

enum { ON_COMMAND_LINE_ONLY = 1 << 0 }; /* not with -o, nor in the configuration file */

typedef struct OptionDef {
	const char *name;
	char letter;
	OptionType type;
	const char *arg;  /* in the help; of TYPE_CHOICE: the choices, between bars */
	const char *help;
	uint32_t commands;
	uint32_t flags;
	size_t offset;
} OptionDef;

#define C(cmd) (1u << CMD_##cmd)
#define DAEMON (C(MOUNT) | C(SERVE))
#define NETWORK (DAEMON | C(STATUS))
#define ALL ((1u << CMD_COUNT) - 1)
#define AT(member) offsetof(Options, member)

static const OptionDef defs[] = {
	{ "peers", 0, TYPE_TEXT, "LIST", "all peers that have a store, as host[:port] with commas between", NETWORK, 0, AT(peers) },
	{ "hostfile", 0, TYPE_FILE, "FILE", "the same list from a file, one peer a line", NETWORK, 0, AT(hostfile) },
	{ "listen", 0, TYPE_TEXT, "ADDR[:PORT]", "which entry of the list this peer is (default: the one that is an address of this machine)", DAEMON, 0, AT(listen) },
	{ "client", 0, TYPE_FLAG, NULL, "mount without a store, the same as --store none", C(MOUNT), 0, AT(client) },
	{ "store", 0, TYPE_FILE, "DIR", "directory of this peer's store (default: /var/lib/benchfs, or benchfs in the user's data directory)", DAEMON, 0, AT(store) },
	{ "secret-file", 0, TYPE_FILE, "FILE", "the secret that all peers share (default: /etc/benchfs/secret, or benchfs/secret in the user's configuration directory)", NETWORK, 0, AT(secret_file) },
	{ "wait", 0, TYPE_SECONDS, "SECONDS", "how long to wait for the other peers and the mount to answer (default: 60)", C(MOUNT), 0, AT(wait_s) },
	{ "foreground", 'f', TYPE_FLAG, NULL, "stay in the foreground and log to standard error", DAEMON, 0, AT(foreground) },
	{ "options", 'o', TYPE_MOUNT_LIST, "OPT[,OPT...]", "options as mount(8) has them (ro, nosuid, nodev, noexec, noatime, allow_other, ...), and each long option as name=value", C(MOUNT), 0, 0 },
	{ "channel", 0, TYPE_CHOICE, "auto|classic|uring", "how the kernel's requests arrive (default: auto)", C(MOUNT), 0, AT(channel) },
	{ "chunk-size", 0, TYPE_SIZE, "SIZE", "chunk size of files made from now on, a power of two (default: 4M)", DAEMON, 0, AT(chunk_size) },
	{ "inline-max", 0, TYPE_SIZE, "SIZE", "files up to this size live beside their metadata; 0: none (default: 4K)", DAEMON, 0, AT(inline_max) },
	{ "reserve", 0, TYPE_SIZE, "SIZE", "space to keep free on the store's disk (default: 1 %, from 16M to 1G)", DAEMON, 0, AT(reserve) },
	{ "transport", 0, TYPE_TEXT, "LIST", "UCX transports to use, as in UCX_TLS (default: UCX's own choice)", NETWORK, 0, AT(transport) },
	{ "net-devices", 0, TYPE_TEXT, "LIST", "network devices to use, as in UCX_NET_DEVICES (default: those of the listening address)", NETWORK, 0, AT(net_devices) },
	{ "log", 0, TYPE_TEXT, "SPEC", "what to log: a level (error, warning, message, info, debug) or area=level, with commas between (default: message)", DAEMON, 0, AT(log) },
	{ "log-file", 0, TYPE_FILE, "FILE", "log to a file, or to syslog (default: syslog; standard error with --foreground)", DAEMON, 0, AT(log_file) },
	{ "pid-file", 0, TYPE_FILE, "FILE", "write the process id of the daemon to a file, removed when it ends", DAEMON, 0, AT(pid_file) },
	{ "config", 'c', TYPE_FILE, "FILE", "configuration file (default: /etc/benchfs/benchfs.conf, where there is one)", NETWORK, ON_COMMAND_LINE_ONLY, AT(config) },
	{ "lazy", 'l', TYPE_FLAG, NULL, "detach a mount that is in use; the daemon ends after its last user", C(UMOUNT), ON_COMMAND_LINE_ONLY, AT(lazy) },
	{ "json", 'j', TYPE_FLAG, NULL, "print JSON", C(STATUS), ON_COMMAND_LINE_ONLY, AT(json) },
	{ "help", 'h', TYPE_FLAG, NULL, "print this help", ALL, ON_COMMAND_LINE_ONLY, AT(help) },
};
G_STATIC_ASSERT(G_N_ELEMENTS(defs) <= 64);

static const struct {
	const char *name, *args, *summary;
} commands[CMD_COUNT] = {
	[CMD_MOUNT] = { "mount", "[OPTIONS] MOUNTPOINT", "mount BenchFS; alone, or as one of several peers" },
	[CMD_SERVE] = { "serve", "[OPTIONS]", "be a peer with a store and no mount" },
	[CMD_UMOUNT] = { "umount", "[OPTIONS] MOUNTPOINT", "unmount, and wait until the daemon has ended" },
	[CMD_STATUS] = { "status", "[OPTIONS] [MOUNTPOINT]", "show peers, slots, space and health" },
	[CMD_INFO] = { "info", "[OPTIONS] PATH...", "show where a file and its data live" },
	[CMD_SECRET] = { "secret", "[OPTIONS] [FILE]", "make a secret for several peers" },
	[CMD_VERSION] = { "version", "[OPTIONS]", "print the version" },
};

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

const char *command_name(CommandId cmd)
{
	return commands[cmd].name;
}

int command_find(const char *name)
{
	for (int i = 0; i < CMD_COUNT; i++)
		if (!strcmp(commands[i].name, name))
			return i;
	return -1;
}

void options_init(Options *o)
{
	*o = (Options) { .wait_s = 60, .inline_max = UINT64_MAX };
}

void options_clear(Options *o)
{
	for (uint32_t i = 0; i < G_N_ELEMENTS(defs); i++) {
		const OptionDef *d = &defs[i];
		if (d->type == TYPE_TEXT || d->type == TYPE_FILE || d->type == TYPE_CHOICE)
			g_free(G_STRUCT_MEMBER(char *, o, d->offset));
	}
	g_strfreev(o->args);
	*o = (Options) { 0 };
}

static const OptionDef *def_find(const char *name, size_t len)
{
	for (uint32_t i = 0; i < G_N_ELEMENTS(defs); i++)
		if (strlen(defs[i].name) == len && !memcmp(defs[i].name, name, len))
			return &defs[i];
	return NULL;
}

static const OptionDef *def_find_letter(char letter)
{
	for (uint32_t i = 0; i < G_N_ELEMENTS(defs); i++)
		if (defs[i].letter && defs[i].letter == letter)
			return &defs[i];
	return NULL;
}

bool options_is_config_key(const char *name)
{
	const OptionDef *d = def_find(name, strlen(name));

	return d && !(d->flags & ON_COMMAND_LINE_ONLY);
}

bool options_given(const Options *o, const char *name)
{
	const OptionDef *d = def_find(name, strlen(name));

	g_assert(d);
	return o->set >> (d - defs) & 1;
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

static bool set_value(Options *o, const OptionDef *d, const char *value, const char *origin, const char *dir, GError **error)
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
	o->set |= UINT64_C(1) << (d - defs);
	drop_rival(o, d);
	return true;
}

bool options_set_named(Options *o, const char *name, const char *value, const char *origin, const char *dir, GError **error)
{
	const OptionDef *d = def_find(name, strlen(name));

	if (!d || d->type == TYPE_MOUNT_LIST) {
		options_set_error(error, "%s is an unknown option", origin);
		return false;
	}
	if (!value && d->type != TYPE_FLAG) {
		options_set_error(error, "%s needs a value: %s=%s", origin, name, d->arg);
		return false;
	}
	return set_value(o, d, value ? value : "true", origin, dir, error);
}

/* ---- the command line ---- */

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
	return set_value(p->o, d, value, origin, NULL, error);
}

static bool parse_long(Parser *p, const char *text, GError **error)
{
	const char *name = text + 2;
	size_t len = strcspn(name, "=");
	const OptionDef *d = def_find(name, len);
	g_autofree char *origin = g_strndup(text, len + 2);

	if (!d || !(d->commands & 1u << p->cmd))
		return unknown_option(p, origin, error);
	return take_option(p, d, name[len] ? name + len + 1 : NULL, origin, error);
}

static bool parse_letters(Parser *p, const char *text, GError **error)
{
	for (const char *c = text + 1; *c; c++) {
		const OptionDef *d = def_find_letter(*c);
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

/* ---- help ---- */

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

	g_string_append_printf(s, "Usage: benchfs %s %s\n\n", commands[cmd].name, commands[cmd].args);
	g_string_append_printf(s, "%c%s.\n\nOptions:\n", g_ascii_toupper(commands[cmd].summary[0]), commands[cmd].summary + 1);
	for (uint32_t i = 0; i < G_N_ELEMENTS(defs); i++)
		if (defs[i].commands & 1u << cmd)
			append_option(s, &defs[i]);
	return g_string_free(s, false);
}

char *options_help_all(void)
{
	GString *s = g_string_new("Usage: benchfs COMMAND [OPTIONS] [ARGUMENTS]\n\n"
				  "Turns the local disks of a set of machines into one POSIX file system.\n\n"
				  "Commands:\n");

	for (int i = 0; i < CMD_COUNT; i++)
		g_string_append_printf(s, "  %-10s %s\n", commands[i].name, commands[i].summary);
	g_string_append(s, "\nMount this machine's own disk:  benchfs mount /mnt/benchfs\n"
			   "Each command's options:         benchfs COMMAND --help\n"
			   "More: benchfs(1), mount.benchfs(8), benchfs.conf(5)\n");
	return g_string_free(s, false);
}
