#include "src/status.h"

#include <stddef.h>
#include <string.h>

/*
 * One table for what all three forms say about a peer, so that they agree.
 */
typedef struct InfoField {
	const char *name;
	size_t offset;
	bool wide; /* 64 bits */
} InfoField;

#define FIELD(name, wide) { #name, offsetof(WirePeerInfoRep, name), wide }
static const InfoField fields[] = {
	FIELD(total, true), FIELD(free, true), FIELD(avail, true), FIELD(inodes, true),
	FIELD(orphans, true), FIELD(locks, true), FIELD(uptime_s, true),
	FIELD(sessions, false), FIELD(has_store, false), FIELD(has_mount, false),
};

static uint64_t field_get(const WirePeerInfoRep *info, const InfoField *f)
{
	return f->wide ? G_STRUCT_MEMBER(uint64_t, info, f->offset) : G_STRUCT_MEMBER(uint32_t, info, f->offset);
}

static void field_set(WirePeerInfoRep *info, const InfoField *f, uint64_t value)
{
	if (f->wide)
		G_STRUCT_MEMBER(uint64_t, info, f->offset) = value;
	else
		G_STRUCT_MEMBER(uint32_t, info, f->offset) = (uint32_t)value;
}

static void status_peer_free(void *data)
{
	StatusPeer *p = data;

	g_free(p->address);
	g_free(p->state);
	g_free(p->reason);
	g_free(p);
}

Status *status_new(void)
{
	Status *s = g_new0(Status, 1);

	s->peers = g_ptr_array_new_with_free_func(status_peer_free);
	return s;
}

void status_free(Status *s)
{
	if (!s)
		return;
	g_free(s->version);
	g_free(s->mount);
	g_free(s->channel);
	g_free(s->cluster);
	g_free(s->self);
	g_ptr_array_unref(s->peers);
	g_free(s);
}

StatusPeer *status_add_peer(Status *s)
{
	StatusPeer *p = g_new0(StatusPeer, 1);

	g_ptr_array_add(s->peers, p);
	return p;
}

bool status_is_healthy(const Status *s)
{
	for (uint32_t i = 0; i < s->peers->len; i++) {
		const StatusPeer *p = g_ptr_array_index(s->peers, i);
		if (!strcmp(p->state, "down"))
			return false;
	}
	return true;
}

/* ---- text ---- */

static void append_line(GString *t, const char *key, const char *value)
{
	g_autofree char *escaped = g_strescape(value ? value : "none", NULL);

	g_string_append_printf(t, "%s %s\n", key, escaped);
}

static void append_number(GString *t, const char *key, uint64_t value)
{
	g_string_append_printf(t, "%s %" G_GUINT64_FORMAT "\n", key, value);
}

/* peer ID STATE ADDRESS slots N [NAME NUMBER]... [reason TEXT] */
static void append_peer(GString *t, const StatusPeer *p)
{
	g_string_append_printf(t, "peer %u %s %s slots %u", p->id, p->state, p->address, p->slots);
	if (strcmp(p->state, "down"))
		for (uint32_t i = 0; i < G_N_ELEMENTS(fields); i++)
			g_string_append_printf(t, " %s %" G_GUINT64_FORMAT, fields[i].name, field_get(&p->info, &fields[i]));
	if (p->reason) {
		g_autofree char *escaped = g_strescape(p->reason, NULL);
		g_string_append_printf(t, " reason %s", escaped);
	}
	g_string_append_c(t, '\n');
}

char *status_to_text(const Status *s)
{
	GString *t = g_string_new(NULL);

	append_line(t, "version", s->version);
	append_line(t, "mount", s->mount);
	append_line(t, "channel", s->channel);
	append_number(t, "pid", s->pid);
	append_number(t, "uptime_s", s->uptime_s);
	append_line(t, "cluster", s->cluster);
	append_number(t, "epoch", s->epoch);
	append_line(t, "self", s->self);
	append_number(t, "peers", s->peers->len);
	for (uint32_t i = 0; i < s->peers->len; i++)
		append_peer(t, g_ptr_array_index(s->peers, i));
	return g_string_free(t, false);
}

