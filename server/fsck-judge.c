/*
 * The judge: what was told of all stores, in arrays and one hash table of
 * numbers, about 100 bytes an inode with its name. Nothing is said before all
 * is known; of a store that was not told nothing is held against the others.
 */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "common/heldback.h"
#include "common/ino.h"
#include "common/map.h"
#include "server/fsck.h"

#define NONE UINT32_MAX
#define PATH_DEPTH_MAX 512u
#define PATH_BYTES_MAX 4096u

typedef enum Way { WAY_UNKNOWN, WAY_WALKING, WAY_ROOT, WAY_LOST } Way; /* up from a directory */

typedef struct Node {
	uint64_t ino, parent;
	int64_t ctime_ns, mtime_ns;
	uint32_t mode, nlink, flags;
	uint32_t names;      /* found */
	uint32_t first_name; /* index, or NONE */
	uint32_t first_target, n_targets;
	Way way;
} Node;

typedef struct NameFact {
	uint64_t dir, ino;
	uint32_t mode, len;
	uint64_t text; /* offset */
} NameFact;

typedef struct ObjectFact {
	uint64_t ino, length;
	uint16_t peer;
} ObjectFact;

typedef struct HeldFact {
	WireHeldBack held;
	uint16_t peer;
} HeldFact;

struct FsckJudge {
	uint32_t peers;
	bool complete[PEER_MAX];
	GArray *nodes, *names, *objects, *targets, *held;
	GByteArray *text;
	GHashTable *unsettled; /* &number: inodes that unfinished changes are about */
	uint32_t *index;     /* open addressing: node index + 1 */
	uint64_t index_size; /* a power of two */
	GPtrArray *problems; /* of FsckProblem */
	FsckCounts counts;
	bool judged;
};

FsckProblem *fsck_problem_copy(const FsckProblem *p)
{
	FsckProblem *copy = g_memdup2(p, sizeof(*p));

	copy->text = g_strdup(p->text);
	copy->path = g_strdup(p->path);
	return copy;
}

void fsck_problem_free(FsckProblem *p)
{
	g_free(p->text);
	g_free(p->path);
	g_free(p);
}

FsckJudge *fsck_judge_new(uint32_t peers)
{
	FsckJudge *j = g_new0(FsckJudge, 1);

	g_assert(peers > 0 && peers <= PEER_MAX);
	j->peers = peers;
	j->nodes = g_array_new(FALSE, FALSE, sizeof(Node));
	j->names = g_array_new(FALSE, FALSE, sizeof(NameFact));
	j->objects = g_array_new(FALSE, FALSE, sizeof(ObjectFact));
	j->targets = g_array_new(FALSE, FALSE, sizeof(FsckTarget));
	j->held = g_array_new(FALSE, FALSE, sizeof(HeldFact));
	j->text = g_byte_array_new();
	j->unsettled = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	j->problems = g_ptr_array_new_with_free_func((GDestroyNotify)fsck_problem_free);
	return j;
}

void fsck_judge_free(FsckJudge *j)
{
	if (!j)
		return;
	g_array_free(j->nodes, TRUE);
	g_array_free(j->names, TRUE);
	g_array_free(j->objects, TRUE);
	g_array_free(j->targets, TRUE);
	g_array_free(j->held, TRUE);
	g_byte_array_free(j->text, TRUE);
	g_hash_table_destroy(j->unsettled);
	g_ptr_array_free(j->problems, TRUE);
	g_free(j->index);
	g_free(j);
}

/* ---- taking facts ---- */

static void add_problem(FsckJudge *j, uint16_t peer, uint64_t ino, uint64_t stamp, char *text)
{
	FsckProblem *p = g_new(FsckProblem, 1);

	*p = (FsckProblem) { .ino = ino, .stamp = stamp, .peer = peer, .text = text };
	g_ptr_array_add(j->problems, p);
}

static bool is_printable(const char *text)
{
	if (!g_utf8_validate(text, -1, NULL))
		return false;
	for (const char *p = text; *p; p = g_utf8_next_char(p))
		if (!g_unichar_isprint(g_utf8_get_char(p)))
			return false;
	return true;
}

/* Whatever was stored, a problem is one line, and nothing that a terminal would
 * obey. */
static char *shown(const char *text, size_t len)
{
	g_autofree char *copy = g_strndup(text, len);

	return is_printable(copy) ? g_steal_pointer(&copy) : g_strescape(copy, "\"");
}

