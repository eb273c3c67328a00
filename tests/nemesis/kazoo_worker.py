"""The same as worker.rs with kazoo: clients that do their jobs until standard input ends.

The plan (plan.rs) is the first line of standard input; each line of standard output is an entry (entry.rs).
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NoNodeError, NodeExistsError, NotReadOnlyCallError, ZookeeperError
from kazoo.retry import KazooRetry

ROOT = "/nemesis"
LOCKS = 2

# Seconds that a lock is waited for before the client steps back.
LOCK_PATIENCE = 10.0

# Seconds after which a waiting client looks for itself, in case an event is late.
LOOK_AGAIN = 1.0

# Items in the queue above which clients only take.
QUEUE_FULL = 100

# What a server says only if nothing was done.
REFUSED = {
    BadVersionError: "BadVersion",
    NoNodeError: "NoNode",
    NodeExistsError: "NodeExists",
    NotReadOnlyCallError: "NotReadOnly",
}

OUTPUT = threading.Lock()
OVER = threading.Event()


def number(path: str) -> int:
    return int(path.rsplit("-", 1)[1])


class Worker(threading.Thread):
    """One client with a session of its own."""

    def __init__(self, plan: dict, n: int) -> None:
        super().__init__(daemon=True)
        self.plan = plan
        self.client_name = f"{plan['name']}.{n}"
        self.job = getattr(self, plan["jobs"][n])
        self.random = random.Random(plan["seed"] * 1000 + n)
        self.answer = plan["answer_ms"] / 1000
        self.pace = plan["pace_ms"] / 1000
        self.servers = plan["servers"][n % len(plan["servers"]) :] + plan["servers"][: n % len(plan["servers"])]
        self.values = 0
        self.versions: dict[str, int] = {}
        self.client: KazooClient | None = None
        # Counts what happens to the connection.
        self.moves = 0

    def run(self) -> None:
        while not OVER.is_set():
            try:
                if self.client is None:
                    self.connect()
                self.job()
            except Exception:  # noqa: BLE001 - what has an entry has written it; all else is tried again
                pass
            OVER.wait(self.pace)
        self.leave()

    def connect(self) -> None:
        eager = KazooRetry(max_tries=-1, delay=0.05, backoff=2, max_delay=0.5)
        client = KazooClient(
            hosts=",".join(self.servers),
            timeout=self.plan["session_ms"] / 1000,
            randomize_hosts=False,
            connection_retry=eager,
        )
        client.add_listener(self.on_state)
        try:
            client.start(timeout=self.answer)
        except BaseException:
            client.stop()
            client.close()
            raise
        self.client = client

    def on_state(self, _state: str) -> None:
        self.moves += 1

    def leave(self) -> None:
        """Ends the session, with all that it may still hold."""
        client, self.client = self.client, None
        if client is not None:
            client.stop()
            client.close()

    def value(self) -> str:
        self.values += 1
        return f"{self.client_name}:{self.values}"

    def do(self, kind: str, ask, **known):
        """Asks, waits, and writes the entry. `ask` gives what is to be known besides, from the answer."""
        session = self.client.client_id[0]
        entry = {"client": self.client_name, "kind": kind, "begin": time.monotonic_ns(), **known}
        failure = None
        try:
            entry.update(ask())
            entry["outcome"] = "ok"
        except tuple(REFUSED) as error:
            failure = error
            entry.update(outcome="fail", error=REFUSED[type(error)])
        except Exception as error:  # noqa: BLE001 - whatever it was: the outcome is not known
            failure = error
            entry.update(outcome="unknown", error=f"{type(error).__name__} {error}")
        entry["end"] = time.monotonic_ns()
        same = self.client.client_id is not None and self.client.client_id[0] == session
        entry["session"] = session if same else 0
        line = json.dumps(entry, separators=(",", ":")) + "\n"
        with OUTPUT:
            sys.stdout.write(line)
            sys.stdout.flush()
        if failure is not None:
            raise failure

    # --- registers

    def register(self) -> None:
        passed = (time.monotonic_ns() - self.plan["began"]) // (self.plan["generation_ms"] * 1_000_000)
        generation = min(passed, self.plan["generations"] - 1)
        key = f"{ROOT}/registers/{generation}-{self.random.randrange(self.plan['registers'])}"
        chance = self.random.randrange(10)
        if chance < 3:
            self.read(key)
        elif chance < 6:
            self.do("plain-read", lambda: self.got(key, self.client.get_async(key)), key=key)
        else:
            self.write(key, self.versions.get(key, 0) if chance < 9 else None)

    def got(self, key: str, pending) -> dict:
        data, stat = pending.get(timeout=self.answer)
        self.versions[key] = stat.version
        return {"value": data.decode(), "version": stat.version, "zxid": stat.mzxid}

    def read(self, key: str) -> None:
        def ask() -> dict:
            moves = self.moves
            synced, pending = self.client.sync_async(key), self.client.get_async(key)
            synced.get(timeout=self.answer)
            result = self.got(key, pending)
            # Behind a sync on another connection it is a read like any other.
            return {**result, "kind": "read" if self.moves == moves else "plain-read"}

        self.do("read", ask, key=key)

    def write(self, key: str, expect: int | None) -> None:
        value = self.value()

        def ask() -> dict:
            pending = self.client.set_async(key, value.encode(), -1 if expect is None else expect)
            stat = pending.get(timeout=self.answer)
            self.versions[key] = stat.version
            return {"version": stat.version, "zxid": stat.mzxid}

        expected = {} if expect is None else {"expect": expect}
        try:
            self.do("write", ask, key=key, value=value, **expected)
        except BadVersionError:
            self.versions.pop(key, None)

    # --- ids and the queue

    def id(self) -> None:
        self.sequential("id", f"{ROOT}/ids/id-")

    def sequential(self, kind: str, path: str) -> None:
        value = self.value()

        def ask() -> dict:
            pending = self.client.create_async(path, value.encode(), sequence=True, include_data=True)
            created, stat = pending.get(timeout=self.answer)
            return {"number": number(created), "zxid": stat.czxid}

        self.do(kind, ask, value=value)

    def queue(self) -> None:
        names = sorted(self.client.get_children_async(f"{ROOT}/queue").get(timeout=self.answer))
        if not names or (len(names) < QUEUE_FULL and self.random.random() < 0.5):
            self.sequential("put", f"{ROOT}/queue/item-")
            return
        name = self.random.choice(names[:3])
        path = f"{ROOT}/queue/{name}"
        # Somebody else may be faster: NoNode, and the next one is looked for.
        data, _ = self.client.get_async(path).get(timeout=self.answer)

        def ask() -> dict:
            self.client.delete_async(path, 0).get(timeout=self.answer)
            return {}

        self.do("take", ask, value=data.decode(), number=number(name))

    # --- locks

    def lock(self) -> None:
        """Takes a lock, changes what it guards some times, and lets go. Whatever goes wrong ends the session."""
        key = f"lock-{self.random.randrange(LOCKS)}"
        try:
            self.hold(key)
        except BaseException:
            self.leave()
            raise

    def hold(self, key: str) -> None:
        begin = time.monotonic_ns()
        path = self.client.create_async(
            f"{ROOT}/{key}/n-", self.client_name.encode(), ephemeral=True, sequence=True
        ).get(timeout=self.answer)
        held = {"key": key, "number": number(path)}
        if not self.await_turn(key, path.rsplit("/", 1)[1]):
            self.client.delete_async(path).get(timeout=self.answer)
            return
        self.do("acquire", lambda: {"begin": begin}, **held)
        for _ in range(self.random.randrange(1, 5)):
            value = self.value()
            self.do("guard", lambda: self.guarded(key, path, value), value=value, **held)
            OVER.wait(self.pace)
        self.do("release", lambda: self.client.delete_async(path).get(timeout=self.answer) and {} or {}, **held)

    def await_turn(self, key: str, mine: str) -> bool:
        deadline = time.monotonic() + LOCK_PATIENCE
        while time.monotonic() < deadline and not OVER.is_set():
            names = sorted(self.client.get_children_async(f"{ROOT}/{key}").get(timeout=self.answer))
            place = names.index(mine)
            if place == 0:
                return True
            gone = threading.Event()
            before = f"{ROOT}/{key}/{names[place - 1]}"
            if self.client.exists_async(before, watch=lambda _: gone.set()).get(timeout=self.answer):
                gone.wait(LOOK_AGAIN)
        return False

    def guarded(self, key: str, path: str, value: str) -> dict:
        together = self.client.transaction()
        together.check(path, -1)
        together.set_data(f"{ROOT}/guarded-{key}", value.encode())
        results = together.commit_async().get(timeout=self.answer)
        for result in results:
            if isinstance(result, ZookeeperError):
                # Of a failed multi the culprit has its own error, the others say nothing.
                if type(result) in REFUSED:
                    raise result
            elif isinstance(result, Exception):
                raise result
        if not hasattr(results[-1], "version"):
            raise RuntimeError(f"no result: {results}")
        return {"version": results[-1].version, "zxid": results[-1].mzxid}


def main() -> None:
    plan = json.loads(sys.stdin.readline())
    workers = [Worker(plan, n) for n in range(len(plan["jobs"]))]
    for worker in workers:
        worker.start()
    sys.stdin.read()
    OVER.set()
    for worker in workers:
        worker.join(plan["answer_ms"] / 1000 + 5)


main()
