#pragma once
/* The reactor's heap of timers. Private to the reactor. */
#include "common/reactor.h"

typedef struct TimerHeap {
	ReactorTimer **slots; /* from 1: a child of i is 2i or 2i+1, its parent i/2 */
	uint32_t count, capacity;
} TimerHeap;

void timer_heap_deinit(TimerHeap *h);
void timer_heap_add(TimerHeap *h, ReactorTimer *t);
void timer_heap_remove(TimerHeap *h, ReactorTimer *t);
/* The earliest, or NULL. */
static inline ReactorTimer *timer_heap_first(const TimerHeap *h)
{
	return h->count ? h->slots[1] : NULL;
}
