"""Starts, stops and harms ensembles of real server processes.

The same tests run against two kinds of servers: `zabra` (the binary under test) and `apache` (Apache ZooKeeper
itself, the oracle that tells whether a test asks for the right thing). What differs between the two, the
configuration file and the command line, is in `flavours.py`; everything here holds for both.

A server is looked at only through its client port: `srvr` says whether it serves, and in which role. Nothing here
sleeps for a fixed time and hopes: states of processes are polled against a deadline, and what a deadline was
waiting for is in its error.
"""

from __future__ import annotations

import random
import re
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, TypeVar

HOST = "127.0.0.1"

# Below the kernel's ephemeral range, so that no outgoing connection takes a port between claim and use.
PORT_RANGE = range(15000, 32000)

# How often a polled state is looked at, in seconds.
POLL_INTERVAL = 0.02

# How long an ensemble may take until it serves, in seconds. A JVM on a busy two-core machine needs most of it.
START_TIMEOUT = 60.0

# How long a server may take to end after SIGTERM, in seconds.
STOP_TIMEOUT = 20.0

# A four-letter word is answered at once or not at all, in seconds.
FOUR_LETTER_TIMEOUT = 2.0

T = TypeVar("T")


def until(probe: Callable[[], T], what: str, timeout: float) -> T:
    """Polls `probe` until it answers something true, and returns that answer."""
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so within {timeout:g} s")
        time.sleep(POLL_INTERVAL)


class PortClaim:
    """A TCP port that no other test takes while this claim lives.

    The claim is a bound UDP socket of the same number: it does not stop the server from listening, survives the
    server's restarts, and is given back by the kernel however the test ends.
    """

    def __init__(self) -> None:
        while True:
            self.port = random.choice(PORT_RANGE)
            self._claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self._claim.bind((HOST, self.port))
                with socket.socket() as trial:
                    trial.bind((HOST, self.port))
                return
            except OSError:
                self._claim.close()

    def release(self) -> None:
        self._claim.close()


def four_letter_word(port: int, word: str) -> str:
    """Asks `word` on a client port; the empty string when nobody answers."""
    try:
        with socket.create_connection((HOST, port), timeout=FOUR_LETTER_TIMEOUT) as connection:
            connection.sendall(word.encode())
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
            return answer.decode()
    except OSError:
        return ""


@dataclass
class Ports:
    """The three ports of a server. Apache has no admin port here and uses the third for its elections."""

    client: int
    peer: int
    third: int


class Server:
    """One server process: its ports, its directory, its log, and ways to end it."""

    def __init__(self, sid: int, role: str, directory: Path, ports: Ports) -> None:
        self.sid = sid
        self.role = role
        self.directory = directory
        self.ports = ports
        self.command: list[str] = []
        self.log = directory / "server.log"
        self._process: subprocess.Popen | None = None
        self._told_to_end = False
        directory.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"server {self.sid} ({self.role})"

    @property
    def host(self) -> str:
        """Where clients connect to."""
        return f"{HOST}:{self.ports.client}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def died(self) -> bool:
        """It ended, and nobody told it to."""
        return self._process is not None and not self.running and not self._told_to_end

    def start(self) -> None:
        assert not self.running, f"{self} runs already"
        with self.log.open("ab") as log:
            self._told_to_end = False
            self._process = subprocess.Popen(
                self.command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self} was never started"
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._told_to_end = True
        self._process.send_signal(number)

    def wait(self, timeout: float = STOP_TIMEOUT) -> int:
        """Waits for the end of the process and returns its exit code."""
        assert self._process is not None, f"{self} was never started"
        return self._process.wait(timeout)

    def kill(self) -> None:
        """kill -9: nothing is flushed, nobody is told."""
        if self.running:
            self.send(signal.SIGKILL)
            self.wait()

    def terminate(self) -> int:
        """An orderly stop; returns the exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def pause(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def mode(self) -> str | None:
        """leader, follower, observer or standalone; None while it serves nobody."""
        if not self.running:
            return None
        found = re.search(r"^Mode: (\S+)$", four_letter_word(self.ports.client, "srvr"), re.MULTILINE)
        return found[1] if found else None

    def log_tail(self, lines: int = 40) -> str:
        """The end of what it wrote, without the depths of Java's stack traces."""
        if not self.log.exists():
            return ""
        told = [line for line in self.log.read_text(errors="replace").splitlines() if not line.startswith("\tat ")]
        return "\n".join(told[-lines:])


