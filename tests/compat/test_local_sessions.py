"""Local sessions: only their server knows them. And how they become sessions of the ensemble."""

from __future__ import annotations

import re

import pytest

import flavours
from frames import (
    CHANGED,
    CLOSE_SESSION,
    CREATE,
    CREATE2,
    CREATE_CONTAINER,
    DELETE,
    END,
    EXISTS,
    GET_DATA,
    GET_EPHEMERALS,
    MULTI,
    PING,
    SET_DATA,
    SYNC,
    Wire,
    create,
    member,
    number,
    text,
)
from harness import Ensemble, Server, four_letter_word, until

SESSION_EXPIRED, EPHEMERAL_ON_LOCAL_SESSION, NO_NODE = -112, -120, -101

EPHEMERAL, SEQUENTIAL = 1, 2


def zxid(server: Server) -> int:
    """The last one that the server has applied, by its own word."""
    found = re.search(r"^Zxid: 0x([0-9a-f]+)$", four_letter_word(server.ports.client, "srvr"), re.MULTILINE)
    return int(found[1], 16)


@pytest.fixture(scope="module")
def local(new_ensemble):
    """Sessions stay local."""
    with new_ensemble(local_sessions=True) as ensemble:
        ensemble.start()
        yield ensemble


@pytest.fixture(scope="module")
def upgrading(new_ensemble):
    """They do not if they need not."""
    with new_ensemble(local_sessions=True, upgrade_local_sessions=True) as ensemble:
        ensemble.start()
        yield ensemble


ROLES = pytest.mark.parametrize("role", ["leader", "follower", "observer"])


def other_than(ensemble: Ensemble, server: Server) -> Server:
    """Another server, which has applied what this one has."""
    other = ensemble.server("follower" if server.mode() != "follower" else "leader")
    Wire(other).ask(SYNC, text("/"))
    return other


def is_refused(wire: Wire) -> bool:
    assert (wire.session == 0) == (wire.timeout == 0)
    return wire.session == 0 and wire.is_closed()


@ROLES
def test_a_local_session_takes_no_zxid(local, role):
    server = local.server(role)
    # All is quiet: nobody else writes.
    before = zxid(server)
    wire = Wire(server)
    assert wire.session >> 56 == server.sid
    answer = wire.ask(GET_DATA, text("/") + b"\0")
    assert (answer.error, answer.zxid) == (0, before)
    answer = wire.ask(CLOSE_SESSION)
    assert (answer.error, answer.zxid) == (0, before)
    assert wire.is_closed() and zxid(server) == before
    assert is_refused(Wire(server, wire.session, wire.password))


@ROLES
def test_a_local_session_reads_and_writes(local, role):
    wire = Wire(local.server(role))
    path = f"/writes-{role}"
    assert wire.ask(CREATE, create(path)).error == 0
    sequential = wire.ask(CREATE, create(f"{path}/n", SEQUENTIAL))
    assert (sequential.error, sequential.body) == (0, text(f"{path}/n0000000000"))
    assert wire.ask(CREATE_CONTAINER, create(f"{path}/c", 4)).error == 0
    assert wire.ask(EXISTS, text(path) + b"\1").error == 0
    answer = wire.ask(SET_DATA, text(path) + text("x") + number(-1))
    assert (answer.error, answer.events) == (0, [(CHANGED, path)])
    assert wire.ask(MULTI, member(DELETE, text(f"{path}/c") + number(-1)) + END).error == 0
    assert wire.ask(SYNC, text("/")).error == 0
    wire.close()


@ROLES
def test_a_local_session_may_have_no_ephemerals(local, role):
    server = local.server(role)
    wire = Wire(server)
    before = wire.ask(SYNC, text("/")).zxid
    for opcode in (CREATE, CREATE2):
        for flags in (EPHEMERAL, EPHEMERAL | SEQUENTIAL):
            answer = wire.ask(opcode, create("/e", flags))
            before += 1
            assert (answer.error, answer.zxid) == (EPHEMERAL_ON_LOCAL_SESSION, before), "it takes a zxid"
    answer = wire.ask(CREATE_CONTAINER, create("/e", EPHEMERAL))
    assert (answer.error, answer.zxid) == (SESSION_EXPIRED, before + 1)
    # All of a multi fails with the one member. (Apache's learners say -112 of it, where its leader says -120.)
    answer = wire.ask(MULTI, member(CREATE, create("/m")) + member(CREATE, create("/e", EPHEMERAL)) + END)
    codes = [int.from_bytes(answer.body[at : at + 4], "big", signed=True) for at in (9, 22)]
    expected = [EPHEMERAL_ON_LOCAL_SESSION]
    if flavours.kind() == "apache" and role != "leader":
        expected = [SESSION_EXPIRED]
    assert (answer.error, codes) == (0, [0, *expected])
    assert wire.ask(EXISTS, text("/m") + b"\0").error == NO_NODE
    assert wire.ask(PING).error == 0, "the session goes on"
    wire.close()


