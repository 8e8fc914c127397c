/* Counters as text. */
#include "common/counters.h"

static void test_text(void)
{
	Counters *c = counters_new();
	uint64_t a = 1, b = 0, big = UINT64_MAX;
	char name[] = "b.zero";
	counters_add(c, "z.last", &big);
	counters_add(c, name, &b);
	counters_add(c, "a.first", &a);
	name[0] = 'x'; /* it was copied */
	g_autofree char *some = counters_to_text(c, false);
	g_assert_cmpstr(some, ==, "a.first 1\nz.last 18446744073709551615\n");
	g_autofree char *all = counters_to_text(c, true);
	g_assert_cmpstr(all, ==, "a.first 1\nb.zero 0\nz.last 18446744073709551615\n");
	a = 5; /* it is read when asked */
	b = 2;
	g_autofree char *later = counters_to_text(c, false);
	g_assert_cmpstr(later, ==, "a.first 5\nb.zero 2\nz.last 18446744073709551615\n");
	counters_free(c);
}

static void test_remove(void)
{
	Counters *c = counters_new();
	uint64_t a = 1, b = 2;
	counters_add(c, "a", &a);
	counters_add(c, "b", &b);
	counters_add(c, "also-a", &a);
	counters_remove(c, &a);
	g_autofree char *text = counters_to_text(c, true);
	g_assert_cmpstr(text, ==, "b 2\n");
	counters_remove(c, &a); /* not there: fine */
	counters_remove(c, &b);
	g_autofree char *empty = counters_to_text(c, true);
	g_assert_cmpstr(empty, ==, "");
	counters_free(c);
	counters_free(NULL);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/counters/text", test_text);
	g_test_add_func("/counters/remove", test_remove);
	return g_test_run();
}
