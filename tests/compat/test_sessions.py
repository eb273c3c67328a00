"""Sessions: how they end, how they move between servers, and what each sees of the others' writes."""

from __future__ import annotations

import queue
import threading
import time

import pytest
from kazoo.client import KazooState
from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import EventType
from kazoo.retry import KazooRetry

from clients import SESSION_TIMEOUT, SHORT_SESSION_TIMEOUT, SOON
from flavours import TICK_MS
from harness import Gate, until


class States(queue.Queue):
    """A listener of a client; `reach` waits until the client has been in a state."""

    def __init__(self, client) -> None:
        super().__init__()
        client.add_listener(self.put)

    def reach(self, wanted: str, timeout: float = SOON) -> None:
        while self.get(timeout=timeout) != wanted:
            pass


def watch_end(client, path: str) -> threading.Event:
    """An event that is set when `path` is deleted."""
    ended = threading.Event()
    assert client.exists(path, watch=lambda event: event.type == EventType.DELETED and ended.set()) is not None
    return ended


def test_close_removes_ephemerals(ensemble, connected, root):
    owner = connected(ensemble.server("follower").host)
    other = connected(ensemble.server("observer").host)
    for n in range(3):
        path = owner.create(f"{root}/e{n}", ephemeral=True)
    owner.create(f"{root}/stays")
    other.sync(root)
    ended = watch_end(other, path)
    owner.stop()
    assert ended.wait(SOON)
    # They went in one transaction: with one of them all are gone.
    assert other.get_children(root) == ["stays"]


@pytest.mark.parametrize("mode", ["leader", "follower", "observer"])
def test_expiry_removes_ephemerals(ensemble, connected, root, mode):
    """A client that vanishes: its ephemerals stay for the session time-out, then go, and watches tell."""
    with Gate(ensemble.server(mode)) as gate:
        owner = connected(gate.host, timeout=SHORT_SESSION_TIMEOUT)
        states = States(owner)
        path = owner.create(f"{root}/e", ephemeral=True)
        other = connected(ensemble.server("follower").host)
        other.sync(path)
        ended = watch_end(other, path)
        expired = owner.client_id[0]
        cut_at = time.monotonic()
        gate.cut()
        assert ended.wait(SOON)
        lasted = time.monotonic() - cut_at
        # The last word of the client may be one ping interval old, a third of the time-out.
        assert lasted > SHORT_SESSION_TIMEOUT / 2
        assert lasted < SHORT_SESSION_TIMEOUT + 8 * TICK_MS / 1000
        # Back again, it is told that its session is no more, and gets a new one.
        gate.mend()
        states.reach(KazooState.LOST)
        states.reach(KazooState.CONNECTED)
        assert owner.exists(path) is None
        assert owner.client_id[0] != expired


def test_idle_client_is_kept(ensemble, connected, root):
    """Pings alone keep a session, on a learner too, whose leader does the expiring."""
    clients = [connected(each.host, timeout=SHORT_SESSION_TIMEOUT) for each in ensemble.servers]
    paths = [client.create(f"{root}/e", ephemeral=True, sequence=True) for client in clients]
    watcher = connected(ensemble.server("leader").host)
    ends = [watch_end(watcher, path) for path in paths]
    # Time itself is what is tested here: nothing must happen in more than two time-outs.
    assert not any(end.wait(SHORT_SESSION_TIMEOUT * 2.5 / len(ends)) for end in ends)
    assert [client.exists(path).ephemeralOwner for client, path in zip(clients, paths)] == [
        client.client_id[0] for client in clients
    ]


