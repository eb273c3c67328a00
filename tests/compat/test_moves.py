"""Sessions that go from server to server, and the handshake, by hand: what client libraries hide."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import flavours
from flavours import TICK_MS
from frames import (
    AUTH,
    CHANGED,
    CHILD,
    CLOSE_SESSION,
    CREATE,
    DELETED,
    END,
    EXISTS,
    GET_CHILDREN,
    GET_DATA,
    MULTI,
    PING,
    SET_DATA,
    SYNC,
    NoAnswer,
    Wire,
    create,
    member,
    number,
    text,
)
from harness import Server

NO_NODE = -101

EPHEMERAL = 1


@pytest.fixture
def wires(request: pytest.FixtureRequest):
    """Makes connections that are closed at the end of the test."""

    def make(*args, **options) -> Wire:
        wire = Wire(*args, **options)
        request.addfinalizer(wire.close)
        return wire

    return make


@pytest.fixture(scope="module")
def standalone(new_ensemble):
    with new_ensemble(participants=1, observers=0) as ensemble:
        ensemble.start()
        yield ensemble


@pytest.fixture(params=["leader", "follower", "observer", "standalone"])
def server(request: pytest.FixtureRequest, ensemble) -> Server:
    """A server in each of the roles in turn, and one that is alone."""
    if request.param == "standalone":
        ensemble = request.getfixturevalue("standalone")
    return ensemble.server(request.param)


@pytest.fixture
def own(request: pytest.FixtureRequest, server: Server, wires) -> str:
    """A znode of this test's own."""
    path = "/" + "".join(c if c.isalnum() else "-" for c in request.node.name)
    assert wires(server).ask(CREATE, create(path)).error == 0
    return path


def set_data(path: str, data: str) -> bytes:
    return text(path) + text(data) + number(-1)


def get_data(path: str, watch: bool = False) -> bytes:
    return text(path) + bytes([watch])


def is_refused(wire: Wire) -> bool:
    """All zeros, then the end."""
    return (wire.session, wire.timeout, wire.password) == (0, 0, bytes(16)) and wire.is_closed()


@pytest.mark.parametrize(
    "from_, away",
    [(here, there) for here in ("follower", "observer") for there in ("leader", "follower", "observer")][:-1],
)
def test_what_a_session_leaves_behind_on_a_learner(ensemble, wires, root, from_, away):
    here = ensemble.server(from_)
    there = next(server for server in ensemble.all_in(away) if server is not here)
    stale = wires(here)
    path = f"{root}/n"
    assert stale.ask(CREATE, create(path)).error == 0
    assert stale.ask(GET_DATA, get_data(path, watch=True)).error == 0
    seen = stale.ask(PING).zxid
    moved = wires(there, stale.session, stale.password)
    assert moved.session == stale.session
    # Reads, pings, syncs and events go on.
    assert stale.ask(GET_CHILDREN, text("/") + b"\0").error == 0
    assert stale.ask(PING, xid=-2).error == 0
    written = moved.ask(SET_DATA, set_data(path, "new"))
    answer = stale.ask(SYNC, text(path))
    assert (answer.error, answer.events) == (0, [(CHANGED, path)])
    assert stale.ask(GET_DATA, get_data(path)).body[:7] == text("new")
    # The next write ends it, takes a zxid, and does nothing.
    stale.tell(SET_DATA, set_data(path, "stale"))
    assert stale.is_closed()
    assert moved.ask(SYNC, text(path)).error == 0
    assert moved.ask(GET_DATA, get_data(path)).body[:7] == text("new")
    after = moved.ask(SET_DATA, set_data(path, "newer"))
    assert (after.error, after.zxid) == (0, written.zxid + 2)
    assert seen < written.zxid


def test_a_multi_of_a_moved_session_ends_the_connection(ensemble, wires, root):
    stale = wires(ensemble.server("follower"))
    moved = wires(ensemble.server("leader"), stale.session, stale.password)
    stale.tell(MULTI, member(CREATE, create(f"{root}/a")) + member(CREATE, create(f"{root}/b")) + END)
    assert stale.is_closed(), "without a reply"
    assert moved.ask(EXISTS, text(f"{root}/a") + b"\0").error == NO_NODE


