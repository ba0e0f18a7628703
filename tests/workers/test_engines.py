import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]

OWNER = """
import json, sys, time
from pathlib import Path
from workers.engines import TemplateEngines
engines = TemplateEngines(light=sys.argv[3] == "light")
running = engines.start(json.loads(sys.argv[1]), Path(sys.argv[2]))
print(running.pid, flush=True)
time.sleep(600)
"""


def answer(line):
    done = subprocess.run(
        [sys.executable, "-m", "workers.engine"], input=line, capture_output=True, text=True, cwd=ROOT, check=False
    )
    return [json.loads(text) for text in done.stdout.splitlines()][-1]


def request_for(operation, scratch, request):
    return {"op": operation, "scratch": str(scratch), "network": False, "request": request}


def test_a_malformed_request_is_one_error_line():
    assert answer("what?\n")["code"] == "malformed-request"


def test_an_unknown_operation_is_one_error_line(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.engine"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    process.stdin.write(json.dumps(request_for("guess", tmp_path, {})) + "\n")
    process.stdin.flush()
    reply = json.loads(process.stdout.readline())
    assert (reply["event"], reply["class"], reply["code"]) == ("error", "usage", "unknown-operation")
    assert process.wait(timeout=20) == 1


def gone(processes, within_s=10.0):
    """Whether all of them have ended; an orphan that nobody has reaped yet has."""
    _, left = psutil.wait_procs(processes, timeout=within_s)
    return [item for item in left if item.status() != psutil.STATUS_ZOMBIE] == []


def starts(engine):
    """Return what an engine has started, once its model has started what is not to outlive it."""
    deadline = time.monotonic() + 60
    found = []
    while not any(item.name() == "sleep" for item in found):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        found = engine.children(recursive=True)
    return found


@pytest.mark.parametrize("way", ["light", "warm"])
def test_engines_die_with_the_worker_that_started_them(way, tmp_path, subject):
    document = json.dumps(request_for("inspect", tmp_path, {"subject": subject("hangs")}))
    command = [sys.executable, "-c", OWNER, document, str(tmp_path / "log"), way]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    engine = psutil.Process(int(owner.stdout.readline()))
    family = [engine, *starts(engine), *psutil.Process(owner.pid).children(recursive=True)]
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert gone(family)


def test_what_moved_to_another_session_ends_with_its_engine():
    """Where the kernel confines engines it refuses them a session of their own; elsewhere the template finds them."""
    code = """
import os, socket, subprocess, sys
from workers.engine import isolation
from workers.engine.template import Template
isolation.adopt_orphans()
starts = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)"
subprocess.run([sys.executable, "-c", starts], check=True, stdout=subprocess.DEVNULL)
(left,) = isolation.children()
assert os.getsid(left) != os.getsid(0)
Template(socket.socket())._end_strays()
print(isolation.children())
"""
    told = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    assert told.stdout == "[]\n"


def test_a_template_that_still_imports_dies_with_its_worker():
    code = """
import os, sys, time
from workers.engines import TemplateEngines
engines = TemplateEngines()
engines._ready()
print(engines.pid, flush=True)
time.sleep(600)
"""
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    template = psutil.Process(int(owner.stdout.readline()))
    deadline = time.monotonic() + 30
    while not any("numpy" in mapped.path for mapped in template.memory_maps()):  # it imports
        assert time.monotonic() < deadline
        time.sleep(0.01)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert gone([template])


@pytest.mark.parametrize(
    "module", ["workers.tasks", "workers.local", "workers.reaper", "workers.engine.operations.compare"]
)
def test_no_framework_is_imported_outside_the_engine(module):
    code = f"import sys, {module}; print(*({{'torch', 'onnx', 'onnxruntime', 'keras', 'timm'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


def test_a_file_needs_no_framework_until_the_template_is_warm(tmp_path, subject):
    from workers.engines import EngineChoice

    engines = EngineChoice()
    try:
        absent = {"ref": "file:x", "zoo": "file", "name": str(tmp_path / "x.onnx"), "weights": None, "folder": None}
        cold = engines.start(request_for("inspect", tmp_path, {"subject": absent}), tmp_path / "log")
        assert engines.template.pid is None
        cold.close()
        engines.start(request_for("inspect", tmp_path, {"subject": subject("hangs")}), tmp_path / "log").close()
        assert engines.template.pid is not None
    finally:
        engines.close()


def test_a_missing_package_is_named_with_what_to_install(tmp_path):
    code = "import sys; sys.modules['onnx_ir'] = None; from workers.engine.serve import serve; sys.exit(serve())"
    subject = {"ref": "file:x", "zoo": "file", "name": str(tmp_path / "x.onnx"), "weights": None, "folder": None}
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdin.write(json.dumps(request_for("inspect", tmp_path, {"subject": subject})) + "\n")
    process.stdin.flush()
    reply = json.loads(process.stdout.readline())
    process.wait(timeout=20)
    assert (reply["class"], reply["code"]) == ("usage", "not-installed")
    assert "onnx_ir" in reply["message"]
    assert "zooaudit[keras]" in reply["message"]