@ROLES
def test_a_local_session_comes_back_to_its_server_only(local, role):
    server = local.server(role)
    wire = Wire(server)
    assert is_refused(Wire(other_than(local, server), wire.session, wire.password))
    assert wire.ask(PING).error == 0, "and nothing has happened to it"
    assert is_refused(Wire(server, wire.session, bytes(16)))
    again = Wire(server, wire.session, wire.password, timeout_ms=5000)
    assert (again.session, again.timeout) == (wire.session, 5000)
    assert wire.is_closed()
    assert again.ask(SET_DATA, text("/") + text(f"{role}") + number(-1)).error == 0
    again.close()


@ROLES
def test_a_local_session_expires(local, role):
    server = local.server(role)
    wire = Wire(server, timeout_ms=1000)
    before = zxid(server)
    assert wire.is_closed()
    assert is_refused(Wire(server, wire.session, wire.password))
    assert zxid(server) == before


@ROLES
def test_the_first_ephemeral_upgrades_the_session(upgrading, role):
    server = upgrading.server(role)
    wire = Wire(server)
    path = f"/upgrade-{role}"
    before = wire.ask(CREATE, create(path)).zxid
    # One createSession, and the create; all is sent at once.
    wire.tell(CREATE2, create(f"{path}/a", EPHEMERAL))
    wire.tell(CREATE, create(f"{path}/b", EPHEMERAL))
    first, second = wire.answer(), wire.answer()
    assert (first.error, second.error) == (0, 0)
    assert (first.zxid, second.zxid) == (before + 2, before + 3)
    # It is a session like others now: it moves, and takes its ephemerals along.
    other = other_than(upgrading, server)
    moved = Wire(other, wire.session, wire.password)
    assert moved.session == wire.session
    answer = moved.ask(GET_EPHEMERALS, text(path))
    assert answer.error == 0 and number(2) == answer.body[:4]
    closed = moved.ask(CLOSE_SESSION)
    assert (closed.error, closed.zxid) == (0, before + 4) and moved.is_closed()
    last = Wire(server)
    last.ask(SYNC, text("/"))
    assert last.ask(EXISTS, text(f"{path}/a") + b"\0").error == NO_NODE
    last.close()


@ROLES
def test_an_ephemeral_within_a_multi_upgrades_the_session(upgrading, role):
    server = upgrading.server(role)
    wire = Wire(server)
    members = member(CREATE, create(f"/multi-{role}")) + member(CREATE, create(f"/multi-e-{role}", EPHEMERAL)) + END
    before = wire.ask(SYNC, text("/")).zxid
    answer = wire.ask(MULTI, members)
    assert (answer.error, answer.zxid, answer.body[:4]) == (0, before + 2, number(1))
    other = other_than(upgrading, server)
    moved = Wire(other, wire.session, wire.password)
    assert moved.session == wire.session
    moved.close()


@ROLES
def test_an_upgraded_session_expires_with_its_ephemerals(upgrading, role):
    wire = Wire(upgrading.server(role), timeout_ms=1000)
    path = f"/expires-{role}"
    watcher = Wire(upgrading.server("leader"))
    assert wire.ask(CREATE, create(path, EPHEMERAL)).error == 0
    until(lambda: watcher.ask(EXISTS, text(path) + b"\0").error == 0, "it is there", 5.0)
    assert wire.is_closed()
    until(lambda: watcher.ask(EXISTS, text(path) + b"\0").error == NO_NODE, "it has gone", 5.0)
    watcher.close()


@pytest.mark.skipif(flavours.kind() == "apache", reason="Apache's standalone server has no local sessions")
def test_a_single_server_has_local_sessions_too(new_ensemble):
    with new_ensemble(participants=1, observers=0, local_sessions=True, upgrade_local_sessions=True) as ensemble:
        ensemble.start()
        server = ensemble.server("standalone")
        before = zxid(server)
        wire = Wire(server)
        assert zxid(server) == before
        again = Wire(server, wire.session, wire.password)
        assert again.session == wire.session and wire.is_closed()
        answer = again.ask(CREATE, create("/e", EPHEMERAL))
        assert (answer.error, answer.zxid & 0xFFFF_FFFF) == (0, (before & 0xFFFF_FFFF) + 2)
        assert again.ask(CLOSE_SESSION).error == 0 and again.is_closed()
        assert Wire(server).ask(EXISTS, text("/e") + b"\0").error == NO_NODE


def test_local_sessions_end_with_their_servers_role(local):
    """The last of its ensemble: the leader is killed."""
    follower = local.server("follower")
    wire = Wire(follower)
    leader = local.server("leader")
    leader.kill()
    assert wire.is_closed()
    local.wait_serving()
    assert is_refused(Wire(follower, wire.session, wire.password))
    local.start()
