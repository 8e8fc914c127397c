"""fcntl, flock and OFD locks, on one mount and between mounts."""
import fcntl
import signal

import pytest

from harness.procs import errno_of

pytestmark = pytest.mark.core
BRIEF = 0.3  # long enough to tell a call that waits from one that returns


@pytest.fixture
def pair(tree, actor):
    """Two processes, each with the file "f" open as descriptor 3, through
    different mounts where there are several."""
    tree.turn("f").write_bytes(b"x" * 1000)
    made = []
    for path in (tree.at(0, "f"), tree.at(1, "f")):
        made.append(actor())
        assert made[-1](f"os.open({str(path)!r}, os.O_RDWR)") == 3
    return made


def lockf(how, length=0, start=0):
    return f"fcntl.lockf(3, {how}, {length}, {start})"


EX, SH, UN = "fcntl.LOCK_EX", "fcntl.LOCK_SH", "fcntl.LOCK_UN"
NB = "|fcntl.LOCK_NB"


def test_a_write_lock_keeps_others_out(pair):
    a, b = pair
    a(lockf(EX + NB))
    assert errno_of(b, lockf(EX + NB)) == "EAGAIN"
    assert errno_of(b, lockf(SH + NB)) == "EAGAIN"
    a(lockf(UN))
    b(lockf(EX + NB))


def test_read_locks_share(pair):
    a, b = pair
    a(lockf(SH + NB))
    b(lockf(SH + NB))
    assert errno_of(a, lockf(EX + NB)) == "EAGAIN"
    b(lockf(UN))
    a(lockf(EX + NB))


def test_ranges_are_independent(pair):
    a, b = pair
    a(lockf(EX + NB, 100, 0))
    b(lockf(EX + NB, 100, 100))
    assert errno_of(b, lockf(EX + NB, 1, 99)) == "EAGAIN"
    assert errno_of(a, lockf(EX + NB, 10, 150)) == "EAGAIN"


def test_unlocking_the_middle_splits_a_range(pair):
    a, b = pair
    a(lockf(EX + NB, 100, 0))
    a(lockf(UN, 20, 40))
    b(lockf(EX + NB, 20, 40))
    assert errno_of(b, lockf(EX + NB, 1, 39)) == "EAGAIN"
    assert errno_of(b, lockf(EX + NB, 1, 60)) == "EAGAIN"


def test_getlk_names_the_range_in_the_way(pair, tree):
    a, b = pair
    a(lockf(EX + NB, 50, 100))
    kind, start, length, pid = b("posix.getlk(3, fcntl.F_WRLCK, 0, 0)")
    assert (kind, start, length) == (fcntl.F_WRLCK, 100, 50)
    if tree.at(0) == tree.at(1):
        assert pid == a.pid
    assert b("posix.getlk(3, fcntl.F_WRLCK, 0, 100)")[0] == fcntl.F_UNLCK


def test_getlk_names_the_first_range_in_the_way(pair):
    a, b = pair
    for start in (20, 5, 40):
        a(f"fcntl.lockf(3, fcntl.LOCK_EX, 10, {start})")
    for start, first in ((0, 5), (15, 20), (30, 40)):
        assert b(f"posix.getlk(3, fcntl.F_WRLCK, {start}, 0)")[1] == first


def test_a_waiting_lock_comes_when_the_holder_unlocks(pair):
    a, b = pair
    a(lockf(EX))
    b.start(lockf(EX))
    assert not b.finished(BRIEF)
    a(lockf(UN))
    b.result()
    assert errno_of(a, lockf(SH + NB)) == "EAGAIN"


def test_waiters_queue_and_each_gets_its_turn(pair, tree, actor):
    a, _ = pair
    crowd = [actor() for _ in range(4)]
    for one, path in zip(crowd, [tree.turn("f") for _ in crowd]):
        one(f"os.open({str(path)!r}, os.O_RDWR)")
    a(lockf(EX))
    for one in crowd:
        one.start(f"[{lockf(EX)}, {lockf(UN)}] and None")
    a(lockf(UN))
    for one in crowd:
        one.result()


def test_a_lock_ends_with_its_process(pair):
    a, b = pair
    a(lockf(EX))
    b.start(lockf(EX))
    assert not b.finished(BRIEF)
    a.kill()
    b.result()


def test_closing_any_descriptor_drops_the_process_fcntl_locks(pair, tree):
    a, b = pair
    a(lockf(EX))
    a(f"os.close(os.open({str(tree.at(0, 'f'))!r}, os.O_RDONLY))")
    b(lockf(EX + NB))


