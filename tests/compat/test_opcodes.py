"""The rarer requests, byte by byte, on every role of server."""

from __future__ import annotations

import struct

import pytest

import flavours
from frames import (
    ADD_WATCH,
    AUTH,
    CHANGED,
    CHECK,
    CHECK_WATCHES,
    CHILD,
    CREATE,
    CREATED,
    DELETE,
    DELETED,
    END,
    EXISTS,
    GET_ALL_CHILDREN_NUMBER,
    GET_CHILDREN,
    GET_DATA,
    GET_EPHEMERALS,
    MULTI,
    MULTI_READ,
    PERSISTENT,
    PING,
    RECONFIG,
    RECURSIVE,
    REMOVE_WATCHES,
    SASL,
    SET_DATA,
    SET_WATCHES2,
    WHO_AM_I,
    Wire,
    create,
    long,
    member,
    number,
    read_texts,
    text,
    texts,
)

MARSHALLING_ERROR, UNIMPLEMENTED, NO_NODE, NO_WATCHER, RECONFIG_DISABLED = -5, -6, -101, -121, -123

# What Apache does since 3.9 and Debian's 3.8 does not.
SINCE_3_9 = pytest.mark.skipif(flavours.kind() == "apache", reason="Debian's Apache is 3.8")


@pytest.fixture
def wires(request, server):
    """Makes connections to the server in question, closed at the end of the test."""

    def make(**options) -> Wire:
        wire = Wire(server, **options)
        request.addfinalizer(wire.close)
        return wire

    return make


@pytest.fixture
def wire(wires):
    return wires()


def change(wire: Wire, path: str) -> int:
    """Sets data; the zxid it took."""
    answer = wire.ask(SET_DATA, text(path) + text(b"x") + number(-1))
    assert answer.error == 0
    return answer.zxid


def test_persistent_and_recursive_watches(wire, root):
    assert wire.ask(CREATE, create(f"{root}/a")).error == 0
    assert wire.ask(ADD_WATCH, text(f"{root}/a") + number(PERSISTENT))[2:4] == (0, number(0))
    assert wire.ask(ADD_WATCH, text(root) + number(RECURSIVE)).error == 0
    below = wire.ask(CREATE, create(f"{root}/a/b"))
    assert below.events == [(CREATED, f"{root}/a/b"), (CHILD, f"{root}/a")]
    for _ in range(2):
        assert wire.ask(SET_DATA, text(f"{root}/a") + text(b"") + number(-1)).events == [(CHANGED, f"{root}/a")]
    gone = wire.ask(DELETE, text(f"{root}/a/b") + number(-1))
    assert gone.events == [(DELETED, f"{root}/a/b"), (CHILD, f"{root}/a")]
    gone = wire.ask(DELETE, text(f"{root}/a") + number(-1))
    assert gone.events == [(DELETED, f"{root}/a")], "once, whatever matches"
    assert wire.ask(CREATE, create(f"{root}/a")).events == [(CREATED, f"{root}/a")]


@SINCE_3_9
def test_an_event_carries_its_zxid_and_modes_live_side_by_side(wire, root):
    wire.ask(ADD_WATCH, text(root) + number(PERSISTENT))
    wire.ask(GET_DATA, text(root) + b"\1")
    zxids = [change(wire, root), change(wire, root)]
    assert wire.event_zxids == zxids


@SINCE_3_9
def test_watches_are_asked_for_and_removed_by_type(wires, root):
    wire, other = wires(), wires()
    wire.ask(GET_DATA, text(root) + b"\1")
    wire.ask(GET_CHILDREN, text(root) + b"\1")
    wire.ask(ADD_WATCH, text(root) + number(PERSISTENT))
    wire.ask(ADD_WATCH, text(root) + number(RECURSIVE))
    for kind in (1, 2, 4, 5, 3):
        assert wire.ask(CHECK_WATCHES, text(root) + number(kind)).error == 0
        assert other.ask(CHECK_WATCHES, text(root) + number(kind)).error == NO_WATCHER, "of others it says nothing"
        assert wire.ask(CHECK_WATCHES, text(f"{root}/") + number(kind)).error == NO_WATCHER
    for kind in (1, 2, 4, 5):
        assert wire.ask(REMOVE_WATCHES, text(root) + number(kind))[2:] == (0, b"", [])
        assert wire.ask(REMOVE_WATCHES, text(root) + number(kind)).error == NO_WATCHER
    assert wire.ask(CHECK_WATCHES, text(root) + number(3)).error == NO_WATCHER
    change(wire, root)
    assert wire.events() == []


