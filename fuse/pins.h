#pragma once
/*
 * What each thread of the kernel's callers was last told of by a LOOKUP, until
 * it goes on. It may be about to open it: a file that loses its last name in
 * that moment must live on as if it were open, or open(2) would fail for a file
 * that was there. With several threads of one place in the table the last wins;
 * the others may then see ESTALE, upon which the kernel looks once more.
 */
#include <stdbool.h>
#include <stdint.h>

/* As long as that can last on a busy machine. */
#define PIN_NS INT64_C(2000000000)

typedef struct Pins Pins;

Pins *pins_new(void);
void pins_free(Pins *p);
/* thread 0: not known, and never held. */
void pins_set(Pins *p, uint32_t thread, uint64_t ino, int64_t now_ns);
/* The thread went on. */
void pins_drop(Pins *p, uint32_t thread);
bool pins_has(const Pins *p, uint64_t ino, int64_t now_ns);
