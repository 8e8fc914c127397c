"""What a mount has read once it has, until somebody changes it."""
import os

import pytest

from harness.env import need_program, size
from harness.procs import run
from test_counters import spent

FILES = size(600, 20_000, sanitized=150)
PER_DIRECTORY = 20

pytestmark = [pytest.mark.soak, pytest.mark.limit(120)]


def make_tree(mounts):
    """Directories with files in them, made by each of the mounts in turn, so
    that each peer is the home of a share. Older than any index of them."""
    (mounts[0] / "tree").mkdir()
    for number in range(FILES // PER_DIRECTORY):
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
def peer(make_cluster, tmp_path):
    """A peer of three, on whose mount is a tree that belongs to all."""
    need_program("git")
    cluster = make_cluster(3, transport="tcp,self")
    make_tree(cluster.mounts)
    commit_all(cluster.mounts[0] / "tree", tmp_path / "repository")
    return cluster.peers[0]


def look_twice(peer, figure):
    """{command: (RPCs sent, requests of the kernel)} the second time."""
    found = {}
    for command, look in COMMANDS.items():
        outputs = [look(peer.mount / "tree")]
        found[command] = spent(peer, lambda: outputs.append(look(peer.mount / "tree")))
        if outputs[0] != outputs[1]:
            pytest.fail(f"{command} says something else the second time")
        figure(f"RPCs and kernel requests of {command} of {FILES} files", found[command])
    return found


def test_looking_at_an_unchanged_tree_again_makes_no_rpc(peer, figure):
    assert {command: sent for command, (sent, _) in look_twice(peer, figure).items()} == dict.fromkeys(COMMANDS, {})
