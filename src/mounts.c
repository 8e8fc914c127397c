#include "src/mounts.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#define MOUNTINFO "/proc/self/mountinfo"
#define FSTYPE "fuse.benchfs"
#define XATTR_TEXT_MAX 65536

void mount_entry_free(MountEntry *e)
{
	if (!e)
		return;
	g_free(e->path);
	g_free(e->source);
	g_free(e->type);
	g_free(e);
}

/* proc_pid_mountinfo(5): ID PARENT MAJ:MIN ROOT PATH OPTS [TAG]... - TYPE SOURCE SUPER */
static MountEntry *parse_line(const char *line)
{
	g_auto(GStrv) words = g_strsplit(line, " ", -1);
	uint32_t n = g_strv_length(words), dash = 6;

	while (dash < n && strcmp(words[dash], "-"))
		dash++;
	if (dash + 2 >= n)
		return NULL;
	MountEntry *e = g_new0(MountEntry, 1);
	*e = (MountEntry) {
		.path = g_strcompress(words[4]), .type = g_strdup(words[dash + 1]),
		.source = g_strcompress(words[dash + 2]), .is_benchfs = !strcmp(words[dash + 1], FSTYPE),
	};
	return e;
}

static GPtrArray *read_mounts(void)
{
	GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)mount_entry_free);
	g_autofree char *text = NULL;

	if (!g_file_get_contents(MOUNTINFO, &text, NULL, NULL))
		return list;
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	for (char **l = lines; *l; l++) {
		MountEntry *e = parse_line(*l);
		if (e)
			g_ptr_array_add(list, e);
	}
	return list;
}

MountEntry *mounts_find(const char *path)
{
	g_autoptr(GPtrArray) list = read_mounts();

	for (uint32_t i = list->len; i-- > 0;) {
		MountEntry *e = g_ptr_array_index(list, i);
		if (!strcmp(e->path, path))
			return g_ptr_array_steal_index(list, i);
	}
	return NULL;
}

GPtrArray *mounts_list(void)
{
	GPtrArray *list = read_mounts();

	for (uint32_t i = list->len; i-- > 0;) {
		const MountEntry *e = g_ptr_array_index(list, i);
		if (!e->is_benchfs)
			g_ptr_array_remove_index(list, i);
	}
	return list;
}

/* realpath(3) of the mount point itself would ask the mounted file system for
 * its attributes; so only a path that is no mount yet is resolved whole. */
char *mounts_resolve(const char *path)
{
	char real[PATH_MAX];
	g_autofree char *absolute = g_canonicalize_filename(path, NULL);
	g_autoptr(MountEntry) e = mounts_find(absolute);

	if (e)
		return g_steal_pointer(&absolute);
	g_autofree char *dir = g_path_get_dirname(absolute);
	g_autofree char *base = g_path_get_basename(absolute);
	if (!realpath(dir, real))
		return g_steal_pointer(&absolute);
	g_autofree char *candidate = g_build_filename(real, base, NULL);
	e = mounts_find(candidate);
	if (e || !realpath(candidate, real))
		return g_steal_pointer(&candidate);
	return g_strdup(real);
}

/* ---- extended attributes ---- */

/* A thread asks, for a FUSE call can only be given up by ending the process;
 * the answer is shared, because either side may be the last. */
typedef struct Ask {
	GMutex lock;
	GCond cond;
	char *path, *name, *text;
	size_t len;
	int err;
	bool done;
} Ask;

static void ask_clear(void *arg)
{
	Ask *a = arg;

	g_mutex_clear(&a->lock);
	g_cond_clear(&a->cond);
	g_free(a->path);
	g_free(a->name);
	g_free(a->text);
}

static void *ask_thread(void *arg)
{
	Ask *a = arg;
	g_autofree char *buf = g_malloc(XATTR_TEXT_MAX + 1);
	ssize_t n = lgetxattr(a->path, a->name, buf, XATTR_TEXT_MAX);
	int err = n < 0 ? errno : 0;

	g_mutex_lock(&a->lock);
	if (n >= 0) {
		buf[n] = 0;
		a->text = g_steal_pointer(&buf);
		a->len = (size_t)n;
	}
	a->err = err;
	a->done = true;
	g_cond_signal(&a->cond);
	g_mutex_unlock(&a->lock);
	g_atomic_rc_box_release_full(a, ask_clear);
	return NULL;
}

char *mounts_get_xattr(const char *path, const char *name, unsigned timeout_s)
{
	size_t len;

	return mounts_get_xattr_bytes(path, name, timeout_s, &len);
}

char *mounts_get_xattr_bytes(const char *path, const char *name, unsigned timeout_s, size_t *ret_len)
{
	int64_t until_us = g_get_monotonic_time() + (int64_t)timeout_s * G_USEC_PER_SEC;
	Ask *a = g_atomic_rc_box_new0(Ask);
	int err = ETIMEDOUT;
	char *text = NULL;

	g_mutex_init(&a->lock);
	g_cond_init(&a->cond);
	a->path = g_strdup(path);
	a->name = g_strdup(name);
	g_thread_unref(g_thread_new("xattr", ask_thread, g_atomic_rc_box_acquire(a)));
	g_mutex_lock(&a->lock);
	while (!a->done && g_cond_wait_until(&a->cond, &a->lock, until_us))
		;
	if (a->done) {
		text = g_steal_pointer(&a->text);
		*ret_len = a->len;
		err = a->err;
	}
	g_mutex_unlock(&a->lock);
	g_atomic_rc_box_release_full(a, ask_clear);
	errno = err;
	return text;
}
