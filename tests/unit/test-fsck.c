/*
 * The two halves of the check: pieces of any size say the same, places and
 * facts may be anything, and whatever bytes a store holds the check ends.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rocksdb/c.h>

#include "common/heldback.h"
#include "common/ino.h"
#include "server/fsck.h"
#include "tests/unit/server-fixture.h"

typedef struct Fixture {
	char *dir;
	rocksdb_t *db;
	int storefd;
	FsckSource src;
} Fixture;

static void coroutine_fn fill(Peer *p)
{
	for (int d = 0; d < 3; d++) {
		g_autofree char *name = g_strdup_printf("d%d", d);
		uint64_t dir = make_dir(p, INO_ROOT, name);

		for (int i = 0; i < 400; i++) {
			g_autofree char *file = g_strdup_printf("a file with a rather long name, so that there are pieces %d", i);
			WireWriteReq w = { .ino = make_file(p, dir, file), .writer = 0 };
			char bytes[6000] = { 1 };
			WireWriteRep rep;
			RpcCall call = { .req = &w, .req_len = sizeof(w), .rep = &rep, .in = bytes, .in_len = i % 2 ? 100 : 6000 };

			g_assert_cmpint(rpc_co_call(p->rpc, 0, WIRE_WRITE, &call), >=, 0);
		}
		g_assert_cmpint(do_rename(p, dir, "a file with a rather long name, so that there are pieces 3", dir, "x", 0), ==, 0);
		g_assert_cmpint(do_unlink(p, dir, "a file with a rather long name, so that there are pieces 4"), ==, 0);
		g_assert_cmpint(do_link(p, ino_of(p, dir, "x"), dir, "y"), ==, 0);
		make_dir(p, dir, "sub");
	}
}

/* Nothing of inodes that are gone, as after a crash. */
static void hold_back(Peer *p)
{
	GError *error = NULL;
	HeldBack *h = heldback_new(p->rpc, p->counters, p->dir, &error);

	g_assert_no_error(error);
	for (uint32_t i = 0; i < HELDBACK_SLOTS; i++)
		g_assert_true(heldback_ask(h, ino_make(0, 1000000 + i)));
	heldback_free(h);
}

static void set_up(Fixture *f, gconstpointer data)
{
	Peer p = { 0 };
	char *err = NULL;
	rocksdb_options_t *o = rocksdb_options_create();

	p.dir = f->dir = g_dir_make_tmp("test-fsck-XXXXXX", NULL);
	peer_start(&p);
	peer_run(&p, fill);
	hold_back(&p);
	peer_stop(&p);
	g_autofree char *meta = g_build_filename(f->dir, "meta", NULL);
	f->db = rocksdb_open(o, meta, &err);
	g_assert_null(err);
	rocksdb_options_destroy(o);
	f->storefd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->src = (FsckSource) { .db = f->db, .storefd = f->storefd, .peers = 1 };
}

static void tear_down(Fixture *f, gconstpointer data)
{
	g_autofree char *command = g_strdup_printf("rm -rf '%s'", f->dir);

	rocksdb_close(f->db);
	close(f->storefd);
	g_assert_cmpint(system(command), ==, 0);
	g_free(f->dir);
}

/* All facts, in pieces of limit; every place lies behind the one before. */
static GByteArray *all_facts(Fixture *f, size_t limit, uint32_t *ret_pieces)
{
	GByteArray *all = g_byte_array_new(), *piece = g_byte_array_new();
	WireFsckPlace place = { 0 };

	for (*ret_pieces = 0; place.stage != FSCK_STAGE_END; (*ret_pieces)++) {
		WireFsckPlace before = place;
		char *why = NULL;

		g_byte_array_set_size(piece, 0);
		g_assert_cmpint(fsck_scan(&f->src, &place, piece, limit, &why), ==, 0);
		g_assert_cmpuint(piece->len, <=, limit);
		g_assert_true(fsck_place_is_behind(&place, &before));
		g_byte_array_append(all, piece->data, piece->len);
	}
	g_byte_array_free(piece, TRUE);
	return all;
}

