#pragma once
/*
 * The options of every subcommand, from one table: what --help prints, what a
 * command line, `-o key=value` and the configuration file may say. The man
 * page and the completion are held against it by tests/test_cli_docs.py.
 *
 * A wrong option is an error of OPTIONS_ERROR with a sentence for people;
 * programs end with exit status 2 then.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define OPTIONS_ERROR (options_error_quark())
GQuark options_error_quark(void);
void options_set_error(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

typedef enum CommandId {
	CMD_MOUNT, CMD_SERVE, CMD_UMOUNT, CMD_STATUS, CMD_INFO, CMD_FSCK, CMD_SECRET, CMD_VERSION, CMD_COUNT
} CommandId;

/* Flags of mount(8) that exclude each other share a family; see options-mount.c. */
#define MOUNT_FAMILY_COUNT 12

typedef struct Options {
	char *config, *peers, *hostfile, *listen, *store, *secret_file;
	char *log, *log_file, *pid_file, *channel, *transport, *net_devices;
	uint64_t wait_s, chunk_size, inline_max, reserve;
	bool client, foreground, lazy, online, json, help;
	const char *kernel[MOUNT_FAMILY_COUNT]; /* for mount(2); "": the default; NULL: not said */
	uint64_t set; /* one bit for each entry of the table that was given */
	char **args;  /* what is not an option, NULL-terminated */
} Options;

void options_init(Options *o);
void options_clear(Options *o);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

/* The configuration file first, then the command line over it: the later of
 * two settings counts. argv: NULL-terminated, without the program's and the
 * subcommand's names. */
bool options_parse(Options *o, CommandId cmd, char **argv, GError **error);
/* The command line alone. */
bool options_parse_args(Options *o, CommandId cmd, char **argv, GError **error);
/* Sets one option by its long name, as `-o name=value` does. value NULL: a
 * flag. origin is what a message calls it ("--wait"); relative file names are
 * taken from dir (NULL: the working directory). */
bool options_set_named(Options *o, const char *name, const char *value, const char *origin, const char *dir, GError **error);
/* A comma list as mount(8) users write it. */
bool options_set_mount_list(Options *o, const char *list, GError **error);
/* Exactly one argument, called `what` in the message; NULL: error set. */
const char *options_one_arg(const Options *o, CommandId cmd, const char *what, GError **error);
/* No argument at all. */
bool options_no_args(const Options *o, CommandId cmd, GError **error);
/* file NULL: the default one, where it exists. */
bool options_load_config(Options *o, const char *file, GError **error);
/* Was the option given, in whatever way? name must be in the table. */
bool options_given(const Options *o, const char *name);

/* Private to options*.c: does a key of the configuration file exist? */
bool options_is_config_key(const char *name);

/* The flags for mount(2), as a comma list, or NULL. */
char *options_kernel_list(const Options *o);
/* Sets or drops a flag of mount(8); false: there is no such flag. */
bool options_set_mount_flag(Options *o, const char *flag);

/* The same, unless that flag or its opposite was given. */
bool options_set_default_flag(Options *o, const char *flag);
/* Is a flag set that goes to the kernel? */
bool options_has_flag(const Options *o, const char *flag);

/* The text of `benchfs CMD --help`, and of `benchfs --help`. */
char *options_help(CommandId cmd);
char *options_help_all(void);
const char *command_name(CommandId cmd);
/* -1: no such command. */
int command_find(const char *name);
