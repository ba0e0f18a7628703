"""What a confined process can still do: a real process tries, as root and as another user."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from workers.engine.safety import confinement
from workers.engine.safety.confinement import landlock, seccomp

PROBE = Path(__file__).with_name("probe.py")
NOBODY = 65534

ALLOWED = {
    "writes its scratch",
    "renames in its scratch",
    "reads a stored file by its name",
    "reads what was asked for",
    "reads what lies beside the data",
    "resets its own peak of memory",
    "talks to its own child",
    "starts a program",
}

pytestmark = pytest.mark.skipif(
    landlock.abi() < 6 or not seccomp.available(), reason="this machine's kernel lacks a layer that is tested here"
)


@pytest.fixture
def base():
    # Another user must be able to come here, which pytest's own folders do not allow.
    folder = Path(tempfile.mkdtemp(prefix="zooaudit-confined-", dir="/var/tmp"))
    (folder / "data" / "files").mkdir(parents=True)
    (folder / "data" / "scratch").mkdir()
    for name in ("outside", "data/zooaudit.db", "data/files/digest", "data/asked.onnx"):
        (folder / name).write_bytes(b"content")
    yield folder
    shutil.rmtree(folder)


def probe(base, user):
    for path in [base, *base.rglob("*")]:
        os.chown(path, user, user)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(base / "socket"))
        local.listen()
        done = subprocess.run(
            [sys.executable, PROBE, base, str(server.getsockname()[1]), str(user)],
            process_group=0,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("user", [0, NOBODY])
def test_a_confined_process_reaches_its_scratch_folder_and_nothing_else(base, user):
    if os.getuid() != 0:
        if user == 0:
            pytest.skip("only root becomes root")
        user = os.getuid()
    told = probe(base, user)
    in_force, cpu = told.pop("in_force"), told.pop("cpu")
    assert (in_force["network"], in_force["missing"], cpu) == ("none", [], 60)
    allowed = ALLOWED if in_force["memory"] == "kernel" else ALLOWED | {"takes much memory"}
    assert {name for name, became in told.items() if became == "done"} == allowed
    assert (base / "outside").read_bytes() == b"content"
    assert (base / "outside").stat().st_mode & 0o777 != 0o777, "the mode of a file outside was changed"
    if in_force["namespace"] and user != 0:
        assert told["makes processes without end"] == "BlockingIOError"


def test_what_is_essential_and_missing_is_told_or_refused(tmp_path):
    code = (
        "import json, sys; from pathlib import Path\n"
        "from workers.engine.safety import confinement as c; from workers.engine.protocol import UnsafeError\n"
        "c.landlock.abi = lambda: 0; c.seccomp.available = lambda: False\n"
        "from workers.engine.safety.confinement.limits import Limits\n"
        "try: print(json.dumps(c.confine(c.Places(Path(sys.argv[1])), Limits(), network=False,"
        " required=sys.argv[2] == 'require').missing))\n"
        "except UnsafeError as error: print(error.code, error.message)"
    )

    def run(word):
        command = [sys.executable, "-c", code, str(tmp_path), word]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert set(json.loads(run("warn"))) >= {"files", "system calls"}
    refused = run("require")
    assert refused.startswith("not-confined")
    assert "files, system calls" in refused
    assert confinement.OFFLINE["HF_HUB_OFFLINE"] == "1"
