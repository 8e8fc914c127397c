"""Checks histories of concurrent calls: is there one order of them, within the
times they took, in which each has the result that it had?

Clients on several mounts record each call as an Event with the times before and
after it (CLOCK_MONOTONIC is one clock for all processes of a machine). Events
of one object (a word of a file, the names of a directory, an attribute, a lock)
are a history of their own, since a history is linearisable if that of each
object is. check() goes through it in time (Wing & Gong, Lowe: just in time): it
keeps every state the object may be in together with the calls under way that
have then taken effect already; when a call returns, whatever can't have led to
its result is dropped. When nothing is left, there is no such order.

Two models of a register. Strict: a write takes effect at one moment, for all.
Settled, which is the promise for the bytes of a file: while a write is under
way each reader may find the old or the new value, in any order; what starts
after it returned finds it, and all find the same."""
import fcntl
import itertools
import os
import random
import struct
import time
from typing import NamedTuple, Optional

from harness.procs import NAMES, Actor


class Event(NamedTuple):
    start: int
    end: Optional[int]  # None: nobody knows whether it took effect
    client: int
    call: str
    argument: object
    result: object

    def __str__(self):
        return f"client {self.client}: {self.call}({self.argument}) = {self.result} in {self.start}..{self.end}"


# ---- models: what may a call answer in a state, and what state follows? ----

class Register:
    """write(value), read() = value."""
    initial = 0

    @staticmethod
    def only_reads(event):
        return event.call == "read"

    @staticmethod
    def step(state, event):
        if event.call == "write":
            return True, event.argument
        return event.result == state, state


class Names:
    """Some names of a directory, each for an inode number or None. What a
    listing finds is an event for each name."""
    initial = ()

    @staticmethod
    def only_reads(event):
        return event.call in ("stat", "listed") or event.result in ("EEXIST", "ENOENT")

    @staticmethod
    def step(state, event):
        names = dict(state)
        call, argument, result = event.call, event.argument, event.result
        if call == "create":
            fits = result == "EEXIST" if argument in names else isinstance(result, int)
            if fits and argument not in names:
                names[argument] = result
        elif call == "unlink":
            fits = result == (None if argument in names else "ENOENT")
            names.pop(argument, None)
        elif call == "stat":
            fits = result == names.get(argument, "ENOENT")
        elif call == "listed":
            fits = result == (argument in names)
        else:
            assert call == "rename", call
            old, new = argument
            # The kernel looks both names up, one after the other, and takes them
            # for two of one file if another mount renames likewise in between.
            # Then it does nothing and calls it done; so it is.
            fits = result == (None if old in names else "ENOENT") or (result is None and new in names)
            if old in names:
                names[new] = names.pop(old)
        return fits, tuple(sorted(names.items()))


class Mutex:
    """lock() = got or busy, unlock()."""
    initial = None

    @staticmethod
    def only_reads(event):
        return event.result == "busy"

    @staticmethod
    def step(state, event):
        if event.call == "unlock":
            return state == event.client, None
        if event.result == "busy":
            return state not in (None, event.client), state
        return state is None, event.client


MODELS = {"register": Register, "settled": Register, "names": Names, "mutex": Mutex}


# ---- the check ----

def _moments(events):
    """Starts and ends in time, starts first: what touches may be either way round."""
    for number, event in enumerate(events):
        yield event.start, 0, number
        if event.end is not None:
            yield event.end, 1, number


def _with_reads(model, events, under_way, state, effective):
    """A call that changes nothing takes effect as soon as it fits: no order in
    which it does later allows more."""
    fit = [n for n in under_way - effective if model.only_reads(events[n]) and model.step(state, events[n])[0]]
    return state, effective.union(fit)


def _returned(model, events, under_way, configs, number):
    """Configurations in which the call has taken effect, without it."""
    done, seen = set(), set()
    todo = [_with_reads(model, events, under_way, *config) for config in configs]
    while todo:
        state, effective = todo.pop()
        if number in effective:
            done.add((state, effective - {number}))
            continue
        for other in under_way - effective:
            if model.only_reads(events[other]):
                continue
            fits, after = model.step(state, events[other])
            if not fits:
                continue
            config = _with_reads(model, events, under_way, after, effective | {other})
            if config not in seen:
                seen.add(config)
                todo.append(config)
    return done


def _complaint(events, number, moment):
    """The call that fits nowhere, and what led to it."""
    before = sorted((e for e in events if e.start <= moment), key=lambda e: e.start)[-25:]
    return "no order explains\n  %s\nafter\n  %s" % (events[number], "\n  ".join(map(str, before)))


def check_strict(model, events, initial):
    configs, under_way = {(initial, frozenset())}, set()
    for moment, ended, number in sorted(_moments(events)):
        if not ended:
            under_way.add(number)
            # What it may have seen at once it may have seen before all that follows.
            configs = {_with_reads(model, events, under_way, *config) for config in configs}
            continue
        configs = _returned(model, events, under_way, configs, number)
        under_way.discard(number)
        if not configs:
            return _complaint(events, number, moment)
    return None


