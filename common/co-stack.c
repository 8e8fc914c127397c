/*
 * Stacks of coroutines.
 *
 * Each is a mapping of its own with an inaccessible page below, so that an
 * overflow is a fault at the place that made it and never someone else's
 * corrupted memory. Linux counts that as two mappings, of which a process may
 * have vm.max_map_count (65530 by default): see the bounds in co.c.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/co-internal.h"

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif
#ifndef VALGRIND_STACK_REGISTER
#define VALGRIND_STACK_REGISTER(low, high) 0
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

#ifdef CO_ASAN
#include <sanitizer/asan_interface.h>
#define forget_poison(start, size) __asan_unpoison_memory_region(start, size)
#else
#define forget_poison(start, size) ((void)0)
#endif

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

size_t co_stack_round(size_t size)
{
	size_t page = page_size();
	return (size + page - 1) / page * page;
}

int co_stack_init(CoStack *stack, size_t size)
{
	size_t guard = page_size(), map_size = size + guard;
	void *map = mmap(NULL, map_size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	/* Splits the mapping, so this may hit the limit where mmap did not. */
	if (mprotect(map, guard, PROT_NONE) < 0) {
		int r = -errno;
		munmap(map, map_size);
		return r;
	}
	char *base = (char *)map + guard;
	*stack = (CoStack) {
		.map = map, .map_size = map_size, .base = base, .size = size,
		.valgrind_id = VALGRIND_STACK_REGISTER(base, base + size - 1),
	};
	return 0;
}

void co_stack_deinit(CoStack *stack)
{
	VALGRIND_STACK_DEREGISTER(stack->valgrind_id);
	/* The frames of a stack that is given up never return, so their red
	 * zones would stay behind for whoever gets these addresses next. */
	forget_poison(stack->base, stack->size);
	munmap(stack->map, stack->map_size);
	*stack = (CoStack) { .map = NULL };
}
