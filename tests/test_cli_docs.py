"""The help, the man pages, the completion and the configuration file speak of
the same options, and a wrong one is refused by name. Needs nothing but the
program: no mount, no fixtures."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1]
BENCHFS = Path(os.environ.get("BENCHFS") or SOURCE / "build" / "benchfs")
COMMANDS = ["mount", "serve", "umount", "status", "info", "fsck", "secret", "version"]
COMMAND_LINE_ONLY = {"config", "help", "lazy", "json", "online"}

pytestmark = pytest.mark.skipif(not BENCHFS.exists(), reason=f"needs the program at {BENCHFS}")


def benchfs(*args, **kwargs):
    return subprocess.run([BENCHFS, *map(str, args)], text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, **kwargs)


def help_of(command):
    done = benchfs(command, "--help")
    assert done.returncode == 0 and not done.stderr
    return done.stdout


def options_of(command):
    """long name -> (letter, argument's name), from the help."""
    found = re.findall(r"^  (?:-(\w), |    )--([\w-]+)(?: (\S+))?", help_of(command), re.M)
    return {name: (letter, arg) for letter, name, arg in found}


def all_options():
    return {name: shape for command in COMMANDS for name, shape in options_of(command).items()}


def man(name):
    return (SOURCE / "man" / name).read_text()


def plain(mdoc):
    """A line of mdoc as it reads: "Fl c , Fl -config Ar FILE" -> "-c, --config FILE"."""
    words, flag, space = [], "", ""
    for word in mdoc.split():
        if word in ("Ar", "Cm", "Op", "Oo", "Oc"):
            continue
        if word == "Fl":
            flag = "-"
        elif word == "Ns":
            space = ""
        elif word in (",", ":", "=", "|"):
            words.append(word)
            space = " " if word == "," else ""
        else:
            words.append(space + flag + word)
            flag, space = "", " "
    return "".join(words)


def man_options():
    """long name -> (letter, argument's name), from benchfs(1)."""
    found = {}
    for line in re.findall(r"^\.It (Fl .*)$", man("benchfs.1"), re.M):
        match = re.fullmatch(r"(?:-(\w), )?--([\w-]+)(?: (.*))?", plain(line))
        assert match, line
        letter, name, arg = match.groups()
        assert name not in found, f"--{name} stands twice in benchfs(1)"
        found[name] = (letter or "", arg)
    return found


def letters_only(text):
    return re.sub(r"[^A-Za-z|]", "", text or "")


def test_help_lists_every_command():
    text = benchfs("--help").stdout
    listed = re.findall(r"^  (\w+) {2,}", text, re.M)
    assert listed == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal_and_starts_with_the_usage(command):
    lines = help_of(command).splitlines()
    assert lines[0].startswith(f"Usage: benchfs {command} ")
    assert all(len(line) <= 80 for line in lines)


def test_the_man_page_has_every_option_with_its_letter_and_argument():
    documented, known = man_options(), all_options()
    assert documented.keys() == known.keys()
    for name, (letter, arg) in known.items():
        assert documented[name][0] == letter, name
        assert letters_only(documented[name][1]) == letters_only(arg), name


def test_the_man_page_says_which_command_has_which_option():
    """Each section of options names its commands in its title."""
    sections = re.split(r"^\.Ss ", man("benchfs.1"), flags=re.M)[1:]
    for section in sections:
        section = section.split("\n.Sh ")[0]
        title, body = section.split("\n", 1)
        names = [plain(line).split("--")[1].split()[0] for line in re.findall(r"^\.It (Fl .*)$", body, re.M)]
        commands = [c for c in COMMANDS if re.search(rf"\b{c}\b", title.split(":")[-1])]
        assert names and commands
        if "all commands" in title:
            continue
        for name in names:
            has = {c for c in COMMANDS if name in options_of(c)}
            assert has == set(commands) or name in ("transport", "config"), (name, has, commands)
            assert has <= set(commands)


def test_the_synopsis_of_the_man_page_has_every_command():
    synopsis = man("benchfs.1").split(".Sh SYNOPSIS")[1].split(".Sh ")[0]
    assert re.findall(r"^\.Nm benchfs (\w+)$", synopsis, re.M) == COMMANDS


def test_the_manual_of_the_configuration_file_has_every_key():
    keys = re.findall(r"^\.It Cm ([\w-]+) Ns = Ns", man("benchfs.conf.5"), re.M)
    assert len(keys) == len(set(keys))
    assert set(keys) == all_options().keys() - COMMAND_LINE_ONLY


@pytest.mark.parametrize("command", COMMANDS)
def test_the_completion_offers_the_options_of_the_command(command):
    script = f'source "{SOURCE}/completion/benchfs"; _benchfs_options {command}'
    done = subprocess.run(["bash", "-c", script], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert {o.removeprefix("--") for o in done.stdout.split()} == options_of(command).keys()


def test_the_completion_offers_the_commands():
    text = (SOURCE / "completion" / "benchfs").read_text()
    offered = re.search(r'cword == 1.*?-W "([^"]*)"', text, re.S)[1].split()
    assert [w for w in offered if not w.startswith("-")] == COMMANDS


@pytest.mark.parametrize("page", ["benchfs.1", "benchfs.conf.5", "mount.benchfs.8"])
def test_man_pages_are_clean(page):
    if not shutil.which("mandoc"):
        pytest.skip("needs mandoc")
    done = subprocess.run(["mandoc", "-Tlint", SOURCE / "man" / page], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    # What manuals this machine has installed says nothing about the page.
    said = [line for line in done.stdout.splitlines() if "referenced manual not found" not in line]
    assert not said


# ---- what each may say ----

VALUES = {"wait": "1", "chunk-size": "1M", "inline-max": "4K", "reserve": "16M", "channel": "auto", "client": "true",
          "foreground": "false", "log": "debug", "options": "ro", "peers": "127.0.0.1:7001"}


def with_config(tmp_path, text, *args):
    config = tmp_path / "benchfs.conf"
    config.write_text(text)
    # Two mount points: whatever the file says, the end is a sentence and no mount.
    return benchfs("mount", "--config", config, *args, tmp_path, tmp_path)


def test_every_key_is_taken_by_the_configuration_file(tmp_path):
    for name in sorted(all_options().keys() - COMMAND_LINE_ONLY):
        done = with_config(tmp_path, f"[benchfs]\n{name}={VALUES.get(name, 'value')}\n")
        assert done.returncode == 2 and "one too many" in done.stderr, (name, done.stderr)


def test_every_long_option_of_mount_is_taken_by_o(tmp_path):
    for name in sorted(options_of("mount").keys() - COMMAND_LINE_ONLY - {"options"}):
        done = benchfs("mount", "-o", f"ro,{name}={VALUES.get(name, 'value')}", tmp_path, tmp_path)
        assert done.returncode == 2 and "one too many" in done.stderr, (name, done.stderr)


@pytest.mark.parametrize("text,named", [
    ("[benchfs]\nwait=5\n\ncolour=blue\n", ["line 4", "colour"]),
    ("[benchfs]\nwait=soon\n", ["line 2", "wait", "soon"]),
    ("[benchfs]\nlazy=true\n", ["line 2", "lazy"]),
    ("[benchfs]\noptions=rw,frob\n", ["line 2", "frob"]),
    ("[benchfs]\nclient=maybe\n", ["line 2", "client", "maybe"]),
    ("[other]\nwait=5\n", ["other"]),
    ("wait=5\n", ["benchfs.conf"]),
    ("[benchfs]\nnonsense\n", ["benchfs.conf", "nonsense"]),
])
def test_a_wrong_configuration_file_is_refused_by_file_and_line(tmp_path, text, named):
    done = with_config(tmp_path, text)
    assert done.returncode == 2
    assert str(tmp_path / "benchfs.conf") in done.stderr
    for word in named:
        assert word in done.stderr


def test_the_command_line_wins_over_the_file(tmp_path):
    """Seen through what is refused: the file's list is right, the other is not."""
    config = tmp_path / "benchfs.conf"
    config.write_text("[benchfs]\nhostfile=/nonexistent/file\n")
    done = benchfs("serve", "--config", config, "--hostfile", "/nonexistent/command-line")
    assert done.returncode == 2 and "/nonexistent/command-line" in done.stderr
    done = benchfs("serve", "--config", config, "--peers", "bad:port:list")
    assert done.returncode == 2 and "--peers" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--no-such", "--no-such=1", "-Z"])
def test_an_unknown_option_is_refused_by_name(command, option):
    done = benchfs(command, option)
    assert done.returncode == 2 and not done.stdout
    assert option.split("=")[0] in done.stderr and command in done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("benchfs: ")


@pytest.mark.parametrize("name,value", [
    ("wait", "soon"), ("wait", "-1"), ("wait", "1e3"), ("wait", "99999999999999999999"), ("chunk-size", "5000"),
    ("chunk-size", "2G"), ("chunk-size", "4X"), ("chunk-size", ""), ("inline-max", "128K"), ("reserve", "much"),
    ("reserve", "99999999T"), ("channel", "pigeon"), ("log", "loud"), ("log", "attic=debug"), ("peers", ""),
])
def test_a_wrong_value_is_refused_by_name(tmp_path, name, value):
    done = benchfs("mount", "--store", tmp_path / "store", f"--{name}={value}", tmp_path)
    assert done.returncode == 2 and f"--{name}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("args,named", [
    (["mount", "--client", "MNT"], "--peers"),
    (["mount", "--listen", "127.0.0.1", "MNT"], "--listen"),
    (["serve"], "--peers"),
    (["mount", "--store"], "--store"),
    (["umount"], "mount point"),
    (["secret", "one", "two"], "two"),
    (["version", "extra"], "extra"),
    (["info"], "path"),
    (["fsck"], "--online"),
    (["fsck", "--online"], "mount point"),
    (["frobnicate"], "frobnicate"),
])
def test_what_does_not_go_together_is_said(tmp_path, args, named):
    done = benchfs(*[str(tmp_path) if a == "MNT" else a for a in args])
    assert done.returncode == 2 and named in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_o_takes_the_words_of_fstab_and_refuses_others(tmp_path):
    words = "defaults,_netdev,noauto,nofail,user,x-systemd.automount,X-mine=1,comment=mine,ro,noatime,nosuid"
    done = benchfs("mount", "-o", words, tmp_path, tmp_path)
    assert "one too many" in done.stderr
    for wrong in ("rosy", "ro=1", "wait", "lazy", "json=true", "x"):
        done = benchfs("mount", "-o", f"{words},{wrong}", tmp_path)
        assert done.returncode == 2 and wrong in done.stderr, done.stderr


# ---- who a peer is ----

@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    assert benchfs("secret", path).returncode == 0
    return path


def serve(tmp_path, *args):
    """A peer that is refused before it does anything."""
    done = benchfs("serve", "--store", tmp_path / "store", *args)
    assert done.returncode == 2 and not (tmp_path / "store").exists()
    return done.stderr


def test_a_list_without_this_machine_is_refused(tmp_path, secret):
    assert "--listen" in serve(tmp_path, "--secret-file", secret, "--peers", "192.0.2.77,192.0.2.78")


def test_a_list_with_this_machine_twice_needs_listen(tmp_path, secret):
    said = serve(tmp_path, "--secret-file", secret, "--peers", "127.0.0.1:7001,127.0.0.1:7002")
    assert "127.0.0.1:7001" in said and "127.0.0.1:7002" in said and "--listen" in said


def test_listen_must_be_in_the_list(tmp_path, secret):
    said = serve(tmp_path, "--secret-file", secret, "--peers", "127.0.0.1:7001,127.0.0.1:7002", "--listen", "127.0.0.1:7003")
    assert "127.0.0.1:7003" in said


def test_a_secret_that_others_can_read_is_refused(tmp_path, secret):
    for mode in (0o640, 0o604, 0o620):
        secret.chmod(mode)
        said = serve(tmp_path, "--secret-file", secret, "--peers", "127.0.0.1:7001")
        assert str(secret) in said and "chmod 600" in said


def test_a_secret_has_a_least_length(tmp_path, secret):
    secret.write_text("short\n")
    assert str(secret) in serve(tmp_path, "--secret-file", secret, "--peers", "127.0.0.1:7001")


def test_secrets_are_made_once(tmp_path, secret):
    before = secret.read_bytes()
    done = benchfs("secret", secret)
    assert done.returncode == 1 and str(secret) in done.stderr
    assert secret.read_bytes() == before and secret.stat().st_mode & 0o777 == 0o600


# ---- mount.benchfs ----

@pytest.fixture
def helper(tmp_path):
    path = tmp_path / "mount.benchfs"
    path.symlink_to(BENCHFS.resolve())

    def call(*args):
        return subprocess.run([path, *map(str, args)], text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    return call


def test_the_mount_helper_checks_options_and_fakes(helper, tmp_path):
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    done = helper("none", mnt, "-f", "-s", "-n", "-v", "-o", f"rw,_netdev,store={tmp_path}/store", "-t", "fuse.benchfs")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "store").exists() and not os.path.ismount(mnt)


@pytest.mark.parametrize("args,named", [
    (["none"], "usage"), (["none", "MNT", "extra"], "extra"), (["none", "MNT", "-o", "frob"], "frob"),
    (["none", "MNT", "-X"], "-X"), (["none", "MNT", "-o"], "-o"), (["/nonexistent/hosts", "MNT"], "/nonexistent/hosts"),
])
def test_the_mount_helper_refuses_by_name_with_status_1(helper, tmp_path, args, named):
    done = helper(*[tmp_path if a == "MNT" else a for a in args])
    assert done.returncode == 1 and named in done.stderr
