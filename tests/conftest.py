"""Fixtures of the mount tests.

tree          a directory of the test's own on each shared configuration
              (see cluster.CONFIGS), its mounts used in turn
make_cluster  clusters that belong to this test alone
actor         processes that do as they are told
figure        a number worth printing at the end

A test that takes longer than its limit gets its peers killed, which ends every
call that hangs in them."""
import faulthandler
import os
import signal
import stat
import threading
from pathlib import Path

import pytest

from harness import env
from harness.cgroup import MemoryLimit
from harness.cluster import Cluster, CONFIGS, ON_REQUEST, Shared, live_peers
from harness.disk import SmallDisk
from harness.netns import Network
from harness.procs import Actor

DEFAULT_LIMIT = 60


def pytest_generate_tests(metafunc):
    if "shared" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("configs")
        names = [n for n in (mark.args if mark else CONFIGS) if (mark or n not in ON_REQUEST) and (env.ROOT or n != "netns3")]
        metafunc.parametrize("shared", names, indirect=True, scope="session")


# ---- what the tests stand on must be there ----

URING = Path("/sys/module/fuse/parameters/enable_uring")


def pytest_configure(config):
    """What root sets for the time of the tests, to be put back at the end."""
    config.put_back = []
    if hasattr(config, "workerinput") or not env.ROOT or not os.path.exists("/dev/fuse"):
        return
    # Ordinary users open it through fusermount3.
    mode = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    os.chmod("/dev/fuse", 0o666)
    config.put_back.append(lambda: os.chmod("/dev/fuse", mode))
    # With it, --channel auto is FUSE over io_uring.
    if URING.exists() and URING.read_text().strip() == "N" and os.access(URING, os.W_OK):
        URING.write_text("Y")
        config.put_back.append(lambda: URING.write_text("N"))


def pytest_unconfigure(config):
    for undo in getattr(config, "put_back", []):
        undo()


@pytest.fixture(scope="session")
def program():
    """The program under test, where mounts can be made."""
    missing = env.why_no_fuse()
    if missing:
        pytest.skip(missing)
    if not env.BENCHFS.exists():
        pytest.fail(f"no program at {env.BENCHFS}: build it, or set BENCHFS")
    return env.BENCHFS


# ---- clusters ----

@pytest.fixture(scope="session")
def shared(request, program, tmp_path_factory):
    holder = Shared(request.param, tmp_path_factory.mktemp("shared"))
    yield holder
    fail_on(holder.stop())


@pytest.fixture
def tree(request, shared):
    before = shared.ready()
    request.node.clusters = [before]
    yield shared.tree()
    if not before.healthy():
        fail_on(["a peer ended during the test", *shared.stop()])


@pytest.fixture
def make_cluster(request, program, tmp_path):
    made = request.node.clusters = []

    def make(n=1, start=True, **kwargs):
        made.append(Cluster(tmp_path / f"cluster{len(made)}", n, **kwargs))
        return made[-1].start() if start else made[-1]

    yield make
    fail_on([problem for cluster in made for problem in cluster.stop()])


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(MIB): a file system of that size. Ask for it before make_cluster."""
    made = []

    def make(mib):
        made.append(SmallDisk(tmp_path / f"small{len(made)}", mib))
        return made[-1]

    yield make
    fail_on([problem for disk in made for problem in disk.close()])


@pytest.fixture
def memory_limit(tmp_path):
    """memory_limit(BYTES): a cgroup. Ask for it before make_cluster."""
    made = []

    def make(limit):
        made.append(MemoryLimit(f"benchfs-test-{os.getpid()}-{len(made)}", limit))
        return made[-1]

    yield make
    for group in made:
        group.close()


@pytest.fixture
def network():
    """network(N): machines of a network. Ask for it before make_cluster."""
    made = []

    def make(n):
        made.append(Network(n))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def actor():
    made = []

    def make(*prefix):
        made.append(Actor(*prefix))
        return made[-1]

    yield make
    for one in made:
        one.end()


def fail_on(problems):
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def figure(request):
    def report(name, value):
        request.node.user_properties.append((f"{request.node.name}: {name}", value))
    return report


# ---- time limits, logs of failed tests, figures ----

@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    mark = item.get_closest_marker("limit")
    limit = env.patience(mark.args[0] if mark else DEFAULT_LIMIT) * (20 if env.SOAK else 1)

    def expire():
        item.timed_out = limit
        for peer in list(live_peers):
            os.kill(peer.pid, signal.SIGKILL)

    timer = threading.Timer(limit, expire)
    timer.daemon = True
    timer.start()
    # The last resort, for a page fault that hangs with the interpreter's lock held.
    faulthandler.dump_traceback_later(limit + 60, exit=True)
    yield
    timer.cancel()
    faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        if hasattr(item, "timed_out"):
            report.sections.append(("time limit", f"took over {item.timed_out} s, so its peers were killed"))
        for cluster in getattr(item, "clusters", []):
            report.sections += cluster.logs()


def pytest_terminal_summary(terminalreporter):
    figures = [p for reports in terminalreporter.stats.values() for r in reports
               if getattr(r, "when", "") == "teardown" for p in r.user_properties]
    if figures:
        terminalreporter.section("figures")
    for name, value in figures:
        terminalreporter.line(f"{name} = {value}")
