#include "common/counters.h"

#include <stdlib.h>
#include <string.h>

typedef struct Counter {
	char *name;
	const uint64_t *value;
} Counter;

/* A plain array: read when a person asks, changed at start and end only. */
struct Counters {
	GArray *list; /* of Counter */
};

static void counter_clear(void *p)
{
	Counter *counter = p;
	g_free(counter->name);
}

Counters *counters_new(void)
{
	Counters *c = g_new(Counters, 1);
	*c = (Counters) { .list = g_array_new(FALSE, FALSE, sizeof(Counter)) };
	g_array_set_clear_func(c->list, counter_clear);
	return c;
}

void counters_free(Counters *c)
{
	if (!c)
		return;
	g_array_free(c->list, TRUE);
	g_free(c);
}

void counters_add(Counters *c, const char *name, const uint64_t *value)
{
	Counter counter = { g_strdup(name), value };
	g_array_append_val(c->list, counter);
}

void counters_remove(Counters *c, const uint64_t *value)
{
	for (guint i = c->list->len; i-- > 0;)
		if (g_array_index(c->list, Counter, i).value == value)
			g_array_remove_index_fast(c->list, i);
}

static const uint64_t *row_value(const CounterRow *row, const void *base)
{
	return (const uint64_t *)(const void *)((const char *)base + row->offset);
}

void counters_add_rows(Counters *c, const CounterRow rows[], size_t n, const void *base)
{
	for (size_t i = 0; c && i < n; i++)
		counters_add(c, rows[i].name, row_value(&rows[i], base));
}

void counters_remove_rows(Counters *c, const CounterRow rows[], size_t n, const void *base)
{
	for (size_t i = 0; c && i < n; i++)
		counters_remove(c, row_value(&rows[i], base));
}

static int counter_compare(const void *a, const void *b)
{
	return strcmp(((const Counter *)a)->name, ((const Counter *)b)->name);
}

char *counters_to_text(const Counters *c, bool all)
{
	GString *text = g_string_new(NULL);
	g_array_sort(c->list, counter_compare);
	for (guint i = 0; i < c->list->len; i++) {
		const Counter *counter = &g_array_index(c->list, Counter, i);
		if (all || *counter->value)
			g_string_append_printf(text, "%s %" G_GUINT64_FORMAT "\n", counter->name, *counter->value);
	}
	return g_string_free(text, FALSE);
}
