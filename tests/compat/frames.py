"""The wire itself: requests and answers as bytes, for what no client library asks, and for what it would hide.

Everything here is big-endian, lengths before contents, -1 for null (Apache calls it Jute).
"""

from __future__ import annotations

import socket
import struct
from typing import Iterable, NamedTuple

from clients import SOON
from harness import HOST, Server

CLOSE_SESSION = -11
SET_ACL, SYNC, CREATE2, CREATE_CONTAINER = 7, 9, 15, 19
DELETE, EXISTS, GET_DATA, SET_DATA, GET_CHILDREN, PING, CHECK, MULTI = 2, 3, 4, 5, 8, 11, 13, 14
CREATE, RECONFIG, CHECK_WATCHES, REMOVE_WATCHES, MULTI_READ, AUTH, SASL = 1, 16, 17, 18, 22, 100, 102
GET_EPHEMERALS, GET_ALL_CHILDREN_NUMBER, SET_WATCHES2, ADD_WATCH, WHO_AM_I = 103, 104, 105, 106, 107

CREATED, DELETED, CHANGED, CHILD = 1, 2, 3, 4
PERSISTENT, RECURSIVE = 0, 1


def number(value: int) -> bytes:
    return struct.pack(">i", value)


def long(value: int) -> bytes:
    return struct.pack(">q", value)


def text(value: str | bytes | None) -> bytes:
    if value is None:
        return number(-1)
    encoded = value if isinstance(value, bytes) else value.encode()
    return number(len(encoded)) + encoded


def texts(values: Iterable[str]) -> bytes:
    encoded = [text(value) for value in values]
    return number(len(encoded)) + b"".join(encoded)


OPEN_ACL = number(1) + number(31) + text("world") + text("anyone")


def create(path: str, flags: int = 0) -> bytes:
    return text(path) + text(b"") + OPEN_ACL + number(flags)


def member(kind: int, body: bytes) -> bytes:
    """A member of a multi or multiRead."""
    return number(kind) + b"\0" + number(-1) + body


END = number(-1) + b"\1" + number(-1)


class Answer(NamedTuple):
    """A reply, with the events that came before it."""

    xid: int
    zxid: int
    error: int
    body: bytes
    events: list[tuple[int, str]]


class NoAnswer(Exception):
    """The server has closed the connection in place of answering its handshake."""


class Wire:
    """A session, by hand. It pings nobody, so it lasts no longer than its time-out.

    A refusal is a session 0 with a time-out of 0. `read_only` is the last byte of the handshake, None to leave it
    out; afterwards it is what the answer has there. Requests that are to be `behind` the handshake, as xid, opcode and
    body, leave with it.
    """

    def __init__(
        self,
        server: Server,
        session: int = 0,
        password: bytes = bytes(16),
        read_only: bool | None = False,
        timeout_ms: int = 10_000,
        seen: int = 0,
        behind: Iterable[tuple[int, int, bytes]] = (),
    ) -> None:
        self._socket = socket.create_connection((HOST, server.ports.client), timeout=SOON)
        self._xid = 0
        wish = b"" if read_only is None else bytes([read_only])
        hello = number(0) + long(seen) + number(timeout_ms) + long(session) + text(password) + wish
        requests = (number(xid) + number(opcode) + body for xid, opcode, body in behind)
        self._socket.sendall(b"".join(text(frame) for frame in (hello, *requests)))
        hello = self._frame()
        if hello is None:
            self.close()
            raise NoAnswer(f"{server} does not answer the handshake")
        _, self.timeout, self.session = struct.unpack(">iiq", hello[:16])
        self.password = hello[20:36]
        assert len(hello) in (36, 37), "the answer has the last byte or not, and nothing else"
        self.read_only = bool(hello[36]) if len(hello) == 37 else None
        # Zxids of the events, in the order in which all events came.
        self.event_zxids: list[int] = []

    def close(self) -> None:
        self._socket.close()

    def ask(self, opcode: int, body: bytes = b"", xid: int | None = None) -> Answer:
        if xid is None:
            self._xid += 1
            xid = self._xid
        self._send(number(xid) + number(opcode) + body)
        return self.answer()

    def answer(self) -> Answer:
        """The next answer, with the events before it."""
        events = []
        while True:
            frame = self._frame()
            assert frame is not None, "the connection ended without an answer"
            got, zxid, error = struct.unpack(">iqi", frame[:16])
            if got != -1:
                return Answer(got, zxid, error, frame[16:], events)
            events.append(self._event(zxid, frame))

    def tell(self, opcode: int, body: bytes = b"") -> None:
        """Asks, and does not wait for the answer."""
        self._xid += 1
        self._send(number(self._xid) + number(opcode) + body)

    def events(self) -> list[tuple[int, str]]:
        """What has come by now: a ping stands behind it."""
        return self.ask(PING, xid=-2).events

    def last_events(self) -> list[tuple[int, str]]:
        """What has come until the other side closes."""
        events = []
        while (frame := self._frame()) is not None:
            assert frame[:4] == number(-1), "events only"
            events.append(self._event(int.from_bytes(frame[4:12], "big", signed=True), frame))
        return events

    def is_closed(self) -> bool:
        """Waits for the other side to close."""
        return self._frame() is None

    def _event(self, zxid: int, frame: bytes) -> tuple[int, str]:
        kind, state, length = struct.unpack(">iii", frame[16:28])
        assert state == 3, "SyncConnected"
        self.event_zxids.append(zxid)
        return kind, frame[28 : 28 + length].decode()

    def _send(self, frame: bytes) -> None:
        self._socket.sendall(number(len(frame)) + frame)

    def _frame(self) -> bytes | None:
        length = self._bytes(4)
        return None if length is None else self._bytes(struct.unpack(">i", length)[0])

    def _bytes(self, count: int) -> bytes | None:
        received = b""
        while len(received) < count:
            try:
                piece = self._socket.recv(count - len(received))
            except ConnectionResetError:
                return None
            if not piece:
                return None
            received += piece
        return received


def read_texts(body: bytes) -> list[str]:
    count, body = struct.unpack(">i", body[:4])[0], body[4:]
    found = []
    for _ in range(count):
        length = struct.unpack(">i", body[:4])[0]
        found.append(body[4 : 4 + length].decode())
        body = body[4 + length :]
    assert body == b"", "nothing behind the list"
    return found
