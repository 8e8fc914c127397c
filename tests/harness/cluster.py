"""Clusters of real peers in directories of their own.

A Peer is one `benchfs mount` or `benchfs serve` in the foreground, so that its
exit status and all it says are ours. It is ready when its mount answers and it
says so: the kernel tells of the new mount through /proc/self/mountinfo, and a
statfs waits until the peer serves it. Stopping is part of the test: a peer that
does not unmount, does not end, ends with anything but 0, or leaves a
sanitizer's report is a problem, and problems fail the test that the cluster
belongs to."""
import itertools
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

from harness.env import BENCHFS, ROOT, SOURCE, patience
from harness.netns import Network
from harness.ports import ports
from harness.procs import eventually, run, wait_exit

LOG_TAIL = 6000
live_peers = set()  # what the watchdog may kill


def mounted(path):
    """Is something mounted right there?"""
    wanted = os.fspath(path)
    with open("/proc/self/mountinfo", errors="surrogateescape") as f:
        return any(line.split()[4].replace("\\040", " ") == wanted for line in f)


def detach(path):
    """Unmounts whatever it takes."""
    command = ["umount", "-l"] if ROOT else ["fusermount3", "-u", "-z"]
    subprocess.run([*command, os.fspath(path)], stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)


def sanitizer_env(directory):
    """Sanitizers write what they find to files in the directory, and a program
    in which they found something does not go on."""
    suppressions = SOURCE / "tests" / "harness"
    common = f"log_path={directory}/report:halt_on_error=1:print_stacktrace=1"
    return {
        "ASAN_OPTIONS": f"{common}:abort_on_error=1:detect_leaks=1:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": common,
        "LSAN_OPTIONS": f"suppressions={suppressions / 'lsan.supp'}:print_suppressions=0",
    }


