"""What a mount keeps under leases: for nothing as long as nobody changes it,
and never longer than that."""
import mmap
import os
import signal
import stat
import subprocess
import time

import pytest

from harness.env import ROOT, patience
from harness.procs import eventually

pytestmark = pytest.mark.limit(120)
SHARED = pytest.mark.configs("tcp3", "shm3", "netns3", "client", "linux54")
# A holder that does not answer loses its leases in 5 s; detecting costs little more.
BOUND = 9
QUIET = {"ping", "peer_info", "statfs"}


def counted(peer, action, prefix):
    """What rose in the counters of that prefix during an action, apart from
    what reading them costs."""
    def rise(act):
        before = peer.counters()
        act()
        after = peer.counters()
        return {n.removeprefix(prefix): after[n] - before.get(n, 0) for n in after if n.startswith(prefix)}

    nothing = rise(lambda: None)
    made = {n: v - nothing.get(n, 0) for n, v in rise(action).items()}
    return {n: v for n, v in made.items() if v > 0 and n not in QUIET}


def test_what_nobody_changes_is_asked_once(make_cluster):
    cluster = make_cluster(2, serve=True, clients=1, transport="tcp,self")
    client = cluster.peers[-1]
    top = client.mount / "d"
    (top / "e").mkdir(parents=True)
    for i in range(200):
        (top / "e" / f"f{i}").write_text(f"{i}")
    (top / "link").symlink_to("nowhere")

    def use():
        for i in range(200):
            path = top / "e" / f"f{i}"
            assert path.read_text() == f"{i}"
            assert path.stat().st_size == len(f"{i}")
            assert os.listxattr(path) == []
        assert len(os.listdir(top / "e")) == 200
        assert not (top / "e" / "none").exists()
        assert os.readlink(top / "link") == "nowhere"

    use()
    assert counted(client, use, "rpc.sent.") == {}


def fuse_minor():
    return 44 if tuple(int(n) for n in os.uname().release.split(".")[:2]) >= (6, 16) else 0


@pytest.mark.skipif(fuse_minor() < 44, reason="needs Linux 6.16, before which the kernel keeps no names of a shared tree")
def test_paths_of_a_shared_tree_that_nobody_changes_cost_no_call_at_all(make_cluster):
    cluster = make_cluster(3, transport="tcp,self")
    (cluster.mounts[0] / "a" / "b").mkdir(parents=True)
    for i in range(50):
        (cluster.mounts[0] / "a" / "b" / f"f{i}").write_text("x")

    def look(peer):
        for i in range(50):
            os.stat(peer.mount / "a" / "b" / f"f{i}")
            assert not os.access(peer.mount / "a" / f"none{i}", os.F_OK)

    for peer in cluster.peers:
        look(peer)
        asked = counted(peer, lambda: look(peer), "fuse.requests.")
        assert sum(asked.values()) <= 6, asked  # the counters' own way to the root


@SHARED
def test_a_program_keeps_its_directory_when_names_change_elsewhere(tree, actor):
    tree.at(0, "d", "e").mkdir(parents=True)
    here = actor()
    here.do(f"os.chdir({os.fspath(tree.at(1, 'd', 'e'))!r})")
    for i in range(5):
        tree.at(0, f"n{i}").touch()
        tree.at(0, "d", f"n{i}").touch()
        os.stat(tree.at(1, "d", "e"))
        assert here("os.getcwd()") == os.fspath(tree.at(1, "d", "e"))


def test_the_kernel_keeps_attributes_while_nobody_changes_them(make_cluster):
    cluster = make_cluster(3, transport="tcp,self")
    path = cluster.mounts[0] / "f"
    path.write_text("x")
    for peer in cluster.peers:
        fd = os.open(peer.mount / "f", os.O_RDONLY)
        os.fstat(fd)
        asked = counted(peer, lambda: [os.fstat(fd) for _ in range(100)], "fuse.requests.")
        os.close(fd)
        assert asked.get("getattr", 0) <= 2, asked


@SHARED
def test_a_change_there_ends_what_is_kept_here(tree):
    tree.turn("f").write_text("0")
    fds = [os.open(p, os.O_RDONLY) for p in tree.all("f")]
    for i in range(1, 40):
        for fd in fds:
            os.fstat(fd), os.pread(fd, 10, 0)
        mode = 0o600 + i % 8
        os.chmod(tree.turn("f"), mode)
        assert {os.fstat(fd).st_mode & 0o777 for fd in fds} == {mode}
        tree.turn("f").write_text("x" * i)
        assert {os.fstat(fd).st_size for fd in fds} == {i}
        os.setxattr(tree.turn("f"), "user.i", str(i).encode())
        assert {os.getxattr(p, "user.i") for p in tree.all("f")} == {str(i).encode()}
    for fd in fds:
        os.close(fd)


