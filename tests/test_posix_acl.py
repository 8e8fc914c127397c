"""POSIX ACLs: access, default and inherited."""
import os
import stat

import pytest

from harness.acl import ACCESS, DEFAULT, get_acl, pack, set_acl
from harness.env import need_root
from harness.procs import Actor, errno_of

pytestmark = [pytest.mark.core, pytest.mark.configs("one", "tcp3", "client")]
USER, GROUP = 61001, 61002
NAMED = f"u:6 user:{USER}:4 g:4 mask:4 o:0"


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def reachable(tree):
    """Lets other users walk to the tests' directory."""
    need_root("another user")
    for root in tree.roots:
        for path in [root, *root.parents][:-1]:
            if str(path).startswith("/tmp/") and mode(path) & 0o5 != 0o5:
                path.chmod(mode(path) | 0o5)


@pytest.fixture
def can(actor):
    """can(what, path, uid, gid, groups): may such a user do this?"""
    deeds = {"read": "os.close(os.open(p, os.O_RDONLY))", "write": "os.close(os.open(p, os.O_WRONLY))",
             "search": "os.stat(p + '/.')", "create": "os.close(os.open(p + '/made', os.O_CREAT | os.O_WRONLY))"}
    user = actor()

    def attempt(what, path, uid=USER, gid=USER, groups=()):
        user.do(f"os.setgroups({list(groups)}); os.setegid({gid}); os.seteuid({uid}); p = {os.fspath(path)!r}")
        problem = errno_of(user.do, deeds[what])
        user.do("os.seteuid(0); os.setegid(0); os.setgroups([])")
        assert problem in (None, "EACCES")
        return problem is None

    return attempt


def as_user(path, statements, groups=()):
    """Does something with a file p as its user; the name of the errno it meets."""
    user = Actor()
    try:
        user.do(f"os.setgroups({list(groups)}); os.setegid({USER}); os.seteuid({USER}); p = {os.fspath(path)!r}")
        return errno_of(user.do, statements)
    finally:
        user.end()


def with_umask(mask, call, *args):
    before = os.umask(mask)
    try:
        return call(*args)
    finally:
        os.umask(before)


def make(path, bits=0o666):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, bits))


# ---- the list and the mode ----

def test_an_access_acl_is_kept_and_seen_by_every_mount(tree):
    make(tree.turn("f"))
    set_acl(tree.turn("f"), NAMED)
    assert {get_acl(p) for p in tree.all("f")} == {NAMED}
    assert {mode(p) for p in tree.all("f")} == {0o640}
    set_acl(tree.turn("f"), f"u:7 user:{USER}:1 g:0 group:{GROUP}:2 mask:7 o:1")
    assert {mode(p) for p in tree.all("f")} == {0o771}


def test_an_acl_that_says_no_more_than_the_mode_becomes_the_mode(tree):
    make(tree.turn("f"))
    set_acl(tree.turn("f"), NAMED)
    set_acl(tree.turn("f"), "u:7 g:1 o:2")
    for path in tree.all("f"):
        assert (get_acl(path), mode(path)) == (None, 0o712)


def test_chmod_changes_the_mask(tree):
    make(tree.turn("f"))
    set_acl(tree.turn("f"), NAMED)
    tree.turn("f").chmod(0o571)
    assert {get_acl(p) for p in tree.all("f")} == {f"u:5 user:{USER}:4 g:4 mask:7 o:1"}
    assert mode(tree.turn("f")) == 0o571


def test_removing_an_acl_leaves_the_mode(tree):
    make(tree.turn("f"))
    set_acl(tree.turn("f"), NAMED)
    os.removexattr(tree.turn("f"), ACCESS)
    for path in tree.all("f"):
        assert (get_acl(path), mode(path)) == (None, 0o640)
        assert errno_of(os.getxattr, path, ACCESS) == "ENODATA"


def test_setting_an_acl_moves_ctime_alone(tree):
    make(tree.turn("f"))
    before = tree.turn("f").stat()
    set_acl(tree.turn("f"), NAMED)
    after = tree.turn("f").stat()
    assert after.st_ctime_ns > before.st_ctime_ns and after.st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("text", [f"u:6 user:{USER}:4 g:4 o:0", "u:6 o:0", "o:0 g:0 u:7", "u:9 g:0 o:0"])
