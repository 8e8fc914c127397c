/*
 * The benchmark's inner loops: one workload on one directory, measured without
 * an interpreter in the way.
 *
 *	work [options] WORKLOAD DIRECTORY
 *
 * With --callers N, N processes do the workload at the same time, each in its
 * own subdirectory; they start together, and the time is that of the slowest.
 * Prints one line: ops, bytes, seconds, and where the callers ran. Any failure
 * of any call ends it with a message and status 1.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CALLERS_MAX 64
#define CPUS_MAX 1024
#define FILES_IN_A_DIRECTORY 1000

typedef struct Options {
	uint64_t block, file_size;
	uint32_t files, small_size;
	double seconds;
	uint32_t callers;
	bool direct, drop;
	int cpu; /* callers are bound to cpu, cpu + 1, ...; -1: not bound */
} Options;

/* In memory that parent and callers share. */
typedef struct Result {
	uint64_t ops, bytes;
	double begin_s, end_s;
	uint32_t migrations;
	uint32_t cpu_hits[CPUS_MAX];
	bool done;
} Result;

typedef struct Job {
	const Options *opts;
	Result *result;
	int last_cpu;
} Job;

static void fail(const char *format, ...)
{
	int error = errno;
	va_list args;

	fprintf(stderr, "work: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(error));
	exit(1);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* After each operation: counts it, and where we are. */
static void count(Job *j, uint64_t bytes)
{
	int cpu = sched_getcpu();

	j->result->ops++;
	j->result->bytes += bytes;
	if (cpu < 0 || cpu >= CPUS_MAX)
		return;
	j->result->cpu_hits[cpu]++;
	j->result->migrations += j->last_cpu >= 0 && j->last_cpu != cpu;
	j->last_cpu = cpu;
}

/* ---- one file, many blocks ---- */

static void *block_buffer(const Options *o)
{
	void *buf = NULL;

	if (posix_memalign(&buf, 4096, o->block) != 0)
		fail("no memory for a block");
	memset(buf, 'b', o->block);
	return buf;
}

/* Every block once in an order without pattern: a full-period generator over
 * the next power of two, leaving out what is behind the end. */
static uint64_t next_block(uint64_t at, uint64_t blocks, bool is_random)
{
	uint64_t mask = 1;

	if (!is_random)
		return (at + 1) % blocks;
	while (mask < blocks)
		mask <<= 1;
	do
		at = (at * 1664525 + 1013904223) & (mask - 1);
	while (at >= blocks);
	return at;
}

static int open_file(const Options *o, int flags, bool is_random)
{
	int fd = open("data", flags | O_CREAT | (o->direct ? O_DIRECT : 0), 0644);

	if (fd < 0)
		fail("open");
	if (posix_fadvise(fd, 0, 0, is_random ? POSIX_FADV_RANDOM : POSIX_FADV_NORMAL) != 0)
		fail("fadvise");
	return fd;
}

static void fill_file(const Options *o)
{
	static char block[1 << 20];
	int fd = open("data", O_WRONLY | O_CREAT, 0644);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		fail("open");
	memset(block, 'f', sizeof(block));
	for (uint64_t at = (uint64_t)st.st_size; at < o->file_size; at += sizeof(block))
		if (pwrite(fd, block, sizeof(block), (off_t)at) != sizeof(block))
			fail("write");
	if (fsync(fd) < 0 || close(fd) < 0)
		fail("fsync");
}

static void drop_pages(const Options *o, int fd)
{
	if (o->drop && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
		fail("fadvise");
}

static void transfer(Job *j, bool is_write, bool is_random)
{
	const Options *o = j->opts;
	uint64_t blocks = o->file_size / o->block, at = 0;
	void *buf = block_buffer(o);
	int fd;

	fd = open_file(o, is_write ? O_RDWR : O_RDONLY, is_random);
	if (!is_write)
		drop_pages(o, fd);
	j->result->begin_s = now_s();
	for (uint64_t n = 1; now_s() - j->result->begin_s < o->seconds; n++) {
		ssize_t r = is_write ? pwrite(fd, buf, o->block, (off_t)(at * o->block)) :
				       pread(fd, buf, o->block, (off_t)(at * o->block));
		if (r != (ssize_t)o->block)
			fail("%s of %" PRIu64 " bytes gave %zd", is_write ? "write" : "read", o->block, r);
		count(j, o->block);
		at = next_block(at, blocks, is_random);
		if (n % blocks == 0 && !is_write)
			drop_pages(o, fd);
	}
	j->result->end_s = now_s();
	if (close(fd) < 0)
		fail("close");
	free(buf);
}

static void run_seqread(Job *j) { transfer(j, false, false); }
static void run_randread(Job *j) { transfer(j, false, true); }
static void run_seqwrite(Job *j) { transfer(j, true, false); }
static void run_randwrite(Job *j) { transfer(j, true, true); }

/* ---- many small files ---- */

static void small_name(char *buf, size_t size, uint32_t i)
{
	snprintf(buf, size, "d%u/f%u", i / FILES_IN_A_DIRECTORY, i);
}

static void make_directories(const Options *o)
{
	char name[64];

	for (uint32_t i = 0; i * FILES_IN_A_DIRECTORY < o->files; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		if (mkdir(name, 0755) < 0 && errno != EEXIST)
			fail("mkdir %s", name);
	}
}

static void create_one(const Options *o, const char *name, const void *data)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);

	if (fd < 0)
		fail("create %s", name);
	if (o->small_size && write(fd, data, o->small_size) != (ssize_t)o->small_size)
		fail("write %s", name);
	if (close(fd) < 0)
		fail("close %s", name);
}

static void stat_one(const Options *o, const char *name, const void *data)
{
	struct stat st;

	if (stat(name, &st) < 0)
		fail("stat %s", name);
	if (st.st_size != o->small_size) {
		errno = EIO;
		fail("%s has %jd bytes instead of %u", name, (intmax_t)st.st_size, o->small_size);
	}
}

static void unlink_one(const Options *o, const char *name, const void *data)
{
	if (unlink(name) < 0)
		fail("unlink %s", name);
}

static void each_file(Job *j, void (*fn)(const Options *o, const char *name, const void *data), uint64_t bytes)
{
	const Options *o = j->opts;
	char name[64], *data = malloc(o->small_size + 1);

	if (!data)
		fail("no memory");
	memset(data, 's', o->small_size + 1);
	j->result->begin_s = now_s();
	for (uint32_t i = 0; i < o->files; i++) {
		small_name(name, sizeof(name), i);
		fn(o, name, data);
		count(j, bytes);
	}
	j->result->end_s = now_s();
	free(data);
}

static void run_create(Job *j) { each_file(j, create_one, j->opts->small_size); }
static void run_stat(Job *j) { each_file(j, stat_one, 0); }
static void run_unlink(Job *j) { each_file(j, unlink_one, 0); }

/* ---- a directory, with attributes ---- */

static void fill_directory(const Options *o)
{
	char name[64];

	if (mkdir("list", 0755) < 0) {
		if (errno == EEXIST)
			return;
		fail("mkdir");
	}
	for (uint32_t i = 0; i < o->files; i++) {
		int fd;

		snprintf(name, sizeof(name), "list/f%u", i);
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
		if (fd < 0 || close(fd) < 0)
			fail("create %s", name);
	}
}

static void run_readdir(Job *j)
{
	uint32_t seen = 0;
	struct dirent *d;
	struct stat st;
	DIR *dir;

	j->result->begin_s = now_s();
	dir = opendir("list");
	if (!dir)
		fail("opendir");
	while (errno = 0, (d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		if (fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			fail("stat %s", d->d_name);
		seen++;
		count(j, 0);
	}
	if (errno)
		fail("readdir");
	closedir(dir);
	j->result->end_s = now_s();
	if (seen != j->opts->files) {
		errno = EIO;
		fail("%u entries instead of %u", seen, j->opts->files);
	}
}

/* ---- callers ---- */

static const struct Workload {
	const char *name;
	void (*prepare)(const Options *o); /* not measured; may find its work done */
	void (*run)(Job *j);
} workloads[] = {
	{ "seqread", fill_file, run_seqread },
	{ "randread", fill_file, run_randread },
	{ "seqwrite", NULL, run_seqwrite },
	{ "randwrite", fill_file, run_randwrite },
	{ "create", make_directories, run_create },
	{ "stat", NULL, run_stat },
	{ "unlink", NULL, run_unlink },
	{ "readdir", fill_directory, run_readdir },
	{ NULL, NULL, NULL },
};

static void bind_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		fail("binding to CPU %d", cpu);
}

static void enter_own_directory(uint32_t i)
{
	char name[32];

	snprintf(name, sizeof(name), "caller%u", i);
	if (mkdir(name, 0755) < 0 && errno != EEXIST)
		fail("mkdir %s", name);
	if (chdir(name) < 0)
		fail("chdir %s", name);
}

static void wait_for(int fd)
{
	char byte;

	while (read(fd, &byte, 1) < 0)
		if (errno != EINTR)
			fail("waiting for the start");
}

static void caller_main(const struct Workload *w, const Options *o, uint32_t i, Result *result,
			int ready_fd, int start_fd, bool prepare_only)
{
	Job job = { .opts = o, .result = result, .last_cpu = -1 };

	if (o->cpu >= 0)
		bind_to(o->cpu + (int)i);
	enter_own_directory(i);
	if (prepare_only) {
		if (w->prepare)
			w->prepare(o);
	} else {
		if (write(ready_fd, "r", 1) != 1)
			fail("getting ready");
		wait_for(start_fd);
		w->run(&job);
	}
	result->done = true;
	exit(0);
}

static void reap(uint32_t n)
{
	bool failed = false;

	while (n-- > 0) {
		int status;

		if (wait(&status) < 0)
			fail("wait");
		failed |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
	}
	if (failed)
		exit(1);
}

static void run_callers(const struct Workload *w, const Options *o, Result *results, bool prepare_only)
{
	int ready[2], start[2];

	if (pipe(ready) < 0 || pipe(start) < 0)
		fail("pipe");
	for (uint32_t i = 0; i < o->callers; i++) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork");
		if (pid == 0) {
			close(start[1]);
			close(ready[0]);
			caller_main(w, o, i, &results[i], ready[1], start[0], prepare_only);
		}
	}
	close(ready[1]);
	/* end of file when a caller died before it was ready: reap() tells */
	for (uint32_t i = 0; i < o->callers && !prepare_only; i++)
		wait_for(ready[0]);
	close(start[1]); /* all at once */
	reap(o->callers);
	close(ready[0]);
	close(start[0]);
}

static void print_cpus(const Result *results, uint32_t n)
{
	const char *comma = "";

	for (int cpu = 0; cpu < CPUS_MAX; cpu++) {
		uint64_t hits = 0;

		for (uint32_t i = 0; i < n; i++)
			hits += results[i].cpu_hits[cpu];
		if (hits)
			printf("%s%d:%" PRIu64, comma, cpu, hits), comma = ",";
	}
}

static void print_results(const Result *results, uint32_t n)
{
	double begin = results[0].begin_s, end = results[0].end_s;
	uint64_t ops = 0, bytes = 0, migrations = 0;

	for (uint32_t i = 0; i < n; i++) {
		begin = results[i].begin_s < begin ? results[i].begin_s : begin;
		end = results[i].end_s > end ? results[i].end_s : end;
		ops += results[i].ops;
		bytes += results[i].bytes;
		migrations += results[i].migrations;
	}
	if (!ops || end <= begin) {
		fprintf(stderr, "work: nothing was measured\n");
		exit(1);
	}
	printf("ops=%" PRIu64 " bytes=%" PRIu64 " seconds=%.6f migrations=%" PRIu64 " cpus=",
	       ops, bytes, end - begin, migrations);
	print_cpus(results, n);
	printf("\n");
}

static const struct Workload *find_workload(const char *name)
{
	for (const struct Workload *w = workloads; w->name; w++)
		if (strcmp(w->name, name) == 0)
			return w;
	return NULL;
}

static int usage(void)
{
	fprintf(stderr, "usage: work [--block BYTES] [--file-size BYTES] [--files N] [--small-size BYTES]\n"
		"            [--seconds S] [--callers N] [--cpu N] [--direct] [--drop] [--prepare]\n"
		"            WORKLOAD DIRECTORY\nworkloads:");
	for (const struct Workload *w = workloads; w->name; w++)
		fprintf(stderr, " %s", w->name);
	fprintf(stderr, "\n");
	return 2;
}

static bool parse(int argc, char **argv, Options *o, bool *ret_prepare)
{
	static const struct option longs[] = {
		{ "block", required_argument, NULL, 'b' }, { "file-size", required_argument, NULL, 's' },
		{ "files", required_argument, NULL, 'n' }, { "small-size", required_argument, NULL, 'z' },
		{ "seconds", required_argument, NULL, 't' }, { "callers", required_argument, NULL, 'c' },
		{ "cpu", required_argument, NULL, 'p' }, { "direct", no_argument, NULL, 'd' },
		{ "drop", no_argument, NULL, 'D' }, { "prepare", no_argument, NULL, 'P' }, { 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		switch (c) {
		case 'b': o->block = strtoull(optarg, NULL, 10); break;
		case 's': o->file_size = strtoull(optarg, NULL, 10); break;
		case 'n': o->files = (uint32_t)strtoul(optarg, NULL, 10); break;
		case 'z': o->small_size = (uint32_t)strtoul(optarg, NULL, 10); break;
		case 't': o->seconds = strtod(optarg, NULL); break;
		case 'c': o->callers = (uint32_t)strtoul(optarg, NULL, 10); break;
		case 'p': o->cpu = atoi(optarg); break;
		case 'd': o->direct = true; break;
		case 'D': o->drop = true; break;
		case 'P': *ret_prepare = true; break;
		default: return false;
		}
	}
	return optind + 2 == argc && o->block && o->file_size >= o->block && o->files && o->seconds > 0 &&
		o->callers >= 1 && o->callers <= CALLERS_MAX;
}

int main(int argc, char **argv)
{
	Options opts = {
		.block = 4096, .file_size = 64 << 20, .files = 1000, .small_size = 3900,
		.seconds = 1, .callers = 1, .cpu = -1,
	};
	const struct Workload *w;
	bool prepare = false;
	Result *results;

	if (!parse(argc, argv, &opts, &prepare))
		return usage();
	w = find_workload(argv[optind]);
	if (!w)
		return usage();
	results = mmap(NULL, opts.callers * sizeof(*results), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (results == MAP_FAILED)
		fail("mmap");
	if (chdir(argv[optind + 1]) < 0)
		fail("%s", argv[optind + 1]);
	run_callers(w, &opts, results, prepare);
	if (!prepare)
		print_results(results, opts.callers);
	return 0;
}
