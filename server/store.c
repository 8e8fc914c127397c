/*
 * A store's directory. Order of a creation: lock file, identity.new, fsync,
 * rename to identity, fsync of the directory. A crash before the rename leaves
 * a directory that counts as empty; after it there is a whole store. Nothing
 * is written before all that was found has been judged to be ours.
 */
#include "server/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/autoclose.h"
#include "common/map.h"

#define GROUP "benchfs store"
#define IDENTITY "identity"
#define IDENTITY_NEW "identity.new"
#define IDENTITY_MAX 65536

struct Store {
	char *path;
	int dirfd, lockfd;
	bool is_new;
	uint8_t cluster_id[16];
};

typedef struct Identity {
	int format;
	int peer, peers;
	char *cluster, *digest;
} Identity;

static void identity_clear(Identity *id)
{
	g_free(id->cluster);
	g_free(id->digest);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Identity, identity_clear)

static void set_errno_error(GError **error, const char *path, const char *what, int err)
{
	g_set_error(error, G_FILE_ERROR, (gint)g_file_error_from_errno(err), "store %s: %s: %s", path, what,
		g_strerror(err));
}

static void bytes_to_hex(const uint8_t *bytes, size_t len, char *ret_hex)
{
	for (size_t i = 0; i < len; i++)
		sprintf(ret_hex + 2 * i, "%02x", bytes[i]);
}

static bool hex_to_bytes(const char *hex, uint8_t *ret_bytes, size_t len)
{
	if (strlen(hex) != 2 * len)
		return false;
	for (size_t i = 0; i < len; i++) {
		int hi = g_ascii_xdigit_value(hex[2 * i]), lo = g_ascii_xdigit_value(hex[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return false;
		ret_bytes[i] = (uint8_t)(hi << 4 | lo);
	}
	return true;
}

/* ---- the identity file ---- */

/* The bytes of a small file, NUL-terminated; NULL with errno set. */
static char *read_small_file(int dirfd, const char *name, size_t max)
{
	autoclose int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return NULL;
	g_autofree char *text = g_malloc0(max + 1);
	size_t len = 0;

	while (len < max) {
		ssize_t n = read(fd, text + len, max - len);
		if (n < 0)
			return NULL;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return g_steal_pointer(&text);
}

/* 1: there is one, 0: there is none, -1: error set. */
static int identity_load(const Store *s, Identity *ret_id, GError **error)
{
	g_autofree char *text = read_small_file(s->dirfd, IDENTITY, IDENTITY_MAX);
	if (!text && errno == ENOENT)
		return 0;
	if (!text) {
		set_errno_error(error, s->path, "can't read its identity", errno);
		return -1;
	}
	g_autoptr(GKeyFile) file = g_key_file_new();
	g_auto(Identity) id = { 0 };

	if (g_key_file_load_from_data(file, text, (gsize)-1, G_KEY_FILE_NONE, NULL)) {
		id.format = g_key_file_get_integer(file, GROUP, "format", NULL);
		id.peer = g_key_file_get_integer(file, GROUP, "peer", NULL);
		id.peers = g_key_file_get_integer(file, GROUP, "of", NULL);
		id.cluster = g_key_file_get_string(file, GROUP, "cluster", NULL);
		id.digest = g_key_file_get_string(file, GROUP, "peers", NULL);
	}
	/* Of another format only the number is expected to be readable. */
	if (id.format == 0 || (id.format == STORE_FORMAT && (!id.cluster || !id.digest))) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
			"store %s: its identity file is damaged: restore it, or give another --store", s->path);
		return -1;
	}
	*ret_id = id;
	id = (Identity) { 0 };
	return 1;
}

static bool identity_check(Store *s, const StoreOptions *opts, const Identity *id, GError **error)
{
	char cluster[33], digest[65];

	bytes_to_hex(opts->cluster_id, 16, cluster);
	bytes_to_hex(opts->digest, 32, digest);
	if (id->format != STORE_FORMAT)
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
			"store %s has format %d and this benchfs knows format %d: use the benchfs that made it, or give another --store",
			s->path, id->format, STORE_FORMAT);
	else if (!hex_to_bytes(id->cluster, s->cluster_id, 16))
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
			"store %s: its identity file is damaged: restore it, or give another --store", s->path);
	else if (!opts->embedded && strcmp(id->cluster, cluster) != 0)
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
			"store %s belongs to cluster %s and not to %s: start it with that cluster's secret and peers, or give another --store",
			s->path, id->cluster, cluster);
	else if (id->peer != opts->peer)
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
			"store %s belongs to peer %d and this process is peer %d: start it on the machine at that place of the peer list, or give another --store",
			s->path, id->peer, opts->peer);
	else if (strcmp(id->digest, digest) != 0)
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
			"store %s was made for another list of peers: start with the list it was made for, or give another --store",
			s->path);
	else
		return true;
	return false;
}

