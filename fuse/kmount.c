#define G_LOG_DOMAIN "fuse"
#include "fuse/kmount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/autoclose.h"

#define DEVICE "/dev/fuse"
#define FUSERMOUNT "fusermount3"
#define TYPE "fuse.benchfs"
#define CHILD_FD 3 /* where fusermount3 finds its end of the socket */

struct Kmount {
	char *path;   /* without symbolic links */
	char *dev;    /* "major:minor" of the file system, from mountinfo */
};

static const struct {
	const char *name;
	unsigned long set, clear;
} mount_flags[] = {
	{ "rw", 0, MS_RDONLY }, { "ro", MS_RDONLY, 0 },
	{ "suid", 0, MS_NOSUID }, { "nosuid", MS_NOSUID, 0 },
	{ "dev", 0, MS_NODEV }, { "nodev", MS_NODEV, 0 },
	{ "exec", 0, MS_NOEXEC }, { "noexec", MS_NOEXEC, 0 },
	{ "async", 0, MS_SYNCHRONOUS }, { "sync", MS_SYNCHRONOUS, 0 },
	{ "dirsync", MS_DIRSYNC, 0 },
	{ "atime", 0, MS_NOATIME }, { "noatime", MS_NOATIME, 0 },
	{ "diratime", 0, MS_NODIRATIME }, { "nodiratime", MS_NODIRATIME, 0 },
	{ "relatime", MS_RELATIME, 0 }, { "norelatime", 0, MS_RELATIME },
	{ "strictatime", MS_STRICTATIME, 0 }, { "nostrictatime", 0, MS_STRICTATIME },
};

G_GNUC_PRINTF(3, 4)
static void set_error(GError **error, int errnum, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_autofree char *text = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error_literal(error, G_FILE_ERROR, g_file_error_from_errno(errnum), text);
}

/* ---- what the kernel lists ---- */

/* The device of the topmost mount at path when it is FUSE's, or of any mount
 * of `dev` there. */
static char *find_mount(const char *path, const char *dev)
{
	g_autofree char *text = NULL;
	char *found = NULL;

	if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
		return NULL;
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	for (char **line = lines; *line; line++) {
		/* id parent major:minor root path options ... - type source options */
		g_auto(GStrv) words = g_strsplit(*line, " ", -1);
		const char *tail = strstr(*line, " - ");
		if (g_strv_length(words) < 7 || !tail)
			continue;
		/* Spaces and such are written as \ooo. */
		g_autofree char *at = g_strcompress(words[4]);
		if (strcmp(at, path) || (dev && strcmp(dev, words[2])))
			continue;
		g_clear_pointer(&found, g_free);
		if (g_str_has_prefix(tail + 3, "fuse"))
			found = g_strdup(words[2]);
	}
	return found;
}

static bool is_mounted_type(const char *path, const char *type)
{
	g_autofree char *text = NULL;
	g_autofree char *needle = g_strdup_printf(" - %s ", type);
	bool found = false;

	if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
		return false;
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	for (char **line = lines; *line; line++) {
		g_auto(GStrv) words = g_strsplit(*line, " ", -1);
		if (g_strv_length(words) < 7)
			continue;
		g_autofree char *at = g_strcompress(words[4]);
		if (!strcmp(at, path))
			found = strstr(*line, needle);
	}
	return found;
}

/* ---- before ---- */

static bool check_mountpoint(const char *mountpoint, struct stat *st, GError **error)
{
	if (stat(mountpoint, st) == 0) {
		if (S_ISDIR(st->st_mode))
			return true;
		set_error(error, ENOTDIR, "the mount point %s is not a directory", mountpoint);
	} else if (errno == ENOTCONN || errno == ECONNABORTED) {
		set_error(error, errno, "at %s there is a mount whose daemon has died; remove it with: benchfs umount %s",
			  mountpoint, mountpoint);
	} else {
		set_error(error, errno, "the mount point %s can't be used: %s", mountpoint, g_strerror(errno));
	}
	return false;
}