class Peer:
    def __init__(self, directory, kind="mount", args=(), prefix=(), store=None, env=None):
        assert kind in ("mount", "serve", "client")
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.kind = kind
        self.args = [os.fspath(a) for a in args]
        self.prefix = list(prefix)
        self.store = None if kind == "client" else Path(store or self.directory / "store")
        self.mount = None if kind == "serve" else self.directory / "mnt"
        self.log = self.directory / "log"
        self.reports = self.directory / "reports"
        self.reports.mkdir(exist_ok=True)
        if self.mount:
            self.mount.mkdir(exist_ok=True)
        self.env = env or {}
        self.proc = None

    def command(self, foreground=True):
        words = [BENCHFS, "serve" if self.kind == "serve" else "mount"]
        words += ["--foreground"] if foreground else []
        words += ["--client"] if self.kind == "client" else ["--store", self.store]
        words += self.args
        words += [self.mount] if self.mount else []
        return [*self.prefix, *map(os.fspath, words)]

    def environ(self):
        return {**os.environ, **sanitizer_env(self.reports), **self.env}

    def start(self):
        assert self.proc is None, "started twice"
        with open(self.log, "ab") as log:
            self.readies = self._readies()
            # The peer dies with us, however we die.
            self.proc = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *self.command()], stdin=subprocess.DEVNULL,
                                         stdout=log, stderr=log, env=self.environ(), cwd="/")
        live_peers.add(self)
        return self

    @property
    def pid(self):
        return self.proc.pid

    def running(self):
        return self.proc is not None and self.proc.poll() is None

    def wait_ready(self, timeout=60):
        """Returns when the mount answers. A peer without one is ready for
        callers as soon as they reach it: they wait for it by themselves."""
        if not self.mount:
            return self
        self._wait_mounted(patience(timeout))
        os.statvfs(self.mount)
        # Until it says so it looks at its own mount, which then can't be unmounted.
        if not eventually(lambda: self._readies() > self.readies or not self.running(), timeout, every=0.01):
            raise AssertionError(f"{self} did not get ready\n{self.tail()}")
        return self

    def _readies(self):
        return self.log.read_bytes().count(b" is ready: ")

    def _wait_mounted(self, timeout):
        end = time.monotonic() + timeout
        death = os.pidfd_open(self.proc.pid)
        try:
            with open("/proc/self/mountinfo") as info:
                poller = select.poll()
                poller.register(info, select.POLLPRI)
                poller.register(death, select.POLLIN)
                while not mounted(self.mount):
                    left = end - time.monotonic()
                    if self.proc.poll() is not None or left <= 0:
                        raise AssertionError(f"{self} did not mount: {self.proc.poll()}\n{self.tail()}")
                    poller.poll(left * 1000)
        finally:
            os.close(death)

    def kill(self, signum=signal.SIGKILL):
        """kill -9, and what an administrator would do about the dead mount."""
        self.proc.send_signal(signum)
        if wait_exit(self.proc, patience(20)) is None:
            raise AssertionError(f"{self} survived signal {signum}")
        self._forget()
        if self.mount and mounted(self.mount):
            detach(self.mount)

    def stop(self):
        """Ends the peer in the proper way; returns a list of what went wrong."""
        if self.proc is None:
            return self._cleanup()
        problems = []
        if self.running() and self.mount:
            problems += self._unmount()
        elif self.running():
            self.proc.terminate()
        status = wait_exit(self.proc, patience(20))
        if status is None:
            problems.append(f"{self} did not end")
            self.proc.kill()
            wait_exit(self.proc, 20)
        elif status != 0:
            problems.append(f"{self} ended with {status}")
        self._forget()
        return problems + self._cleanup()

    def _unmount(self):
        try:
            done = run(BENCHFS, "umount", self.mount, timeout=20, check=False, env=self.environ())
        except subprocess.TimeoutExpired:
            self.proc.kill()
            return [f"umount of {self} hung"]
        if done.returncode != 0:
            self.proc.terminate()
            return [f"umount of {self} ended with {done.returncode}: {done.stderr}"]
        return []

    def _forget(self):
        live_peers.discard(self)
        self.proc = None

    def _cleanup(self):
        problems = []
        if self.mount and mounted(self.mount):
            problems.append(f"{self} left its mount behind")
            detach(self.mount)
        for report in sorted(self.reports.iterdir()):
            text = report.read_text(errors="replace")
            if text.strip():
                problems.append(f"{self}: sanitizer report\n{text[:8000]}")
            report.unlink()
        return problems

    def tail(self):
        try:
            return self.log.read_text(errors="replace")[-LOG_TAIL:]
        except FileNotFoundError:
            return "(no log)"

    def counters(self):
        text = os.getxattr(self.mount, "benchfs.counters").decode()
        return {name: int(value) for name, value in (line.split() for line in text.splitlines())}

    def __str__(self):
        return f"{self.kind} {self.directory.name}"


