#include "server/record.h"

#include <glib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define RESERVED_COOKIES 16

static void key_add(Key *k, const void *bytes, size_t len)
{
	g_assert(len <= sizeof(k->data) - k->len);
	memcpy(k->data + k->len, bytes, len);
	k->len += len;
}

static void key_add_num(Key *k, uint64_t num)
{
	uint64_t be = GUINT64_TO_BE(num);

	key_add(k, &be, sizeof(be));
}

/* Leaves the bytes behind the key as they are: keys are made for every record
 * that is touched, and most are short. */
static void key_begin(Key *k, uint16_t slot, RecordType type)
{
	k->data[0] = (uint8_t)(slot >> 8);
	k->data[1] = (uint8_t)slot;
	k->data[2] = (uint8_t)type;
	k->len = 3;
}

Key key_slot(uint16_t slot, RecordType type)
{
	Key k;

	key_begin(&k, slot, type);
	return k;
}

Key key_slot_name(uint16_t slot, RecordType type, const char *name)
{
	Key k;

	key_begin(&k, slot, type);
	key_add(&k, name, strlen(name));
	return k;
}

Key key_ino(uint64_t ino, RecordType type)
{
	Key k;

	key_begin(&k, ino_slot(ino), type);
	key_add_num(&k, ino);
	return k;
}

Key key_ino_num(uint64_t ino, RecordType type, uint64_t num)
{
	Key k = key_ino(ino, type);

	key_add_num(&k, num);
	return k;
}

Key key_ino_bytes(uint64_t ino, RecordType type, const void *bytes, size_t len)
{
	Key k = key_ino(ino, type);

	key_add(&k, bytes, len);
	return k;
}

Key key_ino_kind(uint64_t ino, RecordType type, uint8_t kind)
{
	return key_ino_bytes(ino, type, &kind, sizeof(kind));
}

Key key_txn(RecordType type, uint64_t session, uint64_t number)
{
	Key k;

	key_begin(&k, STORE_SLOT, type);
	key_add_num(&k, session);
	key_add_num(&k, number);
	return k;
}

Key key_session(uint64_t session)
{
	Key k;

	key_begin(&k, STORE_SLOT, RECORD_SESSION);
	key_add_num(&k, session);
	return k;
}

Key key_dirent(uint64_t dir, uint64_t hash, const char *name, size_t name_len)
{
	Key k = key_ino_num(dir_part(dir, hash), RECORD_DIRENT, hash);

	key_add(&k, name, name_len);
	return k;
}

uint64_t key_get_num(const uint8_t *key, size_t key_len, size_t at)
{
	uint64_t be;

	if (at > key_len || key_len - at < sizeof(be))
		return 0;
	memcpy(&be, key + at, sizeof(be));
	return GUINT64_FROM_BE(be);
}

uint64_t name_hash(const char *name, size_t name_len)
{
	uint64_t hash = XXH3_64bits(name, name_len) >> 2;

	return hash < RESERVED_COOKIES ? hash + RESERVED_COOKIES : hash;
}
