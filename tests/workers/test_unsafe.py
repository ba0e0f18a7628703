"""A model that could not be audited safely: stored like any other result, on its listing and its comparisons."""

import os
import pickle

import onnx
import pytest
from onnx import TensorProto, helper

from app.db import listings
from app.db.paging import Selection
from app.domain.storage import upload_path
from app.domain.vetting import Decision
from app.errors import InvalidError
from app.services import comparisons as comparison_service
from app.services import listings as listing_service
from app.services import uploads, vettings

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Payload:
    def __reduce__(self):
        return os.system, ("touch payload-ran",)


@pytest.fixture
def good(tmp_path):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path := tmp_path / "good.onnx")
    return path


@pytest.fixture
def bad(tmp_path):
    (path := tmp_path / "bad.onnx").write_bytes(pickle.dumps(Payload()))
    return path


@pytest.fixture
def work(supervisor):
    def until_done():
        attempts = 0
        while claim := supervisor.claim_next("cpu"):
            supervisor.run(claim)
            attempts += 1
        return attempts

    return until_done


def test_an_unsafe_model_is_an_answer_with_its_reason(work, database, quick, good, bad):
    with database.write() as session:
        request = {"a": f"file:{bad}", "b": f"file:{good}", "dimensions": ["architecture"], "policy": "default"}
        submitted = comparison_service.submit(session, quick, request)
    assert work() == 3, "each job ran once: two inspections and the comparison"
    with database.read() as session:
        shown = comparison_service.show(session, submitted.id)
    assert (shown["state"], shown["verdict"], shown["error"]) == ("succeeded", "inconclusive", None)
    assert f"file:{bad} could not be audited safely" in shown["reason"]
    error = shown["errors"]["architecture"]
    assert (error["class"], error["code"]) == ("unsafe", "can-execute")
    assert error["evidence"]["scan"]["severity"] == "likely_overtly_malicious"
    (finding,) = shown["findings"]
    assert (finding["metric"], finding["severity"], finding["verdict"]) == ("safe loading", "critical", "inconclusive")
    assert finding["details"]["ref"] == f"file:{bad}"


@pytest.mark.parametrize("candidate", ["bad", "good"])
def test_an_unsafe_candidate_fails_its_vetting(work, database, quick, good, bad, candidate):  # noqa: PLR0917
    one, other = (bad, good) if candidate == "bad" else (good, bad)
    request = {"candidate": f"file:{one}", "reference": f"file:{other}", "policy": "default"}
    with database.write() as session:
        submitted = vettings.submit(session, quick, request | {"dimensions": ["architecture"]})
    work()
    with database.read() as session:
        shown = vettings.show(session, submitted.id)
    expected = Decision.FAIL if candidate == "bad" else Decision.NOT_ENOUGH_EVIDENCE
    assert (shown["verdict"], shown["error"]) == (expected, None)
    assert f"file:{bad}" in shown["reason"]


def test_a_listing_is_unsafe_until_it_is_loaded(work, database, quick, good, bad):
    listing = {"weights": "file", "architecture": None, "label_space": None, "classes": None, "contract": None}
    listing |= {"claims": [], "licence": None, "runtimes": [], "default": True, "zoo": "file", "name": str(bad)}
    with database.write() as session:
        listings.replace_catalog(session, "file", "", [listing | {"ref": f"file:{bad}"}])

    def looked_at():
        with database.write() as session:
            request = {"a": f"file:{bad}", "b": f"file:{good}", "dimensions": ["architecture"], "policy": "default"}
            comparison_service.submit(session, quick, request)
        work()
        with database.read() as session:
            (shown,) = listing_service.find(session, Selection())["items"]
        return shown["unsafe"]

    found = looked_at()
    assert found["code"] == "can-execute"
    assert found["evidence"]["format"] == "pickle"
    bad.write_bytes(good.read_bytes())
    assert looked_at() is None


def test_an_upload_is_looked_at_like_any_listing(work, database, quick, good, bad):
    with database.write() as session:
        safe, unsafe = (uploads.add(session, quick, path)["ref"] for path in (good, bad))
        asked = [{"a": each, "b": f"file:{good}", "dimensions": ["architecture"]} for each in (safe, unsafe)]
        ids = [comparison_service.submit(session, quick, each | {"policy": "default"}).id for each in asked]
    work()
    with database.read() as session:
        same, refused = (comparison_service.show(session, each) for each in ids)
    assert (same["verdict"], same["architecture"]["verdict"]) == ("interchangeable", "identical")
    assert (same["a"]["listing"], same["a"]["artifact"]["format"]) == (safe, "onnx")
    assert f"{unsafe} could not be audited safely" in refused["reason"]


def test_what_nobody_uploaded_is_refused(database, quick, good):
    missing = f"upload:{'0' * 64}"
    with database.write() as session, pytest.raises(InvalidError, match="no upload 0000"):
        comparison_service.submit(session, quick, {"a": missing, "b": f"file:{good}", "dimensions": ["architecture"]})


def test_another_teams_upload_is_no_bare_file(work, database, quick, good):
    with database.of("red").write() as session:
        theirs = uploads.add(session, quick, good)
    path = upload_path(quick.data_dir, theirs["sha256"])
    with database.of("blue").write() as session:
        asked = {"a": f"file:{path}", "b": f"file:{good}", "dimensions": ["architecture"], "policy": "default"}
        submitted = comparison_service.submit(session, quick, asked)
    work()
    with database.read() as session:
        shown = comparison_service.show(session, submitted.id)
    assert (shown["state"], shown["error"]["code"]) == ("failed", "in-data-folder")
