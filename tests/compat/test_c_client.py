"""Apache's C client (libzookeeper_mt), by the program in `c/`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "c" / "smoke.c"

# Seconds for all of the program's checks.
RUN_TIMEOUT = 60.0


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    """The program, compiled."""
    program = tmp_path_factory.mktemp("c") / "smoke"
    command = ["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-DTHREADED", "-o", str(program), str(SOURCE)]
    done = subprocess.run([*command, "-lzookeeper_mt", "-pthread"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def test_c_client(smoke, server, root):
    done = subprocess.run(
        [smoke, server.host, root],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_TIMEOUT,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "PASS close"
