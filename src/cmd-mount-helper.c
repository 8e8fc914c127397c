/*
 * mount.benchfs and mount.fuse.benchfs: what mount(8) runs for fstab lines and
 * `mount -t benchfs`. It calls
 *
 *	mount.benchfs SOURCE MOUNTPOINT [-sfnv] [-N NS] [-o OPTIONS] [-t TYPE]
 *
 * and wants exit status 0, 1 (wrong call) or 32 (the mount failed).
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/commands.h"
#include "src/run.h"

enum { HELPER_USAGE = 1, HELPER_FAILED = 32 };

typedef struct HelperCall {
	const char *source, *mountpoint;
	char *options;
	bool fake, verbose;
} HelperCall;

static bool parse_letters(HelperCall *c, const char *letters, char ***argv, GError **error)
{
	for (const char *l = letters; *l; l++) {
		if (*l == 'f') {
			c->fake = true;
		} else if (*l == 'v') {
			c->verbose = true;
		} else if (strchr("sn", *l)) {
			continue; /* sloppy: nothing to forgive; no mtab: there is none */
		} else if (strchr("oNt", *l)) {
			const char *value = l[1] ? l + 1 : **argv ? *(*argv)++ : NULL;
			if (!value) {
				options_set_error(error, "-%c needs a value", *l);
				return false;
			}
			if (*l == 'o') {
				char *old = c->options;
				c->options = old ? g_strconcat(old, ",", value, NULL) : g_strdup(value);
				g_free(old);
			}
			return true;
		} else {
			options_set_error(error, "unknown option '-%c'", *l);
			return false;
		}
	}
	return true;
}

static bool parse_call(HelperCall *c, char **argv, GError **error)
{
	while (*argv) {
		const char *text = *argv++;
		if (text[0] == '-' && text[1]) {
			if (!parse_letters(c, text + 1, &argv, error))
				return false;
		} else if (!c->source) {
			c->source = text;
		} else if (!c->mountpoint) {
			c->mountpoint = text;
		} else {
			options_set_error(error, "'%s' is one argument too many", text);
			return false;
		}
	}
	if (c->mountpoint)
		return true;
	options_set_error(error, "usage: mount.benchfs SOURCE MOUNTPOINT [-sfnv] [-o OPTIONS]; SOURCE is the list of peers, a file with it, or none");
	return false;
}

/* The first column of fstab: peers, a host file, or a word for none. */
static bool set_source(Options *o, const char *source, GError **error)
{
	if (!strcmp(source, "none") || !strcmp(source, "benchfs"))
		return true;
	return options_set_named(o, source[0] == '/' ? "hostfile" : "peers", source, "the source", NULL, error);
}

static int helper(HelperCall *c, GError **error)
{
	g_auto(Options) o = { 0 };
	/* the same way in as on the command line, so that a configuration file
	 * is read, and loses against -o */
	char *argv[] = { (char *)"-o", c->options ? c->options : (char *)"defaults", NULL };

	options_init(&o);
	if (!options_parse(&o, CMD_MOUNT, argv, error) || !set_source(&o, c->source, error))
		return HELPER_USAGE;
	g_autoptr(RunPlan) plan = run_plan_new(&o, c->mountpoint, c->source, error);
	if (!plan)
		return g_error_matches(*error, OPTIONS_ERROR, 0) ? HELPER_USAGE : HELPER_FAILED;
	if (c->verbose)
		printf("%s%s: mounting %s\n", c->fake ? "not really " : "", c->mountpoint, c->source);
	if (c->fake)
		return 0;
	return run_plan_execute(plan) ? HELPER_FAILED : 0;
}

int cmd_mount_helper(char **argv)
{
	HelperCall c = { 0 };
	g_autoptr(GError) error = NULL;
	int status = parse_call(&c, argv, &error) ? helper(&c, &error) : HELPER_USAGE;

	if (error)
		fprintf(stderr, "mount.benchfs: %s\n", error->message);
	g_free(c.options);
	return status;
}
