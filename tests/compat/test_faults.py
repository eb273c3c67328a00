"""Real processes that are killed, stopped and paused while clients write to them without pause.

Each test ends with the same demand: all servers are back, service has resumed within a bounded wait, every
acknowledged write is there exactly as acknowledged, and all servers show the same tree.
"""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import contextmanager

import pytest

import flavours
from clients import SOON, connect, close
from harness import Ensemble, Server, until
from history import Promises, Writer, check_agreement, check_promises, longest_gap

# Seconds until writes must be acknowledged again after a fault. Most of it is patience with a busy machine: what
# it really took is printed.
RECOVERY = 30.0

# Acknowledgements per writer before a fault and after the recovery: enough that the fault hits in mid-stream.
ACKS = 50

# Small, so that snapshots are taken while the faults happen.
SNAP_COUNT = 300


@pytest.fixture(scope="module")
def victims(new_ensemble):
    """An ensemble to be harmed. Each test finds it whole."""
    with new_ensemble(snap_count=SNAP_COUNT) as servers:
        servers.start()
        yield servers


@pytest.fixture(autouse=True)
def whole(victims):
    """Whatever the test before did: all servers run."""
    for server in victims.servers:
        if server.running:
            server.resume()
    victims.start()


class Load:
    """Writers on all servers of an ensemble."""

    def __init__(self, ensemble: Ensemble, root: str) -> None:
        self.ensemble = ensemble
        self.root = root
        self.writers = {
            server.sid: Writer(ensemble.hosts_from(server), f"{root}/w{server.sid}") for server in ensemble.servers
        }
        for writer in self.writers.values():
            writer.start()

    def wait_acks(self, number: int = ACKS, but: Server | None = None) -> None:
        """Everyone's writes go on; with `but`, not looking at who writes through that server."""
        for sid, writer in self.writers.items():
            if but is None or sid != but.sid:
                writer.wait_acks(number, RECOVERY)

    def finish(self) -> dict[str, Promises]:
        """Ends the writers; by their homes, what they were promised."""
        return {writer.home: writer.finish() for writer in self.writers.values()}

    def abandon(self) -> None:
        for writer in self.writers.values():
            writer.abandon()


@contextmanager
def load(ensemble: Ensemble, root: str, measured=None, what: str = ""):
    """Runs the block with writers writing; then heals the ensemble, and holds it to its promises.

    With `measured`, the longest time without an acknowledgement in the block is printed as `what`.
    """
    setup = connect(ensemble.hosts)
    setup.create(root)
    close(setup)
    writing = Load(ensemble, root)
    try:
        writing.wait_acks()
        began = time.monotonic()
        yield writing
        writing.wait_acks()
        ended = time.monotonic()
        ensemble.start()
        writing.wait_acks()
        promises = writing.finish()
    finally:
        writing.abandon()
    tree = check_agreement(ensemble.servers, root)
    for home, promised in promises.items():
        check_promises(tree, home, promised)
    if measured:
        gap = longest_gap(list(promises.values()), began, ended)
        measured(f"{what}: {gap:.2f} s without an acknowledged write")


def test_leader_killed(victims, measured):
    with load(victims, "/leader-killed", measured, "kill -9 of the leader") as writing:
        leader = victims.server("leader")
        leader.kill()
        writing.wait_acks()
        assert victims.server("leader") != leader


def test_leader_killed_again_and_again(victims):
    """Each time the old leader comes back as a follower of the next one, while the writes go on."""
    with load(victims, "/leaders-killed") as writing:
        for _ in range(3):
            leader = victims.server("leader")
            leader.kill()
            writing.wait_acks()
            leader.start()
            victims.wait_serving()
            assert leader.mode() == "follower"


def test_leader_stopped_in_order(victims, measured):
    with load(victims, "/leader-stopped", measured, "SIGTERM of the leader"):
        victims.server("leader").terminate()


def test_follower_killed(victims, measured):
    """Its clients go elsewhere; for the others nothing happens."""
    with load(victims, "/follower-killed", measured, "kill -9 of a follower") as writing:
        leader = victims.server("leader")
        victims.server("follower").kill()
        writing.wait_acks()
        assert leader.mode() == "leader"


def test_observer_killed(victims, measured):
    with load(victims, "/observer-killed", measured, "kill -9 of the observer") as writing:
        leader = victims.server("leader")
        victims.server("observer").kill()
        writing.wait_acks()
        assert leader.mode() == "leader"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["kill-9", "SIGTERM"])
