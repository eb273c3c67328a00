"""Read-only mode: a server that has lost the others goes on answering those who only want to read."""

from __future__ import annotations

import subprocess

import pytest
from kazoo.client import KazooClient, KeeperState
from kazoo.exceptions import NotReadOnlyCallError

import flavours
from clients import SOON, close
from frames import (
    CHANGED,
    CHECK_WATCHES,
    CLOSE_SESSION,
    CREATE,
    CREATE2,
    CREATE_CONTAINER,
    DELETE,
    END,
    EXISTS,
    GET_CHILDREN,
    GET_DATA,
    MULTI,
    MULTI_READ,
    OPEN_ACL,
    PING,
    RECONFIG,
    SET_ACL,
    SET_DATA,
    SYNC,
    WHO_AM_I,
    NoAnswer,
    Wire,
    create,
    long,
    member,
    number,
    text,
)
from harness import Ensemble, Server, four_letter_word, until
from test_zkcli import ZKCLI

NOT_READ_ONLY = -119

# Seconds for a server to find out that it is alone, and to wait whether somebody comes: two each would do.
CUT_OFF_TIMEOUT = 30.0

# Seconds for a JVM to start, look for a read-write server in vain, and run a command.
SHELL_TIMEOUT = 60.0


class CutOff:
    """Three servers of which one is left. A znode `/n` has data, `/e` is of a session of the ensemble."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        ensemble.start()
        self.server, *self.others = ensemble.servers
        self.of_ensemble = Wire(self.server)
        assert self.of_ensemble.read_only is False
        for path, flags in (("/n", 0), ("/e", 1)):
            assert self.of_ensemble.ask(CREATE, create(path, flags)).error == 0
        assert self.of_ensemble.ask(SET_DATA, text("/n") + text("here") + number(-1)).error == 0
        self.cut()
        assert self.of_ensemble.is_closed()

    def cut(self) -> None:
        for other in self.others:
            other.kill()
        until(lambda: self.server.mode() == "read-only", "it is read-only", CUT_OFF_TIMEOUT)

    def mend(self) -> None:
        self.ensemble.start()


@pytest.fixture(scope="module")
def cut_off(new_ensemble):
    # Apache has sessions in read-only mode only where local ones are enabled.
    settings = dict(local_sessions=True, upgrade_local_sessions=True, read_only_mode=True)
    with new_ensemble(participants=3, observers=0, **settings) as ensemble:
        yield CutOff(ensemble)


@pytest.fixture
def lonely(cut_off) -> Server:
    return cut_off.server


def test_it_says_so(lonely):
    assert four_letter_word(lonely.ports.client, "isro") == "ro"
    lines = four_letter_word(lonely.ports.client, "srvr").splitlines()
    assert lines[1] == "READ-ONLY mode; serving only read-only clients"


@pytest.mark.parametrize("wish", [False, None])
def test_who_wants_more_is_sent_away(lonely, wish):
    with pytest.raises(NoAnswer):
        Wire(lonely, read_only=wish)


def test_a_session_of_the_ensemble_is_not_answered(lonely, cut_off):
    known = cut_off.of_ensemble
    with pytest.raises(NoAnswer):
        Wire(lonely, known.session, known.password, read_only=True)


def test_who_has_seen_more_is_sent_away(lonely):
    zxid = Wire(lonely, read_only=True).ask(PING).zxid
    Wire(lonely, read_only=True, seen=zxid).close()
    with pytest.raises(NoAnswer):
        Wire(lonely, read_only=True, seen=zxid + 1)


def test_reads_are_answered(lonely):
    wire = Wire(lonely, read_only=True)
    assert wire.read_only is True and wire.session >> 56 == lonely.sid
    answer = wire.ask(GET_DATA, text("/n") + b"\1")
    assert (answer.error, answer.body[:8]) == (0, text("here"))
    zxid = answer.zxid
    assert zxid > 0
    assert wire.ask(GET_CHILDREN, text("/") + b"\1").error == 0
    assert wire.ask(EXISTS, text("/none") + b"\1").error == -101
    assert wire.ask(WHO_AM_I).error == 0
    assert wire.ask(MULTI_READ, member(GET_DATA, text("/n") + b"\0") + END).error == 0
    assert wire.ask(CHECK_WATCHES, text("/n") + number(2)).error == 0
    assert wire.ask(PING, xid=-2)[:3] == (-2, zxid, 0)
    wire.close()


def test_writes_and_sync_are_refused(lonely):
    wire = Wire(lonely, read_only=True)
    zxid = wire.ask(PING).zxid
    new = text("/new") + text(b"") + OPEN_ACL
    writes = {
        CREATE: create("/new"),
        CREATE2: create("/new", 1),
        CREATE_CONTAINER: create("/new", 4),
        21: new + number(5) + long(1000),
        DELETE: text("/n") + number(-1),
        SET_DATA: text("/n") + text("x") + number(-1),
        SET_ACL: text("/n") + OPEN_ACL + number(-1),
        SYNC: text("/"),
        MULTI: member(DELETE, text("/n") + number(-1)) + END,
        RECONFIG: text(None) * 3 + long(-1),
    }
    for opcode, body in writes.items():
        answer = wire.ask(opcode, body)
        assert (answer.error, answer.zxid, answer.body) == (NOT_READ_ONLY, zxid, b""), f"opcode {opcode}"
        answer = wire.ask(opcode, b"")
        assert answer.error == NOT_READ_ONLY, f"opcode {opcode} without a body"
    assert wire.ask(GET_DATA, text("/n") + b"\0").body[:8] == text("here")
    wire.close()


def test_its_sessions_come_back_to_it(lonely):
    wire = Wire(lonely, read_only=True)
    again = Wire(lonely, wire.session, wire.password, read_only=True, timeout_ms=5_000)
    assert (again.session, again.timeout, again.read_only) == (wire.session, 5_000, True)
    assert wire.is_closed()
    answer = again.ask(CLOSE_SESSION)
    assert answer.error == 0 and again.is_closed()
    refused = Wire(lonely, wire.session, wire.password, read_only=True)
    assert (refused.session, refused.timeout, refused.password) == (0, 0, bytes(16))
    assert refused.is_closed()


def test_its_sessions_expire(lonely):
    wire = Wire(lonely, read_only=True, timeout_ms=1000)
    assert wire.is_closed()
    assert Wire(lonely, wire.session, wire.password, read_only=True).session == 0


def read_only_client(server: Server) -> KazooClient:
    client = KazooClient(hosts=server.host, read_only=True, timeout=10.0)
    client.start_async()
    until(lambda: client.connected, "connected", CUT_OFF_TIMEOUT)
    return client


def test_kazoo_reads(lonely):
    client = read_only_client(lonely)
    assert client.client_state == KeeperState.CONNECTED_RO
    assert client.get("/n")[0] == b"here"
    assert client.exists("/e").ephemeralOwner != 0
    with pytest.raises(NotReadOnlyCallError):
        client.create("/new")
    close(client)


def zkcli(server: Server, *command: str) -> str:
    done = subprocess.run(
        [str(ZKCLI), "-r", "-server", server.host, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SHELL_TIMEOUT,
    )
    return done.stdout


def test_java_client_reads(lonely):
    told = zkcli(lonely, "get", "/n")
    assert "state:ConnectedReadOnly" in told and "\nhere\n" in told
    told = zkcli(lonely, "create", "/new", "x")
    assert "Not a read-only call: /new" in told or "NotReadOnly" in told, told


def test_everybody_leaves_when_the_others_are_back(cut_off):
    """The last of the module: it mends the ensemble, and cuts it again for whoever comes after it."""
    lonely = cut_off.server
    wire = Wire(lonely, read_only=True)
    assert wire.ask(GET_DATA, text("/n") + b"\1").error == 0
    client = read_only_client(lonely)
    cut_off.mend()
    assert wire.is_closed(), "without an event"
    assert four_letter_word(lonely.ports.client, "isro") == "rw"
    # kazoo asks `isro` and comes with a session of the ensemble.
    until(lambda: client.client_state == KeeperState.CONNECTED, "connected for reading and writing", SOON)
    client.set("/n", b"there")
    assert Wire(lonely, wire.session, wire.password, read_only=True).session == 0, "it was of that time"
    # The ensemble's own session and its ephemeral were asleep, and have their full time-out.
    known = cut_off.of_ensemble
    again = Wire(lonely, known.session, known.password)
    assert again.session == known.session
    watcher = again.ask(GET_DATA, text("/n") + b"\1")
    assert watcher.body[:9] == text("there")
    client.set("/n", b"again")
    assert again.ask(PING, xid=-2).events == [(CHANGED, "/n")]
    close(client)
    again.close()
    cut_off.cut()


@pytest.mark.skipif(flavours.kind() == "apache", reason="Apache answers such a handshake with what nobody can read")
def test_local_sessions_need_not_be_enabled(new_ensemble):
    with new_ensemble(participants=3, observers=0, read_only_mode=True) as ensemble:
        lonely = CutOff(ensemble).server
        wire = Wire(lonely, read_only=True)
        assert wire.read_only is True
        assert wire.ask(GET_DATA, text("/n") + b"\0").error == 0
        assert wire.ask(CREATE, create("/new")).error == NOT_READ_ONLY
