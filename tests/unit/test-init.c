/* What is agreed on with kernels of several ages. */
#include <string.h>

#include "fuse/init.h"

#define ALL32 0x7fffffffu

static struct fuse_init_in kernel(uint32_t minor, uint32_t flags, uint32_t flags2)
{
	return (struct fuse_init_in) {
		.major = 7, .minor = minor, .max_readahead = 131072, .flags = flags, .flags2 = flags2,
	};
}

static void test_alone_keeps_pages(void)
{
	struct fuse_init_in in = kernel(44, ALL32, 0xffffffffu);
	struct fuse_init_out out = { 0 };
	InitWishes w = { .alone = true, .max_write = 1u << 20 };
	uint64_t flags = init_reply(&in, &w, &out);

	g_assert_true(flags & FUSE_EXPLICIT_INVAL_DATA);
	g_assert_false(flags & FUSE_AUTO_INVAL_DATA);
	g_assert_true(flags & FUSE_DO_READDIRPLUS);
	g_assert_false(flags & FUSE_WRITEBACK_CACHE);
	g_assert_true(flags & FUSE_POSIX_ACL && flags & FUSE_DONT_MASK);
	g_assert_false(flags & FUSE_OVER_IO_URING);
	g_assert_cmpuint(out.max_pages, ==, 256);
	g_assert_cmpuint(out.max_write, ==, 1u << 20);
	g_assert_cmpuint(out.flags, ==, (uint32_t)flags);
}

static void test_with_others_looks_at_mtime(void)
{
	struct fuse_init_in in = kernel(44, ALL32, 0xffffffffu);
	struct fuse_init_out out = { 0 };
	InitWishes w = { .uring = true, .max_write = 16u << 20 };
	uint64_t flags = init_reply(&in, &w, &out);

	g_assert_true(flags & FUSE_AUTO_INVAL_DATA);
	g_assert_false(flags & FUSE_EXPLICIT_INVAL_DATA);
	g_assert_true(flags & FUSE_CACHE_SYMLINKS);
	g_assert_true(flags & FUSE_NO_OPENDIR_SUPPORT);
	in.minor = 43;
	g_assert_false(init_flags(&in, &w) & FUSE_NO_OPENDIR_SUPPORT);
	g_assert_true(out.flags2 & (uint32_t)(FUSE_OVER_IO_URING >> 32));
	g_assert_cmpuint(out.max_pages, ==, 4096);
}

static void test_old_kernel_gets_what_it_knows(void)
{
	struct fuse_init_in in = kernel(26, FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_POSIX_LOCKS, 0);
	struct fuse_init_out out = { 0 };
	InitWishes w = { .uring = true, .max_write = 1u << 20 };
	/* It sent no flags2: what lies there is not its word. */
	in.flags2 = 0xffffffffu;
	init_limit(&in, offsetof(struct fuse_init_in, flags2), &w);
	uint64_t flags = init_reply(&in, &w, &out);

	g_assert_cmphex(flags, ==, FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_POSIX_LOCKS);
	g_assert_cmpuint(out.max_write, ==, 128u << 10);
	g_assert_cmpuint(out.max_pages, ==, 0);
}

static void test_limits(void)
{
	struct fuse_init_in in = kernel(44, ALL32, 0xffffffffu);
	struct fuse_init_out out = { 0 };
	g_autofree char *unknown = NULL;
	InitWishes w = { .uring = true, .max_write = 1u << 20, .max_proto_minor = 31 };

	g_assert_true(init_parse_features("uring,max_pages,killpriv_v2", &w.disabled, &unknown));
	init_limit(&in, sizeof(in), &w);
	g_assert_cmpuint(in.minor, ==, 31);
	uint64_t flags = init_reply(&in, &w, &out);
	g_assert_false(flags & (FUSE_OVER_IO_URING | FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2));
	g_assert_true(flags & FUSE_PARALLEL_DIROPS);
	g_assert_false(init_parse_features("max_pages,warp", &w.disabled, &unknown));
	g_assert_cmpstr(unknown, ==, "warp");
}

static void test_max_write_of_this_kernel(void)
{
	uint32_t max_write = init_max_write();

	g_assert_cmpuint(max_write, >=, 1u << 20);
	g_assert_cmpuint(max_write, <=, 16u << 20);
	g_assert_cmpuint(max_write % 4096, ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/init/alone", test_alone_keeps_pages);
	g_test_add_func("/init/others", test_with_others_looks_at_mtime);
	g_test_add_func("/init/old", test_old_kernel_gets_what_it_knows);
	g_test_add_func("/init/limits", test_limits);
	g_test_add_func("/init/max-write", test_max_write_of_this_kernel);
	return g_test_run();
}
