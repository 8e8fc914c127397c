/* A store that nobody uses, as a source of facts. The database is opened
 * read-only: what is in its log is read into memory and nothing is written. */
#include <string.h>

#include <rocksdb/c.h>

#include "server/fsck.h"
#include "server/store.h"

#define PIECE_BYTES (1u << 20)
#define MAX_OPEN_FILES 256

struct FsckStore {
	Store *store;
	StoreOptions opts; /* what its identity says */
	rocksdb_t *db;
};

static rocksdb_t *open_database(const char *path, GError **error)
{
	rocksdb_options_t *o = rocksdb_options_create();
	char *err = NULL;

	rocksdb_options_set_max_open_files(o, MAX_OPEN_FILES);
	rocksdb_t *db = rocksdb_open_for_read_only(o, path, 0, &err);
	rocksdb_options_destroy(o);
	if (!err)
		return db;
	g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "metadata in '%s': %s", path, err);
	rocksdb_free(err);
	return NULL;
}

FsckStore *fsck_store_open(const char *path, GError **error)
{
	g_autoptr(FsckStore) s = g_new0(FsckStore, 1);

	s->store = store_open_readonly(path, &s->opts, error);
	if (!s->store)
		return NULL;
	g_autofree char *meta_path = store_meta_path(s->store);
	s->db = open_database(meta_path, error);
	return s->db ? g_steal_pointer(&s) : NULL;
}

void fsck_store_close(FsckStore *s)
{
	if (!s)
		return;
	if (s->db)
		rocksdb_close(s->db);
	store_close(s->store);
	g_free(s);
}

const char *fsck_store_path(const FsckStore *s)
{
	return store_path(s->store);
}

uint16_t fsck_store_peer(const FsckStore *s)
{
	return s->opts.peer;
}

uint32_t fsck_store_peers(const FsckStore *s)
{
	return s->opts.peers;
}

bool fsck_store_belongs(const FsckStore *s, const FsckStore *other)
{
	return memcmp(s->opts.cluster_id, other->opts.cluster_id, 16) == 0 && s->opts.peers == other->opts.peers &&
		memcmp(s->opts.digest, other->opts.digest, 32) == 0;
}

bool fsck_store_tell(FsckStore *s, FsckJudge *j, GError **error)
{
	FsckSource src = { .db = s->db, .storefd = store_dirfd(s->store), .self = s->opts.peer, .peers = s->opts.peers };
	WireFsckPlace place = { 0 };
	g_autoptr(GByteArray) facts = g_byte_array_new();

	while (place.stage != FSCK_STAGE_END) {
		g_autofree char *why = NULL;

		g_byte_array_set_size(facts, 0);
		if (fsck_scan(&src, &place, facts, PIECE_BYTES, &why) < 0) {
			g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "store %s: its database can't be read: %s", store_path(s->store), why);
			return false;
		}
		if (!fsck_judge_take(j, s->opts.peer, facts->data, facts->len)) {
			g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC, "store %s: it has more inodes or names than can be checked", store_path(s->store));
			return false;
		}
	}
	fsck_judge_complete(j, s->opts.peer);
	return true;
}
