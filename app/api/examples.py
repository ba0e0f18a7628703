"""An example of every answer for the OpenAPI, composed of one for each field: a small table, not whole documents.

The table's ``Model.field`` comes first, then the field's own ``examples``, then the example of a nested model, then the
table's ``field`` (the API means the same by the same name), then what a type says by itself: an id, a time, a choice.
"""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_A, _B = "torchvision:resnet50@IMAGENET1K_V2", "timm:resnet50.a1_in1k"
_SHA256, _OTHER = (hashlib.sha256(each).hexdigest() for each in (b"one", b"other"))
_ID = "01a1ffcc-09b2-7d0c-9d52-7a0f8a2d6c11"
_ARTIFACT = {"sha256": _SHA256, "bytes": 102_469_840, "format": "onnx"}
_SIDES = [{"ref": _A, "artifact": _ARTIFACT}, {"ref": _B, "artifact": _ARTIFACT | {"sha256": _OTHER}}]
_COUNTS = {"parameters": 25_557_032, "buffers": 53_120, "flops": 4_089_184_256, "nodes": 122}
_TOP1 = {"a": 0.8086, "b": 0.8071, "difference": 0.0015, "ci95": [-0.0008, 0.0038], "p_value": 0.21}
_LEDGER = {"both_right": 38630, "a_only": 1800, "b_only": 1725, "both_wrong_same": 5210, "both_wrong_different": 2635}
_POINT = {"runtime": "onnxruntime", "batch": 1, "threads": 1, "device": "cpu"}
_TIMES = {"a": {"median_ms": 24.1}, "b": {"median_ms": 23.9}, "ratio": 1.008, "ci95": [0.996, 1.021], "margin": 0.05}
_NO_FEATURES = "features are measured nowhere yet, and they do not follow from what is known"

_BLOCKS = {
    "architecture": {"verdict": "identical", "a": _COUNTS, "b": _COUNTS, "differences": []},
    "accuracy": {"verdict": "equivalent", "items": 50_000, "top1": _TOP1, "ledger": _LEDGER},
    "latency": {"verdict": "same", "operating_points": [_POINT | _TIMES | {"verdict": "same"}]},
    "interface": {"compatible": True, "differences": []},
    "contract": {"differences": [{"field": "resize", "a": 232, "b": 235}]},
    "weights": {"verdict": "different", "a": _SHA256, "b": _OTHER, "reason": "other bytes"},
    "features": {"verdict": "not_measured", "reason": _NO_FEATURES},
}
"""What a comparison says of each dimension."""

