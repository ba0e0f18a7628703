from __future__ import annotations

import base64
import json
import math

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st
from sqlalchemy import delete

from app.db import findings, listings, paging
from app.db.paging import Selection
from app.db.tables import Comparison, Finding
from app.errors import InvalidError

EFFECTS = st.one_of(
    st.none(), st.sampled_from([0.0, -0.0, 1.0, math.inf, -math.inf, 5e-324]), st.floats(allow_nan=False)
)


def fill(session, effects, zoos=None):
    session.execute(delete(Finding))
    session.execute(delete(Comparison))
    comparison = Comparison(state="succeeded", a_ref="torchvision:a", b_ref="timm:a", scope={})
    session.add(comparison)
    session.flush()
    for effect, (zoo_a, zoo_b) in zip(effects, zoos or [("torchvision", "timm")] * len(effects), strict=True):
        session.add(
            Finding(
                comparison_id=comparison.id,
                a_ref="torchvision:a",
                b_ref="timm:a",
                zoo_a=zoo_a,
                zoo_b=zoo_b,
                dimension="latency",
                metric="m",
                effect=effect,
                magnitude=abs(effect or 0.0),
                verdict="inside",
                severity="critical",
                details={},
            )
        )
    session.flush()


def walk(session, sort, limit, filters=None):
    rows, cursor = [], None
    while True:
        page = findings.LISTED.page(session, Selection(filters or {}, sort, cursor, limit))
        assert len(page.items) <= limit
        rows += page.items
        cursor = page.next_cursor
        if cursor is None:
            return rows


@budget(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(effects=st.lists(EFFECTS, max_size=12), limit=st.integers(1, 5), sort=st.sampled_from(["effect", "-effect"]))
def test_every_row_once_and_in_order(database, effects, limit, sort):
    with database.write() as session:
        fill(session, effects)
        rows = walk(session, sort, limit)
    found = [row.effect for row in rows]
    assert len({row.id for row in rows}) == len(effects)
    known = sorted((value for value in effects if value is not None), reverse=sort.startswith("-"))
    assert found == known + [None] * effects.count(None)


@budget(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(EFFECTS, st.sampled_from("ab"), st.sampled_from("ab")), max_size=12),
    limit=st.integers(1, 5),
    sort=st.sampled_from(["effect", "-effect", "-created_at"]),
)
def test_what_is_on_either_side_is_found_once_and_in_order(database, rows, limit, sort):
    with database.write() as session:
        fill(session, [effect for effect, _, _ in rows], [sides for _, *sides in rows])
        found = walk(session, sort, limit, {"zoo": "a"})
        whole = walk(session, sort, 5)
    assert [row.id for row in found] == [row.id for row in whole if "a" in {row.zoo_a, row.zoo_b}]


def test_rows_added_meanwhile_shift_nothing(database):
    with database.write() as session:
        fill(session, [3.0, 2.0, 1.0])
        first = findings.LISTED.page(session, Selection(limit=2))
        session.add(
            Finding(**{c.key: getattr(first.items[0], c.key) for c in Finding.__table__.columns if c.key != "id"})
        )
        session.flush()
        rest = findings.LISTED.page(session, Selection(cursor=first.next_cursor, limit=2))
    assert [row.effect for row in rest.items] == [1.0]


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


ID = "01a1fddb-bc76-7375-a148-87f6c01dcecf"


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "%%%",
        "ünicode",
        encoded([]),
        encoded({}),
        encoded(["-effect", "1.0", ID]),
        encoded(["-magnitude", "nan", ID]),
        encoded(["-magnitude", "x", ID]),
        encoded(["-magnitude", 1.0, ID]),
        encoded(["-magnitude", "1.0", "no id"]),
        encoded(["-magnitude", "1.0", 7]),
        "W" * 4001,
    ],
)
def test_a_foreign_cursor_is_refused(database, cursor):
    with database.read() as session, pytest.raises(InvalidError) as caught:
        findings.LISTED.page(session, Selection(cursor=cursor, limit=2))
    assert caught.value.slug == "malformed-cursor"


@pytest.mark.parametrize("written", ["0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00", "x", "\ud800"])
def test_a_cursor_with_an_impossible_time_is_refused(database, written):
    with database.read() as session, pytest.raises(InvalidError) as caught:
        findings.LISTED.page(session, Selection(sort="-created_at", cursor=encoded(["-created_at", written, ID])))
    assert caught.value.slug == "malformed-cursor"


@pytest.mark.parametrize("written", ["\0", "\ud800"])
def test_a_cursor_with_impossible_text_is_refused(database, written):
    with database.read() as session, pytest.raises(InvalidError) as caught:
        listings.LISTED.page(session, Selection(cursor=encoded(["ref", written, ID])))
    assert caught.value.slug == "malformed-cursor"


def test_a_statement_is_made_once_for_all_values(database):
    with database.write() as session:
        fill(session, [1.0, 2.0], [("a", "b"), ("b", "c")])
        findings.LISTED.page(session, Selection({"zoo": "a"}, "effect", limit=7))
        made = paging._statement.cache_info().misses
        found = {
            zoo: [
                row.effect
                for row in findings.LISTED.page(session, Selection({"zoo": zoo}, "effect", limit=limit)).items
            ]
            for zoo, limit in (("a", 3), ("b", 5), ("c", 1), ("d", 2))
        }
        assert paging._statement.cache_info().misses == made
    assert found == {"a": [1.0], "b": [1.0, 2.0], "c": [2.0], "d": []}
