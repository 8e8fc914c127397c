"""Section by section: what is wrong is refused with one clear sentence or the
right errno, and nothing is lost."""
import ctypes
import hashlib
import os
import random
import re
import socket
import struct

import pytest

from harness.cluster import Peer, mounted
from harness.env import BENCHFS, need_root
from harness.procs import run


def refused(peer, status=None, timeout=60):
    """Starts a peer that must not come up; returns its one sentence."""
    done = run(*peer.command(), check=False, env=peer.environ(), timeout=timeout)
    assert done.returncode != 0 and (status is None or done.returncode == status), done.stderr
    assert not peer.mount or not mounted(peer.mount)
    assert "Sanitizer" not in done.stderr
    return done.stderr


def fingerprint(directory):
    """Names, sizes, times and bytes of everything below."""
    seen = []
    for top, _, files in sorted(os.walk(directory)):
        for name in sorted(files):
            path = os.path.join(top, name)
            info = os.stat(path)
            with open(path, "rb") as f:
                seen.append((path, info.st_size, info.st_mtime_ns, hashlib.sha256(f.read()).hexdigest()))
    return seen


# ---- options ----

WRONG = [
    (["mount"], "mount point"),
    (["mount", "--no-such-option", "MNT"], "--no-such-option"),
    (["mount", "-Z", "MNT"], "-Z"),
    (["mount", "-o", "no_such_option", "MNT"], "no_such_option"),
    (["mount", "-o", "wait", "MNT"], "wait"),
    (["mount", "--wait", "soon", "MNT"], "--wait"),
    (["mount", "--wait", "-1", "MNT"], "--wait"),
    (["mount", "--chunk-size", "5000", "MNT"], "--chunk-size"),
    (["mount", "--chunk-size", "1", "MNT"], "--chunk-size"),
    (["mount", "--chunk-size", "many", "MNT"], "--chunk-size"),
    (["mount", "--channel", "tin-can", "MNT"], "--channel"),
    (["mount", "--log", "shout", "MNT"], "--log"),
    (["mount", "--foreground=yes", "MNT"], "--foreground"),
    (["mount", "--store"], "--store"),
    (["mount", "MNT", "MNT"], None),
    (["mount", "--client", "MNT"], "peers"),
    (["mount", "--peers", "127.0.0.1:7001,127.0.0.1:7001", "--secret-file", "SECRET", "MNT"], "127.0.0.1:7001"),
    (["mount", "--peers", "127.0.0.1:99999", "--secret-file", "SECRET", "MNT"], "99999"),
    (["mount", "--peers", "127.0.0.1:7001,:,x", "--secret-file", "SECRET", "MNT"], "--peers"),
    (["mount", "--peers", "127.0.0.1:7001,127.0.0.1:7002", "--listen", "127.0.0.1:7003", "--secret-file", "SECRET", "MNT"], "7003"),
    (["mount", "--peers", "127.0.0.1:7001,127.0.0.1:7002", "--listen", "127.0.0.1:7001", "--secret-file", "/nonexistent", "MNT"], "/nonexistent"),
    (["mount", "--peers", "127.0.0.1:7001,127.0.0.1:7002", "--listen", "127.0.0.1:7001", "--secret-file", "OPEN", "MNT"], "OPEN"),
    (["mount", "--peers", "127.0.0.1:7001,127.0.0.1:7002", "--listen", "127.0.0.1:7001", "--secret-file", "SHORT", "MNT"], "SHORT"),
    (["mount", "--hostfile", "/nonexistent", "MNT"], "/nonexistent"),
    (["mount", "--config", "/nonexistent", "MNT"], "/nonexistent"),
    (["mount", "--config", "CONFIG", "MNT"], "colour"),
    (["serve", "--client"], "--client"),
    (["umount"], "mount point"),
    (["nonsense"], "nonsense"),
    ([], None),
]