_TABLE: dict[str, tuple[Any, ...]] = {
    # What has ended, and what was just asked for: a 202 answers with the last.
    "state": ("succeeded", "queued"),
    "finished_at": ("2026-11-21T20:31:44.512873Z", None),
    "done": (4, 0),
    "total": (4,),
    "message": (None,),
    "error": (None,),
    "reason": ("Inside the margins of policy drop-in-api.", None),
    "prediction": (..., None),
    "AuditInList.summary": (...,),
    "Audit.summary": (..., None),
    "ComparisonSummary.verdict": ("interchangeable",),
    "Comparison.verdict": ("interchangeable", None),
    **{f"Comparison.{name}": (block, None) for name, block in _BLOCKS.items()},
    **{f"JudgedAgain.{name}": (block,) for name, block in _BLOCKS.items()},
    "Comparison.findings": (..., []),
    "audit_id": (..., None),
    "Vetting.verdict": ("pass", None),
    "Vetting.checks": (..., []),
    "Delivery.state": ("delivered", "pending"),
    "Delivery.next_attempt_at": (None, ...),
    "Delivery.attempts": (..., []),
    "Import.model": ("recorded:keras-resnet50",),
    "Index.indexed": (1270, 0),
    "Index.structures": (903, 0),
    "Index.failed": (2, 0),
    "Index.failures": ({"lost": 2}, {}),
    # Models, and what is said of them.
    "ref": (_A,),
    "a_ref": (_A,),
    "b_ref": (_B,),
    "a": (0.8086,),
    "b": (0.8071,),
    **{f"{model}.a": (_SIDES[0],) for model in ("Comparison", "ComparisonSummary", "JudgedAgain")},
    **{f"{model}.b": (_SIDES[1],) for model in ("Comparison", "ComparisonSummary", "JudgedAgain")},
    "Item.a": ({"class": 281, "score": 0.91},),
    "Item.b": ({"class": 282, "score": 0.48},),
    "Item.item": (17,),
    "Item.label": (281,),
    "Item.cell": ("a_only",),
    "Item.id": ("ILSVRC2012_val_00000018.JPEG",),
    "model": ("recorded:keras-resnet50",),
    "zoo": ("torchvision",),
    "zoo_a": ("torchvision",),
    "zoo_b": ("timm",),
    "zoos": (["torchvision", "timm"],),
    "models": (["resnet50"],),
    "weights": ("default",),
    "Listing.weights": ("IMAGENET1K_V2",),
    "Model.weights": (["IMAGENET1K_V2", "IMAGENET1K_V1"],),
    "architecture": ("resnet50",),
    "architecture_key": ("resnet50",),
    "label_space": ("imagenet-1k",),
    "licence": ("BSD-3-Clause",),
    "runtimes": (["torch"],),
    "contract": ({"resize": 232, "interpolation": "bilinear", "crop": 224, "mean": [0.485, 0.456, 0.406]},),
    "claims": ([{"metric": "top1", "value": 0.80858, "source": "torchvision's metadata"}],),
    "claimed": ({"top1": {"value": 0.80858, "source": "torchvision's metadata"}},),
    "Listing.name": ("resnet50",),
    "Listing.unsafe": (None,),
    "Model.name": ("resnet50",),
    "Zoo.title": ("torchvision (PyTorch)",),
    "Zoo.listings": (204,),
    "Zoo.version": ("0.28.0",),
    "Index.listings": (1272,),
    "fingerprint": (_SHA256,),
    "hardware": (_OTHER,),
    "point_key": (_OTHER,),
    "artifact": (_SHA256,),
    "sha256": (_SHA256,),
    "bytes": (102_469_840,),
    "Upload.name": ("our-resnet50.onnx",),
    "built": ("timm:volo_d1_224@none",),
    "NotIndexed.error": ({"class": "lost", "code": "worker-lost", "message": "3 attempts at this job have failed."},),
    "structures": (903,),
    "similarity": (1.0,),
    "Similar.namesakes": ([],),
    "same_structure": (True,),
    "machine": ("AMD EPYC 9R14, 2 cores",),
    "software": ({"onnxruntime": "1.27.0"},),
    "operating_point": (_POINT,),
    "median_ms": (24.1,),
    "p90_ms": (24.6,),
    "samples": (400,),
    "blocks": (20,),
    "busy_beside": (0.02,),
    "step": (None,),
    # Numbers, and how they were judged.
    "metric": ("top1",),
    "dimension": ("accuracy",),
    "dimensions": (["architecture", "accuracy", "latency"],),
    "candidate": (0.8086,),
    "reference": (0.8071,),
    "Vetting.candidate": (_SIDES[0],),
    "Vetting.reference": (_SIDES[1],),
    "effect": (0.0015,),
    "ci95": ([-0.0008, 0.0038],),
    "margin": (0.005,),
    "magnitude": (0.0015,),
    "details": ({"dataset": "imagenet-val", "items": 50_000, "p_value": 0.21},),
    "top1": (0.8086,),
    "top5": (0.9542,),
    "top1_minus_claim": (0.0,),
    "top5_minus_claim": (0.0001,),
    "Check.criterion": ("accuracy",),
    "said": ("accuracy: top-1 80.86 % against 80.71 %, +0.15 % (95 % interval -0.08 % to +0.38 %, margin 0.5 %)",),
    "needed": (None,),
    "Vetting.needed": ([],),
    "advisories": ([],),
    "errors": ({},),
    "findings": (3,),
    "comparisons": (3,),
    "states": ({"succeeded": 3},),
    "verdicts": ({"interchangeable": 2, "inconclusive": 1},),
    "AuditSummary.findings": ({"accuracy": {"inside": 5, "inconclusive": 1}},),
    "inside": (2,),
    "outside": (0,),
    "inconclusive": (1,),
    "moved": ([],),
    "why": (["verdict"],),
    "dataset": ("imagenet-val",),
    "items": (50_000,),
    "items_digest": (f"sha256:{_SHA256}",),
    "digest": (f"sha256:{_SHA256}",),
    "classes": (1000,),
    "Dataset.name": ("imagenet-val",),
    "Dataset.format": ("folder",),
    "Dataset.path": ("/data/imagenet/val",),
    "Dataset.options": ({},),
    "latency_budget_s": (60.0,),
    "operating_points": ([_POINT],),
    # What changed between two audits.
    "ArtifactChange.before": (_SHA256,),
    "ArtifactChange.after": (_OTHER,),
    "PairChange.before": ("interchangeable",),
    "PairChange.after": ("inconclusive",),
    "FieldChange.before": ({"resize": 256},),
    "FieldChange.after": ({"resize": 232},),
    "Incomparable.before": (_SHA256,),
    "Incomparable.after": (_OTHER,),
    "drifted": (True,),
    "listings_kept": (True,),
    "because": ("measured on another machine",),
    "new": (["torchvision:resnet50@IMAGENET1K_V3"],),
    "gone": ([],),
    **{f"Summary.{name}": (1,) for name in ("listings_new", "listings_changed", "artifacts_changed", "pairs_changed")},
    **{f"Summary.findings_{name}": (1,) for name in ("appeared", "vanished", "moved", "incomparable")},
    "listings_gone": (0,),
    "findings_unchanged": (412,),
    # Policies, schedules, webhooks, keys, the record.
    "PolicyModel.name": ("drop-in-api",),
    "StoredPolicy.name": ("our-api",),
    "PolicyWithVersions.name": ("our-api",),
    "critical": (["accuracy", "interface", "latency"],),
    "advisory": (["architecture"],),
    "version": (1,),
    "name": ("nightly",),
    "cron": ("0 3 * * *",),
    "time_zone": ("Europe/Berlin",),
    "missed": ("latest",),
    "enabled": (True,),
    "request": ({"zoos": ["torchvision", "keras"], "models": ["resnet50"], "weights": "none"},),
    "url": ("https://hooks.example.com/zooaudit",),
    "events": (["audit.ended", "vetting.ended"],),
    "description": ("the release channel",),
    "disabled_reason": (None,),
    "failing_since": (None,),
    "old_secret_until": (None,),
    "secret": ("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",),
    "message_id": (f"msg_{_ID}",),
    "type": ("audit.ended",),
    "number": (1,),
    "duration_ms": (84.2,),
    "Attempt.status": (204,),
    "team": ("vision",),
    "scope": ("submit",),
    "Key.state": ("valid",),
    "NewKey.state": ("valid",),
    "token": ("zooaudit_Xw3kPq8V1mN0cJtY5rZbLhGdKfAsQeUoWiTyRpMnBvC",),
    "requests_per_minute": (6000,),
    "submissions_per_day": (20_000,),
    "revoked_at": (None,),
    "method": ("POST",),
    "path": (f"/v1/comparisons/{_ID}/cancel",),
    "made": (None,),
    "Deed.status": (200,),
    "client": ("10.1.0.17",),
    "request_id": ("8e03978e40d543ddbc936894a57f9324",),
    "schema_version": ("0021",),
    "next_cursor": ("WyItY3JlYXRlZF9hdCIsIjIwMjYtMTEtMjEiXQ",),
}
"""Examples by ``field``, or by ``Model.field`` where the name means something else there; ``...`` stands for the one
that the field's type gives.
"""

