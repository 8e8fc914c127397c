#include "server/acl.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>

#define VERSION 2u

typedef enum Tag {
	TAG_USER_OBJ = 0x01, TAG_USER = 0x02, TAG_GROUP_OBJ = 0x04, TAG_GROUP = 0x08,
	TAG_MASK = 0x10, TAG_OTHER = 0x20,
} Tag;

/* Unaligned: lists lie behind other things. */
typedef struct __attribute__((packed)) AclEntry {
	uint16_t tag, perm;
	uint32_t id;
} AclEntry;

typedef struct __attribute__((packed)) AclHeader {
	uint32_t version;
} AclHeader;

/* The three bits of each class in a mode. */
enum { SHIFT_OTHER = 0, SHIFT_GROUP = 3, SHIFT_USER = 6 };

static size_t entry_count(size_t len)
{
	return (len - sizeof(AclHeader)) / sizeof(AclEntry);
}

static AclEntry *entries(const void *acl)
{
	return (AclEntry *)((const uint8_t *)acl + sizeof(AclHeader));
}

bool acl_is_empty(size_t len)
{
	return len <= sizeof(AclHeader);
}

/* Tags come in rising order, one each of the owner, its group and the others,
 * and a mask where there is anybody with a name. */
static bool is_in_order(const AclEntry *e, size_t n)
{
	uint32_t seen = 0, last = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t tag = e[i].tag;
		bool named = tag == TAG_USER || tag == TAG_GROUP;

		if (e[i].perm > 7 || tag == 0 || (tag & (tag - 1)) != 0 || tag > TAG_OTHER)
			return false;
		if (tag < last || (tag == last && !named) || (named && e[i].id == UINT32_MAX))
			return false;
		seen |= tag;
		last = tag;
	}
	uint32_t needed = TAG_USER_OBJ | TAG_GROUP_OBJ | TAG_OTHER;
	if (seen & (TAG_USER | TAG_GROUP))
		needed |= TAG_MASK;
	return (seen & needed) == needed;
}

int acl_check(const void *acl, size_t len)
{
	AclHeader header;

	if (len < sizeof(header))
		return -EINVAL;
	if (len > ACL_SIZE_MAX)
		return -E2BIG;
	memcpy(&header, acl, sizeof(header));
	if (header.version != VERSION)
		return -EOPNOTSUPP;
	if ((len - sizeof(header)) % sizeof(AclEntry) != 0)
		return -EINVAL;
	return acl_is_empty(len) || is_in_order(entries(acl), entry_count(len)) ? 0 : -EINVAL;
}

static AclEntry *find(const void *acl, size_t len, Tag tag)
{
	AclEntry *e = entries(acl);

	for (size_t i = 0; i < entry_count(len); i++)
		if (e[i].tag == tag)
			return &e[i];
	return NULL;
}

/* What the group's bits of the mode stand for. */
static AclEntry *find_group_class(const void *acl, size_t len)
{
	AclEntry *mask = find(acl, len, TAG_MASK);

	return mask ? mask : find(acl, len, TAG_GROUP_OBJ);
}

static bool is_minimal(size_t len)
{
	return entry_count(len) == 3;
}

bool acl_to_mode(const void *acl, size_t len, uint32_t *mode)
{
	uint32_t bits = (uint32_t)find(acl, len, TAG_USER_OBJ)->perm << SHIFT_USER |
		(uint32_t)find_group_class(acl, len)->perm << SHIFT_GROUP |
		(uint32_t)find(acl, len, TAG_OTHER)->perm << SHIFT_OTHER;

	*mode = (*mode & ~0777u) | bits;
	return is_minimal(len);
}

static void set_class(AclEntry *e, uint32_t mode, uint32_t shift)
{
	e->perm = mode >> shift & 7;
}

void acl_set_mode(void *acl, size_t len, uint32_t mode)
{
	set_class(find(acl, len, TAG_USER_OBJ), mode, SHIFT_USER);
	set_class(find_group_class(acl, len), mode, SHIFT_GROUP);
	set_class(find(acl, len, TAG_OTHER), mode, SHIFT_OTHER);
}

static void meet(AclEntry *e, uint32_t *mode, uint32_t shift)
{
	e->perm &= *mode >> shift & 7;
	*mode = (*mode & ~(7u << shift)) | (uint32_t)e->perm << shift;
}

bool acl_inherit(void *acl, size_t len, uint32_t *mode)
{
	meet(find(acl, len, TAG_USER_OBJ), mode, SHIFT_USER);
	meet(find_group_class(acl, len), mode, SHIFT_GROUP);
	meet(find(acl, len, TAG_OTHER), mode, SHIFT_OTHER);
	return is_minimal(len);
}