static bool take_inode(FsckJudge *j, const FsckFact *f, const uint8_t *tail)
{
	Node n = {
		.ino = f->ino, .parent = f->dir, .ctime_ns = f->ctime_ns, .mtime_ns = f->mtime_ns, .mode = f->mode, .nlink = f->nlink,
		.flags = f->flags, .first_name = NONE,
		.first_target = j->targets->len, .n_targets = f->tail_len / (uint32_t)sizeof(FsckTarget),
	};

	if (f->tail_len % sizeof(FsckTarget) != 0 || !ino_valid(f->ino) || j->nodes->len == NONE - 1)
		return false;
	g_array_append_vals(j->targets, tail, n.n_targets);
	g_array_append_val(j->nodes, n);
	return true;
}

static bool take_name(FsckJudge *j, const FsckFact *f, const uint8_t *tail)
{
	NameFact n = { .dir = f->dir, .ino = f->ino, .mode = f->mode, .len = f->tail_len, .text = j->text->len };

	/* GByteArray ends at 4 GiB: later names go without their text */
	if (f->tail_len > WIRE_NAME_MAX || j->names->len == NONE - 1)
		return false;
	if (j->text->len > UINT32_MAX - WIRE_NAME_MAX * 2)
		n.len = 0;
	else
		g_byte_array_append(j->text, tail, f->tail_len);
	g_array_append_val(j->names, n);
	return true;
}

static bool take_unsettled(FsckJudge *j, const FsckFact *f, const uint8_t *tail)
{
	if (f->tail_len % sizeof(uint64_t) != 0)
		return false;
	for (uint32_t at = 0; at < f->tail_len; at += sizeof(uint64_t))
		g_hash_table_add(j->unsettled, g_memdup2(tail + at, sizeof(uint64_t)));
	j->counts.changing++;
	return true;
}

static bool take_held(FsckJudge *j, uint16_t peer, const FsckFact *f, const uint8_t *tail)
{
	HeldFact h = { .peer = peer };

	if (f->tail_len != sizeof(h.held) || j->held->len == NONE - 1)
		return false;
	memcpy(&h.held, tail, sizeof(h.held));
	g_array_append_val(j->held, h);
	return true;
}

/* Its names, its links and its parent need not fit each other now. */
static bool is_changing(const FsckJudge *j, uint64_t ino)
{
	return g_hash_table_contains(j->unsettled, &ino);
}

static bool take_one(FsckJudge *j, uint16_t peer, const FsckFact *f, const uint8_t *tail)
{
	ObjectFact o = { .ino = f->ino, .length = f->length, .peer = peer };

	switch ((FsckKind)f->kind) {
	case FSCK_INODE:
		return take_inode(j, f, tail);
	case FSCK_NAME:
		return take_name(j, f, tail);
	case FSCK_OBJECT:
		if (j->objects->len == NONE - 1)
			return false;
		g_array_append_val(j->objects, o);
		return true;
	case FSCK_PROBLEM:
		add_problem(j, peer, f->ino, (uint64_t)f->ctime_ns, shown((const char *)tail, f->tail_len));
		return true;
	case FSCK_UNSETTLED:
		return take_unsettled(j, f, tail);
	case FSCK_HELD:
		return take_held(j, peer, f, tail);
	}
	return false;
}

bool fsck_judge_take(FsckJudge *j, uint16_t peer, const uint8_t *facts, size_t len)
{
	g_assert(peer < j->peers && !j->judged);
	while (len > 0) {
		FsckFact f;

		if (len < sizeof(f))
			return false;
		memcpy(&f, facts, sizeof(f));
		size_t size = sizeof(f) + ((f.tail_len + 7u) & ~(size_t)7);
		if (len < size || !take_one(j, peer, &f, facts + sizeof(f)))
			return false;
		facts += size;
		len -= size;
	}
	return true;
}

void fsck_judge_complete(FsckJudge *j, uint16_t peer)
{
	j->complete[peer] = true;
}

/* ---- finding ---- */

static Node *node_at(FsckJudge *j, uint32_t i)
{
	return &g_array_index(j->nodes, Node, i);
}

static uint64_t hash_of(uint64_t ino)
{
	return (ino * UINT64_C(0x9e3779b97f4a7c15)) >> 20;
}

static Node *find(FsckJudge *j, uint64_t ino)
{
	for (uint64_t at = hash_of(ino);; at++) {
		uint32_t i = j->index[at & (j->index_size - 1)];

		if (i == 0)
			return NULL;
		if (node_at(j, i - 1)->ino == ino)
			return node_at(j, i - 1);
	}
}

static void insert(FsckJudge *j, uint32_t node)
{
	uint64_t at = hash_of(node_at(j, node)->ino);

	while (j->index[at & (j->index_size - 1)] != 0)
		at++;
	j->index[at & (j->index_size - 1)] = node + 1;
}

