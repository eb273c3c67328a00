"""Apache's own shell, zkCli.sh, with scripts on its standard input: first the tutorial, then what goes wrong."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness import Server

ZKCLI = Path("/usr/share/zookeeper/bin/zkCli.sh")

# Seconds for a JVM to start and run a script.
SCRIPT_TIMEOUT = 60.0


class Shell:
    """zkCli.sh against one server."""

    def __init__(self, server: Server) -> None:
        self._command = [str(ZKCLI), "-server", server.host]

    def script(self, *commands: str) -> list[str]:
        """Runs the commands in one shell and returns what each printed, on whichever output."""
        # Without a terminal the shell shows no prompt, so a question for a znode that cannot be stands
        # behind each command, and its answer ends the command's output.
        lines = [line for n, command in enumerate(commands) for line in (command, f"stat /no/mark-{n}")]
        told = self._run([], "\n".join([*lines, "quit", ""])).stdout
        told = told[told.index("JLine support is disabled") :].split("\n", 1)[1]
        # Watch events and a logger that finds no back end come between the lines whenever they come.
        told = re.sub(r"\nWATCHER::\n\nWatchedEvent [^\n]*\n|^SLF4J: [^\n]*\n", "", told, flags=re.MULTILINE)
        outputs = []
        for n in range(len(commands)):
            output, told = told.split(f"Node does not exist: /no/mark-{n}\n", 1)
            outputs.append(output.strip("\n"))
        return outputs

    def events(self, *commands: str) -> list[str]:
        """Runs the commands in one shell and returns the watch events it printed."""
        told = self._run([], "\n".join([*commands, "quit", ""])).stdout
        return re.findall(r"WatchedEvent state:SyncConnected type:(Node\S+ path:\S+)", told)

    def one(self, *command: str) -> tuple[int, str]:
        """Runs one command given as arguments; its exit code and what it printed."""
        done = self._run(list(command), "")
        return done.returncode, done.stdout

    def _run(self, arguments: list[str], given: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self._command + arguments,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SCRIPT_TIMEOUT,
        )


@pytest.fixture
def shell(ensemble):
    return Shell(ensemble.server("follower"))


def fields(block: str) -> dict[str, str]:
    """The `name = value` lines of a Stat."""
    return dict(re.findall(r"^(\w+) = (.*)$", block, re.MULTILINE))


def test_tutorial(shell, root):
    node, child = f"{root}/node1", f"{root}/node1/node1.1"
    outputs = shell.script(
        f'create {node} "node1"',
        f"create {child} 123",
        f"get {node}",
        f"set {node} changed",
        f"get -s {node}",
        f"ls {root}",
        f"ls {node}",
        f"stat {node}",
        f"delete {node}",
        f"delete {child}",
        f"delete {node}",
        f"ls {root}",
    )
    created, created_child, got, was_set, got_stat, in_root, in_node, stat, refused, gone, gone_too, empty = outputs
    assert created == f"Created {node}"
    assert created_child == f"Created {child}"
    assert got == "node1"
    assert was_set == ""
    assert got_stat.splitlines()[0] == "changed"
    assert in_root == "[node1]"
    assert in_node == "[node1.1]"
    shown = fields(stat)
    assert shown == fields(got_stat)
    assert list(shown) == [
        *("cZxid", "ctime", "mZxid", "mtime", "pZxid", "cversion", "dataVersion", "aclVersion"),
        *("ephemeralOwner", "dataLength", "numChildren"),
    ]
    assert (shown["dataVersion"], shown["cversion"], shown["aclVersion"]) == ("1", "1", "0")
    assert (shown["ephemeralOwner"], shown["dataLength"], shown["numChildren"]) == ("0x0", "7", "1")
    zxids = [int(shown[name], 16) for name in ("cZxid", "pZxid", "mZxid")]
    assert zxids == sorted(set(zxids)), "created, then got a child, then changed"
    assert refused == f"Node not empty: {node}"
    assert (gone, gone_too, empty) == ("", "", "[]")


def test_create_flags(shell, ensemble, connected, root):
    outputs = shell.script(
        f"create -s {root}/s- one",
        f"create -s {root}/s- two",
        f"create -e {root}/e mine",
        f"create -s -e {root}/es- mine",
        f"stat {root}/e",
        f"ls {root}",
        f"create {root}/e/child x",
        f"create {root}/null",
        f"get {root}/null",
    )
    assert outputs[:4] == [
        f"Created {root}/s-0000000000",
        f"Created {root}/s-0000000001",
        f"Created {root}/e",
        f"Created {root}/es-0000000003",
    ]
    assert int(fields(outputs[4])["ephemeralOwner"], 16) != 0
    assert outputs[5] == "[e, es-0000000003, s-0000000000, s-0000000001]"
    assert outputs[6] == f"Ephemerals cannot have children: {root}/e/child"
    assert outputs[7:] == [f"Created {root}/null", "null"]
    # The shell has quit, and its ephemerals went with its session.
    client = connected(ensemble.server("leader").host)
    assert sorted(client.get_children(root)) == ["null", "s-0000000000", "s-0000000001"]


def test_refusals(shell, root):
    assert shell.script(
        f"get {root}/missing",
        f"set {root}/missing x",
        f"delete {root}/missing",
        f"ls {root}/missing",
        f"create {root}/missing/child x",
        f"create {root} x",
        f"set -v 7 {root} x",
        f"delete -v 7 {root}",
        "get relative",
    ) == [
        f"Node does not exist: {root}/missing",
        f"Node does not exist: {root}/missing",
        f"Node does not exist: {root}/missing",
        f"Node does not exist: {root}/missing",
        f"Node does not exist: {root}/missing/child",
        f"Node already exists: {root}",
        f"version No is not valid : {root}",
        f"version No is not valid : {root}",
        "Path must start with / character",
    ]


def test_versions(shell, root):
    outputs = shell.script(
        f"create {root}/v 0",
        f"set -v 0 {root}/v 1",
        f"set -s {root}/v 2",
        f"delete -v 1 {root}/v",
        f"delete -v 2 {root}/v",
        f"stat {root}/v",
    )
    assert fields(outputs[2])["dataVersion"] == "2"
    assert outputs[3] == f"version No is not valid : {root}/v"
    assert outputs[4:] == ["", f"Node does not exist: {root}/v"]


def test_subtrees(shell, root):
    outputs = shell.script(
        f"create {root}/t",
        f"create {root}/t/a",
        f"create {root}/t/a/b",
        f"create {root}/t/c",
        f"ls -R {root}",
        f"ls -s {root}/t",
        f"deleteall {root}/t",
        f"ls {root}",
        "sync /",
    )
    assert sorted(outputs[4].splitlines()) == [root, *(f"{root}/t{below}" for below in ("", "/a", "/a/b", "/c"))]
    assert outputs[5].splitlines()[0] == "[a, c]"
    assert fields(outputs[5])["numChildren"] == "2"
    assert outputs[6:] == ["", "[]", "Sync is OK"]


def test_acls(shell, root):
    outputs = shell.script(
        f"getAcl {root}",
        "addauth digest alice:secret",
        f"create {root}/hers x auth::cdrwa",
        f"getAcl {root}/hers",
        f"create {root}/open x",
        f"setAcl {root}/open world:anyone:r",
        f"getAcl -s {root}/open",
        f"set {root}/open y",
        f"create {root}/bad x nonsense:acl:r",
    )
    assert outputs[0] == "'world,'anyone\n: cdrwa"
    assert re.fullmatch(r"'digest,'alice:[A-Za-z0-9+/=]{28}\n: cdrwa", outputs[3])
    assert outputs[6].startswith("'world,'anyone\n: r")
    assert fields(outputs[6])["aclVersion"] == "1"
    assert outputs[7] == f"Insufficient permission : {root}/open"
    assert outputs[8].splitlines()[-1] == f"Acl is not valid : {root}/bad"
    stranger = shell.script(f"get {root}/hers", f"getAcl {root}/hers", "addauth digest alice:secret", f"get {root}/hers")
    assert stranger[0] == stranger[1] == f"Insufficient permission : {root}/hers"
    assert stranger[3] == "x"


def test_watches(shell, root):
    events = shell.events(
        f"create {root}/w 0",
        f"get -w {root}/w",
        f"set {root}/w 1",
        f"ls -w {root}",
        f"create {root}/x 0",
        f"stat -w {root}/w",
        f"delete {root}/w",
    )
    assert events == [
        f"NodeDataChanged path:{root}/w",
        f"NodeChildrenChanged path:{root}",
        f"NodeDeleted path:{root}/w",
    ]


def test_watches_that_stay(shell, root):
    events = shell.events(
        f"create {root}/w 0",
        f"addWatch -m PERSISTENT {root}/w",
        f"set {root}/w 1",
        f"set {root}/w 2",
        f"create {root}/w/c 0",
        f"removewatches {root}/w",
        f"set {root}/w 3",
        f"addWatch -m PERSISTENT_RECURSIVE {root}",
        f"create {root}/w/d 0",
        f"delete {root}/w/d",
    )
    assert events == [
        f"NodeDataChanged path:{root}/w",
        f"NodeDataChanged path:{root}/w",
        f"NodeChildrenChanged path:{root}/w",
        f"NodeCreated path:{root}/w/d",
        f"NodeDeleted path:{root}/w/d",
    ]


def test_what_the_server_knows(shell, ensemble, root):
    outputs = shell.script(
        f"create -e {root}/e",
        f"create {root}/p",
        f"getEphemerals {root}",
        f"getAllChildrenNumber {root}",
        "addauth digest bob:secret",
        "whoami",
        "config",
        "reconfig -remove 3",
    )
    assert outputs[2:4] == [f"[{root}/e]", "2"]
    assert {"ip: 127.0.0.1", "digest: bob"} <= set(outputs[5].splitlines())
    assert [line.partition("=")[0] for line in outputs[6].splitlines()] == [
        *(f"server.{each.sid}" for each in ensemble.servers),
        "version",
    ]
    assert "Reconfig is disabled" in outputs[7]


def test_exit_codes(shell, root):
    assert shell.one("create", f"{root}/a", "x")[0] == 0
    code, told = shell.one("get", f"{root}/a")
    assert code == 0
    assert told.splitlines()[-1] == "x"
    code, told = shell.one("get", f"{root}/missing")
    assert code == 1
    assert f"Node does not exist: {root}/missing" in told


def test_many_servers_and_chroot(ensemble, connected, root):
    command = [str(ZKCLI), "-server", f"{ensemble.hosts}{root}", "create", "/inside", "x"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SCRIPT_TIMEOUT)
    assert done.returncode == 0
    client = connected(ensemble.server("leader").host)
    client.sync(root)
    assert client.get(f"{root}/inside")[0] == b"x"
