"""Locks of mounts whose home is killed, or stopped, and started again: what is
held stays held, what is given up meanwhile is free, and who waits gets it."""
import fcntl
import os
import struct
import time

import pytest

from harness import env, store
from harness.env import BENCHFS, patience
from harness.procs import errno_of, eventually, run

pytestmark = pytest.mark.limit(120)
SESSION = 15  # seconds after which a mount that stays away loses its locks
SOON = 8      # in which mounts are back at a home that is back
BRIEF = 0.3
ROUNDS = env.size(400, 5000, sanitized=100)

TAKE = {
    "fcntl": "fcntl.lockf(3, fcntl.LOCK_EX{})",
    "flock": "fcntl.flock(3, fcntl.LOCK_EX{})",
    "ofd": "posix.ofd_lock(3, fcntl.F_WRLCK, 0, 0, {})",
}
GIVE = {
    "fcntl": "fcntl.lockf(3, fcntl.LOCK_UN)",
    "flock": "fcntl.flock(3, fcntl.LOCK_UN)",
    "ofd": "posix.ofd_lock(3, fcntl.F_UNLCK, 0, 0)",
}
KINDS = list(TAKE)


def take(kind, wait=False):
    if kind == "ofd":
        return TAKE[kind].format(wait)
    return TAKE[kind].format("" if wait else "|fcntl.LOCK_NB")


def part(how, start, length):
    return f"fcntl.lockf(3, fcntl.{how}, {length}, {start})"


class Story:
    """Three peers; the file's home is peer 1, and the processes use the mounts
    of the other two, holders that of peer 0, which has the root, and rivals
    that of peer 2."""

    def __init__(self, cluster, actor):
        self.cluster, self._actor = cluster, actor
        self.other, self.home, _ = cluster.peers
        directory = self.home.mount / "d"
        directory.mkdir()
        (directory / "f").write_bytes(b"x" * 1000)

    def _process(self, mount):
        one = self._actor()
        assert one(f"os.open({str(self.cluster.mounts[mount] / 'd' / 'f')!r}, os.O_RDWR)") == 3
        return one

    def holder(self):
        return self._process(0)

    def rival(self):
        return self._process(2)

    def restart(self):
        self.home.kill()
        self.back()

    def back(self):
        self.home.start().wait_ready()

    def locks(self):
        """How many ranges the home holds."""
        return self.home.counters()["lock.held"]

    def owed(self):
        """How many releases the holders' mount has still to tell."""
        return self.other.counters()["fuse.lock_releases_owed"]


