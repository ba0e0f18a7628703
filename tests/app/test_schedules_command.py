"""``zooaudit schedules``: the same rows that REST keeps."""

from __future__ import annotations

import json

import pytest

AUDIT = ("--zoo", "torchvision", "--zoo", "keras", "--model", "resnet50", "--weights", "none")
ADD = ("schedules", "add", "nightly", "--cron", "0 3 * * *", "--time-zone", "Europe/Berlin", *AUDIT)


@pytest.fixture
def zooaudit(open_command_line, tmp_path):
    with open_command_line(tmp_path / "data") as called:
        yield called


def test_a_schedule_is_added_listed_changed_and_removed(zooaudit):
    (added,) = json.loads(zooaudit(*ADD, "--dimension", "architecture", "--json").stdout)
    assert (added["name"], added["missed"], added["enabled"], added["last_run"]) == ("nightly", "latest", True, None)
    assert added["request"]["zoos"] == ["torchvision", "keras"]
    assert json.loads(zooaudit("schedules", "list", "--json").stdout) == [added]
    table = zooaudit("schedules", "list").stdout
    assert all(text in table for text in ("nightly", "0 3 * * *", "Europe/Berlin", added["next_due_at"][:10]))
    change = ("schedules", "change", "nightly", "--disable", "--rename", "weekly", "--cron", "0 3 * * 1", "--json")
    (changed,) = json.loads(zooaudit(*change).stdout)
    assert (changed["id"], changed["name"], changed["next_due_at"]) == (added["id"], "weekly", None)
    assert (changed["cron"], changed["time_zone"], changed["request"]) == (
        "0 3 * * 1",
        "Europe/Berlin",
        added["request"],
    )
    assert json.loads(zooaudit("schedules", "runs", "weekly", "--json").stdout) == []
    assert "its audits stay" in zooaudit("schedules", "remove", "weekly").stderr
    assert json.loads(zooaudit("schedules", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("schedules", "add", "n", "--cron", "0 25 * * *", *AUDIT), "The hour of the cron expression"),
        (("schedules", "add", "n", "--cron", "0 3 * * *", "--zoo", "timm", "--zoo", "tim"), "Did you mean timm"),
        (("schedules", "change", "nosuch", "--disable"), "There is no schedule 'nosuch'"),
        (("schedules", "change", "nosuch"), "say what to change"),
        (("schedules", "remove", "nosuch"), "schedules list"),
        (("schedules", "runs", "nosuch"), "There is no schedule"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(zooaudit, words, says):
    assert says in " ".join(zooaudit(*words, status=2).stderr.replace("│", " ").split())


def test_a_name_is_taken_once(zooaudit):
    zooaudit(*ADD)
    assert "another name" in zooaudit(*ADD, status=2).stderr
