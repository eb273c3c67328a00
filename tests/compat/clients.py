"""Kazoo clients as these tests want them: quick to reconnect, and bounded in every wait."""

from __future__ import annotations

import threading

from kazoo.client import KazooClient
from kazoo.protocol.states import Callback
from kazoo.retry import KazooRetry

# Seconds. Long enough that no session expires by accident on a busy machine.
SESSION_TIMEOUT = 10.0

# Seconds. The shortest session that the tests' ticks allow is 1 s.
SHORT_SESSION_TIMEOUT = 1.5

# Seconds that a client may take to get its session.
CONNECT_TIMEOUT = 30.0

# Seconds within which anything that is not waiting for a fault to heal must have happened.
SOON = 15.0


def connect(hosts: str, timeout: float = SESSION_TIMEOUT, **options) -> KazooClient:
    """A started client that tries `hosts` in the order given, for ever, and at least twice a second."""
    eager = KazooRetry(max_tries=-1, delay=0.05, backoff=2, max_delay=0.5)
    client = KazooClient(
        hosts=hosts, timeout=timeout, randomize_hosts=False, connection_retry=eager, **options
    )
    client.start(timeout=CONNECT_TIMEOUT)
    return client


def close(client: KazooClient) -> None:
    """Ends the session, if there is still one to end, and the client's threads."""
    client.stop()
    client.close()


def callbacks_done(client: KazooClient) -> None:
    """Returns when the client has called the watches of all events that have arrived.

    Kazoo calls watches in a thread of its own, so an answer can be at hand before the event that came first.
    """
    passed = threading.Event()
    client.handler.dispatch_callback(Callback("watch", passed.set, ()))
    assert passed.wait(SOON), "kazoo's callback thread is stuck"