static guint count_problems(const GByteArray *facts, FsckCounts *ret_counts)
{
	g_autoptr(FsckJudge) j = fsck_judge_new(1);

	g_assert_true(fsck_judge_take(j, 0, facts->data, facts->len));
	fsck_judge_complete(j, 0);
	const GPtrArray *problems = fsck_judge_problems(j);
	for (guint i = 0; i < problems->len; i++) {
		g_autofree char *line = fsck_problem_format(problems->pdata[i]);

		g_assert_null(strchr(line, '\n'));
	}
	*ret_counts = *fsck_judge_counts(j);
	return problems->len;
}

static void test_pieces(Fixture *f, gconstpointer data)
{
	FsckCounts counts;
	uint32_t one, many;
	g_autoptr(GByteArray) whole = all_facts(f, 64u << 20, &one);
	g_autoptr(GByteArray) pieces = all_facts(f, FSCK_PIECE / 2, &many);

	g_assert_cmpuint(one, ==, FSCK_STAGE_END);
	g_assert_cmpuint(many, >, 10);
	g_assert_cmpmem(whole->data, whole->len, pieces->data, pieces->len);
	g_assert_cmpuint(count_problems(whole, &counts), ==, 0);
	g_assert_cmpuint(counts.inodes, ==, 1 + 3 * (1 + 399 + 1));
	g_assert_cmpuint(counts.names, ==, 3 * (1 + 400 + 1));
	g_assert_cmpuint(counts.objects, ==, 3 * 199);
}

static void test_any_place(Fixture *f, gconstpointer data)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	g_autoptr(GByteArray) piece = g_byte_array_new();

	for (int i = 0; i < 300; i++) {
		const uint64_t odd[] = { 0, 1, 255, 256, 4095, 4096, 65535, 65536, UINT32_MAX, UINT64_MAX,
			(uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand), (uint64_t)g_rand_int_range(rand, 0, 4096) << 48 };
		WireFsckPlace place = {
			.a = odd[g_rand_int_range(rand, 0, G_N_ELEMENTS(odd))], .b = odd[g_rand_int_range(rand, 0, G_N_ELEMENTS(odd))],
			.stage = (uint32_t)g_rand_int_range(rand, 0, 6), .skip = (uint32_t)odd[g_rand_int_range(rand, 0, 9)],
		};
		char *why = NULL;
		int r;

		g_byte_array_set_size(piece, 0);
		r = fsck_scan(&f->src, &place, piece, FSCK_PIECE, &why);
		g_assert_true(r == 0 || r == -EINVAL);
		g_assert_cmpuint(piece->len, <=, FSCK_PIECE);
	}
}

static void test_any_facts(Fixture *f, gconstpointer data)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(2);
	uint32_t pieces;
	g_autoptr(GByteArray) facts = all_facts(f, 64u << 20, &pieces);

	for (int i = 0; i < 200; i++) {
		g_autofree uint8_t *copy = g_memdup2(facts->data, facts->len);
		g_autoptr(FsckJudge) j = fsck_judge_new(3);

		for (int k = 0; k < 50; k++)
			copy[g_rand_int_range(rand, 0, (gint32)facts->len)] = (uint8_t)g_rand_int(rand);
		fsck_judge_take(j, (uint16_t)(i % 3), copy, facts->len);
		fsck_judge_complete(j, (uint16_t)(i % 3));
		fsck_judge_problems(j);
	}
}

/* ---- hostile stores ---- */

typedef struct Record {
	GByteArray *key, *value;
} Record;

static void record_free(void *data)
{
	Record *r = data;

	g_byte_array_free(r->key, TRUE);
	g_byte_array_free(r->value, TRUE);
	g_free(r);
}

