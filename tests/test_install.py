"""What `meson install` puts where, and mount(8) finding it there; quickstart."""
import os
import shutil

import pytest

from harness.env import BENCHFS, SANITIZED, SOURCE, need_program, need_root
from harness.procs import run

pytestmark = pytest.mark.skipif(SANITIZED, reason="needs no sanitizers: says nothing about the program itself")


@pytest.fixture(scope="module")
def installed(program, tmp_path_factory):
    """A directory that stands for "/" of a machine with the program installed."""
    need_program("meson")
    build = BENCHFS.parent
    if not (build / "meson-info").exists():
        pytest.skip("needs the program in its build directory")
    root = tmp_path_factory.mktemp("installed")
    run("meson", "install", "-C", build, "--no-rebuild", "--destdir", root)
    return root


def found(root, name):
    return [os.path.join("/", os.path.relpath(os.path.join(top, f), root))
            for top, _, files in os.walk(root) for f in files if f == name]


@pytest.mark.parametrize("name,place", [
    ("benchfs", "/bin/"), ("benchfs.1", "/man/man1/"), ("mount.benchfs.8", "/man/man8/"), ("benchfs.conf.5", "/man/man5/"),
    ("mount.benchfs", "/sbin/"), ("mount.fuse.benchfs", "/sbin/"), ("benchfs", "bash-completion/completions/")])
def test_install_puts_the_file_in_its_place(installed, name, place):
    assert any(place in path for path in found(installed, name) + found(installed, name + ".gz")), found(installed, name)


SCRIPT = """
mount --make-rprivate /
for place in usr/local usr/sbin usr sbin; do
	test -d "$ROOT/$place" && test ! -L "/$place" && mount -t overlay overlay -o "lowerdir=$ROOT/$place:/$place" "/$place"
done
test -d "$ROOT/sbin" && test -L /sbin && mount -t overlay overlay -o "lowerdir=$ROOT/sbin:/usr/sbin" /usr/sbin
set -e
"""


def as_installed(root, tmp_path, script):
    """Runs a script where the installed tree lies over the machine's own, in a
    mount namespace of its own, with $M a mount point and $S a store."""
    need_root("mount namespaces")
    need_program("unshare", "mount")
    (tmp_path / "mnt").mkdir()
    probe = run("unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", "lowerdir=/usr/share:/usr/lib", "/mnt", check=False)
    if probe.returncode != 0:
        pytest.skip(f"needs mount namespaces and overlayfs: {probe.stderr.strip()}")
    env = {**os.environ, "ROOT": str(root), "M": str(tmp_path / "mnt"), "S": str(tmp_path / "store"), "T": str(tmp_path),
           "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return run("unshare", "--mount", "sh", "-c", SCRIPT + script, env=env).stdout


@pytest.mark.parametrize("kind", ["fuse.benchfs", "benchfs"])
def test_mount_t_mounts(installed, tmp_path, kind):
    out = as_installed(installed, tmp_path, f"""
mount -t {kind} -o store=$S,noatime none $M
echo in > $M/f
cat $M/f
grep " $M " /proc/mounts
benchfs umount $M
mount -t {kind} -o store=$S benchfs $M
cat $M/f
umount $M
""").splitlines()
    assert out[0] == "in" and out[-1] == "in"
    assert "fuse.benchfs" in out[1] and "noatime" in out[1]


def test_an_fstab_line_mounts(installed, tmp_path):
    (tmp_path / "fstab").write_text(f"none {tmp_path}/mnt fuse.benchfs defaults,_netdev,nofail,nodev,store={tmp_path}/store 0 0\n")
    out = as_installed(installed, tmp_path, """
mount -T $T/fstab $M
echo in > $M/f
cat $M/f
grep " $M " /proc/mounts
benchfs umount $M
mount -a -T $T/fstab
cat $M/f
benchfs umount $M
""").splitlines()
    assert out[0] == "in" and "nodev" in out[1] and out[-1] == "in"


def test_a_wrong_mount_option_is_named_by_mount(installed, tmp_path):
    out = as_installed(installed, tmp_path, """
if mount -t fuse.benchfs -o store=$S,colour=blue none $M 2> $T/err; then echo mounted; fi
cat $T/err
""")
    assert "colour" in out and "mounted" not in out


# ---- quickstart, where all is installed and built ----

@pytest.fixture
def quickstart(program, tmp_path):
    need_root("quickstart installs packages")
    need_program("ninja")
    for place in ("scripts", "build"):
        (tmp_path / place).mkdir()
    shutil.copy(SOURCE / "scripts" / "quickstart", tmp_path / "scripts")
    (tmp_path / "scripts" / "install-deps").write_text("#!/bin/sh\n")
    (tmp_path / "build" / "build.ninja").write_text("build benchfs: phony\n")
    (tmp_path / "build" / "benchfs").write_text(
        f"#!/bin/sh\ncommand=$1\nshift\n[ $command != mount ] || set -- --store {tmp_path}/store \"$@\"\n"
        f"exec {program} $command \"$@\"\n")
    for script in ("scripts/install-deps", "build/benchfs"):
        (tmp_path / script).chmod(0o755)
    return tmp_path / "scripts" / "quickstart"


@pytest.mark.parametrize("name", ["mnt", "mnt/", "a b"])
def test_quickstart_twice_leaves_the_first_mount(quickstart, program, tmp_path, name):
    mountpoint = f"{tmp_path}/{name}"
    try:
        assert "its store is" in run(quickstart, mountpoint).stdout
        again = run(quickstart, mountpoint).stdout
        assert "mounted" in again and "already" in again and "Hello from" in again
    finally:
        run(program, "umount", mountpoint)