static void parse_field(StatusPeer *p, const char *name, const char *value)
{
	uint64_t n = g_ascii_strtoull(value, NULL, 10);

	if (!strcmp(name, "slots"))
		p->slots = (uint32_t)n;
	for (uint32_t i = 0; i < G_N_ELEMENTS(fields); i++)
		if (!strcmp(fields[i].name, name))
			field_set(&p->info, &fields[i], n);
}

static bool parse_peer(Status *s, const char *text)
{
	const char *reason = strstr(text, " reason ");
	g_autofree char *head = reason ? g_strndup(text, (size_t)(reason - text)) : g_strdup(text);
	g_auto(GStrv) words = g_strsplit(head, " ", -1);
	uint32_t n = g_strv_length(words);

	if (n < 3)
		return false;
	StatusPeer *p = status_add_peer(s);
	p->id = (uint16_t)g_ascii_strtoull(words[0], NULL, 10);
	p->state = g_strdup(words[1]);
	p->address = g_strdup(words[2]);
	p->reason = reason ? g_strcompress(reason + strlen(" reason ")) : NULL;
	for (uint32_t i = 3; i + 1 < n; i += 2)
		parse_field(p, words[i], words[i + 1]);
	return true;
}

static void replace(char **p, const char *value)
{
	g_free(*p);
	*p = g_strcompress(value);
}

static bool parse_line(Status *s, const char *key, const char *value)
{
	uint64_t n = g_ascii_strtoull(value, NULL, 10);

	if (!strcmp(key, "peer"))
		return parse_peer(s, value);
	if (!strcmp(key, "version"))
		replace(&s->version, value);
	else if (!strcmp(key, "mount"))
		replace(&s->mount, value);
	else if (!strcmp(key, "channel"))
		replace(&s->channel, value);
	else if (!strcmp(key, "cluster"))
		replace(&s->cluster, value);
	else if (!strcmp(key, "self"))
		replace(&s->self, value);
	else if (!strcmp(key, "pid"))
		s->pid = n;
	else if (!strcmp(key, "uptime_s"))
		s->uptime_s = n;
	else if (!strcmp(key, "epoch"))
		s->epoch = n;
	return true; /* a newer program may say more */
}

Status *status_from_text(const char *text)
{
	g_autoptr(Status) s = status_new();
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

	for (char **l = lines; *l; l++) {
		char *space = strchr(*l, ' ');
		if (!space)
			continue;
		*space = 0;
		if (!parse_line(s, *l, space + 1))
			return NULL;
	}
	return s->version && s->peers->len ? g_steal_pointer(&s) : NULL;
}

/* ---- JSON ---- */

static void append_json_text(GString *t, const char *text)
{
	if (!text || !strcmp(text, "none")) {
		g_string_append(t, "null");
		return;
	}
	g_autofree char *valid = g_utf8_make_valid(text, -1);
	g_string_append_c(t, '"');
	for (const char *c = valid; *c; c++) {
		if (*c == '"' || *c == '\\')
			g_string_append_printf(t, "\\%c", *c);
		else if ((uint8_t)*c < 0x20)
			g_string_append_printf(t, "\\u%04x", (uint8_t)*c);
		else
			g_string_append_c(t, *c);
	}
	g_string_append_c(t, '"');
}

static void append_json_member(GString *t, const char *key, const char *text)
{
	g_string_append_printf(t, "  \"%s\": ", key);
	append_json_text(t, text);
	g_string_append(t, ",\n");
}

static void append_json_peer(GString *t, const StatusPeer *p)
{
	g_string_append_printf(t, "    {\"id\": %u, \"state\": ", p->id);
	append_json_text(t, p->state);
	g_string_append(t, ", \"address\": ");
	append_json_text(t, p->address);
	g_string_append_printf(t, ", \"slots\": %u", p->slots);
	if (strcmp(p->state, "down"))
		for (uint32_t i = 0; i < G_N_ELEMENTS(fields); i++)
			g_string_append_printf(t, ", \"%s\": %" G_GUINT64_FORMAT, fields[i].name, field_get(&p->info, &fields[i]));
	if (p->reason) {
		g_string_append(t, ", \"reason\": ");
		append_json_text(t, p->reason);
	}
	g_string_append_c(t, '}');
}

