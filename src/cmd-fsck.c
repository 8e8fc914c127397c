/*
 * Checks stores: those that are named, which nobody may be using, or those of
 * all peers of a mount while they are in use. Facts and judgement are
 * server/fsck.h's; what is here is where facts come from and what is printed.
 *
 * In use, the facts of one pass are not of one moment: what does not fit may
 * just have been changing. But whatever changes an inode or a directory moves
 * its ctime, and no number is used twice. So what looked wrong is looked at
 * again by another pass, and is wrong if it looks the same and ctime has not
 * moved in between.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/fsck.h"
#include "src/commands.h"
#include "src/mounts.h"
#include "src/status.h"

#define STATUS_XATTR "system.benchfs.status"
#define FSCK_XATTR "system.benchfs.fsck"
#define ASK_TIMEOUT_S 60
#define PASSES_MAX 8u

enum { STATUS_CLEAN = 0, STATUS_PROBLEMS = 1, STATUS_UNCHECKED = 2 };

/* ---- what is printed ---- */

static void print_problems(const GPtrArray *problems)
{
	for (guint i = 0; i < problems->len; i++) {
		g_autofree char *line = fsck_problem_format(problems->pdata[i]);

		puts(line);
	}
}

static void print_counts(FsckJudge *j, guint problems)
{
	const FsckCounts *c = fsck_judge_counts(j);

	printf("%" PRIu64 " inodes, %" PRIu64 " names, %" PRIu64 " objects, %" PRIu64 " orphans, %" PRIu64 " unfinished changes: ",
	       c->inodes, c->names, c->objects, c->orphans, c->changing);
	if (problems == 0)
		puts("clean");
	else
		printf("%u problem%s\n", problems, problems == 1 ? "" : "s");
}

/* ---- stores ---- */

static void stores_free(void *data)
{
	fsck_store_close(data);
}

static FsckStore *find_store(const GPtrArray *stores, uint16_t peer)
{
	for (guint i = 0; i < stores->len; i++)
		if (fsck_store_peer(stores->pdata[i]) == peer)
			return stores->pdata[i];
	return NULL;
}

static bool open_store(GPtrArray *stores, const char *path, GError **error)
{
	g_autoptr(GError) why = NULL;
	g_autoptr(FsckStore) s = fsck_store_open(path, &why);

	if (!s && g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_AGAIN)) {
		options_set_error(error, "%s: stop that one first, or check its mount with 'benchfs fsck --online MOUNTPOINT'", why->message);
		return false;
	}
	if (!s) {
		options_set_error(error, "%s", why->message);
		return false;
	}
	const FsckStore *same = find_store(stores, fsck_store_peer(s));
	if (same) {
		options_set_error(error, "%s and %s are both of peer %u", fsck_store_path(same), path, fsck_store_peer(s));
		return false;
	}
	if (stores->len > 0 && !fsck_store_belongs(s, stores->pdata[0])) {
		options_set_error(error, "%s and %s are not of one cluster", fsck_store_path(stores->pdata[0]), path);
		return false;
	}
	g_ptr_array_add(stores, g_steal_pointer(&s));
	return true;
}

static void print_missing(const GPtrArray *stores, uint32_t peers)
{
	g_autoptr(GString) list = g_string_new(NULL);
	uint32_t missing = 0;

	for (uint16_t id = 0; id < peers; id++)
		if (!find_store(stores, id))
			g_string_append_printf(list, "%s%u", missing++ ? ", " : "", id);
	if (missing == 0)
		return;
	printf("not checked without the store%s of peer%s %s: names that lead there or come from there, links with fewer "
	       "names than they count, objects there and of inodes there\n", missing == 1 ? "" : "s", missing == 1 ? "" : "s", list->str);
}

static int check_stores(char **paths, GError **error)
{
	g_autoptr(GPtrArray) stores = g_ptr_array_new_with_free_func(stores_free);

	for (char **p = paths; *p; p++)
		if (!open_store(stores, *p, error))
			return -1;
	uint32_t peers = fsck_store_peers(stores->pdata[0]);
	g_autoptr(FsckJudge) j = fsck_judge_new(peers);
	for (guint i = 0; i < stores->len; i++) {
		g_autoptr(GError) why = NULL;

		if (!fsck_store_tell(stores->pdata[i], j, &why)) {
			options_set_error(error, "%s", why->message);
			return -1;
		}
	}
	const GPtrArray *problems = fsck_judge_problems(j);

	print_problems(problems);
	print_missing(stores, peers);
	print_counts(j, problems->len);
	return problems->len > 0 ? STATUS_PROBLEMS : STATUS_CLEAN;
}

/* ---- a mount ---- */

static bool get_peers(const char *mount, uint32_t *ret_peers, GError **error)
{
	g_autofree char *text = mounts_get_xattr(mount, STATUS_XATTR, ASK_TIMEOUT_S);
	g_autoptr(Status) s = text ? status_from_text(text) : NULL;

	if (s && s->peers->len > 0) {
		*ret_peers = s->peers->len;
		return true;
	}
	if (!text && errno != ENODATA && errno != ENOTSUP)
		options_set_error(error, "cannot ask %s: %s", mount, g_strerror(errno));
	else
		options_set_error(error, "%s is not the root of a BenchFS mount", mount);
	return false;
}

