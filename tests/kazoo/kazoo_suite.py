"""A pytest plugin for kazoo's own tests: ports for each worker, and the tests that are left out.

kazoo's harness numbers the ports of its servers from ZOOKEEPER_PORT_OFFSET on; workers that run side by side need
offsets of their own.
"""

from __future__ import annotations

import logging
import os
import random
import socket
from pathlib import Path

import pytest

# Ten ports for each of three servers.
PORTS = 30

# Below the kernel's ephemeral range, so that no outgoing connection takes a port between choice and use.
RANGE = range(15000, 32000 - PORTS)

LEFT_OUT = Path(__file__).with_name("left_out.txt")


def pytest_configure() -> None:
    # What clients say when the last servers go is of no interest to anybody.
    logging.getLogger("kazoo").addHandler(logging.NullHandler())
    os.environ["ZOOKEEPER_PORT_OFFSET"] = str(free_ports())


def free_ports() -> int:
    """The first of PORTS ports in a row that nobody listens on."""
    while True:
        first = random.choice(RANGE)
        if all(is_free(port) for port in range(first, first + PORTS)):
            return first


def is_free(port: int) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ["KAZOO_SERVERS"] != "zabra":
        return
    lines = LEFT_OUT.read_text().splitlines()
    names = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    out = [item for item in items if name(item) in names]
    unknown = names - {name(item) for item in out}
    if unknown and len(items) > len(names):
        raise pytest.UsageError(f"{LEFT_OUT} names tests that kazoo does not have: {', '.join(sorted(unknown))}")
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


def name(item: pytest.Item) -> str:
    """`test_client.py::TestClient::test_create`, wherever kazoo is installed."""
    return item.nodeid.rsplit("/", 1)[-1]
