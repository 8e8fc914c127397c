#include "fuse/places.h"

#include <string.h>

#define SETTLED_NS INT64_C(1000000000)
#define LONG_AGO (INT64_MIN / 2)
#define SLOTS 8192u /* by the low bits of the number: neighbours do not collide */

typedef struct Place {
	uint64_t dir; /* 0: none */
	uint64_t parent;
	uint64_t before; /* the parent it had then; 0: not known */
	int64_t moved_ns;
} Place;

struct Places {
	Place places[SLOTS];
};

Places *places_new(void)
{
	return g_new0(Places, 1);
}

void places_free(Places *p)
{
	g_free(p);
}

void places_put_new(Places *p, uint64_t dir, uint64_t parent)
{
	p->places[dir % SLOTS] = (Place) { .dir = dir, .parent = parent, .moved_ns = LONG_AGO };
}

void places_put(Places *p, uint64_t dir, uint64_t parent, int64_t now_ns)
{
	Place *place = &p->places[dir % SLOTS];

	if (!place->dir)
		places_put_new(p, dir, parent);
	else if (place->dir != dir || place->parent != parent)
		*place = (Place) {
			.dir = dir, .parent = parent, .moved_ns = now_ns,
			.before = place->dir == dir ? place->parent : 0,
		};
}

bool places_may_differ(const Places *p, uint64_t dir, uint64_t parent, int64_t now_ns)
{
	const Place *place = &p->places[dir % SLOTS];

	if (place->dir != dir)
		return place->dir;
	return place->parent != parent || now_ns - place->moved_ns < SETTLED_NS;
}

/* What the kernel has the request's directory locked for. */
static bool locks_its_directory(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_SETATTR:
	case FUSE_SYMLINK:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_LINK:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
	case FUSE_CREATE:
	case FUSE_RENAME2:
		return true;
	}
	return false;
}

/* Of a rename the directory of the new name; else the request's. */
static uint64_t second_directory(const Request *req)
{
	bool rename = req->in->opcode == FUSE_RENAME || req->in->opcode == FUSE_RENAME2;
	uint64_t newdir = req->in->nodeid;

	/* Both structs begin with it. */
	if (rename && req->len >= sizeof(*req->in) + sizeof(newdir))
		memcpy(&newdir, req->in + 1, sizeof(newdir));
	return newdir;
}

bool places_is_in_the_way(const Places *p, uint64_t dir, const Request *req)
{
	const Place *place = &p->places[dir % SLOTS];

	/* All that goes from one directory to another takes one lock. */
	if (second_directory(req) != req->in->nodeid)
		return true;
	if (place->dir != dir || (place->parent != req->in->nodeid && place->before != req->in->nodeid))
		return false;
	return locks_its_directory(req->in->opcode);
}
