"""Extended attributes, the system's and the user's."""
import os

import pytest

from harness.env import need_root
from harness.procs import errno_of

pytestmark = pytest.mark.core


def test_values_are_kept_and_seen_by_every_mount(tree):
    tree.turn("f").touch()
    tree.turn("d").mkdir()
    for name in ("f", "d"):
        os.setxattr(tree.turn(name), "user.one", b"1")
        os.setxattr(tree.turn(name), "user.binary", bytes(range(256)))
        os.setxattr(tree.turn(name), "user.empty", b"")
        for path in tree.all(name):
            assert os.getxattr(path, "user.one") == b"1"
            assert os.getxattr(path, "user.binary") == bytes(range(256))
            assert os.getxattr(path, "user.empty") == b""
            assert {"user.one", "user.binary", "user.empty"} <= set(os.listxattr(path))


def test_a_value_can_be_replaced_and_removed(tree):
    tree.turn("f").touch()
    os.setxattr(tree.turn("f"), "user.x", b"old")
    os.setxattr(tree.turn("f"), "user.x", b"new and longer")
    assert os.getxattr(tree.turn("f"), "user.x") == b"new and longer"
    os.removexattr(tree.turn("f"), "user.x")
    for path in tree.all("f"):
        assert errno_of(os.getxattr, path, "user.x") == "ENODATA"
        assert "user.x" not in os.listxattr(path)
    assert errno_of(os.removexattr, tree.turn("f"), "user.x") == "ENODATA"


def test_labels_are_kept_but_where_there_is_none_they_are_not_known(tree):
    """Upon which ls asks for no more of them."""
    need_root("security.*")
    tree.turn("f").touch()
    for path in tree.all("f"):
        assert errno_of(os.getxattr, path, "security.selinux") == "EOPNOTSUPP"
        assert errno_of(os.getxattr, path, "security.other") == "ENODATA"
    os.setxattr(tree.turn("f"), "user.x", b"1")
    assert {errno_of(os.getxattr, path, "security.selinux") for path in tree.all("f")} == {"EOPNOTSUPP"}
    os.setxattr(tree.turn("f"), "security.selinux", b"label")
    for path in tree.all("f"):
        assert os.getxattr(path, "security.selinux") == b"label"
        assert "security.selinux" in os.listxattr(path)
    os.removexattr(tree.turn("f"), "security.selinux")
    assert not any("security.selinux" in os.listxattr(path) for path in tree.all("f"))


def test_create_and_replace_flags(tree):
    tree.turn("f").touch()
    assert errno_of(os.setxattr, tree.turn("f"), "user.x", b"1", os.XATTR_REPLACE) == "ENODATA"
    os.setxattr(tree.turn("f"), "user.x", b"1", os.XATTR_CREATE)
    assert errno_of(os.setxattr, tree.turn("f"), "user.x", b"2", os.XATTR_CREATE) == "EEXIST"
    os.setxattr(tree.turn("f"), "user.x", b"3", os.XATTR_REPLACE)
    assert os.getxattr(tree.turn("f"), "user.x") == b"3"


def test_limits_are_those_of_linux(tree):
    tree.turn("f").touch()
    name = "user." + "n" * 250
    os.setxattr(tree.turn("f"), name, b"v")
    assert os.getxattr(tree.turn("f"), name) == b"v"
    assert errno_of(os.setxattr, tree.turn("f"), name + "n", b"v") == "ERANGE"
    big = os.urandom(65536)
    os.setxattr(tree.turn("f"), "user.big", big)
    assert all(os.getxattr(p, "user.big") == big for p in tree.all("f"))
    assert errno_of(os.setxattr, tree.turn("f"), "user.big", big + b"x") == "E2BIG"


def test_many_values_on_one_file(tree):
    tree.turn("f").touch()
    for i in range(300):
        os.setxattr(tree.turn("f"), f"user.number-{i:03}", b"%d" % i * 10)
    for path in tree.all("f"):
        assert {n for n in os.listxattr(path) if n.startswith("user.")} == {f"user.number-{i:03}" for i in range(300)}
    assert os.getxattr(tree.turn("f"), "user.number-123") == b"123" * 10