@pytest.mark.core
@pytest.mark.parametrize("args,named", WRONG, ids=[" ".join(a) or "nothing" for a, _ in WRONG])
def test_wrong_options_end_with_2_and_name_the_option(program, tmp_path, args, named):
    words = {"MNT": tmp_path / "mnt", "SECRET": tmp_path / "secret", "OPEN": tmp_path / "open",
             "SHORT": tmp_path / "short", "CONFIG": tmp_path / "conf"}
    words["MNT"].mkdir()
    words["CONFIG"].write_text("[benchfs]\ncolour=blue\n")
    for name, text, mode in (("SECRET", "s" * 64, 0o600), ("OPEN", "s" * 64, 0o644), ("SHORT", "s", 0o600)):
        words[name].write_text(text)
        words[name].chmod(mode)
    args = [str(words.get(a, a)) for a in args]
    store = ["--store", str(tmp_path / "store")] if args[:1] == ["mount"] and "--client" not in args and "--store" not in args else []
    done = run(program, *args[:1], *store, *args[1:], check=False)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert not mounted(words["MNT"])
    assert str(words.get(named, named) if named else "benchfs") in done.stderr
    if args and named:
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.core
def test_a_mount_point_that_is_no_directory_is_refused_in_a_sentence(program, tmp_path):
    (tmp_path / "file").touch()
    for where in (tmp_path / "file", tmp_path / "missing"):
        done = run(program, "mount", "--store", tmp_path / "store", where, check=False)
        assert done.returncode not in (0,) and str(where) in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_several_peers_need_a_secret(program, tmp_path):
    if os.path.exists("/etc/benchfs/secret"):
        pytest.skip("needs /etc/benchfs/secret not to exist")
    (tmp_path / "mnt").mkdir()
    done = run(program, "mount", "--store", tmp_path / "store", "--peers", "127.0.0.1:7001,127.0.0.1:7002",
               "--listen", "127.0.0.1:7001", "--wait", "1", tmp_path / "mnt", check=False)
    assert done.returncode == 2 and "secret" in done.stderr


# ---- stores ----

@pytest.mark.core
def test_a_store_in_use_is_refused_and_its_user_goes_on(make_cluster, tmp_path):
    cluster = make_cluster()
    (cluster.mounts[0] / "f").write_text("mine")
    text = refused(Peer(tmp_path / "second", store=cluster.peers[0].store))
    assert str(cluster.peers[0].store) in text and "use" in text
    assert (cluster.mounts[0] / "f").read_text() == "mine"
    (cluster.mounts[0] / "g").write_text("more")


@pytest.mark.core
@pytest.mark.parametrize("change", ["format=99", "format=0", "format=x", "garbage"])
def test_a_store_of_another_version_is_refused_untouched(make_cluster, tmp_path, change):
    cluster = make_cluster()
    (cluster.mounts[0] / "f").write_text("x")
    peer = cluster.peers[0]
    assert peer.stop() == []
    identity = peer.store / "identity"
    before = identity.read_text()
    identity.write_text(os.urandom(200).hex() if change == "garbage" else re.sub("format=.*", change, before))
    seen = fingerprint(peer.store)
    assert str(peer.store) in refused(peer)
    assert fingerprint(peer.store) == seen
    identity.write_text(before)
    peer.start().wait_ready()
    assert (peer.mount / "f").read_text() == "x"


@pytest.mark.core
def test_a_directory_that_is_no_store_is_refused_untouched(program, tmp_path):
    store = tmp_path / "thesis"
    store.mkdir()
    (store / "chapter1").write_text("precious")
    seen = fingerprint(store)
    assert str(store) in refused(Peer(tmp_path / "p", store=store))
    assert fingerprint(store) == seen and os.listdir(store) == ["chapter1"]


def test_a_store_of_another_cluster_is_refused_untouched(make_cluster, tmp_path):
    first, second = make_cluster(2, transport="tcp,self"), make_cluster(2, start=False, transport="tcp,self")
    (first.mounts[0] / "f").write_text("x")
    assert [peer.stop() for peer in first.peers] == [[], []]
    foreign = first.peers[0].store
    seen = fingerprint(foreign)
    for peer in (Peer(tmp_path / "alone", store=foreign), Peer(tmp_path / "other", args=second.peers[0].args, store=foreign)):
        assert str(foreign) in refused(peer)
        assert fingerprint(foreign) == seen


def test_a_store_moved_to_another_place_of_the_list_is_refused(make_cluster):
    cluster = make_cluster(2, transport="tcp,self")
    for peer in cluster.peers:
        assert peer.stop() == []
    a, b = cluster.peers
    a.store, b.store = b.store, a.store
    seen = fingerprint(a.store)
    text = refused(a)
    assert str(a.store) in text and "peer" in text
    assert fingerprint(a.store) == seen
    a.store, b.store = b.store, a.store


# ---- the secret, and garbage ----

def test_a_peer_with_another_secret_gets_nothing_and_is_told_why(make_cluster, tmp_path):
    cluster = make_cluster(2, clients=1, transport="tcp,self")
    (cluster.mounts[0] / "f").write_text("x")
    wrong = tmp_path / "wrong"
    run(BENCHFS, "secret", wrong)
    args = [*cluster.peers[2].args]
    args[args.index("--secret-file") + 1] = str(wrong)
    args[args.index("--wait") + 1] = "5"
    text = refused(Peer(tmp_path / "intruder", "client", args))
    assert "secret" in text
    for mount in cluster.mounts:
        assert (mount / "f").read_text() == "x"
    (cluster.mounts[1] / "g").write_text("goes on")


