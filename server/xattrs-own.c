#include "server/xattrs.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "common/ino.h"

#define PREFIX "benchfs."
#define SHIFT_MIN 16 /* 64 KiB */
#define SHIFT_MAX 30 /* 1 GiB */

typedef struct OwnXattr {
	const char *name;
	void coroutine_fn (*get)(Server *s, Inode *inode, GString *value);
	int (*set)(Server *s, InodeData *d, const char *value, size_t len); /* NULL: read-only */
	bool any_type; /* else files and directories alone */
} OwnXattr;

static const char *const policies[] = { [WIRE_POLICY_LOCAL] = "local", [WIRE_POLICY_STRIPE] = "stripe" };

bool xattr_is_own(const char *name)
{
	return g_str_has_prefix(name, PREFIX);
}

static bool equals(const char *value, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(value, word, len) == 0;
}

static void coroutine_fn get_policy(Server *s, Inode *inode, GString *value)
{
	g_string_append(value, policies[inode->d.attr.policy]);
}

static int set_policy(Server *s, InodeData *d, const char *value, size_t len)
{
	if (!value) {
		d->attr.policy = WIRE_POLICY_LOCAL;
		return 0;
	}
	for (size_t i = 0; i < G_N_ELEMENTS(policies); i++) {
		if (equals(value, len, policies[i])) {
			d->attr.policy = (uint8_t)i;
			return 0;
		}
	}
	return -EINVAL;
}

static void coroutine_fn get_chunk_size(Server *s, Inode *inode, GString *value)
{
	g_string_append_printf(value, "%" PRIu64, UINT64_C(1) << inode->d.attr.chunk_shift);
}

/* Bytes, or with K, M or G behind; 0: not a size. */
static uint64_t parse_size(const char *value, size_t len)
{
	g_autofree char *text = g_strndup(value, len);
	char *end;
	uint64_t n;

	if (!g_ascii_isdigit(text[0]))
		return 0;
	n = g_ascii_strtoull(text, &end, 10);
	if (n > UINT32_MAX || strlen(text) != len)
		return 0;
	switch (*end) {
	case 'K': n <<= 10; end++; break;
	case 'M': n <<= 20; end++; break;
	case 'G': n <<= 30; end++; break;
	}
	return *end ? 0 : n;
}

static int set_chunk_size(Server *s, InodeData *d, const char *value, size_t len)
{
	uint64_t size;

	if (!value) {
		d->attr.chunk_shift = s->opts.default_chunk_shift;
		return 0;
	}
	size = parse_size(value, len);
	for (uint8_t shift = SHIFT_MIN; shift <= SHIFT_MAX; shift++) {
		if (size == UINT64_C(1) << shift) {
			d->attr.chunk_shift = shift;
			return 0;
		}
	}
	return -EINVAL;
}

static const char *type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG: return "file";
	case S_IFDIR: return "directory";
	case S_IFLNK: return "symlink";
	case S_IFCHR: return "character device";
	case S_IFBLK: return "block device";
	case S_IFIFO: return "fifo";
	case S_IFSOCK: return "socket";
	default: return "unknown";
	}
}

static void coroutine_fn get_info(Server *s, Inode *inode, GString *value)
{
	const InodeData *d = &inode->d;
	uint64_t ino = d->attr.ino;

	g_string_append_printf(value, "inode %" PRIu64 "\nslot %u\nhome %u\ntype %s\n",
		ino, ino_slot(ino), s->self, type_name(d->attr.mode));
	if (S_ISDIR(d->attr.mode)) {
		g_string_append_printf(value, "parent %" PRIu64 "\npolicy %s\nchunk size %" PRIu64 "\n",
			d->parent, policies[d->attr.policy], UINT64_C(1) << d->attr.chunk_shift);
		return;
	}
	if (!S_ISREG(d->attr.mode))
		return;
	g_string_append_printf(value, "size %" PRIu64 "\npolicy %s\nchunk size %" PRIu64 "\ndata %s\n", d->attr.size,
		policies[d->attr.policy], UINT64_C(1) << d->attr.chunk_shift, d->flags & INODE_INLINE ? "inline" : "objects");
	if (!(d->flags & INODE_INLINE))
		data_co_describe(s, inode, value);
}

static const OwnXattr own[] = {
	{ PREFIX "policy", get_policy, set_policy, false },
	{ PREFIX "chunk_size", get_chunk_size, set_chunk_size, false },
	{ PREFIX "info", get_info, NULL, true },
};

static const OwnXattr *find(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(own); i++) {
		if (strcmp(own[i].name, name) == 0)
			return &own[i];
	}
	return NULL;
}

static bool applies(const OwnXattr *x, uint32_t mode)
{
	return x->any_type || S_ISREG(mode) || S_ISDIR(mode);
}

int coroutine_fn xattr_own_co_get(Server *s, Inode *inode, const char *name, GString *value)
{
	const OwnXattr *x = find(name);

	if (!x || !applies(x, inode->d.attr.mode))
		return -ENODATA;
	x->get(s, inode, value);
	return 0;
}

int xattr_own_set(Server *s, InodeData *d, const char *name, const char *value, size_t len)
{
	const OwnXattr *x = find(name);

	if (!x)
		return -EOPNOTSUPP;
	if (!x->set || !applies(x, d->attr.mode))
		return -EPERM;
	if (S_ISREG(d->attr.mode) && (d->attr.size > 0 || d->n_blocks > 0 || !(d->flags & INODE_INLINE)))
		return -EBUSY;
	return x->set(s, d, value, len);
}