static GPtrArray *all_records(rocksdb_t *db)
{
	GPtrArray *all = g_ptr_array_new_with_free_func(record_free);
	rocksdb_readoptions_t *o = rocksdb_readoptions_create();
	rocksdb_iterator_t *it = rocksdb_create_iterator(db, o);

	for (rocksdb_iter_seek_to_first(it); rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
		size_t key_len, len;
		const char *key = rocksdb_iter_key(it, &key_len), *value = rocksdb_iter_value(it, &len);
		Record *r = g_new(Record, 1);

		*r = (Record) { g_byte_array_new(), g_byte_array_new() };
		g_byte_array_append(r->key, (const guint8 *)key, (guint)key_len);
		g_byte_array_append(r->value, (const guint8 *)value, (guint)len);
		g_ptr_array_add(all, r);
	}
	rocksdb_iter_destroy(it);
	rocksdb_readoptions_destroy(o);
	return all;
}

static void damage_bytes(GRand *rand, GByteArray *b)
{
	static const uint8_t odd[] = { 0, 1, 2, 0x7f, 0x80, 0xfe, 0xff };

	for (int n = g_rand_int_range(rand, 1, 9); n > 0 && b->len > 0; n--)
		b->data[g_rand_int_range(rand, 0, (gint32)b->len)] =
			g_rand_boolean(rand) ? (uint8_t)g_rand_int(rand) : odd[g_rand_int_range(rand, 0, G_N_ELEMENTS(odd))];
	if (g_rand_int_range(rand, 0, 8) == 0)
		g_byte_array_set_size(b, (guint)g_rand_int_range(rand, 0, (gint32)b->len + 1));
}

/* One record gets worse; what it was is put back by undo. */
static void put_damaged(rocksdb_t *db, rocksdb_writeoptions_t *o, GRand *rand, const Record *r, GPtrArray *undo)
{
	GByteArray *key = g_byte_array_new(), *value = g_byte_array_new();
	char *err = NULL;

	g_byte_array_append(key, r->key->data, r->key->len);
	g_byte_array_append(value, r->value->data, r->value->len);
	if (g_rand_int_range(rand, 0, 4) == 0)
		damage_bytes(rand, key);
	else
		damage_bytes(rand, value);
	rocksdb_put(db, o, (const char *)key->data, key->len, (const char *)value->data, value->len, &err);
	g_assert_null(err);
	Record *u = g_new(Record, 1);
	*u = (Record) { key, value };
	g_ptr_array_add(undo, u);
}

static void test_hostile(Fixture *f, gconstpointer data)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(3);
	g_autoptr(GPtrArray) records = all_records(f->db);
	rocksdb_writeoptions_t *o = rocksdb_writeoptions_create();
	int rounds = g_test_thorough() ? 5000 : 150;
	char *err = NULL;

	rocksdb_writeoptions_disable_WAL(o, 1);
	for (int i = 0; i < rounds; i++) {
		g_autoptr(GPtrArray) undo = g_ptr_array_new_with_free_func(record_free);
		uint32_t pieces;
		FsckCounts counts;

		for (int n = g_rand_int_range(rand, 1, 60); n > 0; n--)
			put_damaged(f->db, o, rand, records->pdata[g_rand_int_range(rand, 0, (gint32)records->len)], undo);
		g_autoptr(GByteArray) facts = all_facts(f, i % 2 ? FSCK_PIECE / 2 : FSCK_PIECE, &pieces);
		count_problems(facts, &counts);
		for (guint k = 0; k < undo->len; k++) {
			const Record *u = undo->pdata[k];

			rocksdb_delete(f->db, o, (const char *)u->key->data, u->key->len, &err);
			g_assert_null(err);
		}
		for (guint k = 0; k < records->len; k++) {
			const Record *r = records->pdata[k];

			if (i % 20 != 19 && k % 64 != 0)
				continue;
			rocksdb_put(f->db, o, (const char *)r->key->data, r->key->len, (const char *)r->value->data, r->value->len, &err);
			g_assert_null(err);
		}
	}
	rocksdb_writeoptions_destroy(o);
}

#define TEST(name, fn) g_test_add(name, Fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	TEST("/fsck/pieces", test_pieces);
	TEST("/fsck/any-place", test_any_place);
	TEST("/fsck/any-facts", test_any_facts);
	TEST("/fsck/hostile", test_hostile);
	return g_test_run();
}
