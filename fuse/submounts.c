#include "fuse/submounts.h"

#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define MOUNTINFO "/proc/self/mountinfo"

struct Submounts {
	char *dev;
	int fd; /* of MOUNTINFO: poll(2) tells of changes. -1: there is none */
	bool any;
};

/* Is there a mount whose parent is one of dev? */
static bool look(const char *dev)
{
	g_autofree char *text = NULL;
	g_autoptr(GHashTable) ours = g_hash_table_new(g_str_hash, g_str_equal);
	g_autoptr(GPtrArray) mounts = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);

	if (!g_file_get_contents(MOUNTINFO, &text, NULL, NULL))
		return false;
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	for (char **line = lines; *line; line++) {
		/* id parent major:minor ... */
		char **words = g_strsplit(*line, " ", 4);
		g_ptr_array_add(mounts, words);
		if (g_strv_length(words) == 4 && !strcmp(words[2], dev))
			g_hash_table_add(ours, words[0]);
	}
	for (guint i = 0; i < mounts->len; i++) {
		char **words = mounts->pdata[i];
		if (g_strv_length(words) == 4 && g_hash_table_contains(ours, words[1]))
			return true;
	}
	return false;
}

Submounts *submounts_new(const char *dev)
{
	Submounts *s = g_new(Submounts, 1);

	*s = (Submounts) { .dev = g_strdup(dev), .fd = open(MOUNTINFO, O_RDONLY | O_CLOEXEC) };
	/* After opening: what changes from now on is told. */
	s->any = look(dev);
	return s;
}

void submounts_free(Submounts *s)
{
	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	g_free(s->dev);
	g_free(s);
}

bool submounts_any(Submounts *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLPRI };

	if (s->fd >= 0 && poll(&p, 1, 0) > 0)
		s->any = look(s->dev);
	return s->any;
}

bool submounts_seen(const Submounts *s)
{
	return s->any;
}