def test_a_signal_interrupts_a_waiting_lock(pair):
    a, b = pair
    a(lockf(EX))
    b.do("def stop(*_): raise InterruptedError(4, 'stopped')")
    b("signal.signal(signal.SIGALRM, stop) and None")
    b.start(lockf(EX))
    assert not b.finished(BRIEF)
    b.kill(signal.SIGALRM)
    assert errno_of(b.result) == "EINTR"
    a(lockf(UN))
    a(lockf(EX + NB))


@pytest.mark.parametrize("kind", ["fcntl", "flock"])
def test_a_waiting_process_dies_with_its_signal_and_leaves_no_lock(pair, kind):
    a, b = pair
    take = lockf(EX) if kind == "fcntl" else f"fcntl.flock(3, {EX})"
    give = lockf(UN) if kind == "fcntl" else f"fcntl.flock(3, {UN})"
    a(take)
    b.start(take)
    assert not b.finished(BRIEF)
    b.kill(signal.SIGKILL)
    b.proc.wait(20)
    a(give)
    a(take)


def test_fcntl_deadlock_is_edeadlk(pair):
    a, b = pair
    a(lockf(EX, 1, 0))
    b(lockf(EX, 1, 1))
    a.start(lockf(EX, 1, 1))
    assert not a.finished(BRIEF)
    assert errno_of(b, lockf(EX, 1, 0)) == "EDEADLK"
    b(lockf(UN, 1, 1))
    a.result()


def test_flock_keeps_others_out_and_waits(pair):
    a, b = pair
    a(f"fcntl.flock(3, {EX})")
    assert errno_of(b, f"fcntl.flock(3, {SH}{NB})") == "EAGAIN"
    b.start(f"fcntl.flock(3, {EX})")
    assert not b.finished(BRIEF)
    a(f"fcntl.flock(3, {UN})")
    b.result()


def test_flock_shares_and_upgrades(pair):
    a, b = pair
    a(f"fcntl.flock(3, {SH})")
    b(f"fcntl.flock(3, {SH}{NB})")
    assert errno_of(a, f"fcntl.flock(3, {EX}{NB})") == "EAGAIN"
    b(f"fcntl.flock(3, {UN})")
    a(f"fcntl.flock(3, {EX}{NB})")


def test_flock_ends_with_its_last_descriptor(pair):
    a, b = pair
    a("os.dup(3)")
    a(f"fcntl.flock(3, {EX})")
    a("os.close(3)")
    assert errno_of(b, f"fcntl.flock(3, {EX}{NB})") == "EAGAIN"
    a("os.close(4)")
    b.start(f"fcntl.flock(3, {EX})")
    b.result()


def test_flock_and_fcntl_do_not_meet(pair):
    a, b = pair
    a(f"fcntl.flock(3, {EX})")
    b(lockf(EX + NB))


def test_ofd_locks_belong_to_the_descriptor(pair, tree):
    a, b = pair
    a("posix.ofd_lock(3, fcntl.F_WRLCK, 0, 10)")
    assert errno_of(b, "posix.ofd_lock(3, fcntl.F_WRLCK, 5, 10)") == "EAGAIN"
    assert a(f"os.open({str(tree.at(0, 'f'))!r}, os.O_RDWR)") == 4
    assert errno_of(a, "posix.ofd_lock(4, fcntl.F_WRLCK, 0, 10)") == "EAGAIN"
    a("os.close(3)")
    b.start("posix.ofd_lock(3, fcntl.F_WRLCK, 5, 10, True)")
    b.result()


def test_a_counter_under_a_lock_loses_no_increment(pair, tree, actor):
    tree.turn("n").write_text("0" * 8)
    crowd = [actor() for _ in range(3)]
    for one in crowd:
        path = str(tree.turn("n"))
        one.do("def bump():\n"
               f"  fd = os.open({path!r}, os.O_RDWR)\n"
               "  for _ in range(30):\n"
               "    fcntl.lockf(fd, fcntl.LOCK_EX)\n"
               "    n = int(os.pread(fd, 8, 0)) + 1\n"
               "    os.pwrite(fd, b'%08d' % n, 0)\n"
               "    fcntl.lockf(fd, fcntl.LOCK_UN)\n")
        one.start("bump()")
    for one in crowd:
        one.result()
    assert int(tree.turn("n").read_text()) == 90
