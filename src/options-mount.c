/* What stands behind -o: flags of mount(8), words of fstab(5), our options. */
#include "src/options.h"

#include <string.h>

/* In a family the last one wins; kernel "": the default, nothing to say
 * (for suid and dev the default of a FUSE mount is the other). */
enum { FAMILY_RO, FAMILY_SUID, FAMILY_DEV, FAMILY_EXEC, FAMILY_ATIME, FAMILY_DIRATIME,
       FAMILY_SYNC, FAMILY_DIRSYNC, FAMILY_OTHER, FAMILY_NONE, FAMILIES };
G_STATIC_ASSERT(FAMILIES <= MOUNT_FAMILY_COUNT);

static const struct {
	const char *name;
	int family;
	const char *kernel;
} flags[] = {
	{ "ro", FAMILY_RO, "ro" },
	{ "rw", FAMILY_RO, "" },
	{ "nosuid", FAMILY_SUID, "nosuid" },
	{ "suid", FAMILY_SUID, "suid" },
	{ "nodev", FAMILY_DEV, "nodev" },
	{ "dev", FAMILY_DEV, "dev" },
	{ "noexec", FAMILY_EXEC, "noexec" },
	{ "exec", FAMILY_EXEC, "" },
	{ "noatime", FAMILY_ATIME, "noatime" },
	{ "atime", FAMILY_ATIME, "" },
	{ "relatime", FAMILY_ATIME, "" },
	{ "strictatime", FAMILY_ATIME, "strictatime" },
	{ "nodiratime", FAMILY_DIRATIME, "nodiratime" },
	{ "diratime", FAMILY_DIRATIME, "" },
	{ "sync", FAMILY_SYNC, "sync" },
	{ "async", FAMILY_SYNC, "" },
	{ "dirsync", FAMILY_DIRSYNC, "dirsync" },
	{ "allow_other", FAMILY_OTHER, "allow_other" },
	{ "noallow_other", FAMILY_OTHER, "" },
	{ "default_permissions", FAMILY_NONE, NULL }, /* always so */
	/* fstab(5) words that are for others */
	{ "defaults", FAMILY_NONE, NULL },
	{ "_netdev", FAMILY_NONE, NULL },
	{ "auto", FAMILY_NONE, NULL },
	{ "noauto", FAMILY_NONE, NULL },
	{ "nofail", FAMILY_NONE, NULL },
	{ "user", FAMILY_NONE, NULL },
	{ "nouser", FAMILY_NONE, NULL },
	{ "users", FAMILY_NONE, NULL },
	{ "owner", FAMILY_NONE, NULL },
	{ "group", FAMILY_NONE, NULL },
};

bool options_set_mount_flag(Options *o, const char *flag)
{
	if (g_str_has_prefix(flag, "x-") || g_str_has_prefix(flag, "X-") ||
	    g_str_has_prefix(flag, "user=") || g_str_has_prefix(flag, "comment="))
		return true;
	for (uint32_t i = 0; i < G_N_ELEMENTS(flags); i++) {
		if (strcmp(flags[i].name, flag))
			continue;
		if (flags[i].kernel)
			o->kernel[flags[i].family] = flags[i].kernel;
		return true;
	}
	return false;
}

static bool set_item(Options *o, const char *item, GError **error)
{
	g_autofree char *name = g_strndup(item, strcspn(item, "="));
	g_autofree char *origin = g_strdup_printf("-o %s", name);
	const char *value = item[strlen(name)] ? item + strlen(name) + 1 : NULL;

	if (options_set_mount_flag(o, item))
		return true;
	if (!options_is_config_key(name) && strcmp(name, "config")) {
		options_set_error(error, "-o %s is an unknown option; see benchfs(1) for those there are", item);
		return false;
	}
	return options_set_named(o, name, value, origin, NULL, error);
}

/* Splits at commas; "\," is a comma in a value (a list of peers), and so is
 * one between double quotes, as mount(8) has it. */
static GPtrArray *split_list(const char *list)
{
	GPtrArray *items = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GString) item = g_string_new(NULL);
	bool quoted = false;

	for (const char *c = list;; c++) {
		if (*c == '\\' && c[1] == ',') {
			g_string_append_c(item, *++c);
		} else if (*c == '"') {
			quoted = !quoted;
		} else if (!*c || (*c == ',' && !quoted)) {
			if (item->len)
				g_ptr_array_add(items, g_strdup(item->str));
			g_string_truncate(item, 0);
			if (!*c)
				return items;
		} else {
			g_string_append_c(item, *c);
		}
	}
}

bool options_set_mount_list(Options *o, const char *list, GError **error)
{
	g_autoptr(GPtrArray) items = split_list(list);

	for (uint32_t i = 0; i < items->len; i++)
		if (!set_item(o, g_ptr_array_index(items, i), error))
			return false;
	return true;
}

bool options_set_default_flag(Options *o, const char *flag)
{
	for (uint32_t i = 0; i < G_N_ELEMENTS(flags); i++)
		if (!strcmp(flags[i].name, flag) && !o->kernel[flags[i].family])
			return options_set_mount_flag(o, flag);
	return false;
}

bool options_has_flag(const Options *o, const char *flag)
{
	for (int i = 0; i < MOUNT_FAMILY_COUNT; i++)
		if (o->kernel[i] && !strcmp(o->kernel[i], flag))
			return true;
	return false;
}

char *options_kernel_list(const Options *o)
{
	g_autoptr(GPtrArray) list = g_ptr_array_new_null_terminated(8, NULL, true);

	for (int i = 0; i < MOUNT_FAMILY_COUNT; i++)
		if (o->kernel[i] && *o->kernel[i])
			g_ptr_array_add(list, (char *)o->kernel[i]);
	return list->len ? g_strjoinv(",", (char **)list->pdata) : NULL;
}