class Ensemble:
    """The servers of one test. Leaving its `with` block ends them all."""

    def __init__(self, servers: list[Server], claims: list[PortClaim]) -> None:
        self.servers = servers
        self._claims = claims

    def __enter__(self) -> Ensemble:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()
        for claim in self._claims:
            claim.release()

    @property
    def hosts(self) -> str:
        return ",".join(server.host for server in self.servers)

    def hosts_from(self, first: Server) -> str:
        """All servers, beginning with `first`: where an orderly client tries them in this order."""
        at = self.servers.index(first)
        return ",".join(server.host for server in self.servers[at:] + self.servers[:at])

    def server(self, mode: str) -> Server:
        """One server in that role. Asking an ensemble that has none is an error of the test."""
        return self.all_in(mode)[0]

    def all_in(self, mode: str) -> list[Server]:
        found = [server for server in self.servers if server.mode() == mode]
        if not found:
            raise LookupError(f"no {mode}: {self.modes()}")
        return found

    def modes(self) -> dict[int, str | None]:
        return {server.sid: server.mode() for server in self.servers}

    def start(self) -> None:
        """Starts whichever servers do not run and waits until all serve."""
        for server in self.servers:
            if not server.running:
                server.start()
        self.wait_serving()

    def wait_serving(self, timeout: float = START_TIMEOUT) -> None:
        """Waits until every running server serves, under one leader."""

        def serving() -> bool:
            for server in self.servers:
                if server.died:
                    raise RuntimeError(f"{server} ended by itself, with code {server.wait()}\n{server.log_tail()}")
            running = [server for server in self.servers if server.running]
            modes = [server.mode() for server in running]
            return None not in modes and sum(mode in ("leader", "standalone") for mode in modes) == 1

        try:
            until(serving, "every running server serves", timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; modes: {self.modes()}\n{self.log_tails()}") from None

    def kill_all(self) -> None:
        """kill -9 of all at once: the signals go out before the first end is awaited."""
        running = [server for server in self.servers if server.running]
        for server in running:
            server.send(signal.SIGKILL)
        for server in running:
            server.wait()

    def terminate_all(self) -> None:
        running = [server for server in self.servers if server.running]
        for server in running:
            server.send(signal.SIGTERM)
        for server in running:
            server.wait()

    def log_tails(self) -> str:
        return "\n".join(f"--- {server}\n{server.log_tail()}" for server in self.servers)


class Gate:
    """A TCP relay in front of a server, to cut clients off without ending either side."""

    def __init__(self, target: Server) -> None:
        self._target = (HOST, target.ports.client)
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._open = True
        self._listener = socket.create_server((HOST, 0))
        self.host = f"{HOST}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        # close() alone would leave accept() blocked in the other thread.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def cut(self) -> None:
        """Breaks all connections; new ones are closed at once until `mend`."""
        with self._lock:
            self._open = False
            for each in self._sockets:
                _shut(each)
            self._sockets.clear()

    def mend(self) -> None:
        with self._lock:
            self._open = True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._relay(client)

    def _relay(self, client: socket.socket) -> None:
        with self._lock:
            if not self._open:
                client.close()
                return
            try:
                server = socket.create_connection(self._target, timeout=FOUR_LETTER_TIMEOUT)
            except OSError:
                client.close()
                return
            server.settimeout(None)
            self._sockets |= {client, server}
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(65536):
                sink.sendall(chunk)
        except OSError:
            pass
        for each in (source, sink):
            _shut(each)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other side was faster


def claim_servers(directory: Path, roles: Iterable[str]) -> tuple[list[Server], list[PortClaim]]:
    """Servers 1, 2, ... with directories and ports of their own, not yet started."""
    servers: list[Server] = []
    claims: list[PortClaim] = []
    for sid, role in enumerate(roles, start=1):
        mine = [PortClaim() for _ in range(3)]
        claims += mine
        ports = Ports(*(claim.port for claim in mine))
        servers.append(Server(sid, role, directory / str(sid), ports))
    return servers, claims
