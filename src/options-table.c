/*
 * The table. Adding an option: a member of Options, a row here, its entry in
 * man/benchfs.1 (and benchfs.conf.5) and in completion/benchfs.
 */
#include "src/options-internal.h"

#include <string.h>

#define C(cmd) (1u << CMD_##cmd)
#define DAEMON (C(MOUNT) | C(SERVE))
#define NETWORK (DAEMON | C(STATUS))
#define ALL ((1u << CMD_COUNT) - 1)

const OptionDef option_defs[] = {
	{ "peers", 0, TYPE_TEXT, "LIST", "all peers that have a store, as host[:port] with commas between", NETWORK, 0, AT(peers) },
	{ "hostfile", 0, TYPE_FILE, "FILE", "the same list from a file, one peer a line", NETWORK, 0, AT(hostfile) },
	{ "listen", 0, TYPE_TEXT, "ADDR[:PORT]", "which entry of the list this peer is (default: the one that is an address of this machine)", DAEMON, 0, AT(listen) },
	{ "client", 0, TYPE_FLAG, NULL, "mount without a store, the same as --store none", C(MOUNT), 0, AT(client) },
	{ "store", 0, TYPE_FILE, "DIR", "directory of this peer's store (default: /var/lib/benchfs, or benchfs in the user's data directory)", DAEMON, 0, AT(store) },
	{ "secret-file", 0, TYPE_FILE, "FILE", "the secret that all peers share (default: /etc/benchfs/secret, or benchfs/secret in the user's configuration directory)", NETWORK, 0, AT(secret_file) },
	{ "wait", 0, TYPE_SECONDS, "SECONDS", "how long to wait for the other peers and the mount to answer (default: 60)", C(MOUNT), 0, AT(wait_s) },
	{ "foreground", 'f', TYPE_FLAG, NULL, "stay in the foreground and log to standard error", DAEMON, 0, AT(foreground) },
	{ "options", 'o', TYPE_MOUNT_LIST, "OPT[,OPT...]", "options as mount(8) has them (ro, nosuid, nodev, noexec, noatime, allow_other, ...), and each long option as name=value", C(MOUNT), 0, 0 },
	{ "channel", 0, TYPE_CHOICE, "auto|classic|uring", "how the kernel's requests arrive (default: auto)", C(MOUNT), 0, AT(channel) },
	{ "chunk-size", 0, TYPE_SIZE, "SIZE", "chunk size of files made from now on, a power of two (default: 4M)", DAEMON, 0, AT(chunk_size) },
	{ "inline-max", 0, TYPE_SIZE, "SIZE", "files up to this size live beside their metadata; 0: none (default: 4K)", DAEMON, 0, AT(inline_max) },
	{ "reserve", 0, TYPE_SIZE, "SIZE", "space to keep free on the store's disk (default: 1 %, from 16M to 1G)", DAEMON, 0, AT(reserve) },
	{ "transport", 0, TYPE_TEXT, "LIST", "UCX transports to use, as in UCX_TLS (default: UCX's own choice)", NETWORK, 0, AT(transport) },
	{ "net-devices", 0, TYPE_TEXT, "LIST", "network devices to use, as in UCX_NET_DEVICES (default: those of the listening address)", NETWORK, 0, AT(net_devices) },
	{ "log", 0, TYPE_TEXT, "SPEC", "what to log: a level (error, warning, message, info, debug) or area=level, with commas between (default: message)", DAEMON, 0, AT(log) },
	{ "log-file", 0, TYPE_FILE, "FILE", "log to a file, or to syslog (default: syslog; standard error with --foreground)", DAEMON, 0, AT(log_file) },
	{ "pid-file", 0, TYPE_FILE, "FILE", "write the process id of the daemon to a file, removed when it ends", DAEMON, 0, AT(pid_file) },
	{ "config", 'c', TYPE_FILE, "FILE", "configuration file (default: /etc/benchfs/benchfs.conf, where there is one)", NETWORK, ON_COMMAND_LINE_ONLY, AT(config) },
	{ "lazy", 'l', TYPE_FLAG, NULL, "detach a mount that is in use; the daemon ends after its last user", C(UMOUNT), ON_COMMAND_LINE_ONLY, AT(lazy) },
	{ "online", 0, TYPE_FLAG, NULL, "check the stores of a mount's peers while they are in use", C(FSCK), ON_COMMAND_LINE_ONLY, AT(online) },
	{ "json", 'j', TYPE_FLAG, NULL, "print JSON", C(STATUS), ON_COMMAND_LINE_ONLY, AT(json) },
	{ "help", 'h', TYPE_FLAG, NULL, "print this help", ALL, ON_COMMAND_LINE_ONLY, AT(help) },
};
const uint32_t option_count = G_N_ELEMENTS(option_defs);
G_STATIC_ASSERT(G_N_ELEMENTS(option_defs) <= 64); /* Options.set */

const CommandDef command_defs[CMD_COUNT] = {
	[CMD_MOUNT] = { "mount", "[OPTIONS] MOUNTPOINT", "mount BenchFS; alone, or as one of several peers" },
	[CMD_SERVE] = { "serve", "[OPTIONS]", "be a peer with a store and no mount" },
	[CMD_UMOUNT] = { "umount", "[OPTIONS] MOUNTPOINT", "unmount, and wait until the daemon has ended" },
	[CMD_STATUS] = { "status", "[OPTIONS] [MOUNTPOINT]", "show peers, slots, space and health" },
	[CMD_INFO] = { "info", "[OPTIONS] PATH...", "show where a file and its data live" },
	[CMD_FSCK] = { "fsck", "[OPTIONS] STORE...|MOUNTPOINT", "check stores; with --online those of a mount" },
	[CMD_SECRET] = { "secret", "[OPTIONS] [FILE]", "make a secret for several peers" },
	[CMD_VERSION] = { "version", "[OPTIONS]", "print the version" },
};

const char *command_name(CommandId cmd)
{
	return command_defs[cmd].name;
}

int command_find(const char *name)
{
	for (int i = 0; i < CMD_COUNT; i++)
		if (!strcmp(command_defs[i].name, name))
			return i;
	return -1;
}
