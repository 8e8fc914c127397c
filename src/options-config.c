/* The configuration file: a key file with one group, [benchfs]. */
#include "src/options.h"

#include <string.h>

#define CONFIG_DEFAULT "/etc/benchfs/benchfs.conf"
#define CONFIG_GROUP "benchfs"

/* GKeyFile forgets where a key stood; a message should say it. */
static uint32_t line_of_key(const char *text, const char *key)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

	for (uint32_t i = 0; lines[i]; i++) {
		const char *l = lines[i] + strspn(lines[i], " \t");
		if (!g_str_has_prefix(l, key))
			continue;
		l += strlen(key);
		l += strspn(l, " \t");
		if (*l == '=')
			return i + 1;
	}
	return 0;
}

static bool set_key(Options *o, GKeyFile *kf, const char *file, const char *text, const char *key, GError **error)
{
	g_autofree char *origin = g_strdup_printf("%s line %u: %s", file, line_of_key(text, key), key);
	g_autofree char *dir = g_path_get_dirname(file);
	g_autofree char *value = g_key_file_get_string(kf, CONFIG_GROUP, key, error);

	if (!value)
		return false;
	if (!options_is_config_key(key)) {
		options_set_error(error, "%s is an unknown key; see benchfs.conf(5) for those there are", origin);
		return false;
	}
	if (!strcmp(key, "options")) {
		if (options_set_mount_list(o, value, error))
			return true;
		g_prefix_error(error, "%s: ", origin);
		return false;
	}
	return options_set_named(o, key, value, origin, dir, error);
}

static bool check_groups(GKeyFile *kf, const char *file, GError **error)
{
	g_auto(GStrv) groups = g_key_file_get_groups(kf, NULL);

	for (char **g = groups; *g; g++) {
		if (!strcmp(*g, CONFIG_GROUP))
			continue;
		options_set_error(error, "%s has an unknown group [%s]; all keys belong to [" CONFIG_GROUP "]", file, *g);
		return false;
	}
	return true;
}

static bool load(Options *o, const char *file, const char *text, GError **error)
{
	g_autoptr(GKeyFile) kf = g_key_file_new();
	g_autoptr(GError) why = NULL;

	if (!g_key_file_load_from_data(kf, text, strlen(text), G_KEY_FILE_NONE, &why)) {
		options_set_error(error, "%s: %s", file, why->message);
		return false;
	}
	if (!check_groups(kf, file, error))
		return false;
	g_auto(GStrv) keys = g_key_file_get_keys(kf, CONFIG_GROUP, NULL, NULL);
	for (char **k = keys; k && *k; k++)
		if (!set_key(o, kf, file, text, *k, error))
			return false;
	return true;
}

bool options_load_config(Options *o, const char *file, GError **error)
{
	g_autofree char *text = NULL;
	g_autoptr(GError) why = NULL;

	if (!file && !g_file_test(CONFIG_DEFAULT, G_FILE_TEST_EXISTS))
		return true;
	if (!file)
		file = CONFIG_DEFAULT;
	if (!g_file_get_contents(file, &text, NULL, &why)) {
		options_set_error(error, "cannot read the configuration file: %s", why->message);
		return false;
	}
	return load(o, file, text, error);
}
