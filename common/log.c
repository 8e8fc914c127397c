#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define DOMAIN_PREFIX "benchfs-"

/* Areas a specification may name. Others' domains ("GLib") are written under
 * their own name with the level of "main". */
static const char *const areas[] = { "main", "reactor", "rpc", "map", "config", "server", "fuse" };
#define AREAS G_N_ELEMENTS(areas)
#define AREAS_TEXT "main, reactor, rpc, map, config, server, fuse"

struct Log {
	GLogLevelFlags levels[AREAS]; /* the least urgent level that is written */
	char *path;                   /* of a file, else NULL */
	int fd;                       /* -1: syslog */
	GLogFunc old_handler;
};

typedef struct LevelName {
	const char *word, *text;
	GLogLevelFlags level;
	int priority; /* of syslog(3) */
} LevelName;

/* From urgent to chatty, as GLib's bits grow. g_critical() is a broken
 * contract of a GLib function: as bad as an error, though not fatal. */
static const LevelName level_names[] = {
	{ "error", "ERROR", G_LOG_LEVEL_ERROR, LOG_CRIT },
	{ "error", "ERROR", G_LOG_LEVEL_CRITICAL, LOG_ERR },
	{ "warning", "WARNING", G_LOG_LEVEL_WARNING, LOG_WARNING },
	{ "message", "MESSAGE", G_LOG_LEVEL_MESSAGE, LOG_NOTICE },
	{ "info", "INFO", G_LOG_LEVEL_INFO, LOG_INFO },
	{ "debug", "DEBUG", G_LOG_LEVEL_DEBUG, LOG_DEBUG },
};

static const LevelName *level_by_bits(GLogLevelFlags bits)
{
	for (size_t i = 0; i < G_N_ELEMENTS(level_names); i++)
		if (bits & level_names[i].level)
			return &level_names[i];
	return &level_names[2];
}

/* "error" finds CRITICAL, the later of the two, so that both are written. */
static const LevelName *level_by_word(const char *word)
{
	for (size_t i = G_N_ELEMENTS(level_names); i-- > 0;)
		if (!strcmp(word, level_names[i].word))
			return &level_names[i];
	return NULL;
}

static int area_index(const char *area)
{
	for (size_t i = 0; i < AREAS; i++)
		if (!strcmp(area, areas[i]))
			return (int)i;
	return -1;
}

static const char *area_of_domain(const char *domain)
{
	if (!domain || !strcmp(domain, "benchfs"))
		return "main";
	return g_str_has_prefix(domain, DOMAIN_PREFIX) ? domain + strlen(DOMAIN_PREFIX) : domain;
}

/* One word of a specification. */
static bool log_apply(Log *log, const char *word, GError **error)
{
	const char *eq = strchr(word, '=');
	g_autofree char *area = eq ? g_strndup(word, (size_t)(eq - word)) : NULL;
	const LevelName *level = level_by_word(eq ? eq + 1 : word);
	if (!level) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
			"'%s' in the log levels: '%s' is no level (error, warning, message, info, debug)",
			word, eq ? eq + 1 : word);
		return false;
	}
	if (!area) {
		for (size_t i = 0; i < AREAS; i++)
			log->levels[i] = level->level;
		return true;
	}
	int i = area_index(area);
	if (i < 0) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
			"'%s' in the log levels: '%s' is no area (" AREAS_TEXT ")", word, area);
		return false;
	}
	log->levels[i] = level->level;
	return true;
}

static bool log_parse(Log *log, const char *spec, GError **error)
{
	for (size_t i = 0; i < AREAS; i++)
		log->levels[i] = G_LOG_LEVEL_MESSAGE;
	if (!spec || !*spec)
		return true;
	g_auto(GStrv) words = g_strsplit(spec, ",", -1);
	for (char **w = words; *w; w++)
		if (!log_apply(log, g_strstrip(*w), error))
			return false;
	return true;
}

/* One write(2) a line, so that lines of several threads, and of several
 * processes that append to one file, stay whole. */
static void log_write(int fd, const char *level, const char *area, const char *message)
{
	struct timespec now;
	struct tm tm;
	char stamp[32], head[128];
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
	int len = snprintf(head, sizeof(head), "%s.%06ld %s %s: ", stamp, now.tv_nsec / 1000, level, area);
	struct iovec iov[] = {
		{ head, (size_t)MIN(len, (int)sizeof(head) - 1) },
		{ (char *)message, strlen(message) },
		{ (char *)"\n", 1 },
	};
	/* Where the log can't be written there is nobody left to tell. */
	if (writev(fd, iov, G_N_ELEMENTS(iov)) < 0)
		return;
}

static void log_handler(const char *domain, GLogLevelFlags bits, const char *message, void *data)
{
	const Log *log = data;
	const char *area = area_of_domain(domain);
	const LevelName *level = level_by_bits(bits & G_LOG_LEVEL_MASK);
	if (!log_enabled(log, area, level->level))
		return;
	int saved_errno = errno;
	if (log->fd >= 0)
		log_write(log->fd, level->text, area, message);
	else
		syslog(level->priority, "%s: %s", area, message);
	errno = saved_errno;
}

static int log_open(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
	return fd < 0 ? -errno : fd;
}

/* fd, or -1 for syslog; stderr is duplicated so that a file, in log_reopen(),
 * and it are alike. */
static bool log_open_target(Log *log, const char *path, GError **error)
{
	if (path && !strcmp(path, "syslog")) {
		openlog("benchfs", LOG_PID, LOG_DAEMON);
		return true;
	}
	int fd;
	if (path)
		fd = log_open(path);
	else
		fd = (fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) < 0 ? -errno : fd;
	if (fd < 0) {
		g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-fd),
			"Can't open the log '%s': %s", path ? path : "stderr", g_strerror(-fd));
		return false;
	}
	log->fd = fd;
	log->path = g_strdup(path);
	return true;
}

Log *log_setup(const char *spec, const char *path, GError **error)
{
	g_autoptr(Log) log = g_new(Log, 1);
	*log = (Log) { .fd = -1 };
	if (!log_parse(log, spec, error) || !log_open_target(log, path, error))
		return NULL;
	log->old_handler = g_log_set_default_handler(log_handler, log);
	return g_steal_pointer(&log);
}

void log_free(Log *log)
{
	if (!log)
		return;
	if (log->old_handler)
		g_log_set_default_handler(log->old_handler, NULL);
	if (log->fd >= 0)
		close(log->fd);
	g_free(log->path);
	g_free(log);
}

int log_reopen(Log *log)
{
	if (!log->path)
		return 0;
	int fd = log_open(log->path);
	if (fd < 0)
		return fd;
	/* Replaces the file under the number that other threads may be using. */
	int r = dup3(fd, log->fd, O_CLOEXEC) < 0 ? -errno : 0;
	close(fd);
	return r;
}

bool log_enabled(const Log *log, const char *area, GLogLevelFlags level)
{
	int i = area_index(area);
	return level <= log->levels[i < 0 ? 0 : i];
}

const char *log_areas(void)
{
	return AREAS_TEXT;
}

bool log_limit(LogLimit *limit, int64_t now_ns, int64_t interval_ns, uint32_t *ret_dropped)
{
	if (now_ns < limit->next_ns) {
		limit->dropped++;
		return false;
	}
	if (ret_dropped)
		*ret_dropped = limit->dropped;
	*limit = (LogLimit) { .next_ns = now_ns + interval_ns };
	return true;
}