/* Does the absence of its record say something? */
static bool home_is_known(const FsckJudge *j, uint64_t ino)
{
	return ino_valid(ino) && j->complete[ino_slot(ino) % j->peers];
}

static bool all_known(const FsckJudge *j)
{
	for (uint32_t i = 0; i < j->peers; i++)
		if (!j->complete[i])
			return false;
	return true;
}

static uint64_t stamp_of(const Node *a, const Node *b)
{
	uint64_t x = a ? (uint64_t)a->ctime_ns : 0, y = b ? (uint64_t)b->ctime_ns : 0;

	return x ^ (y << 1 | y >> 63);
}

static void G_GNUC_PRINTF(4, 5) bad(FsckJudge *j, uint64_t ino, uint64_t stamp, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	add_problem(j, 0, ino, stamp, g_strdup_vprintf(format, ap));
	va_end(ap);
}

/* The same number told twice: the second is in a store that is not its home,
 * which the scan has told. */
static void index_nodes(FsckJudge *j)
{
	j->index_size = 16;
	while (j->index_size < (uint64_t)j->nodes->len * 2)
		j->index_size *= 2;
	j->index = g_new0(uint32_t, j->index_size);
	for (uint32_t i = 0; i < j->nodes->len; i++) {
		const Node *n = node_at(j, i);

		if (!find(j, n->ino))
			insert(j, i);
		else
			bad(j, n->ino, stamp_of(n, NULL), "it is there more than once");
		j->counts.inodes++;
		j->counts.orphans += !(n->flags & FSCK_UNREADABLE) && n->nlink == 0;
	}
}

static const NameFact *name_at(const FsckJudge *j, uint32_t i)
{
	return &g_array_index(j->names, NameFact, i);
}

static char *name_shown(const FsckJudge *j, const NameFact *n)
{
	return shown((const char *)j->text->data + (n->len ? n->text : 0), n->len);
}

/* ---- names ---- */

static void check_name(FsckJudge *j, uint32_t i)
{
	const NameFact *f = name_at(j, i);
	Node *n = find(j, f->ino), *dir = find(j, f->dir);
	g_autofree char *text = NULL;

	if (n) {
		n->names++;
		if (n->first_name == NONE || (S_ISDIR(n->mode) && f->dir == n->parent))
			n->first_name = i;
	}
	if (!n && home_is_known(j, f->ino) && !is_changing(j, f->ino)) {
		text = name_shown(j, f);
		bad(j, f->dir, stamp_of(dir, NULL), "the name '%s' in it leads to inode %#" PRIx64 ", which is not there", text, f->ino);
	} else if (n && !(n->flags & FSCK_UNREADABLE) && f->mode != (n->mode & S_IFMT)) {
		text = name_shown(j, f);
		bad(j, f->dir, stamp_of(dir, n), "the name '%s' in it says type %#o, and inode %#" PRIx64 " is of type %#o",
		    text, f->mode, f->ino, n->mode & S_IFMT);
	}
	if (f->ino == INO_ROOT) {
		text = text ? text : name_shown(j, f);
		bad(j, f->dir, stamp_of(dir, n), "the name '%s' in it leads to the root", text);
	}
}

static void check_dir_names(FsckJudge *j, const Node *n)
{
	const NameFact *f = n->first_name == NONE ? NULL : name_at(j, n->first_name);

	if (n->names > 1)
		bad(j, n->ino, stamp_of(n, NULL), "it is a directory and has %u names", n->names);
	if (f && f->dir != n->parent)
		bad(j, n->ino, stamp_of(n, find(j, f->dir)), "its name is in directory %#" PRIx64 ", and its parent is %#" PRIx64,
		    f->dir, n->parent);
}

/* Names may be in any store: all that is known otherwise is "at least". */
static void check_links(FsckJudge *j, const Node *n)
{
	uint32_t links = S_ISDIR(n->mode) ? n->nlink > 0 : n->nlink;

	if (n->ino == INO_ROOT || (n->flags & FSCK_UNREADABLE) || is_changing(j, n->ino))
		return;
	if (S_ISDIR(n->mode))
		check_dir_names(j, n);
	if (n->names == links || (n->names < links && !all_known(j)))
		return;
	if (n->names == 0)
		bad(j, n->ino, stamp_of(n, NULL), "no name leads to it, and its link count is %u", n->nlink);
	else if (n->nlink == 0)
		bad(j, n->ino, stamp_of(n, NULL), "its link count is 0, and it has %u name%s", n->names, n->names == 1 ? "" : "s");
	else if (!S_ISDIR(n->mode))
		bad(j, n->ino, stamp_of(n, NULL), "its link count is %u, and it has %u name%s", n->nlink, n->names, n->names == 1 ? "" : "s");
}