def listening_ports(pid):
    """TCP ports that a process listens on."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found = re.match(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue
        if found:
            inodes.add(found[1])
    found = set()
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{pid}/net/{table}") as f:
            for line in f.readlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in inodes:
                    found.add(int(fields[1].rsplit(":", 1)[1], 16))
    return sorted(found)


def hear_only(ear, ports):
    """A filter in the kernel, so that other tests' traffic fills no buffer: TCP
    to the ports."""
    n = len(ports)
    code = [(0x30, 0, 0, 9), (0x15, 0, n + 2, socket.IPPROTO_TCP), (0xb1, 0, 0, 0), (0x48, 0, 0, 2)]
    code += [(0x15, n - k, 0, port) for k, port in enumerate(ports)]
    code += [(0x06, 0, 0, 0), (0x06, 0, 0, 1 << 18)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *c) for c in code))
    ear.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", len(code), ctypes.addressof(program)))  # SO_ATTACH_FILTER


def overheard(ports, action):
    """What clients send to the ports over loopback during action(): the bytes
    of each TCP connection, as (port, bytes)."""
    need_root("listening to the loopback interface")
    flows = {}
    # Protocol 0 hears nothing until it is bound, with the filter in place.
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as ear:
        hear_only(ear, ports)
        ear.bind(("lo", 0x0800))
        ear.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        action()
        ear.setblocking(False)
        while True:
            try:
                packet, (_, _, kind, _, _) = ear.recvfrom(1 << 17)
            except BlockingIOError:
                break
            ip, total = (packet[0] & 15) * 4, struct.unpack(">H", packet[2:4])[0]
            if kind == socket.PACKET_OUTGOING:
                continue
            source, target, number = struct.unpack(">HHI", packet[ip:ip + 8])
            data = packet[ip + (packet[ip + 12] >> 4) * 4:total or len(packet)]
            flows.setdefault((source, target), {})[number] = data
    return [(target, b"".join(data for _, data in sorted(parts.items()))) for (_, target), parts in flows.items()]


GARBAGE = {
    "nothing": b"",
    "one byte": b"\0",
    "zeros": bytes(100_000),
    "ones": b"\xff" * 100_000,
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "huge length": struct.pack("<QQQQ", 2**64 - 1, 2**63, 2**32, 1) * 100,
    "noise": random.Random(3).randbytes(1 << 20),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_on_a_port_leaves_files_working(make_cluster, kind):
    cluster = make_cluster(2, transport="tcp,self")
    here, there = cluster.mounts
    (here / "f").write_bytes(b"before" * 1000)
    for port in listening_ports(cluster.peers[0].pid):
        held = []
        for _ in range(5):
            s = socket.create_connection(("127.0.0.1", port), timeout=5)
            held.append(s)
            try:
                s.sendall(GARBAGE[kind])
            except OSError:
                pass
            assert (there / "f").read_bytes() == b"before" * 1000
        for s in held:
            s.close()
    (there / "g").write_bytes(b"after" * 100_000)
    assert (here / "g").read_bytes() == b"after" * 100_000


def test_a_real_conversation_cut_short_leaves_files_working(make_cluster, tmp_path):
    cluster = make_cluster(2, transport="tcp,self")
    here, there = cluster.mounts
    (here / "f").write_bytes(b"before" * 1000)
    ports = listening_ports(cluster.peers[0].pid)
    client = Peer(tmp_path / "client", "client", [a for a in cluster.peers[0].args if a != "--listen" and a != cluster.addresses[0]])

    def converse():
        client.start().wait_ready()
        assert (client.mount / "f").read_bytes() == b"before" * 1000
        (client.mount / "g").write_bytes(b"x" * 1000)
        assert client.stop() == []

    rng = random.Random(11)
    spoken = overheard(ports, converse)
    assert spoken and any(len(data) > 100 for _, data in spoken)
    for port, data in spoken:
        data = data[:20_000]
        for _ in range(30):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
                try:
                    s.sendall(data[:rng.randrange(len(data) + 1)])
                except OSError:
                    pass
        assert (there / "f").read_bytes() == b"before" * 1000
    assert cluster.healthy()


def test_by_default_nothing_listens_on_one_machine(make_cluster):
    assert listening_ports(make_cluster().peers[0].pid) == []


def test_peers_listen_where_they_are_told_and_nowhere_else(make_cluster):
    cluster = make_cluster(2, transport="tcp,self")
    for peer in cluster.peers:
        with open(f"/proc/{peer.pid}/net/tcp") as f:
            mine = [line.split() for line in f.readlines()[1:]]
        ports = listening_ports(peer.pid)
        assert ports
        where = {fields[1].split(":")[0] for fields in mine
                 if fields[3] == "0A" and int(fields[1].split(":")[1], 16) in ports}
        assert where == {"0100007F"}, "listens beyond loopback"
