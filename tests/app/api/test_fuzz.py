"""schemathesis over the whole OpenAPI of the real API on a real, seeded Postgres; `make fuzz` looks for longer.

It has a key: without any, the first key that it makes would answer all the rest with 401.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app.domain.teams import SHARED
from app.services import keys

FOLDER = Path(__file__).parent
EXAMPLES = os.environ.get("ZOOAUDIT_FUZZ_EXAMPLES")
"""Examples of each operation and kind; unset: a few, the same in each run, without the boundary values."""


@pytest.fixture
def key(settings, database):
    """Return a key that may do everything, also to what is seeded, as often as it wants."""
    asked = {"name": "fuzz", "team": SHARED, "scope": "admin", "expires_in_days": 1}
    limits = {"requests_per_minute": 10**7, "submissions_per_day": 10**7}
    with database.write() as session:
        return keys.create(session, settings, asked | limits)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_no_request_gets_an_answer_that_the_openapi_does_not_have(key, served, tmp_path, capsys):
    ids = vars(served.ids) | {"zoo": "timm", "architecture": "resnet50", "ref": "timm:resnet50@none"}
    environment = {"SCHEMATHESIS_HOOKS": "fuzz_hooks", "PYTHONPATH": str(FOLDER)}
    environment |= {"ZOOAUDIT_FUZZ_IDS": json.dumps(ids), "ZOOAUDIT_FUZZ_KEY_ID": key["id"]}
    authorization = f"Bearer {key['token']}"
    words = ["run", f"{served.address}/v1/openapi.json", "--continue-on-failure", "--warnings", "off", "--no-color"]
    words += ["--header", f"Authorization: {authorization}"]
    # The schema cannot say which zoos, models and data sets there are: what fits it may well be refused with 422.
    words += ["--exclude-checks", "positive_data_acceptance"]
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
    if EXAMPLES is not None:
        with capsys.disabled():
            sys.stdout.write("\n".join(line for line in ran.stdout.splitlines() if " generated" in line) + "\n")
    still = httpx.get(f"{served.address}/v1/zoos", headers={"Authorization": authorization})
    assert still.status_code == 200, "the key was lost on the way, and with it the rest of the looks"
