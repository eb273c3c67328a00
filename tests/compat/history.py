"""Clients that write without pause and remember what they were promised, and the check of those promises.

A write has one of two fates: it is acknowledged, and must be there for good, exactly; or its connection broke
before an answer came, and it may be there or not, but nothing in between. A znode that nobody tried to write must
not be there at all. In the end all servers must show the same tree, to the last field of each Stat.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from kazoo.exceptions import (
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    OperationTimeoutError,
    SessionExpiredError,
)
from kazoo.protocol.states import ZnodeStat

from clients import close, connect
from harness import Server

# The answer is lost, the write perhaps not.
IN_DOUBT = (ConnectionLoss, ConnectionClosedError, OperationTimeoutError, SessionExpiredError)

# Seconds until a writer's request must have an answer, whatever happens to the servers: the length of the longest
# outage that a test causes, and of the recovery after it.
ANSWER_TIMEOUT = 60.0

# Seconds between a writer's requests: keeps the trees, which are read whole in the end, at some thousand znodes.
PACE = 0.004

# Requests on their way at once when a tree is read.
READ_BATCH = 200


@dataclass
class Promises:
    """What one writer knows."""

    # Path to data and creation zxid.
    created: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    # Path to data: perhaps created.
    maybe_created: dict[str, bytes] = field(default_factory=dict)
    # The last acknowledged version of the register, and what was written with it.
    register: tuple[int, bytes] = (0, b"")
    # Values of the register whose fate is unknown.
    maybe_register: set[bytes] = field(default_factory=set)
    # When each acknowledgement came, by the monotonic clock.
    acked_at: list[float] = field(default_factory=list)


class Writer(threading.Thread):
    """Creates znodes below `home` and counts up a register beside them, one request at a time."""

    def __init__(self, hosts: str, home: str) -> None:
        super().__init__(daemon=True)
        self.home = home
        self.promises = Promises()
        self.failure: BaseException | None = None
        self._client = connect(hosts)
        self._progress = threading.Condition()
        self._enough = threading.Event()
        self._client.create(home)
        self._client.create(self._register, b"")

    @property
    def _register(self) -> str:
        return f"{self.home}/register"

    def run(self) -> None:
        try:
            number = 0
            while not self._enough.wait(PACE):
                number += 1
                self._create(number)
                self._count_up(number)
        except BaseException as failure:  # noqa: BLE001 - raised again in `finish` and `wait_acks`
            self.failure = failure
            with self._progress:
                self._progress.notify_all()

    def _create(self, number: int) -> None:
        path, data = f"{self.home}/n{number:08}", f"{self.home} {number}".encode()
        try:
            stat = self._client.create_async(path, data, include_data=True).get(timeout=ANSWER_TIMEOUT)[1]
        except IN_DOUBT:
            self.promises.maybe_created[path] = data
        else:
            self.promises.created[path] = (data, stat.czxid)
            self._acked()

    def _count_up(self, number: int) -> None:
        """A conditional write, so that one that comes late cannot undo a later one."""
        version, value = self.promises.register[0], b"%d" % number
        try:
            stat = self._client.set_async(self._register, value, version).get(timeout=ANSWER_TIMEOUT)
        except IN_DOUBT:
            self.promises.maybe_register.add(value)
        except BadVersionError:
            self._read_register()
        else:
            assert stat.version == version + 1
            self.promises.register = (stat.version, value)
            self._acked()

    def _read_register(self) -> None:
        """A write in doubt has happened after all: take it for acknowledged."""
        try:
            value, stat = self._client.get_async(self._register).get(timeout=ANSWER_TIMEOUT)
        except IN_DOUBT:
            return
        assert stat.version > self.promises.register[0], "a refused version was not newer than the one we know"
        assert value in self.promises.maybe_register, f"{self._register} has {value!r}, which was never in doubt"
        self.promises.register = (stat.version, value)

    def _acked(self) -> None:
        with self._progress:
            self.promises.acked_at.append(time.monotonic())
            self._progress.notify_all()

    def wait_acks(self, number: int, timeout: float) -> None:
        """Waits for that many acknowledgements from now on."""
        with self._progress:
            goal = len(self.promises.acked_at) + number
            reached = self._progress.wait_for(
                lambda: self.failure or len(self.promises.acked_at) >= goal, timeout=timeout
            )
        if self.failure:
            raise self.failure
        if not reached:
            missing = goal - len(self.promises.acked_at)
            raise TimeoutError(f"{self.home}: {missing} of {number} acknowledgements missing after {timeout:g} s")

    def finish(self) -> Promises:
        """Stops writing and hands over the promises."""
        self._enough.set()
        self.join(ANSWER_TIMEOUT)
        assert not self.is_alive(), f"{self.home}: the last request is never answered"
        self.abandon()
        if self.failure:
            raise self.failure
        return self.promises

    def abandon(self) -> None:
        """Stops writing, whatever became of the last request."""
        self._enough.set()
        close(self._client)


def longest_gap(promises: list[Promises], since: float, until: float) -> float:
    """Seconds of the longest time between these moments in which nobody's write was acknowledged."""
    acked = sorted(moment for each in promises for moment in each.acked_at if since < moment < until)
    times = [since, *acked, until]
    return max(later - earlier for earlier, later in zip(times, times[1:]))


Tree = dict[str, tuple[bytes, ZnodeStat]]


def read_tree(server: Server, root: str) -> Tree:
    """Everything at and below `root` as this server shows it after a sync."""
    client = connect(server.host)
    try:
        client.sync(root)
        tree: Tree = {}
        level = [root]
        while level:
            deeper = []
            for start in range(0, len(level), READ_BATCH):
                batch = level[start : start + READ_BATCH]
                values = [client.get_async(path) for path in batch]
                children = [client.get_children_async(path) for path in batch]
                for path, value, names in zip(batch, values, children):
                    tree[path] = value.get(timeout=ANSWER_TIMEOUT)
                    deeper += [f"{path.rstrip('/')}/{name}" for name in names.get(timeout=ANSWER_TIMEOUT)]
            level = deeper
        return tree
    finally:
        close(client)


def check_promises(tree: Tree, home: str, promises: Promises) -> None:
    """Every acknowledged write is there, exactly, and nothing that was never asked for."""
    for path, (data, czxid) in promises.created.items():
        assert path in tree, f"{path} was acknowledged and is lost"
        found, stat = tree[path]
        assert (found, stat.czxid, stat.version) == (data, czxid, 0), f"{path} is not as acknowledged: {stat}"
    register = f"{home}/register"
    for path, (data, _) in tree.items():
        if path.startswith(f"{home}/n") and path not in promises.created:
            assert promises.maybe_created.get(path) == data, f"{path} is there and nobody asked for it"
    version, value = promises.register
    found, stat = tree[register]
    assert stat.version >= version, f"{register} went back from version {version} to {stat.version}"
    if stat.version == version:
        assert found == value
    else:
        assert found in promises.maybe_register


def check_agreement(servers: list[Server], root: str) -> Tree:
    """All these servers show the same tree; returns it."""
    first, *others = servers
    tree = read_tree(first, root)
    for other in others:
        its_tree = read_tree(other, root)
        differing = {path for path in tree.keys() | its_tree.keys() if tree.get(path) != its_tree.get(path)}
        assert not differing, "\n".join(
            [f"{first} and {other} differ in {len(differing)} znodes"]
            + [f"{path}: {tree.get(path)} and {its_tree.get(path)}" for path in sorted(differing)[:5]]
        )
    return tree
