"""Locks of three processes on three mounts."""
import fcntl
import signal

import pytest

from harness.procs import errno_of

pytestmark = pytest.mark.core
BRIEF = 0.3  # long enough to tell a call that waits from one that returns


def lock(start, how="fcntl.LOCK_EX"):
    return f"fcntl.lockf(3, {how}, 1, {start})"


@pytest.fixture
def three(tree, actor):
    """Processes with the file "f" open as descriptor 3, each on another mount."""
    tree.turn("f").write_bytes(b"x" * 100)
    crowd = [actor() for _ in range(3)]
    for i, one in enumerate(crowd):
        assert one(f"os.open({str(tree.at(i, 'f'))!r}, os.O_RDWR)") == 3
    return crowd


def test_a_circle_of_three_is_a_deadlock(three):
    a, b, c = three
    for i, one in enumerate(three):
        one(lock(i))
    a.start(lock(1))
    assert not a.finished(BRIEF)
    b.start(lock(2))
    assert not b.finished(BRIEF)
    assert errno_of(c, lock(0)) == "EDEADLK"
    c(lock(2, "fcntl.LOCK_UN"))
    b.result()
    b(lock(1, "fcntl.LOCK_UN"))
    a.result()


@pytest.mark.parametrize("take", ["fcntl.flock(3, fcntl.LOCK_EX)", "posix.ofd_lock(3, fcntl.F_WRLCK, 0, 10, True)"])
def test_a_signal_ends_the_wait_for_a_lock(three, take):
    a, b, c = three
    a(take)
    b.do("def stop(*_): raise InterruptedError(4, 'stopped')")
    b("signal.signal(signal.SIGALRM, stop) and None")
    b.start(take)
    assert not b.finished(BRIEF)
    b.kill(signal.SIGALRM)
    assert errno_of(b.result) == "EINTR"
    c.start(take)
    assert not c.finished(BRIEF)
    a("os.close(3)")
    c.result()


def test_a_killed_process_gives_up_all_kinds_of_locks(three):
    a, b, c = three
    a(lock(0))
    a("posix.ofd_lock(3, fcntl.F_WRLCK, 10, 10)")
    a("fcntl.flock(3, fcntl.LOCK_EX)")
    b.start(lock(0))
    c.start("fcntl.flock(3, fcntl.LOCK_EX)")
    assert not b.finished(BRIEF) and not c.finished(0)
    a.kill()
    b.result()
    c.result()
    b("posix.ofd_lock(3, fcntl.F_WRLCK, 10, 10, True)")


def test_readers_wait_for_a_writer_and_come_together(three):
    a, b, c = three
    a(lock(0))
    for one in (b, c):
        one.start(lock(0, "fcntl.LOCK_SH"))
    assert not b.finished(BRIEF) and not c.finished(0)
    a(lock(0, "fcntl.LOCK_UN"))
    for one in (b, c):
        one.result()
    assert a("posix.getlk(3, fcntl.F_WRLCK, 0, 1)")[0] == fcntl.F_RDLCK