char *status_to_json(const Status *s)
{
	GString *t = g_string_new("{\n");

	append_json_member(t, "version", s->version);
	append_json_member(t, "mount", s->mount);
	append_json_member(t, "channel", s->channel);
	append_json_member(t, "cluster", s->cluster);
	append_json_member(t, "self", s->self);
	g_string_append_printf(t, "  \"pid\": %" G_GUINT64_FORMAT ",\n  \"uptime_s\": %" G_GUINT64_FORMAT
			       ",\n  \"epoch\": %" G_GUINT64_FORMAT ",\n  \"healthy\": %s,\n  \"peers\": [\n",
			       s->pid, s->uptime_s, s->epoch, status_is_healthy(s) ? "true" : "false");
	for (uint32_t i = 0; i < s->peers->len; i++) {
		append_json_peer(t, g_ptr_array_index(s->peers, i));
		g_string_append(t, i + 1 < s->peers->len ? ",\n" : "\n");
	}
	g_string_append(t, "  ]\n}\n");
	return g_string_free(t, false);
}

/* ---- table ---- */

static char *format_bytes(uint64_t bytes)
{
	static const char units[] = "BKMGTPE";
	double v = (double)bytes;
	int u = 0;

	for (; v >= 1024 && units[u + 1]; u++)
		v /= 1024;
	return u ? g_strdup_printf("%.1f%c", v, units[u]) : g_strdup_printf("%uB", (unsigned)bytes);
}

static char *format_time(uint64_t s)
{
	if (s < 120)
		return g_strdup_printf("%us", (unsigned)s);
	if (s < 2 * 3600)
		return g_strdup_printf("%um", (unsigned)(s / 60));
	if (s < 2 * 86400)
		return g_strdup_printf("%uh", (unsigned)(s / 3600));
	return g_strdup_printf("%" G_GUINT64_FORMAT "d", s / 86400);
}

static void append_table_peer(GString *t, const StatusPeer *p, int width)
{
	g_string_append_printf(t, "%-4u %-*s %-5s %5u", p->id, width, p->address, p->state, p->slots);
	if (!strcmp(p->state, "down")) {
		g_string_append_printf(t, "  %s\n", p->reason ? p->reason : "no answer");
		return;
	}
	g_autofree char *size = format_bytes(p->info.total);
	g_autofree char *used = format_bytes(p->info.total - MIN(p->info.total, p->info.free));
	g_autofree char *avail = format_bytes(p->info.avail);
	g_autofree char *up = format_time(p->info.uptime_s);
	g_string_append_printf(t, " %8s %8s %8s %9" G_GUINT64_FORMAT " %6s\n", size, used, avail, p->info.inodes, up);
}

static void append_table_head(GString *t, const Status *s)
{
	g_autofree char *up = format_time(s->uptime_s);

	g_string_append_printf(t, "BenchFS %s", s->version);
	if (s->mount && strcmp(s->mount, "none"))
		g_string_append_printf(t, " at %s, pid %" G_GUINT64_FORMAT ", up %s, channel %s",
				       s->mount, s->pid, up, s->channel ? s->channel : "none");
	g_string_append_printf(t, ", cluster %s, this is %s%s\n", s->cluster ? s->cluster : "none",
			       g_strcmp0(s->self, "client") ? "peer " : "a ", s->self ? s->self : "client");
}

char *status_to_table(const Status *s)
{
	GString *t = g_string_new(NULL);
	int width = strlen("ADDRESS");

	append_table_head(t, s);
	for (uint32_t i = 0; i < s->peers->len; i++) {
		const StatusPeer *p = g_ptr_array_index(s->peers, i);
		width = MAX(width, (int)strlen(p->address));
	}
	g_string_append_printf(t, "%-4s %-*s %-5s %5s %8s %8s %8s %9s %6s\n", "PEER", width, "ADDRESS", "STATE",
			       "SLOTS", "SIZE", "USED", "AVAIL", "INODES", "UP");
	for (uint32_t i = 0; i < s->peers->len; i++)
		append_table_peer(t, g_ptr_array_index(s->peers, i), width);
	return g_string_free(t, false);
}
