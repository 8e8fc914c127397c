#pragma once
/*
 * Counters of one node: named 64-bit numbers, read as text through the
 * benchfs.counters extended attribute of the root and `benchfs status`.
 * A counter is a plain uint64_t in whatever object counts; registering it
 * gives it a name. Names are dotted, lower case: "rpc.sent.lookup".
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Counters Counters;

Counters *counters_new(void);
void counters_free(Counters *c);
/* value must live until counters_remove() or counters_free(); name is copied. */
void counters_add(Counters *c, const char *name, const uint64_t *value);
void counters_remove(Counters *c, const uint64_t *value);
/* Those that lie in one struct, of which base is; c NULL: nothing is done. */
typedef struct CounterRow {
	const char *name;
	size_t offset; /* of a uint64_t */
} CounterRow;
void counters_add_rows(Counters *c, const CounterRow rows[], size_t n, const void *base);
void counters_remove_rows(Counters *c, const CounterRow rows[], size_t n, const void *base);
/* "name value\n" lines in name order, those that are not zero (or all). */
char *counters_to_text(const Counters *c, bool all);