static bool write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);
		if (n < 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

static bool identity_write(Store *s, const StoreOptions *opts, GError **error)
{
	char cluster[33], digest[65];

	bytes_to_hex(s->cluster_id, 16, cluster);
	bytes_to_hex(opts->digest, 32, digest);
	g_autofree char *text = g_strdup_printf("# Written by benchfs. This directory belongs to one peer of one cluster.\n"
		"[" GROUP "]\nformat=%d\ncluster=%s\npeer=%d\nof=%u\npeers=%s\n", STORE_FORMAT, cluster, opts->peer,
		opts->peers, digest);
	autoclose int fd = openat(s->dirfd, IDENTITY_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || !write_all(fd, text, strlen(text)) || fsync(fd) < 0 ||
	    renameat(s->dirfd, IDENTITY_NEW, s->dirfd, IDENTITY) < 0 || fsync(s->dirfd) < 0) {
		set_errno_error(error, s->path, "can't write its identity", errno);
		return false;
	}
	return true;
}

/* ---- the directory and its lock ---- */

/* What a file system root brings, and what a creation may leave behind. */
static bool is_harmless(const char *name)
{
	static const char *const names[] = { ".", "..", "lost+found", "lock", IDENTITY_NEW };

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static bool check_empty(const Store *s, GError **error)
{
	int fd = openat(s->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		set_errno_error(error, s->path, "can't list it", errno);
		if (fd >= 0)
			close(fd);
		return false;
	}
	bool empty = true;

	for (struct dirent *e; empty && (e = readdir(dir));)
		if (!is_harmless(e->d_name)) {
			g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_EXIST,
				"store %s is not empty (there is '%s') and is no benchfs store: give --store an empty or new directory",
				s->path, e->d_name);
			empty = false;
		}
	closedir(dir);
	return empty;
}

/* A new directory's name must be as durable as what will be in it. */
static bool make_dir(const char *path, GError **error)
{
	if (mkdir(path, 0700) < 0) {
		if (errno == EEXIST)
			return true;
		set_errno_error(error, path, "can't make the directory", errno);
		return false;
	}
	g_autofree char *parent = g_path_get_dirname(path);
	autoclose int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0) {
		set_errno_error(error, path, "can't sync the directory above", errno);
		return false;
	}
	return true;
}

/* F_WRLCK: for who uses the store; F_RDLCK: for who only looks at it. */
static bool take_lock(Store *s, short type, GError **error)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET };
	bool use = type == F_WRLCK;

	s->lockfd = openat(s->dirfd, "lock", (use ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lockfd < 0) {
		set_errno_error(error, s->path, "can't open its lock", errno);
		return false;
	}
	/* An open-file-description lock: a fork or a close of another
	 * descriptor of the same file does not lose it. */
	if (fcntl(s->lockfd, F_OFD_SETLK, &lock) == 0)
		return true;
	if (errno != EAGAIN && errno != EACCES) {
		set_errno_error(error, s->path, "can't lock it", errno);
		return false;
	}
	g_autofree char *pid = read_small_file(s->dirfd, "lock", 32);
	g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_AGAIN,
		"store %s is in use by process %s%s", s->path, pid && *pid ? g_strchomp(pid) : "(unknown)",
		use ? ": stop that one first, or give another --store" : "");
	return false;
}

pid_t store_user(const char *path)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	autoclose int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	autoclose int fd = dirfd < 0 ? -1 : openat(dirfd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	g_autofree char *pid = read_small_file(dirfd, "lock", 32);
	return pid ? (pid_t)CLAMP(g_ascii_strtoll(pid, NULL, 10), 0, INT32_MAX) : 0;
}

