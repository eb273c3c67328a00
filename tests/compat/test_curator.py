"""Apache Curator, the Java client that most Java programs use, by the cases in `curator/`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flavours import CLASS_PATH, java

SOURCES = Path(__file__).parent / "curator"

# Seconds for a group of cases, JVM start included.
GROUP_TIMEOUT = 150.0


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Path:
    """The cases, compiled."""
    target = tmp_path_factory.mktemp("classes")
    class_path = ":".join(str(jar) for jar in CLASS_PATH)
    sources = sorted(str(source) for source in SOURCES.glob("*.java"))
    done = subprocess.run(["javac", "-cp", class_path, "-d", str(target), *sources], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # A logger that says only what is wrong.
    (target / "log4j.properties").write_text(
        "log4j.rootLogger=ERROR, E\nlog4j.appender.E=org.apache.log4j.ConsoleAppender\n"
        "log4j.appender.E.layout=org.apache.log4j.SimpleLayout\n"
    )
    return target


@pytest.mark.parametrize(("group", "cases"), [("znodes", 16), ("modes", 8), ("recipes", 9), ("caches", 5)])
def test_curator(classes, ensemble, root, group, cases):
    """All cases of a group pass, and all are there."""
    command = java("CuratorCompat", ensemble.hosts, group, root, path=[classes])
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=GROUP_TIMEOUT)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASS ") == cases, done.stdout
