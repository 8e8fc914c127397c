#include "common/timer.h"

static void put(TimerHeap *h, uint32_t index, ReactorTimer *t)
{
	h->slots[index] = t;
	t->index = index;
}

static void sift_up(TimerHeap *h, uint32_t i, ReactorTimer *t)
{
	for (; i > 1 && t->at_ns < h->slots[i / 2]->at_ns; i /= 2)
		put(h, i, h->slots[i / 2]);
	put(h, i, t);
}

static void sift_down(TimerHeap *h, uint32_t i, ReactorTimer *t)
{
	for (;;) {
		uint32_t child = 2 * i;
		if (child > h->count)
			break;
		if (child < h->count && h->slots[child + 1]->at_ns < h->slots[child]->at_ns)
			child++;
		if (t->at_ns <= h->slots[child]->at_ns)
			break;
		put(h, i, h->slots[child]);
		i = child;
	}
	put(h, i, t);
}

void timer_heap_add(TimerHeap *h, ReactorTimer *t)
{
	if (h->count + 1 >= h->capacity) {
		h->capacity = MAX(64, h->capacity * 2);
		h->slots = g_renew(ReactorTimer *, h->slots, h->capacity);
	}
	sift_up(h, ++h->count, t);
}

void timer_heap_remove(TimerHeap *h, ReactorTimer *t)
{
	uint32_t i = t->index;
	g_assert(i >= 1 && i <= h->count && h->slots[i] == t);
	ReactorTimer *last = h->slots[h->count--];
	t->index = 0;
	if (last == t)
		return;
	/* The last one fills the gap; it may belong above or below. */
	if (i > 1 && last->at_ns < h->slots[i / 2]->at_ns)
		sift_up(h, i, last);
	else
		sift_down(h, i, last);
}

void timer_heap_deinit(TimerHeap *h)
{
	g_free(h->slots);
	*h = (TimerHeap) { .slots = NULL };
}
