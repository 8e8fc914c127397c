#pragma once
/*
 * Logging: GLib's g_warning(), g_message(), g_info(), g_debug(), filtered by
 * level per area and written as
 *
 *	2025-01-31 12:00:00.123456 WARNING rpc: text
 *
 * to stderr, a file, or syslog. The area is G_LOG_DOMAIN, with or without
 * "benchfs-" in front: a file says `#define G_LOG_DOMAIN "rpc"` before its
 * includes; without one the area is "main". Areas that a specification may
 * name are listed in log.c.
 *
 * A disabled g_debug() still formats its text: on a path that requests take,
 * ask log_enabled() first, or count instead.
 *
 * Any thread may log.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Log Log;

/* Makes a new Log GLib's default handler until log_free(). There is one at a
 * time in a process: GLib's handler is the process's.
 *
 * spec: words separated by commas; "LEVEL" sets the level of all areas,
 * "AREA=LEVEL" that of one, the last one wins; levels are error, warning,
 * message, info, debug. NULL or "": "message". The error names the word.
 * path: NULL for stderr, "syslog", or a file to append to (made with mode
 * 0640). It is opened now, so call after changing directory or user. */
Log *log_setup(const char *spec, const char *path, GError **error);
/* Restores GLib's handler. NULL is fine. */
void log_free(Log *log);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Log, log_free)
/* Opens the file again by its name, after it was rotated. 0 or -errno; on an
 * error the old file stays in use. Nothing to do for stderr and syslog. */
int log_reopen(Log *log);
/* Is this level of this area written? area as in a specification. */
bool log_enabled(const Log *log, const char *area, GLogLevelFlags level);
/* The words a specification may use, for --help: "main, rpc, ...". */
const char *log_areas(void);

/* Says the same thing at most once per interval. Zero-initialise. */
typedef struct LogLimit {
	int64_t next_ns;
	uint32_t dropped;
} LogLimit;
/* True: log now, and mention *ret_dropped (NULL is fine) earlier ones that
 * were not. now_ns: any steady clock, such as reactor_now_ns(). */
bool log_limit(LogLimit *limit, int64_t now_ns, int64_t interval_ns, uint32_t *ret_dropped);