def test_all_ended_at_once(victims, how):
    with load(victims, f"/all-{how.name}"):
        if how == signal.SIGKILL:
            victims.kill_all()
        else:
            victims.terminate_all()
        victims.start()


def test_rolling_restart(victims):
    """One after the other is stopped in order and started again, as in an upgrade."""
    with load(victims, "/rolling") as writing:
        for server in victims.servers:
            server.terminate()
            writing.wait_acks()
            server.start()
            victims.wait_serving()


def test_no_quorum_no_service(victims):
    """One participant and the observer cannot serve; a second participant brings the service back."""
    with load(victims, "/no-quorum") as writing:
        leader, follower = victims.server("leader"), victims.server("follower")
        leader.kill()
        follower.kill()
        left = [server for server in victims.servers if server.running]
        until(lambda: not any(server.mode() for server in left), "nobody serves without a quorum", RECOVERY)
        acked = [len(writer.promises.acked_at) for writer in writing.writers.values()]
        follower.start()
        writing.wait_acks()
        assert leader not in victims.all_in("leader")
        assert all(len(w.promises.acked_at) > n for w, n in zip(writing.writers.values(), acked))


def test_leader_paused(victims, measured):
    """A leader that hangs is replaced; when it goes on it must not take itself for the leader any more."""
    leader = victims.server("leader")
    with load(victims, "/leader-paused", measured, "SIGSTOP of the leader") as writing:
        leader.pause()
        others = [server for server in victims.servers if server is not leader]
        until(lambda: any(server.mode() == "leader" for server in others), "another leader", RECOVERY)
        writing.wait_acks()
        leader.resume()
        until(lambda: leader.mode() == "follower", "the old leader follows", RECOVERY)


@pytest.mark.parametrize("role", ["follower", "observer"])
def test_far_behind(victims, role):
    """A server that has missed more than the leader keeps at hand for it comes back and agrees."""
    absent = victims.server(role)
    with load(victims, f"/behind-{role}") as writing:
        absent.kill()
        client = connect(victims.server("leader").host)
        for _ in range(10):
            for answer in [client.create_async(f"/behind-{role}/x", sequence=True) for _ in range(100)]:
                answer.get(timeout=SOON)
        close(client)
        absent.start()
        victims.wait_serving()
        writing.wait_acks()


@pytest.mark.parametrize("role", ["follower", "observer"])
def test_disk_replaced(victims, role):
    """A server that comes back with an empty disk gets everything from the leader."""
    absent = victims.server(role)
    with load(victims, f"/replaced-{role}") as writing:
        absent.kill()
        shutil.rmtree(flavours.data_directory(absent))
        writing.wait_acks()
        absent.start()
        victims.wait_serving()


@pytest.mark.parametrize("how", ["kill-9", "SIGTERM"])
@pytest.mark.parametrize("participants", [1, 3])
def test_second_start(new_ensemble, participants, how):
    """Started again on the same directories, the servers have all they had: data, Stats, ACLs, live sessions."""
    with new_ensemble(participants=participants, observers=0, snap_count=SNAP_COUNT) as servers:
        servers.start()
        client = connect(servers.hosts)
        client.create("/kept", b"root")
        fill(client, "/kept")
        path = client.create("/kept/ephemeral", b"mine", ephemeral=True)
        session = client.client_id[0]
        before = check_agreement(servers.servers, "/kept")
        for _ in range(2):
            end_all(servers, how)
            servers.start()
            assert check_agreement(servers.servers, "/kept") == before
        # The client was away no longer than its session lasts, so it still has it.
        assert client.retry(client.get, path)[1].ephemeralOwner == client.client_id[0] == session
        close(client)
        assert path not in check_agreement(servers.servers, "/kept")


def fill(client, root: str) -> None:
    """More transactions than go between two snapshots, of every kind."""
    for n in range(SNAP_COUNT):
        client.create(f"{root}/s-", b"%d" % n, sequence=True)
    for n in range(0, SNAP_COUNT, 3):
        client.set(f"{root}/s-{n:010}", b"changed")
        client.delete(f"{root}/s-{n + 1:010}")
    with client.transaction() as together:
        together.create(f"{root}/multi")
        together.set_data(root, b"changed too")


def end_all(servers: Ensemble, how: str) -> None:
    if how == "kill-9":
        servers.kill_all()
        return
    servers.terminate_all()
    if flavours.kind() == "zabra":
        assert [server.wait() for server in servers.servers] == [0] * len(servers.servers)
