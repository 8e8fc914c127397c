#pragma once
/* The table of options, for options*.c. */
#include <stddef.h>

#include "src/options.h"

typedef enum OptionType {
	TYPE_FLAG, TYPE_TEXT, TYPE_FILE, TYPE_CHOICE, TYPE_SECONDS, TYPE_SIZE, TYPE_MOUNT_LIST
} OptionType;

enum { ON_COMMAND_LINE_ONLY = 1 << 0 }; /* not with -o, nor in the configuration file */

typedef struct OptionDef {
	const char *name;
	char letter;
	OptionType type;
	const char *arg;  /* in the help; of TYPE_CHOICE: the choices, between bars */
	const char *help;
	uint32_t commands;
	uint32_t flags;
	size_t offset;
} OptionDef;

#define AT(member) offsetof(Options, member)

extern const OptionDef option_defs[];
extern const uint32_t option_count;

typedef struct CommandDef {
	const char *name, *args, *summary;
} CommandDef;
extern const CommandDef command_defs[CMD_COUNT];

/* By its long name, which need not end at len; NULL: there is none. */
const OptionDef *option_find(const char *name, size_t len);
/* As options_set_named(), for an option that is known and has a value. */
bool option_set_value(Options *o, const OptionDef *d, const char *value, const char *origin, const char *dir, GError **error);
