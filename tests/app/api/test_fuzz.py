"""schemathesis over the whole OpenAPI of the real API on a real, seeded Postgres; `make fuzz` looks for longer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
EXAMPLES = os.environ.get("ZOOAUDIT_FUZZ_EXAMPLES")
"""Examples of each operation and kind; unset: a few, the same in each run, without the boundary values."""


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_no_request_gets_an_answer_that_the_openapi_does_not_have(served, tmp_path):
    ids = vars(served.ids) | {"zoo": "timm", "architecture": "resnet50", "ref": "timm:resnet50@none"}
    environment = {"ZOOAUDIT_FUZZ_IDS": json.dumps(ids), "SCHEMATHESIS_HOOKS": "fuzz_hooks", "PYTHONPATH": str(FOLDER)}
    words = ["run", f"{served.address}/v1/openapi.json", "--continue-on-failure", "--warnings", "off", "--no-color"]
    # The schema cannot say which zoos, models and data sets there are: what fits it may well be refused with 422.
    # On the embedded default without keys nobody is asked for one; what each key may is tested by itself.
    words += ["--exclude-checks", "positive_data_acceptance,ignored_auth"]
    # What is under way is streamed until it ends: test_events.py.
    words += ["--exclude-path-regex", "/events$"]
    if EXAMPLES is None:
        words += ["--max-examples", "4", "--phases", "examples,fuzzing,stateful", "--generation-deterministic"]
    else:
        words += ["--max-examples", EXAMPLES]
    ran = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), *words],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "No issues found" in ran.stdout
