"""More files than the daemon may have descriptors."""
import os

import pytest

from harness.env import size

LIMIT = size(512, 20_000)
KNOWN = size(5_000, 200_000, sanitized=1_500)
OPEN = size(2_000, 30_000, sanitized=1_000)


@pytest.mark.soak
@pytest.mark.limit(240)
def test_more_files_are_known_and_open_than_the_daemon_may_have_descriptors(make_cluster, actor, figure):
    cluster = make_cluster(prefix=["prlimit", f"--nofile={LIMIT}:{LIMIT}"])
    root, peer = cluster.mounts[0], cluster.peers[0]
    crowd = [actor() for _ in range(4)]
    for n, one in enumerate(crowd):
        one.do(f"import os\nos.makedirs({str(root / f'd{n}')!r})\nos.chdir({str(root / f'd{n}')!r})\n"
               "def make(a, b):\n"
               "  for i in range(a, b):\n"
               "    with open(f'f{i}', 'wb') as f:\n"
               "      f.write(b'%d' % i * (2000 if i % 2 else 10))\n"
               "fds = []\n"
               "def hold(a, b):\n"
               "  for i in range(a, b): fds.append(os.open(f'f{i}', os.O_RDWR))\n"
               "def check(a, b):\n"
               "  for i in range(a, b):\n"
               "    os.pwrite(fds[i], b'!', 0)\n"
               "    assert os.pread(fds[i], 100_000, 0) == b'!' + (b'%d' % i * (2000 if i % 2 else 10))[1:], i\n"
               "def again(a, b):\n"
               "  for i in range(a, b): assert os.stat(f'f{i}').st_size == len(b'%d' % i) * (2000 if i % 2 else 10), i\n")
    share = OPEN // 4
    for step in (f"make(0, {KNOWN // 4})", f"again(0, {KNOWN // 4})", f"hold(0, {share})", f"check(0, {share})"):
        for one in crowd:
            one.start(step)
        for one in crowd:
            one.result(3600)
    figure("descriptors the daemon holds", len(os.listdir(f"/proc/{peer.pid}/fd")))
    assert len(os.listdir(f"/proc/{peer.pid}/fd")) < LIMIT
    for one in crowd:
        one.start("[os.close(fd) for fd in fds] and None")
    for one in crowd:
        one.result(600)
    assert (root / "d0" / "f1").read_bytes()[:1] == b"!"