def test_a_list_longer_than_64_kib_is_refused_and_never_short(tree):
    tree.turn("f").touch()
    made = 0
    for i in range(300):
        if errno_of(os.setxattr, tree.turn("f"), f"user.{i:03}" + "n" * 240, b"") in ("ENOSPC", "E2BIG"):
            break
        made += 1
    names = []
    problem = errno_of(lambda: names.extend(os.listxattr(tree.turn("f"))))
    assert problem == "E2BIG" or len(names) >= made


def test_values_follow_a_rename_and_die_with_the_file(tree):
    here = tree.turn()
    (here / "a").touch()
    os.setxattr(here / "a", "user.x", b"1")
    os.rename(here / "a", here / "b")
    assert os.getxattr(tree.turn("b"), "user.x") == b"1"
    tree.turn("b").unlink()
    tree.turn("b").touch()
    assert errno_of(os.getxattr, tree.turn("b"), "user.x") == "ENODATA"


def test_trusted_and_security_names_work_for_root(tree):
    need_root("trusted.* attributes")
    tree.turn("f").touch()
    os.setxattr(tree.turn("f"), "trusted.t", b"1")
    os.setxattr(tree.turn("f"), "security.s", b"2")
    assert os.getxattr(tree.turn("f"), "trusted.t") == b"1"
    assert os.getxattr(tree.turn("f"), "security.s") == b"2"


def test_trusted_names_are_listed_to_root_alone(tree, actor):
    need_root("trusted.* attributes")
    tree.turn("f").touch()
    for name in ("trusted.a", "user.b", "trusted.c", "user.d"):
        os.setxattr(tree.turn("f"), name, b"1")
    assert set(os.listxattr(tree.turn("f"))) == {"trusted.a", "user.b", "trusted.c", "user.d"}
    nobody = actor()
    nobody.do(f"os.chdir({os.fspath(tree.turn())!r}); os.seteuid(65534)")
    assert set(nobody("os.listxattr('f')")) == {"user.b", "user.d"}


def test_the_policy_of_a_directory_is_inherited(tree):
    tree.turn("d").mkdir()
    assert os.getxattr(tree.turn("d"), "benchfs.policy") == b"local"
    os.setxattr(tree.turn("d"), "benchfs.policy", b"stripe")
    os.setxattr(tree.turn("d"), "benchfs.chunk_size", b"1048576")
    tree.turn("d", "sub").mkdir()
    for path in (*tree.all("d"), *tree.all("d", "sub")):
        assert os.getxattr(path, "benchfs.policy") == b"stripe"
        assert os.getxattr(path, "benchfs.chunk_size") == b"1048576"


@pytest.mark.parametrize("name,value", [("benchfs.policy", b"sideways"), ("benchfs.policy", b""),
                                        ("benchfs.chunk_size", b"1000"), ("benchfs.chunk_size", b"0"),
                                        ("benchfs.chunk_size", b"4 apples"), ("benchfs.chunk_size", b"-4096")])
def test_wrong_settings_of_a_directory_are_einval(tree, name, value):
    tree.turn("d").mkdir()
    before = os.getxattr(tree.turn("d"), name)
    assert errno_of(os.setxattr, tree.turn("d"), name, value) == "EINVAL"
    assert os.getxattr(tree.turn("d"), name) == before


def test_what_the_system_tells_cannot_be_written(tree):
    tree.turn("f").write_bytes(b"x")
    assert os.getxattr(tree.turn("f"), "benchfs.info")
    assert errno_of(os.setxattr, tree.turn("f"), "benchfs.info", b"x") in ("EPERM", "EACCES", "EOPNOTSUPP", "EINVAL")
    root = tree.cluster.mounts[0]
    for name in ("benchfs.status", "benchfs.counters"):
        assert os.getxattr(root, name)
        assert errno_of(os.setxattr, root, name, b"x") in ("EPERM", "EACCES", "EOPNOTSUPP", "EINVAL")


@pytest.mark.parametrize("name, error", [("user.", "EINVAL"), ("trusted.", "EINVAL"), ("security.", "EINVAL"),
                                         ("system.posix_acl_", "EOPNOTSUPP"), ("system.posix_acl_x", "EOPNOTSUPP")])
def test_a_prefix_alone_names_no_attribute(tree, name, error):
    if name in ("trusted.", "security."):
        need_root("setting them")
    tree.turn("f").touch()
    for path in tree.all("f"):
        os.stat(path)
        assert errno_of(os.getxattr, path, name) == error
        assert errno_of(os.setxattr, path, name, b"1") == error
        assert errno_of(os.removexattr, path, name) == error
