#pragma once
/* The reactor's threads for what blocks. Private to the reactor. */
#include "common/reactor.h"
#include "common/uring.h"

typedef struct WorkPool WorkPool;

/* Threads are made when there is work that no idle one can take. NULL with
 * errno set when the kernel gives us no event descriptor. */
WorkPool *work_pool_new(Uring *u, uint32_t max_threads);
/* No work may be under way. NULL is fine. */
void work_pool_free(WorkPool *p);
int coroutine_fn work_pool_co_run(WorkPool *p, ReactorWork *fn, void *arg);
