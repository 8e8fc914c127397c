"""The program's subcommands, as people and scripts meet them."""
import ctypes
import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.cluster import Peer, detach, mounted
from harness.env import ROOT, need_root, patience
from harness.procs import become_subreaper, errno_of, eventually, run

pytestmark = pytest.mark.core


@pytest.fixture
def cli(program, tmp_path):
    """Runs the program; what it left mounted is detached in the end, and a
    failure of the test."""
    def call(*args, **kwargs):
        kwargs.setdefault("env", {**os.environ, **Peer(tmp_path / "cli", "serve").environ()})
        return run(program, *args, check=False, **kwargs)

    become_subreaper()
    mountpoint = call.mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    call.store = tmp_path / "store"
    yield call
    if mounted(mountpoint):
        detach(mountpoint)
        pytest.fail("the mount was left behind")


def end_of(pid):
    """Exit status of a daemon that a command of ours left running."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def pid_of(mountpoint):
    text = os.getxattr(mountpoint, "benchfs.status").decode()
    return int(re.search(r"^pid (\d+)$", text, re.M)[1])


def test_mount_returns_when_the_mount_answers_and_umount_when_the_daemon_has_ended(cli):
    done = cli("mount", "--store", cli.store, cli.mountpoint)
    assert done.returncode == 0, done.stderr
    assert mounted(cli.mountpoint)
    pid = pid_of(cli.mountpoint)
    (cli.mountpoint / "f").write_text("kept")
    done = cli("umount", cli.mountpoint)
    assert done.returncode == 0, done.stderr
    assert not mounted(cli.mountpoint)
    assert end_of(pid) == 0
    assert cli("mount", "--store", cli.store, cli.mountpoint).returncode == 0
    assert (cli.mountpoint / "f").read_text() == "kept"
    pid = pid_of(cli.mountpoint)
    assert cli("umount", cli.mountpoint).returncode == 0
    assert end_of(pid) == 0


def test_the_daemon_keeps_neither_terminal_nor_directory_nor_output(cli):
    done = cli("mount", "--store", cli.store, cli.mountpoint)
    assert done.returncode == 0, done.stderr
    pid = pid_of(cli.mountpoint)
    assert os.getsid(pid) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{n}") for n in range(3)} == {"/dev/null"}
    assert cli("umount", cli.mountpoint).returncode == 0
    assert end_of(pid) == 0


def test_plain_umount_ends_the_daemon(cli):
    assert cli("mount", "--store", cli.store, cli.mountpoint).returncode == 0
    pid = pid_of(cli.mountpoint)
    run(*(["umount"] if ROOT else ["fusermount3", "-u"]), cli.mountpoint)
    assert end_of(pid) == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_and_ends_the_daemon(cli, signum):
    assert cli("mount", "--store", cli.store, cli.mountpoint).returncode == 0
    pid = pid_of(cli.mountpoint)
    os.kill(pid, signum)
    assert end_of(pid) == 0
    assert not mounted(cli.mountpoint)


@pytest.fixture
def leaving(cli):
    """A daemon without its mount, kept from ending."""
    need_root("unmounts without the program's help")
    assert cli("mount", "--store", cli.store, cli.mountpoint).returncode == 0
    pid = pid_of(cli.mountpoint)
    os.kill(pid, signal.SIGSTOP)
    assert ctypes.CDLL(None).umount2(os.fsencode(cli.mountpoint), 8) == 0  # UMOUNT_NOFOLLOW
    yield pid
    os.kill(pid, signal.SIGCONT)
    assert end_of(pid) == 0


def test_mount_waits_for_the_daemon_that_plain_umount_did_not_wait_for(cli, leaving, tmp_path):
    log = tmp_path / "log"
    with ThreadPoolExecutor() as pool:
        call = pool.submit(cli, "mount", "--log-file", log, "--store", cli.store, cli.mountpoint)
        assert eventually(lambda: f"process {leaving} has lost its mount" in log.read_text(), 20)
        os.kill(leaving, signal.SIGCONT)
        done = call.result()
    assert done.returncode == 0, done.stderr
    pid = pid_of(cli.mountpoint)
    assert cli("umount", cli.mountpoint).returncode == 0
    assert end_of(pid) == 0


def test_mount_does_not_wait_for_ever_for_a_daemon_that_does_not_end(cli, leaving):
    done = cli("mount", "--store", cli.store, cli.mountpoint)
    assert done.returncode == 1 and f"in use by process {leaving}" in done.stderr


def test_a_store_in_use_is_refused_at_once(cli, leaving, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    start = time.monotonic()
    done = cli("mount", "--store", cli.store, elsewhere)
    assert done.returncode == 1 and f"in use by process {leaving}" in done.stderr
    assert time.monotonic() - start < patience(5)


def test_umount_of_a_busy_mount_says_so_and_leaves_it(cli):
    assert cli("mount", "--store", cli.store, cli.mountpoint).returncode == 0
    pid = pid_of(cli.mountpoint)
    with open(cli.mountpoint / "f", "w") as f:
        done = cli("umount", cli.mountpoint)
        assert done.returncode != 0 and "busy" in done.stderr
        f.write("still works")
    assert (cli.mountpoint / "f").read_text() == "still works"
    assert cli("umount", cli.mountpoint).returncode == 0
    assert end_of(pid) == 0


def test_umount_of_what_is_no_benchfs_mount_says_so(cli):
    done = cli("umount", cli.mountpoint)
    assert done.returncode != 0 and str(cli.mountpoint) in done.stderr


def test_the_log_goes_to_the_log_file(cli, tmp_path):
    log = tmp_path / "the.log"
    assert cli("mount", "--store", cli.store, "--log", "debug", "--log-file", log, cli.mountpoint).returncode == 0
    pid = pid_of(cli.mountpoint)
    assert cli("umount", cli.mountpoint).returncode == 0
    assert end_of(pid) == 0
    assert log.stat().st_size > 0


def test_the_pid_file_names_the_daemon_and_goes_away_with_it(cli, tmp_path):
    pid_file = tmp_path / "pid"
    assert cli("mount", "--store", cli.store, "--pid-file", pid_file, cli.mountpoint).returncode == 0
    pid = pid_of(cli.mountpoint)
    assert int(pid_file.read_text()) == pid
    assert cli("umount", cli.mountpoint).returncode == 0
    assert end_of(pid) == 0
    assert not pid_file.exists()


@pytest.mark.configs("one", "tcp3", "client")
def test_status_tells_of_every_peer(tree, program):
    n = len([p for p in tree.cluster.peers if p.store])
    for mount in tree.cluster.mounts:
        told = json.loads(run(program, "status", "--json", mount).stdout)
        assert told["healthy"] and len(told["peers"]) == n
        assert sum(p["slots"] for p in told["peers"]) == 4096
        assert all(p["total"] >= p["free"] >= p["avail"] > 0 for p in told["peers"])
        assert len(run(program, "status", mount).stdout.splitlines()) >= n + 2


@pytest.mark.configs("one", "tcp3")
def test_info_tells_where_a_file_lives(tree, program):
    tree.turn("small").write_bytes(b"x" * 10)
    tree.turn("big").write_bytes(b"x" * (5 << 20))
    for path in tree.all("big"):
        text = run(program, "info", path).stdout
        assert str(path.stat().st_ino) in text or f"{path.stat().st_ino:x}" in text
        assert os.getxattr(path, "benchfs.info").decode().strip().splitlines()[0]
    assert "inline" in run(program, "info", tree.turn("small")).stdout
    assert run(program, "info", "/proc/version", check=False).returncode != 0


def test_secret_makes_a_private_file_and_never_overwrites_one(cli, tmp_path):
    path = tmp_path / "secret"
    assert cli("secret", path).returncode == 0
    assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_size > 32
    before = path.read_bytes()
    assert cli("secret", path).returncode != 0
    assert path.read_bytes() == before
    assert cli("secret", tmp_path / "other").returncode == 0
    assert (tmp_path / "other").read_bytes() != before


def test_peers_start_in_any_order(make_cluster):
    cluster = make_cluster(3, start=False, transport="tcp,self")
    for peer in reversed(cluster.peers):
        peer.start()
    for peer in cluster.peers:
        peer.wait_ready()
    (cluster.mounts[2] / "f").write_text("x")
    assert (cluster.mounts[0] / "f").read_text() == "x"


def test_a_hostfile_serves_as_well_as_a_list(make_cluster, tmp_path):
    cluster = make_cluster(2, start=False, transport="tcp,self")
    hosts = tmp_path / "hosts"
    hosts.write_text("# the peers\n" + "\n".join(cluster.addresses) + "\n\n")
    for peer in cluster.peers:
        at = peer.args.index("--peers")
        peer.args[at:at + 2] = ["--hostfile", str(hosts)]
    cluster.start()
    (cluster.mounts[0] / "f").write_text("x")
    assert (cluster.mounts[1] / "f").read_text() == "x"


def test_a_mount_that_waits_in_vain_says_for_whom(make_cluster):
    cluster = make_cluster(2, start=False, transport="tcp,self", wait=2)
    peer = cluster.peers[0]
    done = run(*peer.command(foreground=False), check=False, env=peer.environ())
    assert done.returncode not in (0, 2)
    assert cluster.addresses[1] in done.stderr
    assert not mounted(peer.mount)


def test_a_read_only_mount_refuses_changes(cli):
    assert cli("mount", "--store", cli.store, "-o", "ro,noexec", cli.mountpoint).returncode == 0
    pid = pid_of(cli.mountpoint)
    assert errno_of((cli.mountpoint / "f").touch) == "EROFS"
    with open("/proc/mounts") as f:
        options = next(line.split()[3] for line in f if line.split()[1] == str(cli.mountpoint)).split(",")
    assert "ro" in options and "noexec" in options
    assert cli("umount", cli.mountpoint).returncode == 0
    assert end_of(pid) == 0


@pytest.mark.parametrize("channel", ["auto", "classic", "uring"])
def test_a_mount_works_over_the_channel_it_was_told(cli, channel):
    done = cli("mount", "--store", cli.store, "--channel", channel, cli.mountpoint)
    if channel == "uring" and done.returncode != 0:
        assert "uring" in done.stderr and not mounted(cli.mountpoint)
        pytest.skip(f"needs FUSE over io_uring: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    pid = pid_of(cli.mountpoint)
    used = re.search(r"^channel (.*)$", os.getxattr(cli.mountpoint, "benchfs.status").decode(), re.M)[1]
    assert used == channel or channel == "auto"
    (cli.mountpoint / "f").write_bytes(b"x" * 10_000_000)
    assert (cli.mountpoint / "f").read_bytes() == b"x" * 10_000_000
    assert cli("umount", cli.mountpoint).returncode == 0
    assert end_of(pid) == 0


def test_help_and_version_go_to_standard_output(cli):
    for args in (["--help"], ["mount", "--help"], ["serve", "-h"], ["--version"]):
        done = cli(*args)
        assert done.returncode == 0 and done.stdout and not done.stderr
