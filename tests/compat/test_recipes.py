"""Kazoo's recipes, their clients spread over all servers."""

from __future__ import annotations

import queue
import threading
import time
from datetime import timedelta

import pytest
from kazoo.exceptions import LockTimeout

from clients import SOON


@pytest.fixture
def clients(ensemble, connected):
    """A client of each server."""
    return [connected(each.host) for each in ensemble.servers]


def in_threads(work, clients) -> None:
    """Runs `work(client)` for all at once and re-raises what went wrong."""
    failures: queue.Queue = queue.Queue()

    def run(client) -> None:
        try:
            work(client)
        except BaseException as failure:  # noqa: BLE001 - handed on below
            failures.put(failure)

    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not failures.empty():
        raise failures.get()


def test_lock_excludes(clients, root):
    inside: list = []

    def work(client) -> None:
        for _ in range(10):
            with client.Lock(f"{root}/lock"):
                inside.append(client)
                assert inside == [client]
                client.sync(root)  # gives the others time to err
                inside.remove(client)

    in_threads(work, clients)


def test_lock_waits_and_times_out(clients, root):
    first, second = clients[0].Lock(f"{root}/lock", "one"), clients[1].Lock(f"{root}/lock", "two")
    assert first.acquire(timeout=SOON)
    assert not second.acquire(blocking=False)
    with pytest.raises(LockTimeout):
        second.acquire(timeout=0.3)
    assert second.contenders() == ["one"]
    first.release()
    assert second.acquire(timeout=SOON)
    second.release()


def test_lock_is_freed_with_its_session(clients, root):
    held = clients[0].Lock(f"{root}/lock")
    held.acquire()
    got = threading.Event()
    waiting = clients[1].Lock(f"{root}/lock")
    thread = threading.Thread(target=lambda: waiting.acquire(timeout=SOON) and got.set())
    thread.start()
    clients[0].stop()
    assert got.wait(SOON)
    thread.join()


def test_read_and_write_locks(clients, root):
    reads = [client.ReadLock(f"{root}/rw") for client in clients[:2]]
    write = clients[2].WriteLock(f"{root}/rw")
    for lock in reads:
        assert lock.acquire(timeout=SOON)
    with pytest.raises(LockTimeout):
        write.acquire(timeout=0.3)
    for lock in reads:
        lock.release()
    assert write.acquire(timeout=SOON)
    assert not reads[0].acquire(blocking=False)
    write.release()


def test_semaphore(clients, root):
    leases = [client.Semaphore(f"{root}/semaphore", max_leases=2) for client in clients]
    assert leases[0].acquire(timeout=SOON)
    assert leases[1].acquire(timeout=SOON)
    assert not leases[2].acquire(blocking=False)
    leases[0].release()
    assert leases[2].acquire(timeout=SOON)


def test_election(clients, root):
    """Each is elected once, one at a time; whoever leads ends, the next one leads."""
    led: queue.Queue = queue.Queue()
    leading: list = []

    def work(client) -> None:
        def lead() -> None:
            leading.append(client)
            assert leading == [client]
            led.put(client)
            leading.remove(client)

        client.Election(f"{root}/election", str(client.client_id[0])).run(lead)

    in_threads(work, clients)
    assert {led.get_nowait() for _ in clients} == set(clients)


def test_party(clients, root):
    parties = [client.Party(f"{root}/party", f"guest-{n}") for n, client in enumerate(clients)]
    for party in parties:
        party.join()
    clients[0].sync(root)
    assert sorted(parties[0]) == [f"guest-{n}" for n in range(len(clients))]
    parties[-1].leave()
    clients[1].stop()
    clients[0].sync(root)
    assert len(parties[0]) == len(clients) - 2


def test_shallow_party(clients, root):
    for n, client in enumerate(clients):
        client.ShallowParty(f"{root}/party", f"guest-{n}").join()
    clients[0].sync(root)
    assert len(clients[0].ShallowParty(f"{root}/party")) == len(clients)


def test_counter(clients, root):
    each_adds = 20

    def work(client) -> None:
        counter = client.Counter(f"{root}/counter")
        for _ in range(each_adds):
            counter += 1

    in_threads(work, clients)
    clients[0].sync(root)
    assert clients[0].Counter(f"{root}/counter").value == each_adds * len(clients)


def test_barrier(clients, root):
    barrier = clients[0].Barrier(f"{root}/barrier")
    barrier.create()
    waiting = clients[1].Barrier(f"{root}/barrier")
    clients[1].sync(root)
    assert not waiting.wait(0.3)
    passed = threading.Event()
    thread = threading.Thread(target=lambda: waiting.wait(SOON) and passed.set())
    thread.start()
    assert barrier.remove()
    assert passed.wait(SOON)
    thread.join()


def test_double_barrier(clients, root):
    """Nobody is in before all have come, nobody is out before all leave."""
    arrived: list = []
    left: list = []

    def work(client) -> None:
        barrier = client.DoubleBarrier(f"{root}/double", len(clients))
        arrived.append(client)
        barrier.enter()
        assert len(arrived) == len(clients)
        left.append(client)
        barrier.leave()
        assert len(left) == len(clients)

    in_threads(work, clients)


def test_queue(clients, root):
    items = [b"%03d" % n for n in range(20)]
    sender = clients[0].Queue(f"{root}/queue")
    receiver = clients[1].Queue(f"{root}/queue")
    for item in items:
        sender.put(item)
    clients[1].sync(root)
    assert len(receiver) == len(items)
    assert [receiver.get() for _ in items] == items
    assert receiver.get() is None


def test_queue_priorities(clients, root):
    line = clients[0].Queue(f"{root}/queue")
    line.put(b"later", priority=200)
    line.put(b"sooner", priority=10)
    assert [line.get(), line.get()] == [b"sooner", b"later"]


def test_locking_queue(clients, root):
    """Every item goes to one of the consumers; one that dies with an item leaves it to the others."""
    line = clients[0].LockingQueue(f"{root}/queue")
    line.put_all([b"a", b"b"])
    mortal = clients[1].LockingQueue(f"{root}/queue")
    assert mortal.get(timeout=SOON) == b"a"
    clients[1].stop()
    heir = clients[2].LockingQueue(f"{root}/queue")
    taken = []
    for _ in range(2):
        taken.append(heir.get(timeout=SOON))
        assert heir.consume()
    assert sorted(taken) == [b"a", b"b"]


def test_set_partitioner(clients, root):
    """Each takes its share; the shares are disjoint and together all there is."""
    partitioners = [
        client.SetPartitioner(f"{root}/parts", set=range(8), identifier=str(n), time_boundary=0.5)
        for n, client in enumerate(clients)
    ]
    everyone_has = threading.Barrier(len(clients))

    def work(partitioner) -> None:
        deadline = time.monotonic() + SOON
        while not (partitioner.acquired and len(list(partitioner)) == 2):
            assert time.monotonic() < deadline and not partitioner.failed
            if partitioner.release:
                partitioner.release_set()
            partitioner.wait_for_acquire(0.1)
        everyone_has.wait(SOON)

    in_threads(work, partitioners)
    assert sorted(part for each in partitioners for part in each) == list(range(8))
    for partitioner in partitioners:
        partitioner.finish()


def test_lease(clients, root):
    lease = clients[0].NonBlockingLease(f"{root}/lease", timedelta(minutes=5), identifier="one")
    assert lease
    clients[1].sync(root)
    assert not clients[1].NonBlockingLease(f"{root}/lease", timedelta(minutes=5), identifier="two")
