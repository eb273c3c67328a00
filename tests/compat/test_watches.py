"""One-shot watches and kazoo's watchers on them, on every role of server."""

from __future__ import annotations

import queue

import pytest
from kazoo.protocol.states import EventType
from kazoo.recipe.watchers import ChildrenWatch, DataWatch

from clients import SOON, callbacks_done


class Events(queue.Queue):
    """Give it as a watch; `next()` is the next event's kind and path."""

    def __call__(self, event) -> None:
        self.put((event.type, event.path))

    def next(self):
        return self.get(timeout=SOON)


@pytest.fixture
def events():
    return Events()


@pytest.fixture
def writer(ensemble, connected):
    """Another client, of another server than most tests' own: events cross the ensemble."""
    return connected(ensemble.all_in("follower")[-1].host)


def flush(client, writer, root: str) -> None:
    """Returns when `client` has been told all that `writer` did: a sync and its reply stand behind the events."""
    writer.sync(root)
    client.sync(root)
    callbacks_done(client)


def test_data_watch(client, writer, root, events):
    path = client.create(f"{root}/a", b"0")
    client.get(path, watch=events)
    writer.sync(path)
    writer.set(path, b"1")
    assert events.next() == (EventType.CHANGED, path)
    # One event, then it is gone.
    writer.set(path, b"2")
    flush(client, writer, root)
    assert events.empty()
    client.get(path, watch=events)
    writer.delete(path)
    assert events.next() == (EventType.DELETED, path)


def test_exists_watch(client, writer, root, events):
    path = f"{root}/later"
    assert client.exists(path, watch=events) is None
    writer.create(path)
    assert events.next() == (EventType.CREATED, path)
    assert client.exists(path, watch=events) is not None
    writer.set(path, b"x")
    assert events.next() == (EventType.CHANGED, path)
    client.exists(path, watch=events)
    writer.delete(path)
    assert events.next() == (EventType.DELETED, path)


def test_child_watch(client, writer, root, events):
    client.get_children(root, watch=events)
    writer.create(f"{root}/one")
    assert events.next() == (EventType.CHILD, root)
    writer.create(f"{root}/two")
    flush(client, writer, root)
    assert events.empty()
    # Data of a child is none of its parent's business.
    client.get_children(root, watch=events)
    writer.set(f"{root}/one", b"x")
    writer.create(f"{root}/one/grandchild")
    flush(client, writer, root)
    assert events.empty()
    writer.delete(f"{root}/two")
    assert events.next() == (EventType.CHILD, root)


def test_deleted_parent_tells_its_child_watch(client, writer, root, events):
    path = client.create(f"{root}/p")
    client.get_children(path, watch=events)
    writer.sync(path)
    writer.delete(path)
    assert events.next() == (EventType.DELETED, path)


def test_event_comes_before_the_new_data(client, writer, root, events):
    """Whoever reads the new value has been told before that there is one."""
    path = client.create(f"{root}/order", b"old")
    for n in range(50):
        value = b"%d" % n
        client.get(path, watch=events)
        write = writer.set_async(path, value)
        while client.get(path)[0] != value:
            pass
        callbacks_done(client)
        assert events.get_nowait() == (EventType.CHANGED, path)
        write.get(timeout=SOON)


def test_ephemeral_end_is_watched(client, ensemble, connected, root, events):
    other = connected(ensemble.server("leader").host)
    path = other.create(f"{root}/e", ephemeral=True)
    client.sync(path)
    assert client.exists(path, watch=events) is not None
    client.get_children(root, watch=events)
    other.stop()
    assert {events.next(), events.next()} == {(EventType.DELETED, path), (EventType.CHILD, root)}


def test_data_watch_recipe(client, writer, root):
    path = f"{root}/d"
    seen: queue.Queue = queue.Queue()
    DataWatch(client, path, lambda data, stat: seen.put(data))
    assert seen.get(timeout=SOON) is None
    writer.create(path, b"0")
    assert seen.get(timeout=SOON) == b"0"
    for n in range(1, 6):
        writer.set(path, b"%d" % n)
        assert seen.get(timeout=SOON) == b"%d" % n
    writer.delete(path)
    assert seen.get(timeout=SOON) is None


def test_children_watch_recipe(client, writer, root):
    seen: queue.Queue = queue.Queue()
    ChildrenWatch(client, root, lambda children: seen.put(sorted(children)))
    assert seen.get(timeout=SOON) == []
    for n in range(5):
        writer.create(f"{root}/c{n}")
        assert seen.get(timeout=SOON) == [f"c{k}" for k in range(n + 1)]
    writer.delete(f"{root}/c0")
    assert seen.get(timeout=SOON) == ["c1", "c2", "c3", "c4"]