/* 0, or -errno. */
static int take_piece(const char *mount, uint16_t peer, WireFsckPlace *place, FsckJudge *j)
{
	WireFsckPlace next;
	size_t len;
	g_autofree char *name = g_strdup_printf(FSCK_XATTR ".%u.%u.%" PRIx64 ".%" PRIx64 ".%u", peer, place->stage, place->a,
						place->b, place->skip);
	g_autofree char *piece = mounts_get_xattr_bytes(mount, name, ASK_TIMEOUT_S, &len);

	if (!piece)
		return -errno;
	if (len < sizeof(next) || !fsck_judge_take(j, peer, (const uint8_t *)piece + sizeof(next), len - sizeof(next)))
		return -EPROTO;
	memcpy(&next, piece, sizeof(next));
	if (!fsck_place_is_behind(&next, place) || next.stage > FSCK_STAGE_END)
		return -EPROTO;
	*place = next;
	return 0;
}

static bool take_peer(const char *mount, uint16_t peer, FsckJudge *j, GError **error)
{
	WireFsckPlace place = { 0 };

	while (place.stage != FSCK_STAGE_END) {
		int r = take_piece(mount, peer, &place, j);

		if (r < 0) {
			options_set_error(error, "peer %u cannot be asked through %s: %s", peer, mount, g_strerror(-r));
			return false;
		}
	}
	fsck_judge_complete(j, peer);
	return true;
}

static FsckJudge *pass(const char *mount, uint32_t peers, GError **error)
{
	g_autoptr(FsckJudge) j = fsck_judge_new(peers);

	for (uint16_t id = 0; id < peers; id++)
		if (!take_peer(mount, id, j, error))
			return NULL;
	return g_steal_pointer(&j);
}

/* One that may be a problem: what it says -> its stamp of the last pass. */
static char *suspect_key(const FsckProblem *p)
{
	return g_strdup_printf("%" PRIu64 " %u %s", p->ino, p->peer, p->text);
}

static GHashTable *first_suspects(const GPtrArray *problems)
{
	GHashTable *suspects = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

	for (guint i = 0; i < problems->len; i++) {
		const FsckProblem *p = problems->pdata[i];

		g_hash_table_insert(suspects, suspect_key(p), g_memdup2(&p->stamp, sizeof(p->stamp)));
	}
	return suspects;
}

/* Moves what is certain now to *certain, and keeps as suspects what still looks
 * wrong and has changed. What is new since the first pass is not judged. */
static GHashTable *look_again(GHashTable *suspects, const GPtrArray *problems, GPtrArray *certain)
{
	GHashTable *rest = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

	for (guint i = 0; i < problems->len; i++) {
		const FsckProblem *p = problems->pdata[i];
		g_autofree char *key = suspect_key(p);
		const uint64_t *stamp = g_hash_table_lookup(suspects, key);

		if (!stamp)
			continue;
		if (*stamp == p->stamp)
			g_ptr_array_add(certain, fsck_problem_copy(p));
		else
			g_hash_table_insert(rest, g_steal_pointer(&key), g_memdup2(&p->stamp, sizeof(p->stamp)));
	}
	return rest;
}

static int check_mount(const char *mount, GError **error)
{
	g_autoptr(GPtrArray) certain = g_ptr_array_new_with_free_func((GDestroyNotify)fsck_problem_free);
	g_autoptr(GHashTable) suspects = NULL;
	g_autoptr(FsckJudge) j = NULL;
	uint32_t peers, passes = 1;

	if (!get_peers(mount, &peers, error))
		return -1;
	j = pass(mount, peers, error);
	if (!j)
		return -1;
	suspects = first_suspects(fsck_judge_problems(j));
	for (; g_hash_table_size(suspects) > 0 && passes < PASSES_MAX; passes++) {
		g_clear_pointer(&j, fsck_judge_free);
		j = pass(mount, peers, error);
		if (!j)
			return -1;
		GHashTable *rest = look_again(suspects, fsck_judge_problems(j), certain);
		g_hash_table_destroy(suspects);
		suspects = rest;
	}
	guint unsettled = g_hash_table_size(suspects);

	g_ptr_array_sort(certain, fsck_problem_compare);
	print_problems(certain);
	if (unsettled > 0)
		printf("not judged: %u things that looked wrong and were changing each of the %u times: check again when less goes on\n",
		       unsettled, passes);
	print_counts(j, certain->len);
	return certain->len > 0 ? STATUS_PROBLEMS : unsettled > 0 ? STATUS_UNCHECKED : STATUS_CLEAN;
}

int cmd_fsck(char **argv, GError **error)
{
	g_auto(Options) o = { 0 };

	options_init(&o);
	if (!options_parse_args(&o, CMD_FSCK, argv, error))
		return -1;
	if (o.online) {
		const char *arg = options_one_arg(&o, CMD_FSCK, "mount point with --online", error);
		g_autofree char *mount = arg ? mounts_resolve(arg) : NULL;

		return mount ? check_mount(mount, error) : -1;
	}
	if (!*o.args) {
		options_set_error(error, "fsck needs stores, or --online and a mount point; see 'benchfs fsck --help'");
		return -1;
	}
	return check_stores(o.args, error);
}