def test_session_moves_with_its_ephemerals(ensemble, connected, root):
    """Cut off from one server, the client goes to the next with the same session, again and again."""
    with Gate(ensemble.server("follower")) as first, Gate(ensemble.server("observer")) as second:
        owner = connected(f"{first.host},{second.host}", timeout=SESSION_TIMEOUT)
        states = States(owner)
        session = owner.client_id[0]
        path = owner.create(f"{root}/e", b"mine", ephemeral=True)
        for near in (first, second) * 2:
            near.cut()
            states.reach(KazooState.CONNECTED)
            near.mend()
            assert owner.get(path)[0] == b"mine"
            assert owner.client_id[0] == session
            owner.set(path, b"mine")
        other = connected(ensemble.server("leader").host)
        ended = watch_end(other, path)
        stat = other.exists(path)
        assert (stat.version, stat.ephemeralOwner) == (4, session)
        owner.stop()
        assert ended.wait(SOON)


def test_new_server_shows_what_the_client_has_seen(ensemble, connected, root):
    """A client never goes back in time: after a move it reads at least its own last write."""
    gates = [Gate(server) for server in ensemble.servers]
    owner = connected(",".join(gate.host for gate in gates))
    # A client that is busy elsewhere may already have gone on to a later server: then a cut moves nobody.
    patient = KazooRetry(max_tries=-1, deadline=SOON)
    path = owner.create(f"{root}/n", b"")
    for gate in gates:
        version = patient(owner.set, path, b"").version
        gate.cut()
        assert patient(owner.exists, path).version >= version
        gate.mend()
    for gate in gates:
        gate.mend()
    owner.stop()
    for gate in gates:
        gate.__exit__()


def test_sync_reads_others_writes(ensemble, connected, root):
    """What one client was told is done, another one reads after a sync, whatever their servers."""
    clients = {each.sid: connected(each.host) for each in ensemble.servers}
    path = clients[1].create(f"{root}/shared", b"")
    for round_number in range(20):
        for writer in clients.values():
            value = f"{writer.client_id[0]} {round_number}".encode()
            writer.set(path, value)
            for reader in clients.values():
                reader.sync(path)
                assert reader.get(path)[0] == value


def test_writes_through_all_servers_are_one_order(ensemble, connected, root):
    """Concurrent writers on all servers: each conditional write wins once, and all servers end the same."""
    clients = [connected(each.host) for each in ensemble.servers]
    path = clients[0].create(f"{root}/counter", b"0")
    each_adds = 25

    def add(client) -> None:
        for _ in range(each_adds):
            with client.Lock(f"{root}/lock"):
                client.sync(path)
                client.set(path, b"%d" % (int(client.get(path)[0]) + 1))

    threads = [threading.Thread(target=add, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.sync(path)
        data, stat = client.get(path)
        assert (int(data), stat.version) == (each_adds * len(clients),) * 2


def test_two_sessions_have_different_ids(ensemble, connected):
    clients = [connected(each.host) for each in ensemble.servers * 2]
    assert len({client.client_id[0] for client in clients}) == len(clients)
    assert all(len(client.client_id[1]) == 16 for client in clients)


def test_unknown_session_is_refused(ensemble, connected):
    """A client that comes with a session nobody has is told that it expired, and gets a new one."""
    made_up = (0x1234567890, b"0123456789abcdef")
    client = connected(ensemble.server("follower").host, client_id=made_up)
    until(lambda: client.client_id and client.client_id[0] != made_up[0], "a session of its own", SOON)


def test_wrong_password_is_refused(ensemble, connected, root):
    owner = connected(ensemble.server("leader").host)
    path = owner.create(f"{root}/e", ephemeral=True)
    session = owner.client_id[0]
    thief = connected(ensemble.server("leader").host, client_id=(session, b"\x01" * 16))
    until(lambda: thief.client_id and thief.client_id[0] != session, "a session of its own", SOON)
    thief.sync(path)
    assert thief.exists(path).ephemeralOwner == session


def test_chroot(ensemble, connected, root):
    host = ensemble.server("follower").host
    inside = connected(f"{host}{root}")
    assert inside.create("/a", b"x") == "/a"
    assert inside.get_children("/") == ["a"]
    outside = connected(host)
    assert outside.get(f"{root}/a")[0] == b"x"
    with pytest.raises(NoNodeError):
        outside.get("/a")
