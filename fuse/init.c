#include "fuse/init.h"

#include <string.h>

#define PAGE 4096u
#define MAX_WRITE_DEFAULT (1u << 20)
#define MAX_WRITE_MAX (16u << 20)
/* Requests of the kernel's background queue (readahead, async direct I/O) that
 * it sends us at once. Beyond it, it waits, and beyond three quarters readahead
 * holds back. */
#define MAX_BACKGROUND 256

static const struct {
	const char *name;
	uint64_t flag;
} features[] = {
	{ "async_dio", FUSE_ASYNC_DIO },
	{ "atomic_o_trunc", FUSE_ATOMIC_O_TRUNC },
	{ "auto_inval_data", FUSE_AUTO_INVAL_DATA },
	{ "cache_symlinks", FUSE_CACHE_SYMLINKS },
	{ "explicit_inval_data", FUSE_EXPLICIT_INVAL_DATA },
	{ "flock", FUSE_FLOCK_LOCKS },
	{ "init_ext", FUSE_INIT_EXT },
	{ "killpriv_v2", FUSE_HANDLE_KILLPRIV_V2 },
	{ "max_pages", FUSE_MAX_PAGES },
	{ "no_opendir", FUSE_NO_OPENDIR_SUPPORT },
	{ "parallel_dirops", FUSE_PARALLEL_DIROPS },
	{ "posix_acl", FUSE_POSIX_ACL | FUSE_DONT_MASK },
	{ "posix_locks", FUSE_POSIX_LOCKS },
	{ "readdirplus", FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO },
	{ "setxattr_ext", FUSE_SETXATTR_EXT },
	{ "uring", FUSE_OVER_IO_URING },
};

static bool find_feature(const char *name, uint64_t *flags)
{
	for (size_t i = 0; i < G_N_ELEMENTS(features); i++) {
		if (strcmp(features[i].name, name) == 0) {
			*flags |= features[i].flag;
			return true;
		}
	}
	return false;
}

bool init_parse_features(const char *list, uint64_t *ret_flags, char **ret_unknown)
{
	g_auto(GStrv) names = g_strsplit(list, ",", -1);
	uint64_t flags = 0;

	for (char **name = names; *name; name++) {
		if (**name && !find_feature(*name, &flags)) {
			*ret_unknown = g_strdup(*name);
			return false;
		}
	}
	*ret_flags = flags;
	return true;
}

/* Kernels before 5.17 send a struct that ends behind `flags`. */
static bool has_flags2(const struct fuse_init_in *in, size_t len)
{
	return in->flags & FUSE_INIT_EXT && len >= offsetof(struct fuse_init_in, flags2) + sizeof(in->flags2);
}

void init_limit(struct fuse_init_in *in, size_t len, const InitWishes *wishes)
{
	if (wishes->max_proto_minor && in->minor > wishes->max_proto_minor)
		in->minor = wishes->max_proto_minor;
	if (in->minor < 6)
		return;
	in->flags &= ~(uint32_t)wishes->disabled;
	if (has_flags2(in, len))
		in->flags2 &= ~(uint32_t)(wishes->disabled >> 32);
	else
		in->flags &= ~(uint32_t)FUSE_INIT_EXT;
}

static uint64_t offered(const struct fuse_init_in *in)
{
	uint64_t flags = in->minor >= 6 ? in->flags : 0;

	if (flags & FUSE_INIT_EXT)
		flags |= (uint64_t)in->flags2 << 32;
	return flags;
}

/*
 * What the kernel may keep of a file, and how it learns of changes:
 *
 * Alone, all changes go through this kernel: it keeps attributes, names and
 * pages for long, and no mtime it sees can tell it news, so its own writes
 * must not cost it its pages: EXPLICIT_INVAL_DATA.
 *
 * With other mounts it keeps attributes under a lease alone (recall.h), so that
 * a read(2) after a change asks for them first; with AUTO_INVAL_DATA a moved
 * mtime or size then drops the pages. Every change moves mtime, after its bytes
 * have landed, so whoever reads after a write returned elsewhere sees it. What a
 * symlink says never changes, so all keep that. Mapped pages have no such moment: a mapping
 * sees what others wrote once something on this mount reads or opens the file.
 * READDIRPLUS would be work for nothing: the kernel keeps none of its names.
 * Directories are opened without a call, and the kernel keeps their listings
 * (listings.h), where it can keep names as well.
 */
static uint64_t wanted(const InitWishes *wishes, uint32_t kernel_minor)
{
	uint64_t flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO |
		FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_ATOMIC_O_TRUNC |
		FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_MAX_PAGES |
		/* default ACLs take the umask's place, so it is the home's to apply */
		FUSE_POSIX_ACL | FUSE_DONT_MASK | FUSE_EXPORT_SUPPORT |
		FUSE_SETXATTR_EXT | FUSE_ABORT_ERROR | FUSE_INIT_EXT | FUSE_CACHE_SYMLINKS;

	if (wishes->alone)
		flags |= FUSE_EXPLICIT_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_NO_OPENDIR_SUPPORT;
	else
		flags |= FUSE_AUTO_INVAL_DATA | (kernel_minor >= FUSE_NOTIFY_INC_EPOCH_MINOR ? FUSE_NO_OPENDIR_SUPPORT : 0);
	if (wishes->uring)
		flags |= FUSE_OVER_IO_URING;
	return flags;
}

uint64_t init_flags(const struct fuse_init_in *in, const InitWishes *wishes)
{
	return offered(in) & wanted(wishes, in->minor) & ~wishes->disabled;
}

uint64_t init_reply(const struct fuse_init_in *in, const InitWishes *wishes, struct fuse_init_out *out)
{
	uint64_t flags = init_flags(in, wishes);
	/* Without MAX_PAGES a request has 32 pages at most. */
	uint32_t max_write = flags & FUSE_MAX_PAGES ? wishes->max_write : MIN(wishes->max_write, 32 * PAGE);

	out->flags = (uint32_t)flags;
	out->flags2 = (uint32_t)(flags >> 32);
	out->max_write = max_write;
	out->max_pages = flags & FUSE_MAX_PAGES ? (uint16_t)(max_write / PAGE) : 0;
	out->max_readahead = MIN(in->max_readahead, UINT32_MAX);
	out->max_background = MAX_BACKGROUND;
	out->congestion_threshold = MAX_BACKGROUND * 3 / 4;
	out->time_gran = 1;
	return flags;
}

uint32_t init_max_write(void)
{
	g_autofree char *text = NULL;

	if (!g_file_get_contents("/proc/sys/fs/fuse/max_pages_limit", &text, NULL, NULL))
		return MAX_WRITE_DEFAULT;
	uint64_t bytes = g_ascii_strtoull(text, NULL, 10) * PAGE;
	return (uint32_t)CLAMP(bytes, MAX_WRITE_DEFAULT, MAX_WRITE_MAX);
}
