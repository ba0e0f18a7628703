"""A database as large as years of audits leave it: 50,000 listings, 200,000 comparisons, 1,000,000 findings."""

# ruff: noqa: S608 - statements are put together from the constants of this file

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alembic import command
from sqlalchemy import inspect, text

from app.db import migrate
from app.domain import answer
from app.domain.numbers import finite
from app.domain.policies import POLICIES, Dimension

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from app.db.session import Database

BEFORE = "0017"
"""The schema that is filled; the rest of the migrations run over the rows, as they do where a service is upgraded."""

ARCHITECTURES = 3000
FEWEST_AUDITS = 10
# Cumulative shares of the zoos, as the sizes of their catalogs go; the last is a team's own folder.
ZOOS = (
    ("huggingface", 0.55),
    ("timm", 0.80),
    ("torchvision", 0.87),
    ("keras", 0.93),
    ("onnx", 0.97),
    ("tfhub", 0.9995),
    ("team-vision", 1.0),
)
# Metric, dimension, how wide its effects scatter, its margin. As ``app.domain.verdicts`` names them.
METRICS = (
    ("structure", "architecture", 0.6, 0.0),
    ("parameters", "architecture", 0.05, 0.0),
    ("top1", "accuracy", 0.01, 0.005),
    ("agreement", "accuracy", 0.04, 0.05),
    ("latency onnxruntime cpu batch 1 threads 1", "latency", 0.3, 0.05),
)
RARE_METRIC = "latency torch cuda batch 256 threads 1"


_CONTRACT = {
    "height": 224,
    "width": 224,
    "resize": 235,
    "fit": "shorter",
    "interpolation": "bicubic",
    "antialias": True,
    "crop": [224, 224],
    "crop_offset": "round",
    "fill": [0, 0, 0],
    "colour": "rgb",
    "scale": 0.00392156862745098,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "layout": "nchw",
    "dtype": "float32",
    "source": "timm.data.resolve_data_config for resnet50@a1_in1k",
}
"""As long as zoos document them: how long rows are decides whether Postgres reads them or an index."""