@SHARED
def test_names_that_come_and_go_there_are_known_here(tree):
    (tree.turn("d")).mkdir()
    for i in range(30):
        for d in tree.all("d"):
            assert not (d / "a").exists() and os.listdir(d) == []
        tree.turn("d", "a").touch()
        for d in tree.all("d"):
            assert (d / "a").exists() and os.listdir(d) == ["a"]
        d = tree.turn("d")
        os.rename(d / "a", d / "b")
        for d in tree.all("d"):
            assert not (d / "a").exists() and (d / "b").exists() and os.listdir(d) == ["b"]
        tree.turn("d", "b").unlink()


@SHARED
def test_links_of_a_file_are_counted_everywhere(tree):
    tree.turn("a").touch()
    for i in range(20):
        assert {p.stat().st_nlink for p in tree.all("a")} == {i + 1}
        os.link(tree.at(i, "a"), tree.at(i, f"b{i}"))
    for i in range(20):
        assert {p.stat().st_nlink for p in tree.all("a")} == {21 - i}
        tree.turn(f"b{i}").unlink()


@SHARED
def test_a_mapping_sees_soon_what_another_mount_writes(tree):
    tree.at(0, "f").write_bytes(b"\0" * 8192)
    fd = os.open(tree.at(1, "f"), os.O_RDONLY)
    with mmap.mmap(fd, 8192, prot=mmap.PROT_READ) as pages:
        for i in range(1, 10):
            assert pages[5000] == i - 1
            with open(tree.at(0, "f"), "r+b") as f:
                f.seek(5000)
                f.write(bytes([i]))
            assert eventually(lambda: pages[5000] == i, 10)
    os.close(fd)


# ---- holders that do not answer ----

def hold(mount, name="f"):
    fd = os.open(mount / name, os.O_RDONLY)
    os.fstat(fd)
    return fd


def changed_within(mount, text, bound):
    before = time.monotonic()
    (mount / "f").write_text(text)
    took = time.monotonic() - before
    assert took < patience(bound), f"took {took:.1f} s"
    return took


def test_a_change_waits_a_few_seconds_for_a_killed_holder(make_cluster, figure):
    cluster = make_cluster(2, clients=1, transport="tcp,self")
    (cluster.mounts[0] / "f").write_text("old")
    os.close(hold(cluster.mounts[2]))
    cluster.peers[2].kill()
    figure("seconds", round(changed_within(cluster.mounts[0], "new", BOUND), 1))
    assert (cluster.mounts[1] / "f").read_text() == "new"


def test_a_stopped_holder_sees_on_waking_what_was_changed_meanwhile(make_cluster, figure):
    cluster = make_cluster(2, clients=1, transport="tcp,self")
    (cluster.mounts[0] / "f").write_text("old")
    fd = hold(cluster.mounts[2])
    os.kill(cluster.peers[2].pid, signal.SIGSTOP)
    try:
        figure("seconds", round(changed_within(cluster.mounts[0], "newer", BOUND), 1))
    finally:
        os.kill(cluster.peers[2].pid, signal.SIGCONT)
    assert os.fstat(fd).st_size == 5
    assert os.pread(fd, 10, 0) == b"newer"
    os.close(fd)


@pytest.mark.skipif(not ROOT, reason="needs root, to mount")
@pytest.mark.configs("tcp3", "linux54")
def test_what_is_mounted_on_a_directory_stays_when_names_change(tree):
    here, there = tree.at(0), tree.at(1)
    (here / "a" / "on").mkdir(parents=True)
    assert os.listdir(there) == ["a"] and (there / "a" / "on").is_dir()
    subprocess.run(["mount", "-t", "tmpfs", "none", here / "a" / "on"], check=True)
    try:
        (here / "a" / "on" / "inside").write_text("")
        for i in range(3):
            (here / f"here{i}").mkdir()
            assert (there / f"here{i}").is_dir()
            (there / f"there{i}").mkdir()
            assert sorted(os.listdir(here))[-1] == f"there{i}" and (here / f"there{i}").is_dir()
            (there / f"there{i}").rmdir()
            assert not (here / f"there{i}").exists()
            assert os.listdir(here / "a" / "on") == ["inside"]
        assert os.listdir(there / "a" / "on") == []
    finally:
        subprocess.run(["umount", "-l", here / "a" / "on"], check=True)
    assert os.listdir(here / "a" / "on") == []


