#pragma once
/* What co.c, co-stack.c and co-sync.c share. Nobody else includes it. */
#include "common/co.h"

#if defined(__SANITIZE_ADDRESS__)
#define CO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CO_ASAN 1
#endif
#endif

/* A mapping: one guard page at the low end, then the stack. */
typedef struct CoStack {
	void *map;
	size_t map_size;
	void *base; /* lowest usable byte */
	size_t size;
	unsigned valgrind_id;
} CoStack;

/* size: a multiple of the page size. 0 or -errno. */
int co_stack_init(CoStack *stack, size_t size);
void co_stack_deinit(CoStack *stack);
size_t co_stack_round(size_t size);

/* Counts the mutexes a coroutine holds: one must not end with any. */
void co_held_add(Co *co, int change);
