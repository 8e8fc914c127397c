#include "fuse/buffers.h"

#include <glib.h>
#include <sys/mman.h>

#define SHIFT_MIN 12
#define CLASSES 16 /* up to 128 MiB, above any max_write */

/* A buffer that nobody uses holds the link to the next one. */
typedef struct Idle {
	struct Idle *next;
} Idle;

struct Buffers {
	Idle *idle[CLASSES];
	size_t idle_bytes, live_bytes, max_idle_bytes;
};

static uint32_t class_of(size_t size)
{
	uint32_t class = 0;

	while (((size_t)1 << (SHIFT_MIN + class)) < size)
		class++;
	g_assert(class < CLASSES);
	return class;
}

static size_t class_bytes(uint32_t class)
{
	return (size_t)1 << (SHIFT_MIN + class);
}

Buffers *buffers_new(size_t max_idle_bytes)
{
	Buffers *b = g_new0(Buffers, 1);

	b->max_idle_bytes = max_idle_bytes;
	return b;
}

void buffers_free(Buffers *b)
{
	if (!b)
		return;
	g_assert(b->live_bytes == 0);
	for (uint32_t class = 0; class < CLASSES; class++) {
		while (b->idle[class]) {
			Idle *idle = b->idle[class];
			b->idle[class] = idle->next;
			munmap(idle, class_bytes(class));
		}
	}
	g_free(b);
}

/* Mapped, not malloc()ed: what is given up goes back to the system at once,
 * and big buffers do not splinter the heap. */
static void *map_buffer(size_t bytes)
{
	void *buf = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (buf == MAP_FAILED)
		g_error("no memory for a buffer of %zu bytes", bytes);
	return buf;
}

void *buffers_get(Buffers *b, size_t size)
{
	uint32_t class = class_of(size);
	Idle *idle = b->idle[class];

	b->live_bytes += class_bytes(class);
	if (!idle)
		return map_buffer(class_bytes(class));
	b->idle[class] = idle->next;
	b->idle_bytes -= class_bytes(class);
	return idle;
}

void buffers_put(Buffers *b, void *buf, size_t size)
{
	uint32_t class = class_of(size);
	size_t bytes = class_bytes(class);

	if (!buf)
		return;
	b->live_bytes -= bytes;
	if (b->idle_bytes + bytes > b->max_idle_bytes) {
		munmap(buf, bytes);
		return;
	}
	Idle *idle = buf;
	idle->next = b->idle[class];
	b->idle[class] = idle;
	b->idle_bytes += bytes;
}

size_t buffers_live(const Buffers *b)
{
	return b->live_bytes;
}