def test_thousands_of_watches_are_caught_up_with(wires, root):
    """In several packets, as clients send them; each packet's events come before its reply."""
    first = wires()
    seen = first.ask(PING, xid=-2).zxid
    change(first, root)
    again = wires(session=first.session, password=first.password)
    assert again.session == first.session
    for packet in range(4):
        gone = [f"{root}/gone-{packet}-{n}" for n in range(1000)]
        lists = [[root, *gone], [f"{root}/e-{n}" for n in range(1000)], [root], [root], [f"{root}/r"]]
        answer = again.ask(SET_WATCHES2, long(seen) + b"".join(map(texts, lists)), xid=-8)
        assert answer[0::2] == (-8, 0, [(CHANGED, root), *((DELETED, path) for path in gone)])
    assert set(again.event_zxids) == {-1}
    assert again.ask(CREATE, create(f"{root}/e-999")).events[0] == (CREATED, f"{root}/e-999")
    assert again.ask(CREATE, create(f"{root}/r")).events[0] == (CREATED, f"{root}/r")
    deeper = again.ask(CREATE, create(f"{root}/r/below"))
    assert deeper.events == [(CREATED, f"{root}/r/below")]


def test_multi_read(wire, root):
    members = member(GET_DATA, text(root) + b"\1"), member(GET_CHILDREN, text("/none") + b"\1")
    answer = wire.ask(MULTI_READ, b"".join(members) + END)
    failed = number(-1) + b"\0" + number(NO_NODE) + number(NO_NODE)
    assert answer.error == 0
    assert answer.body.startswith(number(GET_DATA) + b"\0" + number(0) + text(b""))
    assert answer.body.endswith(failed + END)
    change(wire, root)
    assert wire.events() == [], "it sets no watch"
    assert wire.ask(MULTI_READ, END).body == END
    mixed = member(DELETE, text(root) + number(-1)), member(GET_DATA, text(root) + b"\0")
    assert wire.ask(MULTI_READ, b"".join(mixed) + END).error == MARSHALLING_ERROR


def test_ephemerals_by_the_beginning_of_their_paths(wires, root):
    wire, other = wires(), wires()
    for name in ("e1", "e1x", "e2"):
        assert wire.ask(CREATE, create(f"{root}/{name}", flags=1)).error == 0
    assert other.ask(CREATE, create(f"{root}/e11", flags=1)).error == 0
    mine = [f"{root}/{name}" for name in ("e1", "e1x", "e2")]
    for prefix, expected in [(f"{root}/e1", mine[:2]), (f"{root}/e1/", []), ("/", mine), (" ", mine), (None, mine)]:
        assert sorted(read_texts(wire.ask(GET_EPHEMERALS, text(prefix)).body)) == expected


def test_all_children_are_counted(wire, root):
    before = struct.unpack(">i", wire.ask(GET_ALL_CHILDREN_NUMBER, text("/")).body)[0]
    for path in ("a", "a/b", "a/b/c", "d"):
        assert wire.ask(CREATE, create(f"{root}/{path}")).error == 0
    for path, expected in [(root, 4), (f"{root}/a", 2), (f"{root}/a/b/c", 0)]:
        assert wire.ask(GET_ALL_CHILDREN_NUMBER, text(path)).body == number(expected)
    assert wire.ask(GET_ALL_CHILDREN_NUMBER, text("/")).body == number(before + 4)
    assert wire.ask(GET_ALL_CHILDREN_NUMBER, text("")).body == number(before + 5), "the root has two names"
    assert wire.ask(GET_ALL_CHILDREN_NUMBER, text(f"{root}/")).error == NO_NODE


