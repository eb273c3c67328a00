"""The zxid counter is used up: the next epoch begins, and no client notices."""

from __future__ import annotations

import threading
import time

import pytest

import flavours
from clients import SOON
from harness import Ensemble, Server, until

EPOCH_LENGTH = 100

WRITES = 600

pytestmark = pytest.mark.skipif(flavours.kind() == "apache", reason="Apache's leader stands down for it")


def epoch(zxid: int) -> int:
    return zxid >> 32


class Writer(threading.Thread):
    """Writes to its own znode by one server, one write after the other, and says what it has seen."""

    def __init__(self, server: Server, connected) -> None:
        super().__init__()
        self.states: list[str] = []
        self.client = connected(server.host)
        self.client.add_listener(self.states.append)
        self.path = f"/by-{server.sid}"
        self.client.create(self.path, ephemeral=True)
        self.zxids: list[int] = []
        self.slowest = 0.0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            for number in range(WRITES):
                began = time.monotonic()
                stat = self.client.set(self.path, b"%d" % number, version=number)
                self.slowest = max(self.slowest, time.monotonic() - began)
                assert self.client.get(self.path)[0] == b"%d" % number
                self.zxids.append(stat.mzxid)
        except Exception as failure:  # told by the test's own thread
            self.failure = failure


@pytest.fixture(scope="module")
def rolling(new_ensemble):
    with new_ensemble(epoch_length=EPOCH_LENGTH) as ensemble:
        ensemble.start()
        yield ensemble


def test_no_client_notices(rolling: Ensemble, connected, measured) -> None:
    """Writers at every server, and a watcher: all is done, in order, by the same connections and the same leader."""
    leader = rolling.server("leader")
    watcher = connected(rolling.server("follower").host)
    heard: list[int] = []
    watcher.create("/watched")

    def watch(_event) -> None:
        heard.append(watcher.get("/watched", watch=watch)[1].version)

    watcher.get("/watched", watch=watch)
    writers = [Writer(server, connected) for server in rolling.servers]
    for writer in writers:
        writer.start()
    for version in range(50):
        watcher.set("/watched", b"", version=version)
    for writer in writers:
        writer.join()
    for writer in writers:
        assert writer.failure is None
        assert writer.states == [], "its connection has changed"
        assert len(writer.zxids) == WRITES and writer.zxids == sorted(set(writer.zxids))
        assert writer.client.sync(writer.path)
    until(lambda: heard and heard[-1] == 50, "the watcher has seen the last version", SOON)
    last = max(zxid for writer in writers for zxid in writer.zxids)
    rolled = epoch(last) - epoch(min(writer.zxids[0] for writer in writers))
    assert rolled >= len(writers) * WRITES // EPOCH_LENGTH - 1
    assert rolling.server("leader") is leader
    slowest = max(writer.slowest for writer in writers)
    measured(f"{rolled} epochs without an election: {slowest * 1000:.0f} ms for the slowest write")


def test_the_next_election_knows(rolling: Ensemble, connected) -> None:
    """After as many epochs as there were, the leader's end and a restart of all are as they always were."""
    client = connected(rolling.server("observer").host)
    before = client.exists("/watched")
    leader = rolling.server("leader")
    leader.kill()
    leader.start()
    rolling.wait_serving()
    client.set("/watched", b"after the leader")
    rolling.terminate_all()
    rolling.start()
    client = connected(rolling.hosts)
    data, stat = client.get("/watched")
    assert (data, stat.version) == (b"after the leader", before.version + 1)
    assert epoch(stat.mzxid) > epoch(before.mzxid)


def test_alone(new_ensemble, connected) -> None:
    """A server that is alone goes on in the same way."""
    with new_ensemble(participants=1, observers=0, epoch_length=EPOCH_LENGTH) as ensemble:
        ensemble.start()
        writer = Writer(ensemble.servers[0], connected)
        writer.run()
        assert writer.failure is None
        assert writer.states == []
        assert epoch(writer.zxids[-1]) - epoch(writer.zxids[0]) >= WRITES // EPOCH_LENGTH - 1
