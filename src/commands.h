#pragma once
/*
 * The subcommands. argv: what stands behind the subcommand's name. Each
 * returns its exit status, or -1 with an error that main() prints: status 2
 * where it is of OPTIONS_ERROR, else 1.
 */
#include <glib.h>

#include "src/options.h"

int cmd_mount(char **argv, GError **error);
int cmd_serve(char **argv, GError **error);
int cmd_umount(char **argv, GError **error);
int cmd_status(char **argv, GError **error);
int cmd_info(char **argv, GError **error);
int cmd_fsck(char **argv, GError **error);
int cmd_secret(char **argv, GError **error);
int cmd_version(char **argv, GError **error);

/* The program under the name mount.benchfs: prints its own errors, and returns
 * the exit status that mount(8) expects. */
int cmd_mount_helper(char **argv);