static bool note_pid(Store *s, GError **error)
{
	g_autofree char *text = g_strdup_printf("%ld\n", (long)getpid());

	if (ftruncate(s->lockfd, 0) < 0 || lseek(s->lockfd, 0, SEEK_SET) < 0 || !write_all(s->lockfd, text, strlen(text))) {
		set_errno_error(error, s->path, "can't write its lock", errno);
		return false;
	}
	return true;
}

static bool create(Store *s, const StoreOptions *opts, GError **error)
{
	memcpy(s->cluster_id, opts->cluster_id, 16);
	if (opts->embedded && getrandom(s->cluster_id, 16, 0) != 16) {
		set_errno_error(error, s->path, "no random numbers", errno);
		return false;
	}
	s->is_new = true;
	return identity_write(s, opts, error);
}

/* Judges first without a trace, then again under the lock, where another
 * process may just have finished making the store. */
static bool open_or_create(Store *s, const StoreOptions *opts, GError **error)
{
	bool locked = false;

	for (;;) {
		g_auto(Identity) id = { 0 };
		int found = identity_load(s, &id, error);

		if (found < 0 || (found ? !identity_check(s, opts, &id, error) : !check_empty(s, error)))
			return false;
		if (locked)
			return (found || create(s, opts, error)) && note_pid(s, error);
		if (!take_lock(s, F_WRLCK, error))
			return false;
		locked = true;
	}
}

Store *store_open(const StoreOptions *opts, GError **error)
{
	Store *s = g_new0(Store, 1);

	s->path = g_strdup(opts->path);
	s->dirfd = s->lockfd = -1;
	if (make_dir(s->path, error)) {
		s->dirfd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (s->dirfd < 0)
			set_errno_error(error, s->path, "can't open it", errno);
		else if (open_or_create(s, opts, error))
			return s;
	}
	store_close(s);
	return NULL;
}

static bool identity_take(Store *s, StoreOptions *ret_opts, GError **error)
{
	g_auto(Identity) id = { 0 };
	int found = identity_load(s, &id, error);

	if (found < 0)
		return false;
	if (found == 0)
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "%s is no benchfs store", s->path);
	else if (id.format != STORE_FORMAT)
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
			"store %s has format %d and this benchfs knows format %d: use the benchfs that made it", s->path, id.format,
			STORE_FORMAT);
	else if (id.peers < 1 || id.peers > (int)PEER_MAX || id.peer < 0 || id.peer >= id.peers ||
		 !hex_to_bytes(id.cluster, ret_opts->cluster_id, 16) || !hex_to_bytes(id.digest, ret_opts->digest, 32))
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "store %s: its identity file is damaged: restore it", s->path);
	else
		found = 2;
	ret_opts->peer = (uint16_t)id.peer;
	ret_opts->peers = (uint32_t)id.peers;
	memcpy(s->cluster_id, ret_opts->cluster_id, 16);
	return found == 2;
}

Store *store_open_readonly(const char *path, StoreOptions *ret_opts, GError **error)
{
	Store *s = g_new0(Store, 1);

	s->path = g_strdup(path);
	s->lockfd = -1;
	s->dirfd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*ret_opts = (StoreOptions) { .path = path };
	if (s->dirfd < 0)
		set_errno_error(error, s->path, "can't open it", errno);
	else if (identity_take(s, ret_opts, error) && take_lock(s, F_RDLCK, error))
		return s;
	store_close(s);
	return NULL;
}

void store_close(Store *s)
{
	if (!s)
		return;
	if (s->lockfd >= 0)
		close(s->lockfd);
	if (s->dirfd >= 0)
		close(s->dirfd);
	g_free(s->path);
	g_free(s);
}

const uint8_t *store_cluster_id(const Store *s)
{
	return s->cluster_id;
}

bool store_is_new(const Store *s)
{
	return s->is_new;
}

int store_dirfd(const Store *s)
{
	return s->dirfd;
}

const char *store_path(const Store *s)
{
	return s->path;
}

char *store_meta_path(const Store *s)
{
	return g_build_filename(s->path, "meta", NULL);
}

int store_open_objects(const Store *s, GError **error)
{
	if (mkdirat(s->dirfd, "objects", 0700) < 0 && errno != EEXIST) {
		set_errno_error(error, s->path, "can't make objects/", errno);
		return -1;
	}
	autoclose int fd = openat(s->dirfd, "objects", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(s->dirfd) < 0) {
		set_errno_error(error, s->path, "can't open objects/", errno);
		return -1;
	}
	return g_steal_fd(&fd);
}