@pytest.mark.parametrize(
    "opcode, body",
    [(PING, b""), (GET_DATA, get_data("/")), (SYNC, text("/")), (SET_DATA, set_data("/", "x"))],
    ids=["ping", "getData", "sync", "setData"],
)
def test_on_the_leader_everything_ends_what_a_session_leaves_behind(ensemble, wires, opcode, body):
    stale = wires(ensemble.server("leader"))
    moved = wires(ensemble.server("follower"), stale.session, stale.password)
    stale.tell(opcode, body)
    assert stale.is_closed(), "without a reply"
    assert moved.ask(PING).error == 0
    # And back.
    back = wires(ensemble.server("leader"), stale.session, stale.password)
    assert back.ask(PING).error == 0


@pytest.mark.parametrize("mode", ["leader", "follower", "observer"])
def test_a_connection_left_behind_may_still_close_the_session(ensemble, wires, root, mode):
    """As in Apache: clients close only what they own."""
    stale = wires(ensemble.server(mode))
    path = f"{root}/e"
    assert stale.ask(CREATE, create(path, EPHEMERAL)).error == 0
    there = ensemble.server("follower" if mode != "follower" else "leader")
    moved = wires(there, stale.session, stale.password)
    moved.ask(SYNC, text("/"))
    assert moved.ask(GET_DATA, get_data(path, watch=True)).error == 0
    assert stale.ask(CLOSE_SESSION).error == 0
    assert stale.is_closed()
    # Its own connection, too, hears of its ephemeral before it ends. (With Apache the end may overtake that.)
    assert moved.last_events() == [(DELETED, path)] or flavours.kind() == "apache"
    assert is_refused(wires(there, stale.session, stale.password))


def test_a_new_connection_at_the_same_server_ends_the_old_one(server, wires):
    old = wires(server)
    new = wires(server, old.session, old.password)
    assert old.is_closed()
    assert (new.session, new.password) == (old.session, old.password)
    assert new.ask(PING).error == 0


def test_watches_are_of_the_connection(server, wires, own):
    old = wires(server)
    assert old.ask(GET_CHILDREN, text(own) + b"\1").error == 0
    new = wires(server, old.session, old.password)
    assert new.ask(CREATE, create(f"{own}/c")).events == []
    assert new.ask(GET_CHILDREN, text(own) + b"\1").error == 0
    assert new.ask(CREATE, create(f"{own}/d")).events == [(CHILD, own)]


def settle(server: Server, wires) -> None:
    """Returns a second or more later, when a session of one second has expired. Apache's learners go on telling
    the leader of a new session's first time-out for half a tick, whatever it has negotiated since."""
    assert wires(server, timeout_ms=1000).is_closed()


def test_the_timeout_is_negotiated_at_each_attach(server, wires):
    least, most = 2 * TICK_MS, 20 * TICK_MS
    first = wires(server, timeout_ms=3000)
    assert first.timeout == 3000
    settle(server, wires)
    for asked, given in ((-1, least), (0, least), (least - 1, least), (least + 1, least + 1), (2**31 - 1, most)):
        again = wires(server, first.session, first.password, timeout_ms=asked)
        assert again.timeout == given
    # What counts is the last: the session lives as long as it says, not as it was created.
    last = wires(server, first.session, first.password, timeout_ms=least)
    began = time.monotonic()
    assert last.is_closed()
    lasted = time.monotonic() - began
    assert least / 1000 <= lasted + 0.05 and lasted < (least + 4 * TICK_MS) / 1000
    assert is_refused(wires(server, first.session, first.password))


def test_a_longer_timeout_is_kept_too(server, wires):
    """The opposite: created for 2 s, re-attached for 5 s, and silent for longer than 3 s."""
    first = wires(server, timeout_ms=2000)
    settle(server, wires)
    again = wires(server, first.session, first.password, timeout_ms=5000)
    witness = wires(server, timeout_ms=3000)
    assert witness.is_closed(), "one that is silent with it, and has more than the time-out that it had"
    assert again.ask(PING).error == 0


def test_refusals_are_alike(server, wires):
    owner = wires(server)
    for session, password in (
        (owner.session, b"\1" * 16),
        (owner.session, owner.password[:15]),
        (owner.session, b""),
        (owner.session + 1000, owner.password),
        (0x7700_0000_0000_0001, bytes(16)),
    ):
        assert is_refused(wires(server, session, password))
    closed = wires(server)
    closed.ask(CLOSE_SESSION)
    assert is_refused(wires(server, closed.session, closed.password))