_TIME, _DAY = "2026-11-21T20:29:07.190091Z", "2026-11-21"

Schema = dict[str, Any]


def add(document: Schema) -> None:
    """Give every JSON answer in an OpenAPI document an example. Raises LookupError where a field has none."""
    for operation in (each for methods in document["paths"].values() for each in methods.values()):
        for status, reply in operation["responses"].items():
            content = reply.get("content", {}).get("application/json")
            if content is not None and status < str(HTTPStatus.BAD_REQUEST):
                which = -1 if status == str(HTTPStatus.ACCEPTED) else 0
                content["example"] = _Composer(document["components"]["schemas"], which).of(content["schema"])


class _Composer:
    """Composes examples; ``which`` of those in the table. Names are ``Model.field``. ``...`` is none."""

    def __init__(self, schemas: dict[str, Schema], which: int) -> None:
        self._schemas, self._which = schemas, which

    def of(self, schema: Schema, name: str = "") -> Any:  # noqa: ANN401 - any JSON
        """Return the example of a schema; raises LookupError."""
        sources: tuple[Callable[[], Any], ...] = (
            lambda: self._listed(name),
            lambda: schema.get("examples", (...,))[0],
            lambda: self._nested(schema),
            lambda: self._listed(name.partition(".")[2]),
            lambda: self._of_type(schema, name),
        )
        for source in sources:
            if (found := source()) is not ...:
                return found
        raise LookupError(f"{name or schema} has no example; give it one in {__name__}")

    def _listed(self, name: str) -> Any:  # noqa: ANN401 - any JSON, or ...
        return _TABLE.get(name, (...,))[self._which]

    def _nested(self, schema: Schema) -> Any:  # noqa: ANN401 - a model, a list of one, or ...
        if schema.get("type") == "array":
            found = self._nested(schema["items"])
            return ... if found is ... else [found]
        model = _referred(schema)
        if "properties" not in self._schemas.get(model, {}):
            return ...
        fields = self._schemas[model]["properties"]
        return {field: self.of(each, f"{model}.{field}") for field, each in fields.items()}

    def _of_type(self, schema: Schema, name: str) -> Any:  # noqa: ANN401 - any JSON, or ...
        if "anyOf" in schema:
            return self.of(schema["anyOf"][0], name)
        if "$ref" in schema:
            return self.of(self._schemas[_referred(schema)], name)
        for key in ("default", "const"):
            if key in schema:
                return schema[key]
        if schema.get("type") == "boolean":
            return False
        # Ids differ, as those of different things do.
        made = {"uuid": f"{_ID[:24]}{hashlib.sha256(name.encode()).hexdigest()[:12]}", "date-time": _TIME, "date": _DAY}
        return schema["enum"][0] if "enum" in schema else made.get(schema.get("format", ""), ...)


def _referred(schema: Schema) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]