class Cluster:
    """n peers with stores (mounts, or server-only where serve says so), and
    `clients` mounts without one. network: a netns.Network. Their stores are
    checked at the end; fsck=False where a test damages them."""

    def __init__(self, base, n=1, clients=0, serve=False, transport=None, network=None, args=(), wait=60, prefix=(),
                 env=None, fsck=True):
        self.base = Path(base)
        self.fsck = fsck
        self.base.mkdir(parents=True, exist_ok=True)
        self.network = network
        self.env = env or {}
        self.n = n
        self.secret = self.base / "secret"
        alone = n == 1 and not clients and not serve
        if network:
            self.addresses = [f"{network.address(i)}:7460" for i in range(n)]
        else:
            self.addresses = [] if alone else [f"127.0.0.1:{p}" for p in ports.take(n)]
        if not alone:
            run(BENCHFS, "secret", self.secret, env={**os.environ, **sanitizer_env(self.base)})
        self.common = [] if alone else ["--peers", ",".join(self.addresses), "--secret-file", self.secret]
        self.common += ["--transport", transport] if transport else []
        self.common += args
        self.wait = [] if alone else ["--wait", str(patience(wait))]
        self.peers = [self._peer(i, "serve" if serve else "mount", prefix) for i in range(n)]
        self.peers += [self._peer(i, "client", prefix) for i in range(n, n + clients)]
        self.stopped = False

    def _peer(self, i, kind, prefix=()):
        listen = ["--listen", self.addresses[i]] if i < len(self.addresses) else []
        listen += self.wait if kind != "serve" else []
        where = self.network.nodes[i].prefix if self.network else []
        return Peer(self.base / f"peer{i}", kind, [*self.common, *listen], [*where, *prefix], env=self.env)

    def start(self):
        for peer in self.peers:
            peer.start()
        for peer in self.peers:
            peer.wait_ready()
        return self

    def objects(self):
        """The files of all stores that hold data."""
        return {f for p in self.peers if p.store for f in (p.store / "objects").rglob("*") if f.is_file()}

    @property
    def mounts(self):
        return [p.mount for p in self.peers if p.mount]

    def healthy(self):
        return all(p.running() for p in self.peers)

    def stop(self):
        """A list of what went wrong; the stores are gone when nothing did."""
        if self.stopped:
            return []
        self.stopped = True
        problems = list(itertools.chain.from_iterable(p.stop() for p in self.peers))
        if self.network:
            self.network.close()
        if self.fsck and not problems:
            problems += self._check()
        if not problems:
            for peer in self.peers:
                if peer.store:
                    shutil.rmtree(peer.store, ignore_errors=True)
        return problems

    def _check(self):
        """What `benchfs fsck` finds in the stores together. A peer that a test
        ended before it was ready may have none."""
        stores = [p.store for p in self.peers if p.store and (p.store / "identity").exists()]
        if len(stores) < self.n:
            return []
        done = run(BENCHFS, "fsck", *stores, timeout=120, check=False, env={**os.environ, **sanitizer_env(self.base)})
        return [] if done.returncode == 0 else [f"fsck ended with {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"]

    def logs(self):
        return [(f"log of {peer}", peer.tail()) for peer in self.peers]


class Tree:
    """A directory of one test's own, seen through every mount in turn."""

    def __init__(self, cluster, name, first=0):
        self.cluster = cluster
        self.roots = [m / name for m in cluster.mounts]
        self._next = first
        self.turn().mkdir()

    def turn(self, *parts):
        """The directory, or something in it, through the next mount."""
        self._next += 1
        return self.at(self._next, *parts)

    def home(self, name="home"):
        """A new directory through the next mount, on whose peer it and all
        that this mount makes below will be."""
        path = self.turn(name)
        path.mkdir()
        return path

    def at(self, i, *parts):
        return self.roots[i % len(self.roots)].joinpath(*parts)

    def all(self, *parts):
        """... through each of the mounts, those that come next first."""
        return [self.turn(*parts) for _ in self.roots]


CONFIGS = {
    "one": lambda base: Cluster(base, 1),
    "classic": lambda base: Cluster(base, 1, args=["--channel", "classic"]),
    "tcp3": lambda base: Cluster(base, 3, transport="tcp,self"),
    "shm3": lambda base: Cluster(base, 3, transport="shm,tcp,self"),
    "netns3": lambda base: Cluster(base, 3, transport="tcp,self", network=Network(3)),
    "client": lambda base: Cluster(base, 2, serve=True, clients=2, transport="tcp,self"),
    "linux54": lambda base: Cluster(base, 3, transport="tcp,self", env={"BENCHFS_TEST_FAULTS": "fuse.protocol_31"}),
}
ON_REQUEST = {"linux54"}  # only for tests that name it


class Shared:
    """A cluster of one of the configurations that many tests use, each with its
    own directory; replaced after a test that broke it."""

    def __init__(self, config, base):
        self.config = config
        self.base = Path(base)
        self.cluster = None
        self._tries = itertools.count()
        self._trees = itertools.count()

    def ready(self):
        if self.cluster and not self.cluster.healthy():
            self.stop()
        if not self.cluster:
            cluster = CONFIGS[self.config](self.base / f"{self.config}-{next(self._tries)}")
            try:
                self.cluster = cluster.start()
            except BaseException:
                cluster.stop()
                raise
        return self.cluster

    def tree(self):
        number = next(self._trees)
        return Tree(self.ready(), f"t{number}", number)

    def stop(self):
        cluster, self.cluster = self.cluster, None
        return cluster.stop() if cluster else []