static int open_device(GError **error)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
		set_error(error, errno, "there is no %s: the kernel's fuse module is not loaded (modprobe fuse), or a container withholds the device", DEVICE);
	else if (fd < 0)
		set_error(error, errno, "%s can't be opened: %s", DEVICE, g_strerror(errno));
	return fd;
}

/* ---- root ---- */

static void parse_opts(const char *opts, unsigned long *flags, GString *data)
{
	g_auto(GStrv) words = g_strsplit(opts ? opts : "", ",", -1);

	for (char **word = words; *word; word++) {
		size_t i;
		for (i = 0; i < G_N_ELEMENTS(mount_flags); i++)
			if (!strcmp(mount_flags[i].name, *word))
				break;
		if (i < G_N_ELEMENTS(mount_flags))
			*flags = (*flags | mount_flags[i].set) & ~mount_flags[i].clear;
		else if (**word)
			g_string_append_printf(data, ",%s", *word);
	}
}

static int mount_as_root(const char *path, mode_t mode, const char *fsname, const char *opts, GError **error)
{
	g_autoptr(GString) data = g_string_new(NULL);
	unsigned long flags = MS_NOSUID | MS_NODEV;
	autoclose int fd = open_device(error);

	if (fd < 0)
		return -1;
	g_string_printf(data, "fd=%d,rootmode=%o,user_id=%u,group_id=%u,default_permissions",
			fd, mode & S_IFMT, getuid(), getgid());
	parse_opts(opts, &flags, data);
	if (mount(fsname, path, TYPE, flags, data->str) < 0) {
		set_error(error, errno, "mounting at %s failed: %s", path, g_strerror(errno));
		return -1;
	}
	return g_steal_fd(&fd);
}

/* ---- everyone else ---- */

static int receive_fd(int sock)
{
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	ssize_t n;
	int fd;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static char *read_all(int fd)
{
	GString *text = g_string_new(NULL);
	char buf[256];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		g_string_append_len(text, buf, n);
	return g_strstrip(g_string_free(text, FALSE));
}

/* Runs fusermount3; returns the descriptor it sends, or -1 and its words. */
static int run_fusermount(const char *opts, const char *path, char **ret_words, GError **error)
{
	const char *argv[] = { FUSERMOUNT, "-o", opts, "--", path, NULL };
	g_auto(GStrv) env = g_environ_setenv(g_get_environ(), "_FUSE_COMMFD", G_STRINGIFY(CHILD_FD), true);
	int target = CHILD_FD, socks[2], err_fd, fd = -1;
	GPid pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0) {
		set_error(error, errno, "no socket for " FUSERMOUNT ": %s", g_strerror(errno));
		return -1;
	}
	bool ran = g_spawn_async_with_pipes_and_fds(NULL, argv, (const char *const *)env,
		G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, -1, -1, -1,
		&socks[0], &target, 1, &pid, NULL, NULL, &err_fd, error);
	close(socks[0]);
	if (ran) {
		fd = receive_fd(socks[1]);
		*ret_words = read_all(err_fd);
		close(err_fd);
		waitpid(pid, NULL, 0);
	}
	close(socks[1]);
	return fd;
}

/* A comma would begin another option. */
static char *escape_option(const char *text)
{
	GString *escaped = g_string_new(NULL);

	for (; *text; text++) {
		if (*text == ',' || *text == '\\')
			g_string_append_c(escaped, '\\');
		g_string_append_c(escaped, *text);
	}
	return g_string_free(escaped, FALSE);
}

/* What fusermount3 does not know, and the kernel leaves to us: when reading moves
 * atime (atime.h). To be freed. */
static char *without_atime_words(const char *opts)
{
	static const char *const ours[] = {
		"nodiratime", "diratime", "relatime", "norelatime", "strictatime", "nostrictatime", NULL,
	};
	g_auto(GStrv) words = g_strsplit(opts ? opts : "", ",", -1);
	g_autoptr(GPtrArray) kept = g_ptr_array_new();

	for (char **word = words; *word; word++)
		if (!g_strv_contains(ours, *word))
			g_ptr_array_add(kept, *word);
	g_ptr_array_add(kept, NULL);
	return g_strjoinv(",", (char **)kept->pdata);
}