def test_who_am_i(wire):
    address = text("ip") + text("127.0.0.1")
    assert wire.ask(WHO_AM_I).body == number(1) + address
    packet = number(0) + text("digest") + text(b"bob:secret")
    assert wire.ask(AUTH, packet, xid=-4)[:4] == (-4, 0, 0, b"")
    body = wire.ask(WHO_AM_I).body
    assert (len(body), body[:4]) == (4 + len(address) + len(text("digest") + text("bob")), number(2))
    assert address in body and text("digest") + text("bob") in body


def test_what_is_switched_off_says_so(wire, root):
    """SASL has nothing to say, and members are not changed; a refusal takes a zxid."""
    assert wire.ask(SASL, text(b"token"))[1:4] == (0, 0, number(-1))
    before = change(wire, root)
    request = text(None) + text("2,x") + text(None) + long(7)
    assert wire.ask(RECONFIG, request)[1:4] == (before + 1, RECONFIG_DISABLED, b"")


def test_the_members_are_in_the_config_node(wire, ensemble):
    answer = wire.ask(GET_DATA, text("/zookeeper/config") + b"\0")
    length = struct.unpack(">i", answer.body[:4])[0]
    *members, version = answer.body[4 : 4 + length].decode().split("\n")
    assert version == "version=0"
    roles = [(line.partition("=")[0], line.partition(";")[0].rpartition(":")[2]) for line in members]
    assert roles == [(f"server.{each.sid}", each.role) for each in ensemble.servers]


@pytest.mark.parametrize("opcode", [0, -1, 10, CHECK, 23, 99, 108])
def test_an_opcode_that_is_none_ends_the_connection(wire, opcode):
    if opcode == CHECK and flavours.kind() == "apache":
        pytest.skip("3.8 takes a bare check, to its own harm")
    answer = wire.ask(opcode, text("/") + number(0))
    assert answer[1:4] == (-1, UNIMPLEMENTED, b"")
    assert wire.is_closed()


@pytest.mark.parametrize(("opcode", "body"), [(AUTH, b""), (SASL, number(-1)), (SASL, number(5) + b"x")])
def test_what_the_connection_cannot_read_ends_it(wire, opcode, body):
    with pytest.raises(AssertionError, match="ended without an answer"):
        wire.ask(opcode, body)


def test_a_body_that_makes_no_sense_is_answered(wire, root):
    """And the stream goes on, on a follower, too, where Apache 3.8 wedges on some of these."""
    bodies = [
        (ADD_WATCH, text(root) + number(2)),
        (REMOVE_WATCHES, text(root) + number(9)),
        (CHECK_WATCHES, text(root)),
        (SET_WATCHES2, long(0) + number(-1) * 5),
        (GET_ALL_CHILDREN_NUMBER, text(None)),
        (EXISTS, number(99) + b"/"),
        (MULTI_READ, member(EXISTS, text(root) + b"\0") + END),
    ]
    if flavours.kind() == "zabra":
        bodies += [
            (RECONFIG, text("x")),
            (ADD_WATCH, text(None) + number(PERSISTENT)),
            (MULTI, member(DELETE, text(None) + number(-1)) + END),
        ]
    for opcode, body in bodies:
        assert wire.ask(opcode, body).error == MARSHALLING_ERROR, opcode
    assert wire.ask(EXISTS, text(root) + b"\0").error == 0


@SINCE_3_9
def test_null_where_none_can_be_takes_a_zxid(wire, root):
    before = change(wire, root)
    assert wire.ask(CREATE, text(None) + text(b"") + number(0) + number(0))[1:3] == (before + 1, MARSHALLING_ERROR)
    assert wire.ask(DELETE, text(None) + number(-1))[1:3] == (before + 2, MARSHALLING_ERROR)
    assert wire.ask(DELETE, text(root))[1:3] == (before + 2, MARSHALLING_ERROR), "what ends too early takes none"
    assert change(wire, root) == before + 3