def test_a_malformed_acl_is_refused(tree, text):
    make(tree.turn("f"), 0o600)
    assert errno_of(set_acl, tree.turn("f"), text) == "EINVAL"
    assert (get_acl(tree.turn("f")), mode(tree.turn("f"))) == (None, 0o600)


def test_default_acls_are_for_directories_and_none_are_for_symlinks(tree):
    here = tree.turn()
    make(here / "f")
    (here / "l").symlink_to("f")
    assert errno_of(set_acl, here / "f", NAMED, DEFAULT) == "EACCES"
    assert errno_of(os.setxattr, here / "l", ACCESS, pack(NAMED), 0, follow_symlinks=False) == "EOPNOTSUPP"


def test_acls_survive_a_restart(make_cluster):
    cluster = make_cluster(1)
    path = cluster.mounts[0] / "f"
    make(path)
    set_acl(path, NAMED)
    cluster.peers[0].kill()
    cluster.peers[0].start().wait_ready()
    assert (get_acl(path), mode(path)) == (NAMED, 0o640)


# ---- what they grant ----

def test_a_named_user_gets_what_the_acl_grants(tree, can):
    reachable(tree)
    make(tree.turn("f"), 0o600)
    assert not can("read", tree.turn("f"))
    set_acl(tree.turn("f"), NAMED)
    for path in tree.all("f"):
        assert can("read", path) and not can("write", path) and not can("read", path, uid=USER + 7)
    set_acl(tree.turn("f"), f"u:6 user:{USER}:0 g:4 mask:4 o:4")
    for path in tree.all("f"):
        assert not can("read", path) and can("read", path, uid=USER + 7)


def test_a_named_group_gets_what_the_acl_grants_within_the_mask(tree, can):
    reachable(tree)
    make(tree.turn("f"), 0o600)
    set_acl(tree.turn("f"), f"u:6 g:0 group:{GROUP}:6 mask:4 o:0")
    for path in tree.all("f"):
        assert can("read", path, groups=[GROUP]) and not can("write", path, groups=[GROUP]) and not can("read", path)


def test_chmod_takes_a_named_users_rights_away(tree, can):
    reachable(tree)
    make(tree.turn("f"))
    set_acl(tree.turn("f"), NAMED)
    assert all(can("read", p) for p in tree.all("f"))
    tree.turn("f").chmod(0o600)
    assert not any(can("read", p) for p in tree.all("f"))


def test_an_acl_of_a_directory_lets_a_user_search_and_create(tree, can):
    reachable(tree)
    tree.turn("d").mkdir(mode=0o700)
    assert not can("search", tree.turn("d"))
    set_acl(tree.turn("d"), f"u:7 user:{USER}:7 g:0 mask:7 o:0")
    assert can("search", tree.turn("d")) and can("create", tree.turn("d"))
    assert not can("search", tree.turn("d"), uid=USER + 1)


SET_NAMED = f"os.setxattr(p, {ACCESS!r}, bytes.fromhex({pack(NAMED).hex()!r}))"


def test_only_the_owner_sets_an_acl(tree):
    reachable(tree)
    make(tree.turn("f"), 0o666)
    assert as_user(tree.turn("f"), SET_NAMED) == "EPERM"


@pytest.mark.parametrize("change", ["os.chmod(p, 0o2755)", SET_NAMED], ids=["chmod", "acl"])
def test_setgid_goes_when_someone_outside_the_group_sets_the_mode_or_the_acl(tree, change):
    reachable(tree)
    path = tree.turn("f")
    make(path)
    os.chown(path, USER, GROUP)
    path.chmod(0o2755)
    assert as_user(path, change) is None
    assert not mode(path) & stat.S_ISGID


def test_setgid_stays_when_a_member_of_the_group_sets_them(tree):
    reachable(tree)
    path = tree.turn("f")
    make(path)
    os.chown(path, USER, GROUP)
    path.chmod(0o2755)
    assert as_user(path, f"{SET_NAMED}; os.chmod(p, 0o2750)", [GROUP]) is None
    assert mode(path) == 0o2750


# ---- inheritance ----

INHERITED = f"u:7 user:{USER}:7 g:7 mask:6 o:5"


