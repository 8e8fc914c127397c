/* What of a lock table is in the store: after any changes exactly its ranges. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "server/lockrecord.h"
#include "server/record.h"

#define INO 0x77u
#define OWNERS 3
#define BYTES 24

typedef struct Fixture {
	char *dir;
	Reactor *reactor;
	Meta *meta;
	LockSet sets[WIRE_LOCK_KINDS];
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
	ReactorOptions opts = { 0 };
	GError *error = NULL;

	f->dir = g_dir_make_tmp("test-lockrecord-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(f->dir, "meta", NULL);
	f->reactor = reactor_new(&opts, &error);
	g_assert_no_error(error);
	f->meta = meta_open(f->reactor, NULL, path, &error);
	g_assert_no_error(error);
}

static void tear_down(Fixture *f, gconstpointer data)
{
	for (int kind = 0; kind < WIRE_LOCK_KINDS; kind++)
		lockset_clear(&f->sets[kind]);
	meta_close(f->meta);
	reactor_free(f->reactor);
	g_autofree char *command = g_strdup_printf("rm -rf '%s'", f->dir);
	g_assert_cmpint(system(command), ==, 0);
	g_free(f->dir);
}

static bool set_has(const LockSet *s, const LockRange *r)
{
	for (uint32_t i = 0; i < s->n; i++) {
		const LockRange *have = &s->v[i];

		if (lock_same_owner(have, r) && have->start == r->start)
			return have->end == r->end && have->type == r->type && have->pid == r->pid && have->peer == r->peer;
	}
	return false;
}

static void coroutine_fn check(Fixture *f)
{
	Key prefix = key_ino(INO, RECORD_LOCK);
	g_autoptr(MetaIter) it = meta_iter_new(f->meta, prefix.data, prefix.len, NULL, 0);
	const uint8_t *k, *v;
	size_t k_len, v_len;
	uint32_t n = 0, held = 0;

	while (meta_iter_co_next(it, &k, &k_len, &v, &v_len) > 0) {
		WireLockKind kind;
		LockRange range;

		g_assert_true(lock_record_decode(k, k_len, v, v_len, &kind, &range));
		g_assert_true(set_has(&f->sets[kind], &range));
		n++;
	}
	for (int kind = 0; kind < WIRE_LOCK_KINDS; kind++)
		held += f->sets[kind].n;
	g_assert_cmpuint(n, ==, held);
}

static void coroutine_fn change(Fixture *f, WireLockKind kind, const LockRange *range)
{
	MetaBatch *b = meta_batch_new(f->meta);
	bool any = lock_records_change(b, INO, kind, &f->sets[kind], range);

	if (any)
		g_assert_cmpint(meta_batch_co_commit(b), ==, 0);
	else
		meta_batch_free(b);
	lockset_apply(&f->sets[kind], range);
}

static void coroutine_fn random_changes(void *arg)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(5);
	const uint32_t types[] = { F_RDLCK, F_WRLCK, F_UNLCK };
	Fixture *f = arg;

	for (int i = 0; i < 3000; i++) {
		int start = g_rand_int_range(rand, 0, BYTES);
		int end = g_rand_int_range(rand, start, BYTES + 1);
		LockRange r = {
			.session = (uint64_t)g_rand_int_range(rand, 1, 3), .owner = (uint64_t)g_rand_int_range(rand, 0, OWNERS),
			.start = (uint64_t)start, .end = end == BYTES ? UINT64_MAX : (uint64_t)end,
			.type = types[g_rand_int_range(rand, 0, 3)], .pid = (uint32_t)g_rand_int_range(rand, 1, 3),
		};

		r.peer = (uint16_t)(r.session * 10);
		change(f, (WireLockKind)g_rand_int_range(rand, 0, WIRE_LOCK_KINDS), &r);
		check(f);
	}
	for (uint64_t session = 1; session < 3; session++) {
		MetaBatch *b = meta_batch_new(f->meta);

		lock_records_delete_session(b, INO, session);
		g_assert_cmpint(meta_batch_co_commit(b), ==, 0);
		for (int kind = 0; kind < WIRE_LOCK_KINDS; kind++)
			lockset_drop_session(&f->sets[kind], session);
		check(f);
	}
}

static void test_random(Fixture *f, gconstpointer data)
{
	reactor_run_co(f->reactor, random_changes, f);
}

static void coroutine_fn nothing_new(void *arg)
{
	Fixture *f = arg;
	LockRange lock = { .session = 1, .owner = 2, .start = 10, .end = 19, .type = F_WRLCK, .pid = 3, .peer = 4 };
	LockRange unlock = lock;
	g_autoptr(MetaBatch) b = meta_batch_new(f->meta);

	unlock.type = F_UNLCK;
	g_assert_false(lock_records_change(b, INO, WIRE_LOCK_FCNTL, &f->sets[0], &unlock));
	change(f, WIRE_LOCK_FCNTL, &lock);
	g_assert_false(lock_records_change(b, INO, WIRE_LOCK_FCNTL, &f->sets[0], &lock));
	unlock.owner++;
	g_assert_false(lock_records_change(b, INO, WIRE_LOCK_FCNTL, &f->sets[0], &unlock));
}

/* A lock that is set or dropped twice, as close(2) does, costs no write. */
static void test_nothing_new(Fixture *f, gconstpointer data)
{
	reactor_run_co(f->reactor, nothing_new, f);
}

static void coroutine_fn damage(void *arg)
{
	Fixture *f = arg;
	LockRange lock = { .session = 1, .owner = 2, .start = 10, .end = 19, .type = F_WRLCK };
	WireLockKind kind;

	change(f, WIRE_LOCK_FLOCK, &lock);
	Key prefix = key_ino(INO, RECORD_LOCK);
	g_autoptr(MetaIter) it = meta_iter_new(f->meta, prefix.data, prefix.len, NULL, 0);
	const uint8_t *k, *v;
	size_t k_len, v_len;

	g_assert_cmpint(meta_iter_co_next(it, &k, &k_len, &v, &v_len), ==, 1);
	g_assert_true(lock_record_decode(k, k_len, v, v_len, &kind, &lock));
	g_assert_cmpint(kind, ==, WIRE_LOCK_FLOCK);
	g_assert_false(lock_record_decode(k, k_len - 1, v, v_len, &kind, &lock));
	g_assert_false(lock_record_decode(k, k_len, v, v_len - 1, &kind, &lock));
	g_assert_false(lock_record_decode(k, k_len, v, 0, &kind, &lock));
	g_autofree uint8_t *bad = g_memdup2(v, v_len);

	bad[0]++; /* the version */
	g_assert_false(lock_record_decode(k, k_len, bad, v_len, &kind, &lock));
	bad[0]--;
	bad[1] = 77; /* the type */
	g_assert_false(lock_record_decode(k, k_len, bad, v_len, &kind, &lock));
	bad[1] = F_WRLCK;
	memset(bad + 8, 0, 8); /* the end */
	g_assert_false(lock_record_decode(k, k_len, bad, v_len, &kind, &lock));
}

static void test_damage(Fixture *f, gconstpointer data)
{
	reactor_run_co(f->reactor, damage, f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add("/lockrecord/" name, Fixture, NULL, set_up, fn, tear_down)
	ADD("random", test_random);
	ADD("nothing-new", test_nothing_new);
	ADD("damage", test_damage);
	return g_test_run();
}