@pytest.fixture
def story(make_cluster, actor):
    return Story(make_cluster(3, transport="tcp,self"), actor)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_is_held_over_the_death_of_its_home_until_it_is_given_up(story, kind):
    holder, rival = story.holder(), story.rival()
    holder(take(kind))
    story.restart()
    assert errno_of(rival, take(kind)) == "EAGAIN"
    holder(GIVE[kind])
    rival(take(kind))
    # And once more: a lock that was loaded is one like any other.
    story.restart()
    assert errno_of(holder, take(kind)) == "EAGAIN"


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_that_was_given_up_does_not_come_back(story, kind):
    holder, rival = story.holder(), story.rival()
    holder(take(kind))
    holder(GIVE[kind])
    story.restart()
    rival(take(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_is_held_over_a_restart_of_its_home(story, kind):
    holder, rival = story.holder(), story.rival()
    holder(take(kind))
    assert story.home.stop() == []
    story.back()
    assert errno_of(rival, take(kind)) == "EAGAIN"
    holder(GIVE[kind])
    rival(take(kind))


def test_ranges_are_held_as_they_were(story):
    holder, other, rival = story.holder(), story.rival(), story.rival()
    holder(part("LOCK_EX", 0, 100))
    holder(part("LOCK_UN", 40, 20))
    holder(part("LOCK_SH", 200, 50))
    other(part("LOCK_SH", 220, 80))
    holder(part("LOCK_EX", 400, 10))
    holder(part("LOCK_EX", 410, 10))
    holder(part("LOCK_SH", 405, 5))
    held = story.locks()
    story.restart()
    assert story.locks() == held
    expect = [(fcntl.F_WRLCK, 0, 40), (fcntl.F_WRLCK, 60, 40), (fcntl.F_RDLCK, 220, 80),
              (fcntl.F_WRLCK, 400, 5), (fcntl.F_RDLCK, 405, 5), (fcntl.F_WRLCK, 410, 10)]
    assert tuple(other("posix.getlk(3, fcntl.F_WRLCK, 200, 100)")[:3]) == (fcntl.F_RDLCK, 200, 50)
    for kind, start, length in expect:
        # Asked with its last byte, which is no other's.
        assert tuple(rival(f"posix.getlk(3, fcntl.F_WRLCK, {start + length - 1}, 1)")[:3]) == (kind, start, length)
    for how, start, length in (("LOCK_EX", 40, 20), ("LOCK_EX", 100, 100), ("LOCK_SH", 200, 100), ("LOCK_SH", 405, 5),
                               ("LOCK_EX", 420, 0)):
        rival(part(how + "|fcntl.LOCK_NB", start, length))
    for how, start in (("LOCK_SH", 39), ("LOCK_SH", 60), ("LOCK_EX", 200), ("LOCK_EX", 299), ("LOCK_EX", 405), ("LOCK_SH", 410)):
        assert errno_of(rival, part(how + "|fcntl.LOCK_NB", start, 1)) == "EAGAIN"


@pytest.mark.parametrize("kind", KINDS)
def test_who_waits_gets_the_lock_after_its_home_was_killed(story, kind):
    holder, rival = story.holder(), story.rival()
    holder(take(kind))
    rival.start(take(kind, wait=True))
    assert not rival.finished(BRIEF)
    story.restart()
    assert not rival.finished(3)
    holder(GIVE[kind])
    rival.result()
    assert errno_of(holder, take(kind)) == "EAGAIN"


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_ever_have_the_lock_while_its_home_dies_again_and_again(story, tmp_path, kind):
    """What the lock guards is elsewhere, so that nothing but locks meets the deaths."""
    count = tmp_path / "count"
    count.write_text("0")
    crowd = [story.holder(), story.holder(), story.rival(), story.rival()]
    for one in crowd:
        one.do("def work(rounds):\n"
               "  for _ in range(rounds):\n"
               f"    {take(kind, wait=True)}\n"
               f"    n = int(open({str(count)!r}).read())\n"
               "    select.select([], [], [], 0.002)\n"
               f"    open({str(count)!r}, 'w').write(str(n + 1))\n"
               f"    {GIVE[kind]}\n"
               "import select")
    for one in crowd:
        one.start(f"work({ROUNDS})")
    for _ in range(3):
        crowd[0].finished(0.5)
        story.restart()
    for one in crowd:
        one.result(60)
    assert int(count.read_text()) == len(crowd) * ROUNDS
    assert story.locks() == 0


def test_who_waits_gets_the_lock_after_its_home_was_stopped(story):
    holder, rival = story.holder(), story.rival()
    holder(take("fcntl"))
    rival.start(take("fcntl", wait=True))
    assert not rival.finished(BRIEF)
    assert story.home.stop() == []
    story.back()
    assert not rival.finished(3)
    holder(GIVE["fcntl"])
    rival.result()


def test_a_deadlock_is_found_over_the_death_of_the_home(story):
    a, b = story.holder(), story.rival()
    a(part("LOCK_EX", 0, 1))
    b(part("LOCK_EX", 1, 1))
    a.start(part("LOCK_EX", 1, 1))
    assert not a.finished(BRIEF)
    story.restart()
    assert not a.finished(3)
    assert errno_of(b, part("LOCK_EX", 0, 1)) == "EDEADLK"
    b(part("LOCK_UN", 1, 1))
    a.result()


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_dies_while_the_home_is_away_leaves_no_lock(story, kind):
    holder, rival = story.holder(), story.rival()
    holder(take(kind))
    story.home.kill()
    holder.kill()
    story.back()
    rival.start(take(kind, wait=True))
    rival.result(SOON)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_that_is_closed_while_its_home_stays_away_goes_when_it_is_back(story, kind):
    holder, rival = story.holder(), story.rival()
    holder(take(kind))
    story.home.kill()
    holder("os.close(3)")
    # Its home is given up for dead: nothing is on its way to it any more.
    assert eventually(lambda: story.owed() == 1, 30)
    story.back()
    # Calls fail at once until its own mount has found the home again.
    assert eventually(lambda: errno_of(rival, take(kind)) is None, SOON)
    assert eventually(lambda: story.owed() == 0, SOON)


def test_an_unlock_that_failed_is_made_up_for_before_the_next_lock(story):
    holder, rival = story.holder(), story.rival()
    holder(take("fcntl"))
    story.home.kill()
    assert errno_of(holder, GIVE["fcntl"]) == "EIO"
    story.back()
    assert eventually(lambda: errno_of(holder, take("fcntl")) is None, SOON)
    # It was told before, so this one stays.
    assert story.owed() == 0
    assert errno_of(rival, take("fcntl")) == "EAGAIN"
    holder(GIVE["fcntl"])
    rival(take("fcntl"))


@pytest.mark.parametrize("what", ["os.write(3, b'x')", "fcntl.lockf(3, fcntl.LOCK_UN)"])
def test_who_tries_again_and_again_while_the_home_is_away_owes_no_more_for_it(story, what):
    holder = story.holder()
    holder("fcntl.fcntl(3, fcntl.F_SETFL, os.O_APPEND)")
    holder(what)
    story.home.kill()
    assert errno_of(holder, what) == "EIO"
    owed = story.owed()
    for _ in range(50):
        assert errno_of(holder, what) == "EIO"
    assert story.owed() <= owed + 1
    story.back()
    assert eventually(lambda: errno_of(holder, what) is None, SOON)
    assert story.owed() == 0


def test_locks_of_a_mount_that_is_killed_while_the_home_is_away_go_after_a_while(story):
    holder, rival = story.holder(), story.rival()
    holder(take("fcntl"))
    story.home.kill()
    story.other.kill()
    story.home.start()
    rival.start(take("fcntl", wait=True))
    began = time.monotonic()
    assert not rival.finished(SESSION / 2)
    rival.result(3 * SESSION)
    assert time.monotonic() - began < patience(2 * SESSION)
    for peer in (story.other.start(), story.home):
        peer.wait_ready()


def test_locks_of_a_mount_go_at_once_when_its_peer_comes_back_after_the_home(story):
    holder, rival = story.holder(), story.rival()
    holder(take("fcntl"))
    story.home.kill()
    story.other.kill()
    for peer in (story.home.start(), story.other.start()):
        peer.wait_ready()
    rival.start(take("fcntl", wait=True))
    rival.result(SOON)


def test_locks_of_the_homes_own_mount_end_with_it(story, actor):
    own = actor()
    own(f"os.open({str(story.home.mount / 'd' / 'f')!r}, os.O_RDWR)")
    own("fcntl.lockf(3, fcntl.LOCK_EX)")
    own("fcntl.flock(3, fcntl.LOCK_EX)")
    story.restart()
    rival = story.rival()
    rival(take("fcntl"))
    rival(take("flock"))


def test_locks_of_a_client_are_held_over_the_death_of_the_home(make_cluster, actor):
    cluster = make_cluster(1, clients=2, transport="tcp,self")
    (cluster.mounts[0] / "f").touch()
    holder, rival = actor(), actor()
    for one, mount in ((holder, cluster.mounts[1]), (rival, cluster.mounts[2])):
        one(f"os.open({str(mount / 'f')!r}, os.O_RDWR)")
    holder(take("fcntl"))
    cluster.peers[0].kill()
    cluster.peers[0].start().wait_ready()
    assert errno_of(rival, take("fcntl")) == "EAGAIN"
    holder(GIVE["fcntl"])
    rival(take("fcntl"))


# ---- what is in the store ----

FAR_INO = (1 << 48) + 0x5000  # of a slot of peer 1, and there is no such inode


def lock_key(ino, start=0, session=7, kind=0, owner=9):
    return store.key(ino, "l", struct.pack(">QBQQ", session, kind, owner, start))


def lock_record(version=1, how=fcntl.F_WRLCK, peer=0):
    return struct.pack("<BBHIQ", version, how, peer, 4711, 2**64 - 1)


def put_session(records, session, peer):
    records.put(b"\x10\x00m" + struct.pack(">Q", session), struct.pack("<BBHI", 1, 0, peer, 0))


def test_locks_of_no_inode_and_of_no_mount_are_cleaned_up_and_no_problem(story):
    """The first go at once, the last when its mount has not come back."""
    rival = story.rival()
    ino = os.stat(story.cluster.mounts[2] / "d" / "f").st_ino
    assert story.home.stop() == []
    records = store.Store(story.home.store)
    assert records.keys("l") == []
    records.put(lock_key(FAR_INO), lock_record())
    records.put(lock_key(ino, session=8), lock_record(peer=0xffff))
    records.put(lock_key(ino), lock_record(peer=0xffff))
    put_session(records, 7, 0xffff)
    run(BENCHFS, "fsck", *[story.home.store])
    story.back()
    assert story.locks() == 1
    assert errno_of(rival, take("fcntl")) == "EAGAIN"
    rival.start(take("fcntl", wait=True))
    rival.result(3 * SESSION)
    rival(GIVE["fcntl"])
    assert story.home.stop() == []
    assert records.keys("l") == []
    story.back()


def test_the_locks_of_a_file_go_with_it(story):
    holder = story.holder()
    holder(take("fcntl"))
    holder(take("flock"))
    holder("os.unlink({!r})".format(str(story.cluster.mounts[2] / "d" / "f")))
    story.home.kill()
    assert len(store.Store(story.home.store).keys("l")) == 2
    story.back()
    holder("os.close(3)")
    assert eventually(lambda: story.locks() == 0, SOON)
    story.home.kill()
    assert store.Store(story.home.store).keys("l") == []
    story.back()