@dataclass(frozen=True)
class Size:
    """How many rows; five findings for each comparison that succeeded, and one for each audit besides."""

    listings: int = 50_000
    comparisons: int = 200_000

    @property
    def audits(self) -> int:
        """One for 500 comparisons."""
        return max(FEWEST_AUDITS, self.comparisons // 500)


def fill(database: Database, size: Size) -> None:
    """Fill an empty Postgres database with rows of this size, the same each time, and bring it to the newest schema."""
    to(database, BEFORE)
    with database.engine.begin() as connection:
        connection.execute(text("SELECT setseed(0.42)"))
        for statement in _HELPERS:
            connection.execute(text(statement))
        result = json.dumps(finite(_answer()))
        scope: dict[str, Any] = {"dimensions": ["architecture", "accuracy", "latency"], "dataset": None, "errors": {}}
        scope |= {"policy": POLICIES["default"].to_json(), "latency_budget_s": 60.0, "operating_points": []}
        words: dict[str, Any] = {
            "result": result,
            "scope": json.dumps(scope),
            "contract": json.dumps(_CONTRACT),
            "claims": json.dumps([{"metric": "top1", "value": 0.761, "source": "https://example.org/models"}]),
            "details": json.dumps(
                {"control": None, "machine": "16 cores", "stopped": "precise", "verdict": "a_faster"}
            ),
        }
        words |= {"listings": size.listings, "comparisons": size.comparisons, "audits": size.audits}
        words |= {"architectures": min(ARCHITECTURES, size.listings // 10), "rare": RARE_METRIC}
        for statement in _ROWS:
            connection.execute(text(statement), words)
    migrate.upgrade(database)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CREATE TABLE load_filled ()"))


def is_filled(database: Database) -> bool:
    """Whether a database was filled before, to the end."""
    with database.engine.connect() as connection:
        return "load_filled" in inspect(connection).get_table_names()


def to(database: Database, revision: str) -> None:
    """Bring an empty database to a schema."""
    config = migrate._config()  # noqa: SLF001 - no service has a use for a schema that is not the newest
    with migrate.locked(database) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def counts(connection: Connection) -> dict[str, int]:
    """Return how many rows there are."""
    return {
        table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
        for table in ("listings", "comparisons", "findings", "audits", "jobs", "finding_counts")
    }


def _answer() -> dict[str, Any]:
    """Return a comparison's answer as judging makes it, of numbers as measuring gives them."""
    points = [
        {"runtime": runtime, "device": "cpu", "batch": 1, "threads": 1, "ratio": 1.1, "ci95": [1.08, 1.12]}
        | {"a": {"median_ms": 22.0, "p90_ms": 23.1, "samples": 400}, "b": {"median_ms": 20.0, "samples": 400}}
        for runtime in ("onnxruntime", "torch")
    ]
    counted = {"nodes": 122, "parameters": 25_557_032, "buffers": 53_120, "flops": 4_089_184_256}
    changed = {"kind": "attribute", "attribute": "strides", "severity": "structural", "repeats": 3}
    changed |= {side: {"node": "layer4.0.conv2", "op": "Conv", "value": [2, 2]} for side in ("a", "b")}
    measured = {
        "architecture": {"verdict": "different", "a": counted, "b": counted, "differences": [changed] * 12},
        "latency": {"operating_points": points, "machine": {"short": "16 cores", "fingerprint": "0" * 64}},
    }
    sides = [answer.Side(ref, _inspected(ref), None, []) for ref in ("torchvision:resnet50@V2", "timm:resnet50@a1")]
    asked = (Dimension.ARCHITECTURE, Dimension.LATENCY)
    return answer.build(*sides, measured=measured, errors={}, policy=POLICIES["default"], asked=asked).result


def _inspected(ref: str) -> dict[str, Any]:
    listing = {"ref": ref, "architecture": "resnet50", "label_space": "imagenet-1k", "contract": None}
    artifact = {"sha256": "0" * 64, "bytes": 102_540_417, "format": "onnx"}
    return {"listing": listing, "artifact": artifact, "contract": None} | {
        "input_shape": [1, 3, 224, 224],
        "output_shape": [1, 1000],
    }


_HELPERS = (
    # Identifiers that sort by time, as ``app.domain.ids`` makes them.
    """CREATE FUNCTION pg_temp.id_at(at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
      || substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid $$""",
    "CREATE FUNCTION pg_temp.zoo_at(share float) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT CASE "
    + " ".join(f"WHEN share < {share} THEN '{zoo}'" for zoo, share in ZOOS)
    + " END $$",
    # A few architectures are in every zoo and most in few: ranks are log-uniform, as by Zipf's law.
    """CREATE FUNCTION pg_temp.net(most int) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE rank WHEN 1 THEN 'resnet50' WHEN 2 THEN 'vgg16' ELSE 'net' || rank END
    FROM (SELECT floor(exp(random() * ln(most + 1)))::int AS rank) AS ranks $$""",
)

_ROWS = (
    """INSERT INTO listings (id, ref, zoo, name, weights, architecture, is_default, label_space, classes, contract,
      claims, licence, runtimes)
    SELECT gen_random_uuid(), zoo || ':' || net || '.' || n || '@' || tag, zoo, net || '.' || n, tag, net,
      n % 3 = 0, CASE WHEN n % 50 = 0 THEN 'digits' ELSE 'imagenet-1k' END, 1000, CAST(:contract AS jsonb),
      CAST(:claims AS jsonb), 'apache-2.0', '["torch"]'
    FROM (SELECT n, pg_temp.zoo_at(random()) AS zoo, pg_temp.net(:architectures) AS net,
      CASE WHEN n % 5000 = 0 THEN 'fp8' ELSE 'v' || n % 4 END AS tag
      FROM generate_series(1, :listings) AS n) AS rows""",
    """INSERT INTO audits (id, state, zoos, models, weights, scope, created_at, finished_at)
    SELECT pg_temp.id_at(at), 'succeeded', '["huggingface", "timm"]', '[]', 'default', CAST(:scope AS jsonb), at,
      at + interval '1 hour'
    FROM (SELECT now() - interval '365 days' * (1 - n::float / :audits) AS at FROM generate_series(1, :audits) AS n)
      AS rows""",
    """CREATE TEMPORARY TABLE audit_at AS
    SELECT id, created_at, row_number() OVER (ORDER BY created_at) AS place FROM audits""",
    # A tenth stands alone; a tenth belongs to one audit of whole zoos.
    """INSERT INTO comparisons (id, audit_id, state, verdict, architecture, a_ref, b_ref, scope, result, error,
      created_at, finished_at)
    SELECT pg_temp.id_at(at), audit_id, state, CASE WHEN state = 'succeeded' THEN CASE WHEN chance < 0.3
        THEN 'interchangeable' WHEN chance < 0.8 THEN 'not_interchangeable' ELSE 'inconclusive' END END, net,
      zoo_a || ':' || net || '.' || n % 100 || '@v1', zoo_b || ':' || net || '.' || n % 90 || '@v1',
      CAST(:scope AS jsonb), CASE WHEN state = 'succeeded' THEN CAST(:result AS jsonb) END,
      CASE WHEN state = 'failed' THEN '{"class": "subject", "code": "not-loadable", "message": "no"}'::jsonb END,
      at, CASE WHEN state <> 'queued' THEN at + interval '1 minute' END
    FROM (
      SELECT n, random() AS chance, pg_temp.zoo_at(random()) AS zoo_a, pg_temp.zoo_at(random()) AS zoo_b,
        pg_temp.net(:architectures) AS net, a.id AS audit_id,
        coalesce(a.created_at, now() - interval '365 days' * random()) + interval '1 second' * (n % 1000) AS at,
        CASE WHEN n % 200 = 0 THEN 'queued' WHEN n % 70 = 0 THEN 'failed' WHEN n % 300 = 1 THEN 'cancelled'
          ELSE 'succeeded' END AS state
      FROM generate_series(1, :comparisons) AS n
      LEFT JOIN audit_at AS a
        ON a.place = CASE WHEN n % 10 = 0 THEN NULL WHEN n % 10 = 1 THEN 3 ELSE n % :audits + 1 END
    ) AS rows""",
    # The job that ends a comparison; of those that are queued the first of four has begun.
    """INSERT INTO jobs (id, kind, state, priority, device, payload, exclusive, comparison_id, attempt, available_at,
      cancel_requested, created_at, finished_at)
    SELECT pg_temp.id_at(created_at), 'compare', CASE WHEN state = 'queued' THEN 'queued' ELSE 'succeeded' END, 0,
      'cpu', '{}', false, id,
      CASE WHEN state = 'queued' AND substr(md5(id::text), 1, 1) > '4' THEN 0 ELSE 1 END, created_at,
      false, created_at, finished_at
    FROM comparisons""",
    """INSERT INTO jobs (id, kind, state, priority, device, payload, exclusive, comparison_id, attempt, available_at,
      cancel_requested, created_at, finished_at)
    SELECT pg_temp.id_at(created_at), 'inspect', 'succeeded', 0, 'cpu', '{}', false, id, 1, created_at, false,
      created_at, created_at
    FROM comparisons""",
    """INSERT INTO job_needs (job_id, role, needs_id)
    SELECT ends.id, 'inspect ' || a_ref, needed.id FROM comparisons AS c
    JOIN jobs AS ends ON ends.comparison_id = c.id AND ends.kind = 'compare'
    JOIN jobs AS needed ON needed.comparison_id = c.id AND needed.kind = 'inspect'""",
    """INSERT INTO findings (id, comparison_id, audit_id, architecture, a_ref, b_ref, zoo_a, zoo_b, dimension, metric,
      a, b, effect, ci_low, ci_high, margin, magnitude, verdict, severity, details, created_at)
    SELECT pg_temp.id_at(c.finished_at), c.id, c.audit_id, c.architecture, c.a_ref, c.b_ref,
      split_part(c.a_ref, ':', 1), split_part(c.b_ref, ':', 1), dimension,
      CASE WHEN dimension = 'latency' AND random() < 0.0001 THEN :rare ELSE metric END, 1.0, 1.0 - effect, effect,
      effect - scatter / 10, effect + scatter / 10, margin, abs(effect),
      CASE WHEN abs(effect) + scatter / 10 < margin OR effect = 0 THEN 'inside'
        WHEN abs(effect) - scatter / 10 > margin THEN 'outside' ELSE 'inconclusive' END,
      CASE WHEN dimension = 'architecture' THEN 'advisory' ELSE 'critical' END, CAST(:details AS jsonb), c.finished_at
    FROM comparisons AS c CROSS JOIN LATERAL (
      SELECT metric, dimension, scatter, margin,
        CASE WHEN dimension = 'architecture' AND random() < 0.6 THEN 0 ELSE sign(random() - 0.5) * scatter
          * sqrt(-2 * ln(1 - random())) END AS effect
      FROM (VALUES """
    + ", ".join(f"('{metric}', '{dimension}', {scatter}, {margin})" for metric, dimension, scatter, margin in METRICS)
    + """) AS metrics (metric, dimension, scatter, margin)
      -- Without a mention of the comparison all would get the same numbers.
      WHERE c.id IS NOT NULL
    ) AS judged WHERE c.state = 'succeeded'""",
    # Judged without a number, as where a side could not be measured.
    """INSERT INTO findings (id, comparison_id, audit_id, architecture, a_ref, b_ref, zoo_a, zoo_b, dimension, metric,
      magnitude, verdict, severity, details, created_at)
    SELECT pg_temp.id_at(finished_at), id, audit_id, architecture, a_ref, b_ref, split_part(a_ref, ':', 1),
      split_part(b_ref, ':', 1), 'accuracy', 'top1', 0, 'inconclusive', 'critical', CAST(:details AS jsonb), finished_at
    FROM comparisons WHERE state = 'succeeded' ORDER BY id LIMIT greatest(:comparisons / 8, 1000)""",
)
