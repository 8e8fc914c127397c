"""Processes: run one to its end, wait for one without sleeping, and an actor
that executes Python in a process of its own."""
import ctypes
import errno
import json
import os
import select
import subprocess
import sys
import time

from harness.env import patience


def run(*argv, timeout=60, check=True, **kwargs):
    """Runs a program to its end; its output is text and part of a failure."""
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run([os.fspath(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, errors="replace", timeout=patience(timeout), **kwargs)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, argv))} ended with {done.returncode}\n"
                             f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done


def wait_exit(proc, timeout):
    """Waits for a Popen's end; its exit status, or None when time is up."""
    if proc.poll() is None:
        fd = os.pidfd_open(proc.pid)
        try:
            select.select([fd], [], [], timeout)
        finally:
            os.close(fd)
    return proc.poll()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid):
    """Pids of the direct children of a process."""
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                found += [int(p) for p in f.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def become_subreaper():
    """Daemons that our commands leave behind become our children, so that
    their exit status can be had."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def status_kib(pid, field):
    """A field such as VmRSS of /proc/PID/status, in KiB."""
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    raise KeyError(field)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def eventually(claim, timeout, every=0.05):
    """True as soon as claim() holds; for what another process does in its own
    time and tells nobody. OSError counts as not yet."""
    end = time.monotonic() + patience(timeout)
    while True:
        try:
            if claim():
                return True
        except OSError:
            pass
        if time.monotonic() >= end:
            return False
        select.select([], [], [], every)


ACTOR = r"""
import ctypes, errno, fcntl, json, mmap, os, signal, socket, stat, struct, sys
sys.path.insert(0, sys.argv[1])
from harness import posix
space = dict(globals())
for line in sys.stdin:
    kind, text = json.loads(line)
    try:
        value = eval(text, space) if kind == "eval" else exec(text, space)
        answer = {"value": value.hex() if isinstance(value, bytes) else value, "bytes": isinstance(value, bytes)}
    except OSError as e:
        answer = {"errno": e.errno, "text": str(e)}
    except BaseException as e:
        answer = {"error": repr(e)}
    print(json.dumps(answer), flush=True)
"""


class Actor:
    """A process that does as it is told: actor("expression") gives its value
    or raises the OSError it met; start() and result() where it may block."""

    def __init__(self, *prefix):
        tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.proc = subprocess.Popen([*prefix, sys.executable, "-u", "-c", ACTOR, tests],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.proc.pid

    def start(self, expression, kind="eval"):
        self.proc.stdin.write(json.dumps([kind, expression]).encode() + b"\n")
        self.proc.stdin.flush()

    def finished(self, timeout):
        """Has the last start() come to an end, within so many seconds?"""
        return bool(select.select([self.proc.stdout], [], [], timeout)[0])

    def result(self, timeout=20):
        assert self.finished(patience(timeout)), "an actor's call did not return in time"
        line = self.proc.stdout.readline()
        assert line, f"an actor died with {self.proc.wait()}"
        answer = json.loads(line)
        if "errno" in answer:
            raise OSError(answer["errno"], answer["text"])
        assert "error" not in answer, answer["error"]
        return bytes.fromhex(answer["value"]) if answer["bytes"] else answer["value"]

    def __call__(self, expression, timeout=20):
        self.start(expression)
        return self.result(timeout)

    def do(self, statements, timeout=20):
        self.start(statements, "exec")
        return self.result(timeout)

    def kill(self, signum=9):
        self.proc.send_signal(signum)

    def end(self):
        if self.proc.poll() is None:
            self.proc.stdin.close()
            if wait_exit(self.proc, 5) is None:
                self.proc.kill()
        wait_exit(self.proc, 20)
        self.proc.stdout.close()


# Where one number has two names, errno.errorcode knows the wrong one.
NAMES = {**errno.errorcode, errno.EDEADLK: "EDEADLK", errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EAGAIN: "EAGAIN"}


def errno_of(call, *args, **kwargs):
    """Name of the errno that a call fails with, or None."""
    try:
        call(*args, **kwargs)
    except OSError as e:
        return NAMES[e.errno]
    return None
