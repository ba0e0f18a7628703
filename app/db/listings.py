"""What the zoos publish: listings and when they were last read."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, delete, select, tuple_, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from app.db.clock import now
from app.db.paging import Listed
from app.db.tables import Catalog, Fingerprint, Listing
from app.db.teams import acting, as_team

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session
    from sqlalchemy.sql.compiler import SQLCompiler

_COLUMNS = (
    "ref zoo name weights architecture label_space classes contract claims licence runtimes".split()  # noqa: SIM905
)


def replace_catalog(session: Session, zoo: str, version: str, listings: list[dict[str, Any]]) -> None:
    """Make a zoo's rows what ``listings`` say: rows of known references keep their id, gone ones are deleted.

    Each listing is the JSON of the engine's ``Listing.to_json``; of two with one reference the last counts. The rows
    become the session's team's, which is the zoo's, whosever they were before.
    """
    team = acting(session)
    with as_team(session, None):
        _replace(session, zoo, team, listings)
        catalog = session.get(Catalog, zoo) or Catalog(zoo=zoo)
        catalog.version, catalog.refreshed_at = version, now()
        catalog.listings = len({listing["ref"] for listing in listings})
        session.add(catalog)


def _replace(session: Session, zoo: str, team: str, listings: list[dict[str, Any]]) -> None:
    rows = {row.ref: row for row in session.scalars(select(Listing).where(Listing.zoo == zoo))}
    wanted = {listing["ref"]: listing for listing in listings}
    for ref in rows.keys() - wanted.keys():
        session.delete(rows[ref])
    for ref, listing in wanted.items():
        values = {column: listing[column] for column in _COLUMNS} | {"is_default": listing["default"], "team": team}
        if ref not in rows:
            session.add(Listing(**values))
            continue
        for column, value in values.items():
            setattr(rows[ref], column, value)
    others = update(Fingerprint).where(Fingerprint.zoo == zoo, Fingerprint.team != team).values(team=team)
    session.execute(others.execution_options(synchronize_session=False))


def forget(session: Session, zoo: str) -> None:
    """Delete a zoo's catalog."""
    session.execute(delete(Listing).where(Listing.zoo == zoo))
    session.execute(delete(Catalog).where(Catalog.zoo == zoo))


def catalogs(session: Session) -> dict[str, Catalog]:
    """Return the catalogs by zoo."""
    return {catalog.zoo: catalog for catalog in session.scalars(select(Catalog))}


def get(session: Session, listing_id: uuid.UUID) -> Listing | None:
    """Return one listing."""
    return session.get(Listing, listing_id)


def by_ref(session: Session, ref: str) -> Listing | None:
    """Return the listing of a full reference, ``zoo:name@weights``."""
    return session.scalar(select(Listing).where(Listing.ref == ref))


def of_architecture(session: Session, architecture: str) -> list[Listing]:
    """Return the listings of an architecture key, in the order of their references."""
    return list(session.scalars(select(Listing).where(Listing.architecture == architecture).order_by(Listing.ref)))


def architectures(session: Session) -> list[str]:
    """Return every architecture key, in order."""
    known = select(Listing.architecture).where(Listing.architecture.is_not(None)).distinct()
    return [str(key) for key in session.scalars(known.order_by(Listing.architecture))]


def of_zoos(session: Session, zoos: Sequence[str]) -> list[Listing]:
    """Return the listings of these zoos that have an architecture key, in the order of their references."""
    statement = select(Listing).where(Listing.zoo.in_(zoos), Listing.architecture.is_not(None))
    return list(session.scalars(statement.order_by(Listing.ref)))


def named(session: Session, models: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[Listing]]:
    """Return by zoo and name the listings of models, one a weights tag, the default first; unknown models have none."""
    found: dict[tuple[str, str], list[Listing]] = {model: [] for model in models}
    statement = select(Listing).where(tuple_(Listing.zoo, Listing.name).in_(found))
    for listing in session.scalars(statement.order_by(Listing.is_default.desc(), Listing.weights)):
        found[listing.zoo, listing.name].append(listing)
    return found


def names(session: Session, zoo: str) -> list[str]:
    """Return the names of a zoo's models."""
    return list(session.scalars(select(Listing.name).where(Listing.zoo == zoo).distinct().order_by(Listing.name)))


_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class _Folded(FunctionElement[str]):
    """A text with its capitals from A to Z made small: other letters cost Postgres half the time of a search."""

    inherit_cache = True
    type = String()


@compiles(_Folded)
def _folded(element: _Folded, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - the compiler's own
    return f'lower({compiler.process(element.clauses, **options)} COLLATE "C")'


@compiles(_Folded, "sqlite")
def _folded_on_sqlite(element: _Folded, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    return f"lower({compiler.process(element.clauses, **options)})"


def _contains(text: str) -> ColumnElement[bool]:
    return _Folded(Listing.ref).contains(text.translate(_SMALL), autoescape=True)


LISTED = Listed(
    Listing,
    Listing.id,
    sorts={"ref": Listing.ref, "name": Listing.name},
    sort="ref",
    filters={
        "zoo": None,
        "name": None,
        "weights": None,
        "architecture": None,
        "label_space": None,
        "default": lambda default: Listing.is_default == default,
        "match": _contains,
    },
    by_value=("match",),
    # Text within references is looked for in an index of them; rows with their contracts are many times as long.
    ids_first=True,
)
"""``match`` is text that the reference contains; capitals from A to Z are as good as small letters."""
