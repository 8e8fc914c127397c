/*
 * edit-store DATABASE: changes records of a store that nobody uses, for tests
 * of what finds the damage. Commands come on standard input, one a line, keys
 * and values in hexadecimal:
 *
 *   list             prints "KEY VALUE" of all records
 *   put KEY VALUE
 *   delete KEY
 */
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Bytes {
	char *data;
	size_t len;
} Bytes;

static void check(char *err)
{
	if (!err)
		return;
	fprintf(stderr, "edit-store: %s\n", err);
	exit(1);
}

/* In place. */
static Bytes from_hex(char *hex)
{
	Bytes b = { hex, hex ? strlen(hex) / 2 : 0 };

	for (size_t i = 0; i < b.len; i++) {
		unsigned byte = 0;

		sscanf(hex + 2 * i, "%2x", &byte);
		b.data[i] = (char)byte;
	}
	return b;
}

static void print_hex(const char *data, size_t len, char end)
{
	for (size_t i = 0; i < len; i++)
		printf("%02x", (unsigned char)data[i]);
	putchar(end);
}

static void list(rocksdb_t *db)
{
	rocksdb_readoptions_t *o = rocksdb_readoptions_create();
	rocksdb_iterator_t *it = rocksdb_create_iterator(db, o);

	for (rocksdb_iter_seek_to_first(it); rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
		size_t key_len, len;
		const char *key = rocksdb_iter_key(it, &key_len), *value = rocksdb_iter_value(it, &len);

		print_hex(key, key_len, ' ');
		print_hex(value, len, '\n');
	}
	rocksdb_iter_destroy(it);
	rocksdb_readoptions_destroy(o);
}

static void run(rocksdb_t *db, char *line)
{
	rocksdb_writeoptions_t *o = rocksdb_writeoptions_create();
	char *rest = line;
	char *word = strsep(&rest, " "), *key_hex = strsep(&rest, " "), *err = NULL;

	if (strcmp(word, "list") == 0) {
		list(db);
	} else {
		Bytes key = from_hex(key_hex), value = from_hex(rest);

		if (strcmp(word, "put") == 0)
			rocksdb_put(db, o, key.data, key.len, value.data ? value.data : "", value.len, &err);
		else
			rocksdb_delete(db, o, key.data, key.len, &err);
	}
	check(err);
	rocksdb_writeoptions_destroy(o);
}

int main(int argc, char **argv)
{
	rocksdb_options_t *o = rocksdb_options_create();
	char *err = NULL, *line = NULL;
	size_t room = 0;
	ssize_t len;

	if (argc != 2)
		return 2;
	rocksdb_t *db = rocksdb_open(o, argv[1], &err);
	check(err);
	while ((len = getline(&line, &room, stdin)) > 0) {
		line[strcspn(line, "\n")] = '\0';
		run(db, line);
	}
	free(line);
	rocksdb_close(db);
	rocksdb_options_destroy(o);
	return 0;
}