@pytest.mark.parametrize("opcode, change", [
    ("rename", "os.rename('x/f', 'y/f')"), ("create", "os.close(os.open('a/new', os.O_CREAT | os.O_WRONLY))")])
def test_a_directory_that_was_moved_there_is_found_here_while_a_change_waits(make_cluster, actor, opcode, change):
    cluster = make_cluster(2, clients=1, transport="tcp,self")
    here, there, holder = cluster.mounts
    for name in ("a/d", "b", "x", "y"):
        (here / name).mkdir(parents=True)
    (here / "x" / "f").write_text("")
    kept = os.open(here / "a" / "d", os.O_DIRECTORY)
    for name in ("a", "x/f"):
        os.stat(holder / name)
    assert os.listdir(holder / "a") == ["d"]
    os.rename(there / "a" / "d", there / "b" / "d")
    assert os.listdir(holder / "a") == []
    changer = actor()
    changer.do(f"os.chdir({str(here)!r})")
    counter = f"fuse.requests.{opcode}"
    before = cluster.peers[0].counters().get(counter, 0)
    os.kill(cluster.peers[2].pid, signal.SIGSTOP)
    try:
        changer.start(change)
        assert eventually(lambda: cluster.peers[0].counters().get(counter, 0) > before, 10)
        assert not changer.finished(0)
        assert stat.S_ISDIR(os.stat(here / "b" / "d").st_mode)
        changer.result()
    finally:
        os.kill(cluster.peers[2].pid, signal.SIGCONT)
        os.close(kept)


def test_a_holder_that_is_cut_off_does_not_go_on_showing_what_it_kept(network, make_cluster):
    net = network(3)
    cluster = make_cluster(3, transport="tcp,self", network=net)
    (cluster.mounts[0] / "f").write_text("old")
    fd = hold(cluster.mounts[2])
    net.cut(2)
    changed_within(cluster.mounts[0], "newer", BOUND)
    try:
        assert os.fstat(fd).st_size == 5
    except OSError:
        pass  # as long as it can't ask
    net.join(2)
    assert eventually(lambda: os.fstat(fd).st_size == 5, 30)
    os.close(fd)


def test_a_home_that_was_killed_changes_nothing_before_its_leases_have_run_out(make_cluster):
    cluster = make_cluster(2, serve=True, clients=1, transport="tcp,self")
    mount = cluster.mounts[0]
    (mount / "f").write_text("old")
    cluster.peers[0].kill()
    before = time.monotonic()
    cluster.peers[0].start()
    assert eventually(lambda: (mount / "f").read_text() == "old", 60)
    (mount / "f").write_text("new")
    assert 4.9 < time.monotonic() - before < patience(30)
    assert cluster.peers[0].stop() == []
    cluster.peers[0].start()
    before = time.monotonic()
    assert eventually(lambda: (mount / "f").write_text("newer"), 60)
    assert time.monotonic() - before < patience(4)


def test_a_restarted_home_is_asked_anew(make_cluster):
    cluster = make_cluster(2, serve=True, clients=2, transport="tcp,self")
    a, b = cluster.mounts
    (a / "f").write_text("old")
    fd = hold(b)
    for peer in cluster.peers[:2]:
        peer.kill()
        peer.start()
    assert eventually(lambda: (a / "f").write_text("newer"), 60)
    assert eventually(lambda: os.fstat(fd).st_size == 5, 60)
    assert os.fstat(fd).st_size == 5
    os.close(fd)


@SHARED
def test_a_truncation_with_changed_mapped_pages_ends_although_another_mount_writes(tree):
    tree.at(0, "f").write_bytes(b"0" * 40_000)
    fd = os.open(tree.at(1, "f"), os.O_RDWR)
    with mmap.mmap(fd, 40_000) as pages:
        for i in range(20):
            with open(tree.at(0, "f"), "r+b") as f:
                f.write(b"%d" % i)
            pages[20_000] = i
            os.ftruncate(fd, 40_000 - i)
            os.pread(fd, 10, 0)
            assert os.stat(tree.at(0, "f")).st_size == 40_000 - i
            os.ftruncate(fd, 40_000)
    os.close(fd)