def test_the_handshake_is_answered_in_kind(server, wires):
    for wish, given in ((None, None), (False, False), (True, False)):
        wire = wires(server, read_only=wish)
        assert wire.read_only is given
        refused = wires(server, wire.session, bytes(16), read_only=wish)
        assert refused.read_only is given and is_refused(refused)
    for password in (None, b"", b"x", b"y" * 100):
        wire = wires(server, password=password)
        assert wire.session >> 56 == server.sid and len(wire.password) == 16


def test_who_has_seen_more_is_not_answered(server, wires):
    wire = wires(server)
    zxid = wire.ask(PING).zxid
    with pytest.raises(NoAnswer):
        wires(server, seen=zxid + 1_000_000)
    with pytest.raises(NoAnswer):
        wires(server, wire.session, wire.password, seen=zxid + 1_000_000)
    assert wire.ask(PING).error == 0, "and its connection is not touched"
    again = wires(server, wire.session, wire.password, seen=-5)
    assert again.session == wire.session


def test_requests_may_follow_the_handshake_at_once(server, wires, own):
    """As the Java client does: identity and requests in the same segment."""
    auth = number(0) + text("digest") + text("u:p")
    pipelined = [(-4, AUTH, auth), (1, CREATE, create(f"{own}/n")), (2, GET_DATA, get_data(f"{own}/n"))]
    wire = wires(server, behind=pipelined)
    answers = [wire.answer() for _ in pipelined]
    assert sorted((answer.xid, answer.error) for answer in answers) == [(-4, 0), (1, 0), (2, 0)]
    # A re-attach, which a learner has to ask about.
    again = wires(server, wire.session, wire.password, behind=[(7, GET_DATA, get_data(f"{own}/n"))])
    assert again.session == wire.session and again.answer()[:3:2] == (7, 0)
    # Behind a refusal nobody listens.
    refused = wires(server, wire.session, b"wrong", behind=[(8, PING, b"")])
    assert is_refused(refused)


@pytest.mark.skipif(flavours.kind() == "apache", reason="Apache closes the last one, too, now and then")
def test_many_come_at_once_with_one_session(ensemble, wires, root):
    """Whoever is last has it; the others are closed, and one of them may be told nothing."""
    server = ensemble.server("follower")
    owner = wires(server)
    assert owner.ask(CREATE, create(f"{root}/e", EPHEMERAL)).error == 0

    def attach(_: int) -> Wire | None:
        try:
            return Wire(server, owner.session, owner.password)
        except (NoAnswer, TimeoutError):
            return None  # a later one took its place before the leader had answered

    with ThreadPoolExecutor(8) as pool:
        came = [wire for wire in pool.map(attach, range(32)) if wire is not None]
    assert all(wire.session == owner.session for wire in came)
    last = wires(server, owner.session, owner.password)
    assert last.ask(GET_DATA, get_data(f"{root}/e")).error == 0
    assert all(wire.is_closed() for wire in came)


def test_pipelined_requests_behind_a_close_are_dropped(ensemble, wires, root):
    wire = wires(ensemble.server("follower"))
    wire.tell(CLOSE_SESSION)
    wire.tell(CREATE, create(f"{root}/late"))
    assert wire.answer().error == 0
    assert wire.is_closed()
    other = wires(ensemble.server("leader"))
    other.ask(SYNC, text("/"))
    assert other.ask(EXISTS, text(f"{root}/late") + b"\0").error == NO_NODE


def test_losing_the_leader_closes_all_and_keeps_the_sessions(new_ensemble, wires):
    """Nobody expires while nobody leads, and a new leader gives everybody the full time-out."""
    with new_ensemble(participants=3, observers=1) as ensemble:
        ensemble.start()
        leader = ensemble.server("leader")
        learners = [server for server in ensemble.servers if server is not leader]
        owners = [wires(server, timeout_ms=6000) for server in learners]
        for n, owner in enumerate(owners):
            assert owner.ask(CREATE, create(f"/e{n}", EPHEMERAL)).error == 0
        for server in learners[:1]:
            server.kill()
        leader.kill()
        assert all(owner.is_closed() for owner in owners)
        # Time itself is what is tested: longer without a quorum than any of them would live.
        time.sleep(7.0)
        ensemble.start()
        for n, owner in enumerate(owners):
            again = wires(ensemble.servers[n], owner.session, owner.password, timeout_ms=6000)
            assert again.session == owner.session
            again.ask(SYNC, text("/"))
            assert again.ask(GET_DATA, get_data(f"/e{n}")).error == 0
