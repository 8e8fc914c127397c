"""Attributes: modes, owners, times, access checks, space."""
import os
import stat
import subprocess
import time

import pytest

from harness.env import need_root
from harness.procs import errno_of, run

pytestmark = pytest.mark.core
NS = 1_000_000_000


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def as_nobody(*argv):
    need_root("another user")
    return subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *map(str, argv)],
                          capture_output=True, text=True, timeout=60)


def reachable(tree):
    """Lets other users walk to the tests' directory; only where root runs them."""
    need_root("another user")
    for path in [*tree.turn().parents][:-1]:
        if not str(path).startswith("/tmp/") or mode(path) & 0o5 == 0o5:
            continue
        path.chmod(mode(path) | 0o5)


def test_chmod_is_seen_by_every_mount(tree):
    tree.turn("f").touch()
    for bits in (0o000, 0o755, 0o1644, 0o4755, 0o2710, 0o7777):
        tree.turn("f").chmod(bits)
        assert all(mode(p) == bits for p in tree.all("f"))


def test_the_umask_cuts_the_mode_of_what_is_made(tree):
    before = os.umask(0o027)
    try:
        os.close(os.open(tree.turn("f"), os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(tree.turn("d"), 0o777)
        os.mkfifo(tree.turn("p"), 0o666)
    finally:
        os.umask(before)
    assert (mode(tree.turn("f")), mode(tree.turn("d")), mode(tree.turn("p"))) == (0o640, 0o750, 0o640)


def test_chown_sets_owner_and_group(tree):
    need_root("chown")
    tree.turn("f").touch()
    os.chown(tree.turn("f"), 1234, 5678)
    for path in tree.all("f"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)
    os.chown(tree.turn("f"), -1, 9)
    assert (tree.turn("f").stat().st_uid, tree.turn("f").stat().st_gid) == (1234, 9)
    tree.turn("l").symlink_to("f")
    os.lchown(tree.turn("l"), 4_000_000_000, 2)
    assert os.lstat(tree.turn("l")).st_uid == 4_000_000_000
    assert tree.turn("f").stat().st_uid == 1234


def test_files_belong_to_who_makes_them(tree):
    reachable(tree)
    tree.turn().chmod(0o777)
    assert as_nobody("touch", tree.turn("f")).returncode == 0
    assert as_nobody("mkdir", tree.turn("d")).returncode == 0
    for path in (*tree.all("f"), *tree.all("d")):
        assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


def test_modes_keep_other_users_out(tree):
    reachable(tree)
    tree.turn().chmod(0o755)
    tree.turn("f").write_text("secret")
    tree.turn("f").chmod(0o600)
    tree.turn("g").write_text("public")
    tree.turn("g").chmod(0o644)
    assert "Permission denied" in as_nobody("cat", tree.turn("f")).stderr
    assert as_nobody("cat", tree.turn("g")).stdout == "public"
    assert "Permission denied" in as_nobody("touch", tree.turn("new")).stderr
    assert as_nobody("chmod", "777", tree.turn("g")).returncode != 0
    assert as_nobody("rm", "-f", tree.turn("g")).returncode != 0


def test_the_sticky_bit_protects_other_peoples_names(tree):
    reachable(tree)
    tree.turn().chmod(0o1777)
    tree.turn("f").touch()
    assert as_nobody("rm", "-f", tree.turn("f")).returncode != 0
    assert as_nobody("mv", tree.turn("f"), tree.turn("g")).returncode != 0
    assert tree.turn("f").exists()


@pytest.mark.parametrize("length", [10, 100_000])
def test_a_write_by_another_user_clears_setuid_and_setgid(tree, length):
    reachable(tree)
    tree.turn().chmod(0o755)
    tree.turn("f").write_bytes(b"x" * length)
    tree.turn("f").chmod(0o6777)
    assert as_nobody("dd", f"of={tree.turn('f')}", "if=/dev/zero", "bs=10", "count=1", "conv=notrunc").returncode == 0
    for path in tree.all("f"):
        assert mode(path) == 0o777


def test_truncation_by_another_user_clears_setuid(tree):
    reachable(tree)
    tree.turn("f").write_bytes(b"x" * 100)
    tree.turn("f").chmod(0o4777)
    assert as_nobody("truncate", "-s", "5", tree.turn("f")).returncode == 0
    assert mode(tree.turn("f")) == 0o777


def test_chown_clears_setuid_and_setgid(tree):
    need_root("chown")
    tree.turn("f").touch()
    tree.turn("f").chmod(0o6755)
    os.chown(tree.turn("f"), 1, 1)
    assert mode(tree.turn("f")) == 0o755


def test_chown_to_nobody_new_clears_setuid_and_setgid(tree):
    tree.turn("f").touch()
    tree.turn("f").chmod(0o6711)
    before = tree.turn("f").stat().st_ctime_ns
    os.chown(tree.turn("f"), -1, -1)
    for path in tree.all("f"):
        assert mode(path) == 0o711
        assert path.stat().st_ctime_ns > before
    tree.turn("d").mkdir()
    tree.turn("d").chmod(0o6711)
    os.chown(tree.turn("d"), -1, -1)
    assert mode(tree.turn("d")) == 0o6711


def test_a_setgid_directory_hands_down_its_group(tree):
    need_root("chown")
    tree.turn("d").mkdir()
    os.chown(tree.turn("d"), 0, 4321)
    tree.turn("d").chmod(0o2775)
    tree.turn("d", "f").touch()
    tree.turn("d", "sub").mkdir()
    tree.turn("d", "l").symlink_to("x")
    assert tree.turn("d", "f").stat().st_gid == 4321
    assert os.lstat(tree.turn("d", "l")).st_gid == 4321
    assert tree.turn("d", "sub").stat().st_gid == 4321
    assert mode(tree.turn("d", "sub")) & stat.S_ISGID


# ---- times ----

def test_utimensat_sets_nanoseconds(tree):
    tree.turn("f").touch()
    for atime, mtime in ((1, 2), (1_700_000_000 * NS + 123_456_789, 5 * NS + 1), (-3 * NS, 8_000_000_000 * NS + 7)):
        os.utime(tree.turn("f"), ns=(atime, mtime))
        for path in tree.all("f"):
            assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (atime, mtime)


def test_utime_now_is_now(tree):
    tree.turn("f").touch()
    os.utime(tree.turn("f"), ns=(0, 0))
    before = time.time_ns() - NS
    os.utime(tree.turn("f"))
    info = tree.turn("f").stat()
    assert before <= info.st_mtime_ns <= time.time_ns() + NS and before <= info.st_atime_ns


def test_utime_of_a_symlink_leaves_its_target_alone(tree):
    tree.turn("f").touch()
    tree.turn("l").symlink_to("f")
    os.utime(tree.turn("l"), ns=(5, 6), follow_symlinks=False)
    assert os.lstat(tree.turn("l")).st_mtime_ns == 6
    assert tree.turn("f").stat().st_mtime_ns != 6


def test_mtime_and_ctime_rise_with_every_write(tree):
    tree.turn("f").touch()
    last = tree.turn("f").stat()
    for i in range(20):
        with open(tree.turn("f"), "r+b") as f:
            f.write(b"%d" % i)
        now = tree.turn("f").stat()
        assert now.st_mtime_ns > last.st_mtime_ns and now.st_ctime_ns > last.st_ctime_ns
        last = now


def test_changes_move_ctime_but_not_mtime(tree):
    here = tree.turn()
    (here / "f").touch()
    for change in (lambda: (here / "f").chmod(0o600), lambda: os.link(here / "f", here / "l"),
                   lambda: os.setxattr(here / "f", "user.x", b"y"), lambda: os.rename(here / "f", here / "f2") or os.rename(here / "f2", here / "f")):
        before = (here / "f").stat()
        change()
        after = tree.turn("f").stat()
        assert after.st_mtime_ns == before.st_mtime_ns and after.st_ctime_ns > before.st_ctime_ns


def test_names_move_the_times_of_their_directory(tree):
    here = tree.turn("d")
    here.mkdir()
    for change in (lambda: (here / "f").touch(), lambda: (here / "s").mkdir(), lambda: os.rename(here / "f", here / "g"),
                   lambda: os.link(here / "g", here / "h"), lambda: (here / "s").rmdir(), lambda: (here / "h").unlink()):
        before = here.stat()
        change()
        after = tree.turn("d").stat()
        assert after.st_mtime_ns > before.st_mtime_ns and after.st_ctime_ns > before.st_ctime_ns


def test_a_read_does_not_move_mtime(tree):
    tree.turn("f").write_text("x")
    before = tree.turn("f").stat()
    tree.turn("f").read_text()
    after = tree.turn("f").stat()
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


# ---- space ----

def test_blocks_tell_what_a_file_takes(tree):
    tree.turn("f").write_bytes(b"x" * 3_000_000)
    for path in tree.all("f"):
        assert 3_000_000 <= path.stat().st_blocks * 512 <= 3_300_000
    os.truncate(tree.turn("f"), 0)
    assert tree.turn("f").stat().st_blocks <= 8


def test_block_size_is_sensible(tree):
    tree.turn("f").touch()
    assert 4096 <= tree.turn("f").stat().st_blksize <= 16 << 20


def test_statfs_adds_up_the_peers(tree):
    info = os.statvfs(tree.turn())
    stores = [p.store for p in tree.cluster.peers if p.store]
    below = os.statvfs(stores[0])
    total = info.f_blocks * info.f_frsize
    assert abs(total - len(stores) * below.f_blocks * below.f_frsize) < total // 50
    assert 0 < info.f_bavail <= info.f_bfree <= info.f_blocks
    assert info.f_namemax == 255 and info.f_files > info.f_ffree > 0
    assert all(os.statvfs(p).f_blocks == info.f_blocks for p in tree.all())
    assert "benchfs" in run("df", "--output=fstype", tree.turn()).stdout


def test_access_answers_for_the_caller(tree):
    tree.turn("f").touch()
    tree.turn("f").chmod(0o644)
    assert os.access(tree.turn("f"), os.R_OK | os.W_OK)
    assert not os.access(tree.turn("f"), os.X_OK)
    assert not os.access(tree.turn("no"), os.F_OK)


def test_a_program_on_the_mount_can_be_run(tree):
    tree.turn("prog").write_text("#!/bin/sh\necho ran\n")
    assert errno_of(os.execv, tree.turn("prog"), ["prog"]) == "EACCES"
    tree.turn("prog").chmod(0o755)
    assert run(tree.turn("prog")).stdout == "ran\n"
    run("cp", "/bin/true", tree.turn("true"))
    run(tree.turn("true"))
