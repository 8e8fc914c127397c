#include "src/peers.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/autoclose.h"

#define SECRET_BYTES 32

char *secret_default_path(void)
{
	if (geteuid() == 0)
		return g_strdup("/etc/benchfs/secret");
	return g_build_filename(g_get_user_config_dir(), "benchfs", "secret", NULL);
}

static bool check_file(int fd, const char *path, GError **error)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		options_set_error(error, "the secret file %s is not a regular file", path);
		return false;
	}
	if (st.st_uid != geteuid() && st.st_uid != 0) {
		options_set_error(error, "the secret file %s belongs to another user", path);
		return false;
	}
	if (st.st_mode & 077) {
		options_set_error(error, "the secret file %s is open to others (mode %04o): run 'chmod 600 %s'", path, st.st_mode & 07777, path);
		return false;
	}
	return true;
}

GBytes *secret_load(const char *path, GError **error)
{
	char buf[SECRET_MAX + 2];
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0) {
		options_set_error(error, "cannot open the secret file %s: %s; 'benchfs secret' makes one, which all peers must share", path, g_strerror(errno));
		return NULL;
	}
	if (!check_file(fd, path, error))
		return NULL;
	ssize_t n = read(fd, buf, sizeof(buf));
	if (n < 0) {
		options_set_error(error, "cannot read the secret file %s: %s", path, g_strerror(errno));
		return NULL;
	}
	size_t len = (size_t)n;
	while (len && (buf[len - 1] == '\n' || buf[len - 1] == '\r'))
		len--;
	if (len < SECRET_MIN || len > SECRET_MAX) {
		options_set_error(error, "the secret in %s is %zu bytes long, it must have %u to %u: make one with 'benchfs secret'", path, len, SECRET_MIN, SECRET_MAX);
		return NULL;
	}
	return g_bytes_new(buf, len);
}

static bool random_hex(char hex[2 * SECRET_BYTES + 2])
{
	uint8_t bytes[SECRET_BYTES];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return false;
	for (uint32_t i = 0; i < SECRET_BYTES; i++)
		g_snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
	strcpy(hex + 2 * SECRET_BYTES, "\n");
	return true;
}

static bool fail(const char *path, const char *what, GError **error)
{
	g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "cannot %s %s: %s", what, path, g_strerror(errno));
	return false;
}

bool secret_create(const char *path, GError **error)
{
	char hex[2 * SECRET_BYTES + 2];
	g_autofree char *dir = g_path_get_dirname(path);

	if (!random_hex(hex))
		return fail(path, "get random bytes for", error);
	if (g_mkdir_with_parents(dir, 0755) < 0)
		return fail(dir, "make the directory", error);
	autoclose int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_EXIST, "%s exists already and is left as it is: remove it first, or name another file", path);
		return false;
	}
	if (fd < 0)
		return fail(path, "make the secret file", error);
	if (write(fd, hex, strlen(hex)) == (ssize_t)strlen(hex) && fsync(fd) == 0)
		return true;
	fail(path, "write", error);
	unlink(path);
	return false;
}
