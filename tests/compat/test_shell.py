"""`zabra cli` beside Apache's zkCli.sh: the same scripts, what both print on either output, and their exit codes.

Debian's zkCli is a 3.8.0 and ours follows 3.9: what changed between them stands in CHANGED, one by one. Where ours is
different on purpose stands in OURS. Everything else must be equal, once zxids, times and sessions are taken out.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from kazoo.exceptions import NoAuthError

import flavours
from harness import Server

ZKCLI = Path("/usr/share/zookeeper/bin/zkCli.sh")

# Seconds for a JVM to start and run a script.
SCRIPT_TIMEOUT = 60.0

# Seconds within which a shell on a terminal must have said what is expected.
SOON = 15.0

SET_USAGE = """\
set path data [-s] [-v version] [-b]
 -b         Supply data in base64 format
 -s         Print znode stats additionally
 -v <arg>   Set with an expected version
"""

GET_USAGE = """\
get [-s] [-w] [-b] [-x] path
 -b   Output data in base64 format
 -s   Print znode stats additionally
 -w   Watch for changes on the znode
 -x   Output data in hexdump format
"""

# What 3.9 prints differently from 3.8, as replacements in what 3.8 has printed.
CHANGED = [
    # get and set have options for other forms of data, in the overview ...
    (r"^\tget \[-s\] \[-w\] path$", "\tget [-s] [-w] [-b] [-x] path"),
    (r"^\tset \[-s\] \[-v version\] path data$", "\tset path data [-s] [-v version] [-b]"),
    # ... and their usage has a table of options.
    (r"^get \[-s\] \[-w\] path$", GET_USAGE),
    (r"^set \[-s\] \[-v version\] path data$", SET_USAGE),
]

# What we print differently from any zkCli, as replacements in what zkCli has printed.
OURS = [
    # The option parser's errors without a class of Java's.
    (r"^org\.apache\.commons\.cli\.\w+: ", ""),
    # An ACL of which nothing reads is sent, so that the server's refusal names the path.
    (r"^KeeperErrorCode = InvalidACL$", "KeeperErrorCode = InvalidACL for PATH"),
    (r"^Acl is not valid : null$", "Acl is not valid : PATH"),
    # The version of the shell is its own.
    (r"^ZooKeeper CLI version: .*$", "ZooKeeper CLI version: OWN"),
]

# Logging that finds no back end.
NOISE = re.compile(r"^SLF4J: [^\n]*\n", re.MULTILINE)

# The two halves of an event come from another thread, so that other lines may stand between them.
EVENT = re.compile(r"\nWATCHER::\n|\nWatchedEvent ([^\n]*)\n")


@dataclass
class Told:
    """What one command has printed."""

    out: str
    err: str


def zkcli(server: Server) -> list[str]:
    return [str(ZKCLI), "-server", server.host]


def ours(server: Server) -> list[str]:
    return [str(flavours.zabra_binary()), "cli", "-server", server.host]


def run(command: list[str], given: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=SCRIPT_TIMEOUT)


def script(shell: list[str], commands: list[str]) -> tuple[list[Told], list[str]]:
    """Runs the commands in one shell: what each has printed, and the events."""
    # There is no prompt in a pipe. Behind each command stand two whose answers, one on each output, end its own.
    lines = []
    for n, command in enumerate(commands):
        lines += [command, f"delquota /no/mark-{n}", f"listquota /no/mark-{n}"]
    # Apache's shell prints events in a thread of its own, which also ends a sync.
    done = run(shell, "\n".join([*lines, "sync /", "quit", ""]))
    events = [event for event in EVENT.findall(done.stdout) if event and "state:Closed" not in event]
    out, err = EVENT.sub("", done.stdout), NOISE.sub("", done.stderr)
    out = out[out.index("JLine support is disabled") :].split("\n", 1)[1]
    told = []
    for n in range(len(commands)):
        mark = f"/zookeeper/quota/no/mark-{n}/zookeeper_limits"
        mine, out = out.split(f"Quota does not exist for /no/mark-{n}\n", 1)
        theirs, err = err.split(f"absolute path is {mark}\nquota for /no/mark-{n} does not exist.\n", 1)
        told.append(Told(mine, theirs))
    return told, events


def replaced(text: str, rules: list[tuple[str, str]]) -> str:
    for pattern, by in rules:
        text = re.sub(pattern, lambda _, by=by: by, text, flags=re.MULTILINE)
    return text


def normal(text: str) -> str:
    """Without what no two runs have in common."""
    text = re.sub(r"^([cmp]Zxid) = 0x[0-9a-f]+$", r"\1 = ZXID", text, flags=re.MULTILINE)
    text = re.sub(r"^([cm]time) = \w{3} \w{3} \d\d \d\d:\d\d:\d\d \S+ \d{4}$", r"\1 = TIME", text, flags=re.MULTILINE)
    # Apache's hash tables decide on the order of ephemerals, and of the servers of `config -c`.
    lists = re.compile(r"^0 (127\.\S+)$|^\[(/.*)\]$", re.MULTILINE)
    text = lists.sub(lambda found: "\n".join(sorted(re.split(", ?", found[1] or found[2]))), text)
    return re.sub(r"^ephemeralOwner = 0x[1-9a-f][0-9a-f]*$", "ephemeralOwner = SESSION", text, flags=re.MULTILINE)


def start_over(connected, ensemble, server: Server, root: str) -> None:
    """Removes what a script has left, also what nobody may read."""
    client = connected(ensemble.server("leader").host)
    client.add_auth("digest", "bob:secret")

    def remove_below(path: str) -> None:
        try:
            children = client.get_children(path)
        except NoAuthError:
            return  # it has none
        for child in children:
            remove_below(f"{path}/{child}")
            client.delete(f"{path}/{child}")

    remove_below(root)
    connected(server.host).sync(root)


def tree(root: str) -> list[str]:
    """Making, reading, changing and deleting znodes."""
    a, s = f"{root}/a", f"{root}/s"
    return [
        f'create {a} "hello world"',
        f"create {a}",
        f"create {root}/none/below x",
        f"create {root}/nothing",
        f"get {root}/nothing",
        f"create {root}/empty ''",
        f"get {root}/empty",
        f"create {s}",
        f"create -s {s}/n- 1",
        f"create {s}/n- 2 -s",
        f"create -e {root}/mine x",
        f"create -s -e {s}/e- x",
        f"create {root}/mine/child x",
        f"stat {root}/mine",
        f"create -c {root}/container",
        f"create -c -s {root}/container2",
        f"create -t x {root}/ttl",
        f"create -t 0 {root}/ttl",
        f"create -t -5 {root}/ttl",
        f"create -t 5000 -e {root}/ttl",
        f"create -t 5000 -c {root}/ttl",
        "create -t",
        f"create -t -s {root}/ttl",
        "create",
        f"create -q {a}",
        f"get {a}",
        f"get -s {a}",
        f"get {a} -s",
        f"get {root}/missing",
        "get",
        f"get -z {a}",
        f"set {a} changed",
        f"set -s {a} 'changed again'",
        f"set -v 1 {a} late",
        f"set -v2 {a} x",
        f"set {a} y -v 3",
        f"set {a}",
        "set",
        f"set {root}/missing x",
        f"ls {root}",
        f"ls -s {s}",
        f"ls {root}/missing",
        f"ls -R {root}",
        f"ls -R {root}/missing",
        "ls",
        f"stat {root}/missing",
        f"stat {a}",
        "stat",
        f"stat -w {a} -x",
        f"delete {root}",
        f"delete {root}/missing",
        f"delete -v 1 {a}",
        "delete",
        "delete -v",
        f"getEphemerals {root}",
        f"getEphemerals {root}/none",
        f"getAllChildrenNumber {root}",
        f"getAllChildrenNumber {root}/missing",
        "getAllChildrenNumber",
        f"deleteall {s} -b 2",
        f"deleteall {root}/missing",
        f"deleteall {a} -b x",
        "deleteall",
        f"ls {root}",
    ]


def paths_and_words(root: str) -> list[str]:
    """What is no path, and how lines are split."""
    return [
        "get relative",
        f"get {root}/",
        f"get {root}//a",
        f"get {root}/./a",
        f"get {root}/../a",
        'get ""',
        "ls /.",
        "stat a",
        "set a b",
        "delete /a/",
        "create /a/ x",
        "deleteall //",
        "getAcl x",
        "sync x",
        f"create '{root}/two words' \"a  b\"",
        f'get "{root}/two words"',
        f"create {root}/it's it's",
        f"get {root}/it's",
        f'create {root}/json {{"k":"v"}}',
        f"get {root}/json",
        f'set {root}/json "open',
        f"get {root}/json",
        f"  get   {root}/json  ",
        f"create {root}/dash -- -x",
        f"get {root}/dash",
        f"set {root}/dash -",
        f"get {root}/dash",
        f"create {root}/ä ö",
        f"get {root}/ä",
        "fly",
        "LS /",
    ]


def acls(root: str) -> list[str]:
    """Permissions and identities."""
    a = f"{root}/acl"
    return [
        f"create {a} x",
        f"getAcl {a}",
        f"getAcl -s {a}",
        "getAcl",
        f"getAcl {root}/missing",
        f"setAcl {a} world:anyone:crw",
        f"setAcl -s {a} world:anyone:crwa",
        f"setAcl -v 0 {a} world:anyone:r",
        f"setAcl {a} nonsense",
        f"setAcl {a} world:anyone:rz",
        f"setAcl {a}",
        f"create {root}/bad x foo:bar:r",
        f"create {root}/bad x nonsense",
        f"getAcl {a}",
        "whoami",
        "addauth",
        "addauth digest bob:secret",
        "whoami",
        f"create {root}/bobs x auth::cdrwa",
        f"getAcl {root}/bobs",
        f"create {root}/digest x digest:carol:aGFzaA==:rw",
        f"get {root}/digest",
        f"set {root}/digest y",
        f"setAcl {root}/digest world:anyone:r",
        f"create {root}/t x",
        f"create {root}/t/u x",
        f"setAcl -R {root}/t world:anyone:cdrwa,ip:127.0.0.1:r",
        f"getAcl {root}/t/u",
        f"setAcl -R {root}/missing world:anyone:r",
    ]


def quotas(root: str) -> list[str]:
    """Limits."""
    q = f"{root}/q"
    return [
        f"create {q} x",
        f"create {q}/below x",
        f"setquota -n 10 {q}",
        f"setquota -b 1000 {q}",
        f"setquota -N 100 {q}",
        f"setquota -B 10000 {q}",
        f"listquota {root}/missing",
        f"setquota -n 5 {q}/below",
        f"setquota -n 5 {root}",
        f"setquota -n 5 {root}/missing",
        f"setquota -n 0 {q}",
        f"setquota -b -1 {q}",
        f"setquota -n x {q}",
        f"setquota {q}",
        f"setquota -n 1 -b 2 {q}",
        "setquota -n 5 /zookeeper/quota/x",
        "setquota",
        f"delquota -n {q}",
        f"get /zookeeper/quota{q}/zookeeper_limits",
        f"delquota -b -B {q}",
        f"delquota {q}",
        f"delquota {q}",
        "delquota",
        "listquota",
        f"stat /zookeeper/quota{q}",
    ]


def odds_and_ends(root: str) -> list[str]:
    """The shell itself, the ensemble, watches that stay, old forms."""
    a = f"{root}/a"
    return [
        f"create {a} x",
        "history",
        "printwatches",
        "printwatches off",
        "printwatches",
        "printwatches on",
        "redo 0",
        "redo 9999",
        "version",
        "version x",
        "sync",
        f"sync {a}",
        "config",
        "config -s",
        "config -c",
        "reconfig",
        "reconfig -remove 9",
        "reconfig -v zz -remove 9",
        "reconfig -add x -members y",
        "reconfig -file x -members y",
        "addWatch",
        f"addWatch -m foo {a}",
        f"addWatch {a}",
        f"removewatches {a}",
        f"removewatches {a}",
        f"removewatches -c {a}",
        "removewatches",
        f"get {a} watch",
        f"stat {a} watch",
        f"ls {a} watch",
        f"removewatches -d {a}",
        f"removewatches {a} -a",
    ]


SCRIPTS = [tree, paths_and_words, acls, quotas, odds_and_ends]


def test_both_shells_print_the_same(ensemble, connected, root):
    server = ensemble.server("follower")
    commands = [command for part in SCRIPTS for command in part(root)]
    theirs, their_events = script(zkcli(server), commands)
    start_over(connected, ensemble, server, root)
    mine, my_events = script(ours(server), commands)
    differences = []
    for command, their, my in zip(commands, theirs, mine):
        for name in ("out", "err"):
            expected = normal(replaced(replaced(getattr(their, name), CHANGED), OURS))
            told = normal(replaced(getattr(my, name), OURS))
            # An ACL that the client would not send has no path in its error.
            if "PATH" in expected:
                expected = expected.replace("PATH", next(w for w in command.split() if w.startswith("/")))
            if expected != told:
                differences.append(f"{command} on {name}:\n--- zkCli\n{expected}\n--- ours\n{told}")
    assert not differences, "\n\n".join(differences)
    assert len(commands) > 150
    # In 3.9 events carry a zxid.
    assert [re.sub(r" zxid: -?\d+$", "", event) for event in my_events] == their_events
    assert all(re.search(r" zxid: -?\d+$", event) for event in my_events)


def test_both_shells_print_the_same_events(ensemble, connected, root):
    a = f"{root}/a"
    commands = [
        f"create {a} 0",
        f"get -w {a}",
        f"set {a} 1",
        f"stat -w {root}/later",
        f"create {root}/later",
        f"ls -w {root}",
        f"create {root}/b",
        f"addWatch -m PERSISTENT {root}",
        f"create {root}/c",
        f"delete {root}/c",
        # Apache's shell would go on with the mode of the last time.
        f"addWatch -m PERSISTENT_RECURSIVE {a}",
        f"create {a}/b",
        f"set {a}/b x",
        f"delete {a}/b",
        f"stat -w {a}",
        f"delete {a}",
        # What is on its way is printed, or not, before the switch is thrown.
        f"sync {root}",
        "printwatches off",
        f"set {root} x",
        f"sync {root}",
        "printwatches on",
        f"set {root} y",
    ]
    server = ensemble.server("follower")
    _, theirs = script(zkcli(server), commands)
    start_over(connected, ensemble, server, root)
    _, mine = script(ours(server), commands)
    assert [re.sub(r" zxid: -?\d+$", "", event) for event in mine] == theirs
    assert len(theirs) > 10
    zxids = [int(event.rsplit(" ", 1)[1]) for event in mine if " type:Node" in event]
    if flavours.kind() == "zabra":
        assert zxids == sorted(zxids)
        assert zxids[0] > 0, "our servers say it, as 3.9's"


def test_both_shells_have_the_same_exit_codes(ensemble, root):
    server = ensemble.server("follower")
    for arguments, given, code in [
        (["get", root], "", 0),
        (["get", f"{root}/missing"], "", 1),
        (["fly"], "", 127),
        ([], f"get {root}/missing\nquit\n", 1),
    ]:
        theirs, mine = (run([*shell(server), *arguments], given) for shell in (zkcli, ours))
        assert (theirs.returncode, mine.returncode) == (code, code), arguments
        said = [EVENT.sub("", done.stdout) for done in (theirs, mine)]
        assert said[0] == said[1]
        assert replaced(NOISE.sub("", theirs.stderr), CHANGED) == mine.stderr


class Terminal:
    """Our shell on a pseudo-terminal."""

    def __init__(self, server: Server, history: Path, *options: str) -> None:
        self.told = ""
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "CLICOLOR")}
            environment |= {"TERM": "xterm", "ZABRA_CLI_HISTORY": str(history)}
            command = [*ours(server), *options]
            os.execve(command[0], command, environment)

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def expect(self, pattern: str) -> str:
        """Reads until the pattern is there; returns what stood before it, and forgets both."""
        deadline = time.monotonic() + SOON
        while not (found := re.search(pattern, self.told)):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.told!r}"
            if select.select([self._terminal], [], [], 0.1)[0]:
                try:
                    self.told += os.read(self._terminal, 65536).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"it ended, and no {pattern!r} in {self.told!r}") from None
        before, self.told = self.told[: found.start()], self.told[found.end() :]
        return before

    def prompt(self, number: int) -> str:
        # A prompt is drawn with the cursor moved behind it.
        return self.expect(rf"\[zk: \S+\({GREEN}CONNECTED{PLAIN}\) {number}\] \r\x1b\[\d+C")

    def exit_code(self) -> int:
        """Reads on until it has ended."""
        deadline = time.monotonic() + SOON
        try:
            while select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.told += os.read(self._terminal, 65536).decode(errors="replace")
        except OSError:
            pass  # its end of the terminal is closed
        else:
            os.kill(self._process, signal.SIGKILL)
            raise AssertionError(f"it goes on, and has said {self.told!r}")
        status = os.waitpid(self._process, 0)[1]
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)


GREEN, PLAIN, RED = r"\x1b\[32m", r"\x1b\[0m", r"\x1b\[31m"


def test_terminal(ensemble, connected, root, tmp_path):
    server = ensemble.server("leader")
    history = tmp_path / "state" / "history"
    shell = Terminal(server, history)
    shell.expect("Welcome to ZooKeeper!")
    shell.prompt(0)
    # Tab completes a command, then a path.
    shell.type("dele")
    shell.type("\t\t")
    shell.expect(r"delete\s+deleteall")
    shell.type("\x03")
    shell.prompt(0)
    shell.type(f"crea\t{root}/child 'some data'\r")
    shell.expect(f"Created {root}/child")
    shell.prompt(1)
    shell.type(f"get -w {root}/ch\t\r")
    shell.expect("some data\r\n")
    shell.prompt(2)
    # An event comes while somebody types, and what was typed stays.
    shell.type(f"stat {root}")
    shell.expect("stat ")
    client = connected(server.host)
    client.set(f"{root}/child", b"other data")
    shell.expect(rf"WatchedEvent state:SyncConnected type:NodeDataChanged path:{root}/child")
    shell.type("/nothing\r")
    shell.expect(rf"{RED}Node does not exist: {root}/nothing{PLAIN}")
    shell.prompt(3)
    # A secret, and Ctrl-D.
    shell.type("addauth digest bob:secret\r")
    shell.prompt(4)
    shell.type("\x04")
    assert shell.exit_code() == 0

    kept = history.read_text()
    assert f"get -w {root}/child" in kept and "secret" not in kept
    assert history.stat().st_mode & 0o077 == 0
    # The next run knows what was typed in the one before.
    shell = Terminal(server, history)
    shell.prompt(0)
    shell.type("\x1b[A\x1b[A\r")
    shell.expect("other data\r\n")
    shell.prompt(1)
    shell.type("quit\r")
    assert shell.exit_code() == 0


def test_no_colours_when_they_are_not_wanted(ensemble, root, tmp_path):
    server = ensemble.server("leader")
    shell = Terminal(server, tmp_path / "history", "--color", "never")
    shell.expect(r"\[zk: \S+\(CONNECTED\) 0\] ")
    shell.type(f"stat {root}\r")
    assert "\x1b[36m" not in shell.expect("numChildren = ")
    # The end of input is one only once the shell reads keys again.
    shell.expect(r"\[zk: \S+\(CONNECTED\) 1\] ")
    shell.type("\x04")
    assert shell.exit_code() == 0
    piped = run(ours(server), f"stat {root}\nget /missing\n")
    assert "\x1b" not in piped.stdout + piped.stderr
    coloured = run([*ours(server), "--color", "always"], f"stat {root}\n")
    assert "\x1b[36mcZxid\x1b[0m = " in coloured.stdout
