"""Quotas: what a subtree holds, limits that only warn, and limits that are enforced. Set as operators set them, by zkCli."""

from __future__ import annotations

import subprocess

import pytest
from kazoo.exceptions import QuotaExceededError

from harness import Ensemble, Server
from test_shell import SCRIPT_TIMEOUT, ZKCLI

ROLES = pytest.mark.parametrize("role", ["leader", "follower", "observer"])


@pytest.fixture(scope="module")
def enforcing(new_ensemble):
    """Hard limits are enforced."""
    with new_ensemble(enforce_quota=True) as ensemble:
        ensemble.start()
        yield ensemble


def zkcli(server: Server, *command: str) -> str:
    done = subprocess.run(
        [ZKCLI, "-server", server.host, *command], capture_output=True, text=True, timeout=SCRIPT_TIMEOUT, check=True
    )
    return done.stdout


@pytest.fixture
def limited(enforcing: Ensemble, connected, request: pytest.FixtureRequest):
    """Makes a znode with limits and a client: `limited(role, "-N", "3")`. All servers know of both."""

    def make(role: str, *limits: str):
        server = enforcing.server(role)
        client = connected(server.host)
        path = f"/{request.node.originalname}-{role}"
        client.create(path, b"123")
        zkcli(server, "setquota", *limits, path)
        client.sync(path)
        return client, path

    return make


def usage(client, path: str) -> str:
    return client.get(f"/zookeeper/quota{path}/zookeeper_stats")[0].decode().split("=;")[0]


@ROLES
def test_the_usage_follows_every_change(limited, role):
    client, path = limited(role, "-n", "100")
    assert usage(client, path) == "count=1,bytes=3"
    client.create(f"{path}/a", b"12345")
    client.create(f"{path}/a/b", b"1", ephemeral=True)
    assert usage(client, path) == "count=3,bytes=9"
    client.set(f"{path}/a", b"")
    assert usage(client, path) == "count=3,bytes=4"
    several = client.transaction()
    several.delete(f"{path}/a/b")
    several.set_data(path, b"1")
    several.commit()
    assert usage(client, path) == "count=2,bytes=1"
    client.create(f"{path}x", b"beside it")
    assert usage(client, path) == "count=2,bytes=1"


@ROLES
def test_a_hard_limit_of_znodes(limited, role):
    client, path = limited(role, "-N", "3")
    client.create(f"{path}/a")
    client.create(f"{path}/a/b")
    for refused in (f"{path}/c", f"{path}/a/b/c"):
        with pytest.raises(QuotaExceededError):
            client.create(refused)
        with pytest.raises(QuotaExceededError):
            client.create(refused, ephemeral=True)
    assert usage(client, path) == "count=3,bytes=3"
    client.set(path, b"as much as you like")
    client.delete(f"{path}/a/b")
    client.create(f"{path}/c")
    assert usage(client, path) == "count=3,bytes=19"


@ROLES
def test_a_hard_limit_of_bytes(limited, role):
    client, path = limited(role, "-B", "10")
    client.create(f"{path}/a", b"1234567")
    with pytest.raises(QuotaExceededError):
        client.create(f"{path}/b", b"1")
    with pytest.raises(QuotaExceededError):
        client.set(path, b"1234")
    client.create(f"{path}/b")
    client.set(f"{path}/a", b"1")
    client.set(path, b"123456789")
    assert usage(client, path) == "count=3,bytes=10"


@ROLES
def test_one_member_over_the_limit_fails_a_multi(limited, role):
    client, path = limited(role, "-N", "2")
    client.create(f"{path}/a")
    several = client.transaction()
    several.set_data(path, b"new")
    several.create(f"{path}/b")
    outcome = several.commit()
    assert isinstance(outcome[1], QuotaExceededError)
    assert client.get(path)[0] == b"123"


@ROLES
def test_a_soft_limit_refuses_nothing(limited, role):
    client, path = limited(role, "-n", "1")
    client.create(f"{path}/a")
    assert usage(client, path) == "count=2,bytes=3"


@ROLES
def test_limits_can_be_changed_and_removed(limited, enforcing, role):
    client, path = limited(role, "-N", "1")
    with pytest.raises(QuotaExceededError):
        client.create(f"{path}/a")
    server = enforcing.server(role)
    listed = zkcli(server, "listquota", path)
    assert "countHardLimit=1" in listed and "count=1,bytes=3" in listed
    zkcli(server, "setquota", "-N", "2", path)
    client.sync(path)
    client.create(f"{path}/a")
    zkcli(server, "delquota", path)
    client.sync(path)
    for name in "bcd":
        client.create(f"{path}/{name}")
    assert not client.exists(f"/zookeeper/quota{path}")


def test_every_server_shows_the_same_usage(limited, enforcing, connected):
    client, path = limited("leader", "-n", "50")
    for n in range(20):
        client.create(f"{path}/{n}", b"x" * n)
    for server in enforcing.servers:
        other = connected(server.host)
        other.sync(path)
        assert usage(other, path) == "count=21,bytes=193"
