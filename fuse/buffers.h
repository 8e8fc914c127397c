#pragma once
/*
 * Page-aligned buffers for messages and data, in powers of two from a page
 * up. Those given back are kept for the next, up to a bound.
 */
#include <stddef.h>
#include <stdint.h>

typedef struct Buffers Buffers;

Buffers *buffers_new(size_t max_idle_bytes);
/* Every buffer must have been put back. NULL is fine. */
void buffers_free(Buffers *b);
/* At least size bytes, with whatever is in them. Never NULL. */
void *buffers_get(Buffers *b, size_t size);
/* size as given to buffers_get(). buf NULL is fine. */
void buffers_put(Buffers *b, void *buf, size_t size);
/* Bytes that are out. */
size_t buffers_live(const Buffers *b);
