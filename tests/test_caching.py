"""What a mount has read once it has, until somebody changes it."""
import functools
import os

import pytest

from harness.env import need_program, size
from harness.procs import run
from harness.reclaim import Reclaim
from test_counters import spent

FILES = size(600, 20_000, sanitized=150)
# What the kernel keeps it keeps no longer than a lease lasts without word, 3 to
# 4 s: so many can be looked at twice in that time.
FILES_AT_ONCE = min(FILES, 600)
PER_DIRECTORY = 20

pytestmark = [pytest.mark.soak, pytest.mark.limit(120)]


def make_tree(mounts, files):
    """Directories with files in them, made by each of the mounts in turn, so
    that each peer is the home of a share. Older than any index of them."""
    (mounts[0] / "tree").mkdir()
    for number in range(files // PER_DIRECTORY):
        directory = mounts[number % len(mounts)] / "tree" / f"directory{number}"
        directory.mkdir()
        for i in range(PER_DIRECTORY):
            path = directory / f"file{i}"
            path.write_text(f"line of {number} {i}\n" * (i * i + 1))
            os.utime(path, (10 ** 9, 10 ** 9))


def git(where, *args):
    return run("git", "-C", where, "-c", "user.name=n", "-c", "user.email=e@x", "-c", "gc.auto=0", *args, timeout=600,
               env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}).stdout


def commit_all(where, directory):
    """A repository beside the file system, so that its own files don't count."""
    git(where, "init", "-q", "-b", "main", f"--separate-git-dir={directory}")
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "all")


COMMANDS = {
    "ls -lR": lambda where: run("ls", "-lR", where, timeout=600).stdout,
    "grep -r": lambda where: run("grep", "-r", "no such text", where, timeout=600, check=False).stdout,
    "git status": lambda where: git(where, "status", "--porcelain"),
}


@pytest.fixture
def cluster_with(make_cluster, tmp_path):
    """Three peers, on whose mounts is a tree of so many files that belongs to all."""
    def make(files):
        need_program("git")
        cluster = make_cluster(3, transport="tcp,self")
        cluster.reclaim = Reclaim()
        make_tree(cluster.mounts, files)
        commit_all(cluster.mounts[0] / "tree", tmp_path / "repository")
        return cluster
    return make


def look_twice(peer, look):
    """(RPCs sent, requests of the kernel) the second time."""
    outputs = [look(peer.mount / "tree")]
    found = spent(peer, lambda: outputs.append(look(peer.mount / "tree")))
    if outputs[0] != outputs[1]:
        pytest.fail("the second look sees something else")
    return found


def look_until_known(peer, look):
    """One look reads directories, so that the next asks for their atimes, and
    the kernel forgets their ACLs with that, which the one after asks for."""
    for _ in range(3):
        look(peer.mount / "tree")


def look_twice_with_each(cluster, peer, files, figure):
    """{command: (RPCs sent, requests of the kernel)} the second time."""
    found = {}
    for command, look in COMMANDS.items():
        found[command] = cluster.reclaim.without(functools.partial(look_twice, peer, look),
                                                 functools.partial(look_until_known, peer, look))
        figure(f"RPCs and kernel requests of {command} of {files} files", found[command])
    return found


def test_looking_at_an_unchanged_tree_again_makes_no_rpc(cluster_with, figure):
    cluster = cluster_with(FILES)
    looks = look_twice_with_each(cluster, cluster.peers[0], FILES, figure)
    assert {command: sent for command, (sent, _) in looks.items()} == dict.fromkeys(COMMANDS, {})


def linux():
    return tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2])


def most(directories):
    """Requests at most, the second time. Reading has made atimes uncertain, and
    who opens something, a directory as well, asks for them if that was the first
    reading. ls asks once whether there are labels here. Each file that is opened
    is closed; git opens the one that says where the repository is."""
    opens = FILES_AT_ONCE + 1
    return {
        "ls -lR": {"getattr": directories, "getxattr": 1},
        "grep -r": {"getattr": directories + opens, "open": opens, "flush": opens, "release": opens},
        "git status": {"getattr": directories, "open": 1, "flush": 1, "release": 1},
    }


@pytest.mark.skipif(linux() < (6, 16), reason="the kernel keeps no names before 6.16")
def test_looking_at_an_unchanged_tree_again_asks_at_most_once_for_each_directory(cluster_with, figure):
    limits = most(FILES_AT_ONCE // PER_DIRECTORY + 1)
    cluster = cluster_with(FILES_AT_ONCE)
    for peer in cluster.peers[:2]:  # git has read all through the first
        for command, (_, asked) in look_twice_with_each(cluster, peer, FILES_AT_ONCE, figure).items():
            beyond = {kind: n for kind, n in asked.items() if n > limits[command].get(kind, 0)}
            assert beyond == {}, command


@pytest.mark.skipif(linux() < (6, 16), reason="the kernel keeps no names before 6.16")
def test_a_directory_that_was_changed_is_read_anew_and_then_kept(cluster_with):
    cluster = cluster_with(FILES_AT_ONCE)
    peer, other = cluster.peers[:2]

    def read():
        return COMMANDS["ls -lR"](peer.mount / "tree")

    def requests():
        """Of looks one after the other: the first asks for the atime of each
        directory, and the next for its ACLs anew, which the kernel forgets when it
        asks for attributes. More on a slow machine: what it has of a lease lasts
        but seconds."""
        return [spent(peer, read)[1] for _ in range(6)]

    for i in range(3):
        (other.mount / "tree" / "directory3" / f"more{i}").touch()
        assert f"more{i}" in read()
        assert {"getxattr": 1} in cluster.reclaim.without(requests, after=read)
