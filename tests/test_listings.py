"""A listing shows every change that had returned when it began, whatever the kernel keeps."""
import contextlib
import os
import random
import threading
import time

import pytest

from harness.env import size
from harness.posix import Listing

pytestmark = [pytest.mark.core, pytest.mark.configs("tcp3", "client")]
READERS = 2


# ---- what was to be seen when ----

class Names:
    """When each name was made and removed; no name is used twice."""

    def __init__(self):
        self.made, self.removed, self.next = {}, {}, 0

    def fresh(self):
        self.next += 1
        return f"name{self.next * 7919 % 100003:06}-{self.next}"

    def there(self):
        return [name for name in self.made if name not in self.removed]

    @staticmethod
    @contextlib.contextmanager
    def _noted(*places):
        """Each place first says that it has begun, then that it has returned."""
        begin = time.monotonic()
        for table, name in places:
            table[name] = (begin, None)
        yield
        end = time.monotonic()
        for table, name in places:
            table[name] = (begin, end)

    def making(self, name):
        return self._noted((self.made, name))

    def removing(self, name):
        return self._noted((self.removed, name))

    def renaming(self, old, new):
        return self._noted((self.removed, old), (self.made, new))

    def complaint(self, begin, end, found):
        """What is wrong with a listing; called when all changes are over."""
        if len(set(found)) < len(found):
            return f"{[name for name in set(found) if found.count(name) > 1]} twice"
        missing = [name for name, (_, made) in self.made.items() if name not in found and made < begin
                   and (name not in self.removed or self.removed[name][0] > end)]
        left = [name for name in found if self.removed.get(name, (end, end))[1] < begin]
        early = [name for name in found if name in self.made and self.made[name][0] > end]
        return f"missing {missing}, left over {left}, early {early}" if missing or left or early else None


# ---- ways to list ----

def by_scandir(path, fd, listing):
    with os.scandir(path) as entries:
        return [entry.name for entry in entries]


def by_listdir(path, fd, listing):
    return os.listdir(path)


def by_kept_descriptor(path, fd, listing):
    return os.listdir(fd)


def by_rewinding(path, fd, listing):
    listing.rewind()
    return listing.rest()


def by_seeking(path, fd, listing):
    """The second half of it twice: the first time does not count."""
    listing.rewind()
    first = []
    for _ in range(random.randrange(1, 40)):
        name = listing.read()
        if name is None:
            break
        if name not in (".", ".."):
            first.append(name)
    place = listing.tell()
    listing.rest()
    listing.seek(place)
    return first + listing.rest()


WAYS = [by_scandir, by_listdir, by_kept_descriptor, by_rewinding, by_seeking]


class Reader(threading.Thread):
    """Lists one directory of one mount in all ways, until it is told to stop."""

    def __init__(self, path, seed):
        super().__init__()
        self.path, self.random, self.seen, self.error, self.stop = path, random.Random(seed), [], None, False

    def run(self):
        fd, listing = os.open(self.path, os.O_RDONLY), Listing(self.path)
        try:
            while not self.stop:
                self.look(self.random.choice(WAYS), fd, listing)
                time.sleep(self.random.choice((0, 0, 0.0005, 0.005)))
        except BaseException as error:  # the thread that joins it says so
            self.error = error
        finally:
            os.close(fd)
            listing.close()

    def look(self, way, fd, listing):
        begin = time.monotonic()
        found = way(self.path, fd, listing)
        self.seen.append((begin, time.monotonic(), way.__name__, found))


class Writer:
    def __init__(self, paths, seed, at_a_time=12):
        self.paths, self.random, self.names, self.seen = paths, random.Random(seed), Names(), []
        self.at_a_time = at_a_time

    def make(self, path):
        name = self.names.fresh()
        with self.names.making(name):
            (path / name).touch()

    def remove(self, path):
        name = self.random.choice(self.names.there())
        with self.names.removing(name):
            (path / name).unlink()

    def rename(self, path):
        old, new = self.random.choice(self.names.there()), self.names.fresh()
        with self.names.renaming(old, new):
            (path / old).rename(path / new)

    def replace(self, path):
        """Of two names one is left."""
        old, new = self.random.sample(self.names.there(), 2)
        with self.names.removing(old):
            (path / old).rename(path / new)

    def change(self):
        many = len(self.names.there()) >= self.at_a_time
        calls = [self.remove, self.rename, self.replace] if many else [self.make, self.make, self.rename]
        if len(self.names.there()) < 2:
            calls = [self.make]
        self.random.choice(calls)(self.random.choice(self.paths))

    def look(self):
        """This thread's own listings begin right after its change."""
        for path in self.paths:
            begin = time.monotonic()
            found = os.listdir(path)
            self.seen.append((begin, time.monotonic(), "after a change", found))


