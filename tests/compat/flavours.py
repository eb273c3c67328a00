"""The two kinds of ensembles: how each is configured and started.

Both get the same shape: participants first, then observers, on loopback, with ticks short enough for tests of
expiry and failover and long enough for a busy machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness import HOST, Ensemble, Server, claim_servers

# Milliseconds. Session time-outs are between 2 and 20 ticks.
TICK_MS = 500

# In ticks: JVMs that start together on two cores need some.
INIT_LIMIT = 20

# In ticks: a machine that also compiles must not look like a dead peer.
SYNC_LIMIT = 6

REPOSITORY = Path(__file__).resolve().parents[2]


def kind() -> str:
    """Which servers the tests run against: `zabra`, or `apache` as the oracle."""
    chosen = os.environ.get("ZABRA_COMPAT_ENSEMBLE", "zabra")
    if chosen not in ("zabra", "apache"):
        raise ValueError(f"ZABRA_COMPAT_ENSEMBLE is {chosen!r}; set it to zabra or apache")
    return chosen


@dataclass
class Settings:
    """What a test may want otherwise than it is by default."""

    snap_count: int = 100_000
    local_sessions: bool = False
    upgrade_local_sessions: bool = False
    read_only_mode: bool = False
    enforce_quota: bool = False
    # Apache has no such setting.
    epoch_length: int = 0xFFFF_FFFE


def make_ensemble(directory: Path, participants: int = 3, observers: int = 1, **settings: int) -> Ensemble:
    """An ensemble with its configuration written, not yet started. `settings` are fields of `Settings`."""
    roles = ["participant"] * participants + ["observer"] * observers
    servers, claims = claim_servers(directory, roles)
    if kind() == "zabra":
        _configure_zabra(directory, servers, Settings(**settings))
    else:
        for server in servers:
            _configure_apache(server, servers, Settings(**settings))
    return Ensemble(servers, claims)


def data_directory(server: Server) -> Path:
    """All that a server knows is below this directory; without it, it starts with nothing."""
    if kind() == "zabra":
        return server.directory.parent / "data" / str(server.sid)
    return server.directory / "data" / "version-2"


def _configure_zabra(directory: Path, servers: list[Server], settings: Settings) -> None:
    """One file for the whole ensemble; a server is told only its id."""
    config = directory / "cluster.toml"
    sections = [
        f'[cluster]\nname = "compat"\ndata_dir = "{directory / "data"}"\n'
        f"epoch_length = {settings.epoch_length}",
        f'[timing]\ntick_time = "{TICK_MS}ms"\ninit_limit = {INIT_LIMIT}\nsync_limit = {SYNC_LIMIT}',
        f"[storage]\nsnap_count = {settings.snap_count}",
        f"[client]\nlocal_sessions = {_toml(settings.local_sessions)}\n"
        f"upgrade_local_sessions = {_toml(settings.upgrade_local_sessions)}\n"
        f"read_only_mode = {_toml(settings.read_only_mode)}",
        f"[znode]\nenforce_quota = {_toml(settings.enforce_quota)}",
        '[admin]\nfour_letter_words = ["srvr", "stat", "ruok", "mntr", "isro"]',
    ]
    for server in servers:
        sections.append(
            f'[[server]]\nid = {server.sid}\nrole = "{server.role}"\n'
            f'client = "{HOST}:{server.ports.client}"\n'
            f'peer = "{HOST}:{server.ports.peer}"\n'
            f'admin = "{HOST}:{server.ports.third}"'
        )
        server.command = [str(zabra_binary()), "serve", "--config", str(config), "--id", str(server.sid)]
    config.write_text("\n\n".join(sections) + "\n")


def _toml(flag: bool) -> str:
    return str(flag).lower()


def zabra_binary() -> Path:
    """ZABRA_BIN, else the release build of this repository."""
    binary = Path(os.environ.get("ZABRA_BIN", REPOSITORY / "target" / "release" / "zabra"))
    if not binary.exists():
        raise FileNotFoundError(f"{binary} is not there: run `cargo build --release`, or set ZABRA_BIN")
    return binary


def _configure_apache(server: Server, servers: list[Server], wanted: Settings) -> None:
    data = server.directory / "data"
    data.mkdir(exist_ok=True)
    (data / "myid").write_text(f"{server.sid}\n")
    settings = [
        f"tickTime={TICK_MS}",
        f"initLimit={INIT_LIMIT}",
        f"syncLimit={SYNC_LIMIT}",
        f"dataDir={data}",
        f"clientPort={server.ports.client}",
        f"clientPortAddress={HOST}",
        f"snapCount={wanted.snap_count}",
        f"localSessionsEnabled={_toml(wanted.local_sessions)}",
        f"localSessionsUpgradingEnabled={_toml(wanted.upgrade_local_sessions)}",
        "admin.enableServer=false",
        "4lw.commands.whitelist=srvr,stat,ruok,mntr,isro",
    ]
    if server.role == "observer":
        settings.append("peerType=observer")
    if len(servers) > 1:
        settings += [f"server.{s.sid}={HOST}:{s.ports.peer}:{s.ports.third}:{s.role}" for s in servers]
    config = server.directory / "zoo.cfg"
    config.write_text("\n".join(settings) + "\n")
    (server.directory / "log4j.properties").write_text(LOG4J)
    server.command = java("org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config), path=[server.directory])
    server.command.insert(1, f"-Dreadonlymode.enabled={_toml(wanted.read_only_mode)}")
    server.command.insert(1, f"-Dzookeeper.enforceQuota={_toml(wanted.enforce_quota)}")


LOG4J = """\
log4j.rootLogger=WARN, CONSOLE
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout
log4j.appender.CONSOLE.layout.ConversionPattern=%d{ISO8601} %-5p %c{1} - %m%n
# It tells of every client that goes without a farewell, with a stack trace.
log4j.logger.org.apache.zookeeper.server.NIOServerCnxn=ERROR
"""

# Debian's jars name what they need in their manifests, so these pull in the rest.
JARS = Path("/usr/share/java")
CLASS_PATH = [
    JARS / f"{name}.jar"
    for name in ("zookeeper", "curator-framework", "curator-recipes", "curator-client", "slf4j-log4j12", "log4j-1.2")
]


def java(main: str, *arguments: str, path: list[Path]) -> list[str]:
    """The command of a small JVM that starts fast; `path` stands before Debian's jars on its class path."""
    class_path = ":".join(str(entry) for entry in [*path, *CLASS_PATH])
    return ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", class_path, main, *arguments]