/* ---- the way up ---- */

/* One step up; NULL: the way ends, and *ret_way says how. */
static Node *step_up(FsckJudge *j, const Node *n, Way *ret_way)
{
	*ret_way = WAY_LOST;
	if (n->ino == INO_ROOT)
		*ret_way = WAY_ROOT;
	if (n->ino == INO_ROOT || (n->flags & FSCK_UNREADABLE) || !S_ISDIR(n->mode))
		return NULL;
	return find(j, n->parent);
}

/* Marks the whole way with how it ends; each directory is walked once. The
 * first that is met again closes a circle. */
static void walk_up(FsckJudge *j, Node *start)
{
	Node *n = start, *next;
	Way way = WAY_LOST;

	while (n && n->way == WAY_UNKNOWN) {
		n->way = WAY_WALKING;
		next = step_up(j, n, &way);
		n = next;
	}
	if (n && n->way == WAY_WALKING) {
		Node *lowest = n;

		way = WAY_LOST;
		for (Node *c = find(j, n->parent); c && c != n; c = find(j, c->parent))
			if (c->ino < lowest->ino)
				lowest = c;
		bad(j, lowest->ino, stamp_of(lowest, NULL), "it is a directory in itself: its parents are a circle that does not lead to the root");
	} else if (n) {
		way = n->way;
	}
	for (n = start; n && n->way == WAY_WALKING; n = find(j, n->parent))
		n->way = way;
}

static void check_ways(FsckJudge *j)
{
	for (uint32_t i = 0; i < j->nodes->len; i++) {
		Node *n = node_at(j, i);

		if (S_ISDIR(n->mode) && !(n->flags & FSCK_UNREADABLE) && n->way == WAY_UNKNOWN && find(j, n->ino) == n)
			walk_up(j, n);
	}
	if (home_is_known(j, INO_ROOT) && !find(j, INO_ROOT))
		bad(j, INO_ROOT, 0, "there is no root");
}

/* ---- objects ---- */

static const FsckTarget *target_of(const FsckJudge *j, const Node *n, uint16_t peer)
{
	for (uint32_t i = 0; i < n->n_targets; i++) {
		const FsckTarget *t = &g_array_index(j->targets, FsckTarget, n->first_target + i);

		if (t->target == peer)
			return t;
	}
	return NULL;
}

static void check_object(FsckJudge *j, const ObjectFact *o)
{
	const Node *n = find(j, o->ino);

	if (!n) {
		if (home_is_known(j, o->ino))
			bad(j, o->ino, 0, "there is no such inode, and peer %u has an object of it", o->peer);
		return;
	}
	if (n->flags & FSCK_UNREADABLE)
		return;
	const FsckTarget *t = target_of(j, n, o->peer);

	if (!t)
		bad(j, o->ino, stamp_of(n, NULL), "peer %u has an object of it, which its record does not know of", o->peer);
	else if (o->length > t->end)
		bad(j, o->ino, stamp_of(n, NULL), "its object on peer %u has %" PRIu64 " bytes, and its chunks there end at %" PRIu64,
		    o->peer, o->length, t->end);
}

static int compare_objects(const void *a, const void *b)
{
	const ObjectFact *x = a, *y = b;

	return x->ino != y->ino ? (x->ino > y->ino) - (x->ino < y->ino) : (x->peer > y->peer) - (x->peer < y->peer);
}

static bool object_exists(const FsckJudge *j, uint64_t ino, uint16_t peer)
{
	ObjectFact wanted = { .ino = ino, .peer = peer };
	guint at;

	return g_array_binary_search(j->objects, &wanted, compare_objects, &at);
}

/* An unlinked one is losing its objects. */
static void check_missing(FsckJudge *j, const Node *n)
{
	if ((n->flags & FSCK_UNREADABLE) || n->nlink == 0)
		return;
	for (uint32_t i = 0; i < n->n_targets; i++) {
		const FsckTarget *t = &g_array_index(j->targets, FsckTarget, n->first_target + i);

		if (t->target < j->peers && j->complete[t->target] && t->blocks > 0 && !object_exists(j, n->ino, t->target))
			bad(j, n->ino, stamp_of(n, NULL), "it has %" PRIu64 " blocks on peer %u, where it has no object", t->blocks, t->target);
	}
}

/* ---- what is held back ---- */