def check_settled(events, initial):
    """As check_strict() for the writes; a read may have the value that was there
    when it began, which is kept with the configuration, or that of any write
    under way at some time during it."""
    configs = {(initial, frozenset(), frozenset())}
    writing, recent = set(), {}
    for moment, ended, number in sorted(_moments(events)):
        event = events[number]
        if event.call == "write":
            if not ended:
                writing.add(number)
                for values in recent.values():
                    values.add(event.argument)
                continue
            configs = {(state, effective, reads) for before, was, reads in configs
                       for state, effective in _returned(Register, events, writing, {(before, was)}, number)}
            writing.discard(number)
        elif not ended:
            recent[number] = {events[w].argument for w in writing}
            configs = {(state, effective, reads | {(number, state)}) for state, effective, reads in configs}
        else:
            free = event.result in recent.pop(number)
            configs = {(state, effective, frozenset(r for r in reads if r[0] != number)) for state, effective, reads in configs
                       if free or (number, event.result) in reads}
        if not configs:
            return _complaint(events, number, moment)
    return None


def check(model, events, initial=None):
    """None, or why the history of one object can't have been."""
    initial = MODELS[model].initial if initial is None else initial
    return check_settled(events, initial) if model == "settled" else check_strict(MODELS[model], events, initial)


def check_all(histories):
    """histories: {(model, object): events}. None, or the first complaint."""
    for (model, key), events in histories.items():
        complaint = check(model, events)
        if complaint:
            return f"{model} {key}: {complaint}"
    return None


# ---- clients ----

WORDS = (0, 4088, 4096, 8184)  # offsets of the words in a record of two pages
FILES = {"small": 0, "page": 20_000, "far": 5 << 20}  # where in it a file has its record
NAMES_USED = ["a", "b", "c"]