static int mount_as_user(const char *path, const char *fsname, const char *kernel_opts, GError **error)
{
	g_autofree char *opts = without_atime_words(kernel_opts);
	g_autofree char *escaped = escape_option(fsname);
	g_autofree char *all = g_strdup_printf("nosuid,nodev,fsname=%s,subtype=benchfs,default_permissions%s%s",
					       escaped, *opts ? "," : "", opts);
	g_autofree char *words = NULL;
	int fd = run_fusermount(all, path, &words, error);

	if (fd >= 0) {
		fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
		return fd;
	}
	if (error && !*error)
		set_error(error, EPERM, "mounting at %s failed: %s", path,
			  words && *words ? words : FUSERMOUNT " gave no reason");
	return -1;
}

/* ---- the interface ---- */

Kmount *kmount_new(const char *mountpoint, const char *fsname, const char *opts, int *ret_fd, GError **error)
{
	struct stat st;
	int fd;

	if (!check_mountpoint(mountpoint, &st, error))
		return NULL;
	char *path = realpath(mountpoint, NULL);
	if (!path) {
		set_error(error, errno, "the mount point %s can't be used: %s", mountpoint, g_strerror(errno));
		return NULL;
	}
	if (is_mounted_type(path, TYPE)) {
		set_error(error, EBUSY, "BenchFS is already mounted at %s", path);
		free(path);
		return NULL;
	}
	if (geteuid() == 0)
		fd = mount_as_root(path, st.st_mode, fsname, opts, error);
	else
		fd = mount_as_user(path, fsname, opts, error);
	if (fd < 0) {
		free(path);
		return NULL;
	}
	Kmount *k = g_new0(Kmount, 1);
	k->path = path;
	k->dev = find_mount(path, NULL);
	*ret_fd = fd;
	return k;
}

void kmount_free(Kmount *k)
{
	if (!k)
		return;
	free(k->path);
	g_free(k->dev);
	g_free(k);
}

const char *kmount_path(const Kmount *k)
{
	return k->path;
}

const char *kmount_dev(const Kmount *k)
{
	return k->dev;
}

bool kmount_is_mounted(const Kmount *k)
{
	g_autofree char *dev = k->dev ? find_mount(k->path, k->dev) : NULL;

	return dev;
}

static int unmount_as_user(const char *path)
{
	char *argv[] = { (char *)FUSERMOUNT, (char *)"-u", (char *)"-z", (char *)"-q", (char *)"--", (char *)path, NULL };
	int status;

	if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status, NULL))
		return -ENOENT;
	return status == 0 ? 0 : -EPERM;
}

/* What was written through mappings of a busy mount has its last chance: the
 * connection will not live as long as the mount. */
static void write_back(const Kmount *k)
{
	autoclose int fd = open(k->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || syncfs(fd) < 0)
		g_debug("%s: %s, ignoring", k->path, g_strerror(errno));
}

int kmount_unmount(Kmount *k, bool abort)
{
	if (!kmount_is_mounted(k))
		return 0;
	if (umount2(k->path, UMOUNT_NOFOLLOW) == 0)
		return 0;
	int error = errno;
	if (error == EPERM || error == EBUSY)
		write_back(k);
	if (error == EPERM)
		return unmount_as_user(k->path);
	if (umount2(k->path, UMOUNT_NOFOLLOW | MNT_DETACH | (abort ? MNT_FORCE : 0)) == 0)
		return 0;
	/* EINVAL: someone else was faster. */
	return errno == EINVAL ? 0 : -errno;
}

void kmount_set_readahead(Kmount *k, size_t bytes)
{
	if (!k->dev)
		return;
	g_autofree char *path = g_strdup_printf("/sys/class/bdi/%s/read_ahead_kb", k->dev);
	autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || dprintf(fd, "%zu", bytes >> 10) < 0)
		g_debug("%s: %s, ignoring", path, g_strerror(errno));
}
