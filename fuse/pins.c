#include "fuse/pins.h"

#include <glib.h>

#define PLACES 512u

typedef struct Pin {
	uint64_t ino; /* 0: none */
	int64_t at_ns;
	uint32_t thread;
} Pin;

struct Pins {
	Pin pins[PLACES]; /* by the thread's number */
};

Pins *pins_new(void)
{
	return g_new0(Pins, 1);
}

void pins_free(Pins *p)
{
	g_free(p);
}

void pins_set(Pins *p, uint32_t thread, uint64_t ino, int64_t now_ns)
{
	if (thread)
		p->pins[thread % PLACES] = (Pin) { .ino = ino, .at_ns = now_ns, .thread = thread };
}

void pins_drop(Pins *p, uint32_t thread)
{
	Pin *pin = &p->pins[thread % PLACES];

	if (pin->thread == thread)
		*pin = (Pin) { 0 };
}

bool pins_has(const Pins *p, uint64_t ino, int64_t now_ns)
{
	for (uint32_t i = 0; i < PLACES; i++)
		if (p->pins[i].ino == ino && now_ns - p->pins[i].at_ns < PIN_NS)
			return true;
	return false;
}