class Client:
    """Calls at random on the objects below one mount, and what they did."""

    def __init__(self, root, number, seed):
        self.root, self.number = root, number
        self.rng = random.Random(f"linear {seed} {number}")
        self.values = itertools.count(1)
        self.events = []
        self.fds = {name: os.open(f"{root}/{name}", os.O_RDWR) for name in [*FILES, "size", "attributes", "lock"]}
        self.locked = False

    def timed(self, call):
        start = time.monotonic_ns()
        try:
            result = call()
        except OSError as e:
            result = NAMES[e.errno]
        return start, time.monotonic_ns(), result

    def note(self, model, key, call, argument, timed, result=None):
        start, end, given = timed
        # Whether it failed before or after it took effect nobody knows. (ESTALE:
        # what a name stood for was replaced as often as the kernel looked.)
        if given in ("EIO", "EHOSTDOWN", "ETIMEDOUT", "ESTALE"):
            end = None
        self.events.append([model, key, [start, end, self.number, call, argument, given if result is None else result]])

    def fresh(self):
        """A value that nobody else writes."""
        return next(self.values) * 64 + self.number + 1

    # ---- bytes: each word of a record is an object ----

    def write_record(self):
        name = self.rng.choice(list(FILES))
        value = self.fresh()
        words = [value] * (1 if name == "small" else 1024)
        data = struct.pack(f"<{len(words)}q", *words)
        timed = self.timed(lambda: os.pwrite(self.fds[name], data, FILES[name]))
        for offset in self._words(name):
            self.note("settled", f"{name}+{offset}", "write", value, timed)

    def read_record(self):
        name = self.rng.choice(list(FILES))
        timed = self.timed(self.rng.choice([self._read_kept, self._read_again])(name))
        for offset in self._words(name):
            found = struct.unpack_from("<q", timed[2], offset)[0] if isinstance(timed[2], bytes) else timed[2]
            self.note("settled", f"{name}+{offset}", "read", None, timed, found)

    def _words(self, name):
        return WORDS[:1] if name == "small" else WORDS

    def _read_kept(self, name):
        return lambda: os.pread(self.fds[name], 8192, FILES[name])

    def _read_again(self, name):
        def read():
            fd = os.open(f"{self.root}/{name}", os.O_RDONLY)
            try:
                return os.pread(fd, 8192, FILES[name])
            finally:
                os.close(fd)
        return read

    # ---- size and attributes ----

    def resize(self):
        size = self.fresh()
        self.note("register", "size", "write", size, self.timed(lambda: os.ftruncate(self.fds["size"], size)))

    def ask_size(self):
        self.note("register", "size", "read", None, self.timed(
            self.rng.choice([lambda: os.fstat(self.fds["size"]).st_size, lambda: os.stat(f"{self.root}/size").st_size])))

    def set_attribute(self):
        kind, value, fd, path = self.rng.choice(["mode", "mtime", "xattr"]), self.fresh(), self.fds["attributes"], f"{self.root}/attributes"
        if kind == "mode":
            value = value % 0o1000
        call = {"mode": lambda: os.chmod(path, value), "mtime": lambda: os.utime(path, ns=(0, value)),
                "xattr": lambda: os.setxattr(fd, "user.x", b"%d" % value)}[kind]
        self.note("register", kind, "write", value, self.timed(call))

    def ask_attribute(self):
        kind, fd, path = self.rng.choice(["mode", "mtime", "xattr"]), self.fds["attributes"], f"{self.root}/attributes"
        call = {"mode": lambda: os.fstat(fd).st_mode & 0o777, "mtime": lambda: os.stat(path).st_mtime_ns,
                "xattr": lambda: int(os.getxattr(path, "user.x"))}[kind]
        self.note("register", kind, "read", None, self.timed(call))

    # ---- names ----

    def name(self):
        name = self.rng.choice(NAMES_USED)
        return name, f"{self.root}/names/{name}"

    def create(self):
        name, path = self.name()

        def call():
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            try:
                return os.fstat(fd).st_ino
            finally:
                os.close(fd)
        self.note("names", "names", "create", name, self.timed(call))

    def unlink(self):
        name, path = self.name()
        self.note("names", "names", "unlink", name, self.timed(lambda: os.unlink(path)))

    def stat(self):
        name, path = self.name()
        self.note("names", "names", "stat", name, self.timed(lambda: os.stat(path).st_ino))

    def rename(self):
        names = self.rng.sample(NAMES_USED, 2)
        old, new = (f"{self.root}/names/{n}" for n in names)
        self.note("names", "names", "rename", names, self.timed(lambda: os.rename(old, new)))

    def list(self):
        timed = self.timed(lambda: os.listdir(f"{self.root}/names"))
        for name in NAMES_USED:
            self.note("names", "names", "listed", name, timed, name in timed[2] if isinstance(timed[2], list) else None)

    # ---- locks ----

    def lock(self):
        if self.locked:
            timed = self.timed(lambda: fcntl.lockf(self.fds["lock"], fcntl.LOCK_UN))
            self.note("mutex", "lock", "unlock", None, timed)
            self.locked = False
            return
        timed = self.timed(lambda: fcntl.lockf(self.fds["lock"], fcntl.LOCK_EX | fcntl.LOCK_NB))
        self.locked = timed[2] is None
        result = "got" if self.locked else "busy" if timed[2] in ("EAGAIN", "EACCES") else timed[2]
        self.note("mutex", "lock", "lock", None, timed, result)

    KINDS = {
        "bytes": [("write_record", 1), ("read_record", 4)],
        "attributes": [("resize", 1), ("ask_size", 4), ("set_attribute", 1), ("ask_attribute", 4)],
        "names": [("create", 3), ("unlink", 2), ("rename", 2), ("stat", 6), ("list", 2)],
        "locks": [("lock", 1)],
    }

    def work(self, kind, until_ns):
        names, weights = zip(*self.KINDS[kind])
        while time.monotonic_ns() < until_ns:
            getattr(self, self.rng.choices(names, weights)[0])()
        if self.locked:
            self.lock()

    def end(self):
        for fd in self.fds.values():
            os.close(fd)


def prepare(root):
    """What clients work on, once, through any mount."""
    os.mkdir(f"{root}/names")
    for name in [*FILES, "size", "attributes", "lock"]:
        with open(f"{root}/{name}", "xb") as f:
            if name in ("page", "far"):
                os.pwrite(f.fileno(), bytes(8192), FILES[name])
            elif name == "small":
                f.write(bytes(8))
    os.chmod(f"{root}/attributes", 0)
    os.utime(f"{root}/attributes", ns=(0, 0))
    os.setxattr(f"{root}/attributes", "user.x", b"0")


def client(root, number, seed, kinds, seconds):
    """In a process of its own: works on one kind of object after the other;
    returns what it recorded."""
    one = Client(root, number, seed)
    begin = time.monotonic_ns()
    for turn, kind in enumerate(kinds, 1):
        one.work(kind, begin + int(seconds * 1e9 * turn / len(kinds)))
    one.end()
    return one.events


def gather(records):
    """{(model, object): events} of what clients recorded."""
    histories = {}
    for model, key, (start, end, number, call, argument, result) in itertools.chain.from_iterable(records):
        argument = tuple(argument) if isinstance(argument, list) else argument
        histories.setdefault((model, key), []).append(Event(start, end, number, call, argument, result))
    return histories


def observe(roots, seed, seconds, kinds, clients=6):
    """Lets clients work through the mounts; their histories."""
    prepare(roots[seed % len(roots)])
    crowd = [Actor() for _ in range(clients)]
    try:
        for one in crowd:
            one.do("from harness import linear")
        for i, one in enumerate(crowd):
            one.start(f"linear.client({os.fspath(roots[i % len(roots)])!r}, {i}, {seed}, {list(kinds)!r}, {seconds})")
        return gather([one.result(seconds + 30) for one in crowd])
    finally:
        for one in crowd:
            one.end()