static bool is_held_by(const Node *n, uint16_t peer)
{
	return (n->flags & FSCK_EXCLUSIVE) && n->flags >> 16 == peer;
}

/* What the home has written down already, and of inodes that are gone, may stay
 * where it was held back until it is told once more: after a crash. A home that
 * has it says a ctime that is not older; one that has not must know whom to ask,
 * unless mtime has moved and a lease of that base is over. */
static void check_held(FsckJudge *j, const HeldFact *h)
{
	const Node *n = find(j, h->held.ino);
	uint64_t stamp = stamp_of(n, NULL) ^ (uint64_t)h->held.mtime_ns;

	if (!n || (n->flags & FSCK_UNREADABLE))
		return;
	if (!S_ISREG(n->mode))
		bad(j, n->ino, stamp, "it is no file, and peer %u holds a size of it back", h->peer);
	else if (heldback_any(&h->held) && !is_held_by(n, h->peer) && n->mtime_ns == h->held.base_ns && n->ctime_ns < h->held.ctime_ns)
		bad(j, n->ino, stamp, "peer %u holds back that it has %" PRIu64 " bytes, and nothing says that it is to be asked", h->peer,
		    h->held.end);
}

/* ---- the result ---- */

/* As far up as names lead. */
static char *path_of(FsckJudge *j, uint64_t ino)
{
	g_autoptr(GString) path = g_string_new(NULL);
	const Node *n = find(j, ino);

	if (ino == INO_ROOT)
		return g_strdup("/");
	for (uint32_t depth = 0; n && n->ino != INO_ROOT; depth++) {
		if (n->first_name == NONE || depth == PATH_DEPTH_MAX || path->len > PATH_BYTES_MAX)
			break;
		const NameFact *f = name_at(j, n->first_name);
		g_autofree char *name = name_shown(j, f);

		g_string_prepend(path, name);
		g_string_prepend_c(path, '/');
		n = find(j, f->dir);
	}
	if (path->len == 0)
		return NULL;
	if (!n || n->ino != INO_ROOT)
		g_string_prepend(path, "...");
	return g_string_free(g_steal_pointer(&path), FALSE);
}

int fsck_problem_compare(const void *a, const void *b)
{
	const FsckProblem *x = *(FsckProblem *const *)a, *y = *(FsckProblem *const *)b;

	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	if (x->peer != y->peer && x->ino == 0)
		return x->peer < y->peer ? -1 : 1;
	return strcmp(x->text, y->text);
}

static void sort_problems(FsckJudge *j)
{
	guint kept = 0;

	g_ptr_array_sort(j->problems, fsck_problem_compare);
	for (guint i = 0; i < j->problems->len; i++) {
		void **at = j->problems->pdata;

		if (kept > 0 && fsck_problem_compare(&at[kept - 1], &at[i]) == 0)
			continue;
		void *twice = at[kept];
		at[kept++] = at[i];
		at[i] = twice;
	}
	g_ptr_array_set_size(j->problems, (gint)kept);
	for (guint i = 0; i < j->problems->len; i++) {
		FsckProblem *p = j->problems->pdata[i];

		p->path = path_of(j, p->ino);
	}
}

static void judge(FsckJudge *j)
{
	index_nodes(j);
	g_array_sort(j->objects, compare_objects);
	j->counts.names = j->names->len;
	j->counts.objects = j->objects->len;
	for (uint32_t i = 0; i < j->names->len; i++)
		check_name(j, i);
	for (uint32_t i = 0; i < j->nodes->len; i++) {
		const Node *n = node_at(j, i);

		if (find(j, n->ino) != n)
			continue;
		check_links(j, n);
		check_missing(j, n);
	}
	check_ways(j);
	for (guint i = 0; i < j->objects->len; i++)
		check_object(j, &g_array_index(j->objects, ObjectFact, i));
	for (guint i = 0; i < j->held->len; i++)
		check_held(j, &g_array_index(j->held, HeldFact, i));
	sort_problems(j);
}

const GPtrArray *fsck_judge_problems(FsckJudge *j)
{
	if (!j->judged)
		judge(j);
	j->judged = true;
	return j->problems;
}

const FsckCounts *fsck_judge_counts(const FsckJudge *j)
{
	return &j->counts;
}

char *fsck_problem_format(const FsckProblem *p)
{
	if (p->ino == 0)
		return g_strdup_printf("store of peer %u: %s", p->peer, p->text);
	if (p->path)
		return g_strdup_printf("inode %#" PRIx64 " '%s': %s", p->ino, p->path, p->text);
	return g_strdup_printf("inode %#" PRIx64 ": %s", p->ino, p->text);
}
