"""What the tests share: an ensemble for those that do no harm, clients, and measurements to print.

A server's log is printed when the test that used it fails.
"""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path

import pytest

import flavours
from clients import close, connect
from harness import Ensemble

ENSEMBLES = pytest.StashKey[list[Ensemble]]()
MEASUREMENTS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ENSEMBLES] = []
    config.stash[MEASUREMENTS] = []
    # Broken connections are what these tests are about.
    logging.getLogger("kazoo").setLevel(logging.ERROR)
    # Ends by exception, so that the servers are ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))


def pytest_report_header() -> str:
    return f"servers: {flavours.kind()}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if report.failed:
        for ensemble in item.config.stash[ENSEMBLES]:
            report.sections.append(("logs of the servers", ensemble.log_tails()))
    return report


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    for line in config.stash[MEASUREMENTS]:
        terminalreporter.write_line(f"measured: {line}")


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config):
    """Call it with a line to have that printed at the end of the run."""
    return pytestconfig.stash[MEASUREMENTS].append


@pytest.fixture(scope="session")
def new_ensemble(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory):
    """Makes ensembles: `with new_ensemble(participants=1, observers=0) as servers: ...`. They are not yet started."""

    class Listed:
        def __init__(self, **shape: int) -> None:
            directory: Path = tmp_path_factory.mktemp("ensemble")
            self.ensemble = flavours.make_ensemble(directory, **shape)

        def __enter__(self) -> Ensemble:
            pytestconfig.stash[ENSEMBLES].append(self.ensemble)
            return self.ensemble.__enter__()

        def __exit__(self, *what: object) -> None:
            pytestconfig.stash[ENSEMBLES].remove(self.ensemble)
            self.ensemble.__exit__(*what)

    return Listed


@pytest.fixture(scope="session")
def ensemble(new_ensemble):
    """Three participants and an observer, for the tests that leave their servers as they found them."""
    with new_ensemble() as servers:
        servers.start()
        yield servers


@pytest.fixture
def connected(request: pytest.FixtureRequest):
    """Makes clients that are closed at the end of the test: `connected(server.host)`."""

    def make(hosts: str, **options):
        client = connect(hosts, **options)
        request.addfinalizer(lambda: close(client))
        return client

    return make


@pytest.fixture(params=["leader", "follower", "observer"])
def server(request: pytest.FixtureRequest, ensemble: Ensemble):
    """A server in each of the roles in turn: clients must not see a difference."""
    return ensemble.server(request.param)


@pytest.fixture
def client(server, connected):
    """A client of that server."""
    return connected(server.host)


@pytest.fixture
def root(request: pytest.FixtureRequest, ensemble: Ensemble, connected) -> str:
    """A znode of this test's own, seen by every server."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    path = f"/{name}"
    everyone = [connected(each.host) for each in ensemble.servers]
    everyone[0].create(path)
    for each in everyone:
        each.sync(path)
    return path