def test_a_default_acl_takes_the_place_of_the_umask(tree):
    tree.turn("d").mkdir()
    set_acl(tree.turn("d"), INHERITED, DEFAULT)
    makers = {
        "f": lambda p: make(p, 0o664),
        "pipe": lambda p: os.mkfifo(p, 0o664),
        "node": lambda p: os.mknod(p, stat.S_IFSOCK | 0o664),
    }
    for name, maker in makers.items():
        with_umask(0o077, maker, tree.turn("d", name))
        for path in tree.all("d", name):
            assert get_acl(path) == f"u:6 user:{USER}:7 g:7 mask:6 o:4", name
            assert mode(path) == 0o664


def test_a_directory_inherits_both_and_hands_them_on(tree):
    tree.turn("d").mkdir()
    set_acl(tree.turn("d"), INHERITED, DEFAULT)
    for i, _ in enumerate(tree.roots):
        with_umask(0o077, os.mkdir, tree.at(i, "d", f"sub{i}"), 0o770)
        for path in tree.all("d", f"sub{i}"):
            assert get_acl(path, DEFAULT) == INHERITED
            assert get_acl(path) == f"u:7 user:{USER}:7 g:7 mask:6 o:0"
            assert mode(path) == 0o760
        make(tree.turn("d", f"sub{i}", "f"), 0o600)
        assert get_acl(tree.turn("d", f"sub{i}", "f")) == f"u:6 user:{USER}:7 g:7 mask:0 o:0"


def test_a_default_acl_without_names_sets_the_mode_alone(tree):
    tree.turn("d").mkdir()
    set_acl(tree.turn("d"), "u:7 g:5 o:0", DEFAULT)
    with_umask(0, make, tree.turn("d", "f"), 0o666)
    assert (get_acl(tree.turn("d", "f")), mode(tree.turn("d", "f"))) == (None, 0o640)
    with_umask(0, os.mkdir, tree.turn("d", "sub"), 0o777)
    assert get_acl(tree.turn("d", "sub"), DEFAULT) == "u:7 g:5 o:0" and mode(tree.turn("d", "sub")) == 0o750


def test_a_symlink_inherits_nothing(tree):
    here = tree.turn("d")
    here.mkdir()
    set_acl(here, INHERITED, DEFAULT)
    (here / "l").symlink_to("x")
    assert os.listxattr(here / "l", follow_symlinks=False) == []
    assert mode(here / "l") == 0o777


def test_a_file_without_a_name_inherits_too(tree):
    here = tree.turn("d")
    here.mkdir()
    set_acl(here, INHERITED, DEFAULT)
    fd = os.open(here, os.O_TMPFILE | os.O_RDWR, 0o660)
    os.link(f"/proc/self/fd/{fd}", here / "f", src_dir_fd=fd)
    os.close(fd)
    assert {get_acl(p) for p in tree.all("d", "f")} == {f"u:6 user:{USER}:7 g:7 mask:6 o:0"}


def test_a_default_acl_changed_on_one_mount_counts_on_the_others(tree):
    tree.turn("d").mkdir()
    for i, path in enumerate(tree.all("d")):
        set_acl(path, f"u:7 user:{USER + i}:7 g:7 mask:7 o:0", DEFAULT)
        make(tree.turn("d", f"f{i}"), 0o660)
        assert get_acl(tree.turn("d", f"f{i}")) == f"u:6 user:{USER + i}:7 g:7 mask:6 o:0"
    os.removexattr(tree.turn("d"), DEFAULT)
    with_umask(0o027, make, tree.turn("d", "plain"), 0o666)
    assert (get_acl(tree.turn("d", "plain")), mode(tree.turn("d", "plain"))) == (None, 0o640)


# ---- what they cost ----

@pytest.mark.configs("tcp3")
def test_looking_for_the_acl_of_a_file_that_has_none_asks_no_home(tree):
    for i in range(50):
        make(tree.at(0, f"f{i:02}"))
    peer = tree.cluster.peers[1]

    def asked():
        return sum(n for name, n in peer.counters().items() if name.startswith("rpc.") and "getxattr" in name)

    before = asked()
    for i in range(50):
        assert errno_of(os.getxattr, tree.at(1, f"f{i:02}"), ACCESS) == "ENODATA"
    assert asked() - before <= 5
    set_acl(tree.at(0, "f07"), NAMED)
    assert get_acl(tree.at(1, "f07")) == NAMED
