#pragma once
/*
 * Which inodes are open through this mount, so that a home that took away an
 * inode's last name learns whether it must live on. The state of a number:
 *
 *   unknown --open--> open --query--> orphan --last close--> dead (home is told)
 *   unknown --query--> dead: refused from then on
 *   orphan or dead --undo--> as before the query
 *
 * Dead numbers are kept in a bounded table, oldest out first; one that fell
 * out is opened, and its first use then fails at the home.
 */
#include <stdbool.h>
#include <stdint.h>

typedef struct OpenTable OpenTable;

OpenTable *open_table_new(uint32_t max_dead);
void open_table_free(OpenTable *t);
/* One more open. 0, or -ESTALE for a dead number. */
int open_table_open(OpenTable *t, uint64_t ino);
/* One open less. True when it was the last of an orphan: tell the home. */
bool open_table_close(OpenTable *t, uint64_t ino);
/* Would one open less be the last of an orphan? */
bool open_table_is_last(const OpenTable *t, uint64_t ino);
/* The home asks, the last name is gone. True when it is open here. */
bool open_table_query(OpenTable *t, uint64_t ino);
/* The home could not take the last name away after all. */
void open_table_undo(OpenTable *t, uint64_t ino);
bool open_table_is_open(const OpenTable *t, uint64_t ino);
/* Would an open be refused? */
bool open_table_is_dead(const OpenTable *t, uint64_t ino);
/* Inodes that are open. */
uint32_t open_table_size(const OpenTable *t);