def check(names, seen):
    for begin, end, way, found in seen:
        complaint = names.complaint(begin, end, found)
        if complaint:
            pytest.fail(f"{way}: {complaint}", pytrace=False)


def watch(paths, seed, change):
    """change() again and again while others list; returns what all saw."""
    readers = [Reader(path, f"{seed} {path} {i}") for path in paths for i in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        change()
    finally:
        for reader in readers:
            reader.stop = True
        for reader in readers:
            reader.join()
    for reader in readers:
        if reader.error:
            raise reader.error
    return [look for reader in readers for look in reader.seen]


@pytest.mark.limit(240)
@pytest.mark.parametrize("turned_back", [False, True], ids=["times move", "mtime is turned back"])
def test_each_listing_shows_all_changes_that_had_returned(tree, turned_back, figure):
    looks = 0
    for seed in range(size(3, 40)):
        tree.turn(f"d{seed}").mkdir()
        paths = tree.all(f"d{seed}")
        writer = Writer(paths, seed)

        def change():
            for _ in range(size(60, 200, sanitized=30)):
                writer.change()
                if turned_back:
                    os.utime(writer.random.choice(paths), ns=(10 ** 18, 10 ** 18))
                writer.look()
                time.sleep(writer.random.choice((0, 0, 0.002, 0.01)))

        seen = watch(paths, seed, change)
        looks += len(seen)
        check(writer.names, seen + writer.seen)
    figure("listings by others", looks)


@pytest.mark.limit(240)
def test_each_listing_of_several_portions_shows_all_changes_that_had_returned(tree):
    tree.turn("big").mkdir()
    paths = tree.all("big")
    writer = Writer(paths, 1, at_a_time=2500)
    for _ in range(2500):
        writer.make(paths[0])

    def change():
        for _ in range(size(40, 400, sanitized=20)):
            writer.change()
            writer.look()

    check(writer.names, watch(paths, 1, change) + writer.seen)


def test_a_listing_that_two_mounts_keep_shows_what_a_third_changes(tree):
    """Nobody else looks: the kernel keeps each listing before it is changed."""
    tree.turn("d").mkdir()
    paths = tree.all("d")
    made = []
    for i in range(size(60, 1000)):
        for path in paths * 3:
            assert sorted(os.listdir(path)) == sorted(made)
        made.append(f"f{i}")
        (paths[i % len(paths)] / made[-1]).touch()
        if i % 3 == 2:
            gone = made.pop(0)
            (paths[(i + 1) % len(paths)] / gone).unlink()
        if i % 2:
            os.utime(paths[i % len(paths)], ns=(5, 5))


def test_a_directory_that_is_removed_there_while_it_is_open_here_shows_nothing_more(tree):
    here, there = tree.at(0, "d"), tree.at(1, "d")
    here.mkdir()
    (here / "f").touch()
    fd = os.open(here, os.O_RDONLY)
    for _ in range(3):
        assert os.listdir(fd) == ["f"]
    (there / "f").unlink()
    there.rmdir()
    for _ in range(3):
        with contextlib.suppress(OSError):
            assert os.listdir(fd) == []
    os.close(fd)


def test_a_directory_with_another_parent_says_so(tree):
    """The number of .. is part of a listing."""
    def up(path):
        listing = Listing(path)
        numbers = {bytes(entry.name): entry.ino for entry in iter(listing.entry, None)}
        listing.close()
        return numbers[b".."]

    for name in ("a", "b", "a/d"):
        tree.turn(name).mkdir()
    for i, (old, new) in enumerate([("a", "b"), ("b", "a")] * 2):
        for _ in range(3):
            assert {up(path) for path in tree.all(old, "d")} == {os.stat(tree.turn(old)).st_ino}
        tree.at(i, old, "d").rename(tree.at(i, new, "d"))
        assert {up(path) for path in tree.all(new, "d")} == {os.stat(tree.turn(new)).st_ino}
