"""Names, listings, special files and attributes at their edges."""
import os
import socket
import stat

import pytest

from harness.env import need_root
from harness.posix import Listing
from harness.procs import errno_of

pytestmark = [pytest.mark.core, pytest.mark.configs("one", "tcp3", "client")]


# ---- listings ----

def test_a_place_in_a_listing_stays_while_another_mount_changes_names(tree):
    here, there = tree.at(0), tree.at(1)
    stay = {f"stay{i:03}" for i in range(300)}
    for name in stay:
        (here / name).touch()
    for i in range(300):
        (here / f"go{i:03}").touch()
    listing = Listing(here)
    first = [listing.read() for _ in range(150)]
    place = listing.tell()
    for i in range(300):
        (there / f"go{i:03}").unlink()
        (there / f"new{i:03}").touch()
    listing.seek(place)
    rest = listing.rest()
    seen = [name for name in first + rest if name in stay]
    assert sorted(seen) == sorted(stay)
    listing.seek(place)
    assert [n for n in listing.rest() if n in stay] == [n for n in rest if n in stay]
    listing.close()


def test_a_listing_begun_again_shows_what_is_there(tree):
    here = tree.at(0)
    (here / "a").touch()
    listing = Listing(here)
    assert listing.rest() == ["a"]
    (tree.at(1) / "b").touch()
    (tree.at(1) / "a").unlink()
    listing.rewind()
    assert listing.rest() == ["b"]
    listing.close()


# ---- names ----

@pytest.mark.parametrize("name", [b"\xff\xfe\x80", b"\xc3", b" ", b"\n\t\r", "ä".encode() * 127, b"..."])
def test_names_are_bytes(tree, name):
    for i, maker in enumerate((lambda p: os.close(os.open(p, os.O_CREAT)), os.mkdir)):
        path = os.path.join(os.fsencode(tree.turn()), name)
        maker(path)
        for root in tree.all():
            assert os.listdir(os.fsencode(root)) == [name]
        (os.rmdir if i else os.unlink)(os.path.join(os.fsencode(tree.turn()), name))


def test_a_name_of_256_bytes_is_refused_by_every_call(tree):
    here = tree.turn()
    long = here / ("n" * 256)
    (here / "f").touch()
    for call in (lambda: os.open(long, os.O_CREAT), lambda: os.mkdir(long), lambda: os.mkfifo(long), lambda: os.symlink("x", long),
                 lambda: os.link(here / "f", long), lambda: os.rename(here / "f", long), lambda: os.unlink(long),
                 lambda: os.stat(long), lambda: os.rmdir(long)):
        assert errno_of(call) == "ENAMETOOLONG"


# ---- special files ----

def test_special_files_are_of_their_kind_on_every_mount(tree):
    need_root("device nodes")
    here = tree.turn()
    os.mkfifo(here / "fifo", 0o600)
    os.mknod(here / "char", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(here / "block", stat.S_IFBLK | 0o600, os.makedev(259, 70_000))
    with socket.socket(socket.AF_UNIX) as s:
        os.chdir(here)
        s.bind("socket")
        os.chdir("/")
    for root in tree.all():
        kinds = {name: stat.S_IFMT(os.lstat(root / name).st_mode) for name in os.listdir(root)}
        assert kinds == {"fifo": stat.S_IFIFO, "char": stat.S_IFCHR, "block": stat.S_IFBLK, "socket": stat.S_IFSOCK}
        assert os.lstat(root / "char").st_rdev == os.makedev(1, 3)
        assert os.lstat(root / "block").st_rdev == os.makedev(259, 70_000)


def test_user_attributes_are_for_files_and_directories_alone(tree):
    here = tree.turn()
    os.mkfifo(here / "fifo")
    (here / "link").symlink_to("nowhere")
    for name in ("fifo", "link"):
        assert errno_of(os.setxattr, here / name, "user.x", b"1", 0, follow_symlinks=False) == "EPERM"
        assert errno_of(os.getxattr, here / name, "user.x", follow_symlinks=False) == "ENODATA"
        assert os.listxattr(here / name, follow_symlinks=False) == []
    if os.geteuid() == 0:
        os.setxattr(here / "link", "trusted.x", b"1", 0, follow_symlinks=False)
        assert os.getxattr(here / "link", "trusted.x", follow_symlinks=False) == b"1"


@pytest.mark.parametrize("name,problem", [("unknown.x", "EOPNOTSUPP"), ("system.other", "EOPNOTSUPP"), ("user.", "EINVAL"),
                                          ("user." + "n" * 251, "ERANGE")])
def test_attributes_of_no_namespace_are_refused(tree, name, problem):
    tree.turn("f").touch()
    assert errno_of(os.setxattr, tree.turn("f"), name, b"1") == problem


# ---- directories with special bits ----

def test_in_a_sticky_directory_only_owners_remove_and_rename(tree, actor):
    need_root("another user")
    here = tree.turn("d")
    here.mkdir()
    here.chmod(0o1777)
    for owner in (1001, 1002):
        (here / str(owner)).touch()
        os.chown(here / str(owner), owner, owner)
    user = actor()
    user.do(f"os.chdir({str(tree.turn('d'))!r}); os.setgroups([]); os.setegid(1001); os.seteuid(1001)")
    assert errno_of(user.do, "os.unlink('1002')") == "EPERM"
    assert errno_of(user.do, "os.rename('1002', 'x')") == "EPERM"
    assert errno_of(user.do, "os.rename('1001', '1002')") == "EPERM"
    user.do("os.rename('1001', 'mine'); os.unlink('mine')")
    assert os.listdir(tree.turn("d")) == ["1002"]


def test_special_files_in_a_setgid_directory_get_its_group(tree):
    need_root("chown")
    here = tree.turn("d")
    here.mkdir()
    os.chown(here, 0, 4321)
    here.chmod(0o2775)
    os.mkfifo(tree.turn("d", "p"))
    os.mkdir(tree.turn("d", "sub"), 0o755)
    os.mkdir(tree.turn("d", "sub", "sub"), 0o755)
    for path in (tree.turn("d", "p"), tree.turn("d", "sub"), tree.turn("d", "sub", "sub")):
        assert path.stat().st_gid == 4321
    assert tree.turn("d", "sub", "sub").stat().st_mode & stat.S_ISGID


@pytest.mark.parametrize("change", ["os.pwrite(fd, b'x', 0)", "os.ftruncate(fd, 3)", "posix.fallocate(fd, 0, 0, 10)",
                                    "os.copy_file_range(fd, fd, 2, 0, 4)"])
def test_a_program_that_another_user_changes_loses_setuid(tree, actor, change):
    need_root("another user")
    tree.turn().chmod(0o755)
    path = tree.turn("f")
    path.write_bytes(b"12345678")
    path.chmod(0o6777)
    user = actor()
    user.do(f"os.chdir({str(tree.turn())!r}); os.setgroups([]); os.setegid(1001); os.seteuid(1001); fd = os.open('f', os.O_RDWR)")
    user.do(change)
    assert {stat.S_IMODE(p.stat().st_mode) for p in tree.all("f")} == {0o777}
