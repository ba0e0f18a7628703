"""Input contracts of listings: looked at, and overridden for one comparison."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.domain import contracts
from app.domain.contracts import InvalidContractError
from app.domain.policies import Dimension
from app.domain.references import MalformedReferenceError, parse
from app.errors import InvalidError, NotFoundError
from app.services import subjects, zoos

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session

    from app.domain.plan import Scope
    from app.domain.zoos import Zoo
    from app.services.subjects import Named
    from app.settings import Settings


def zoo_of(session: Session, settings: Settings, ref: str) -> Zoo:
    """Return the zoo whose catalog has a reference; raises InvalidError."""
    try:
        return zoos.named(zoos.known(session, settings), parse(ref).zoo)
    except MalformedReferenceError as error:
        raise InvalidError(str(error), slug="malformed-reference") from error


def show(session: Session, settings: Settings, ref: str) -> dict[str, Any]:
    """Return a listing's contract as ``{ref, contract, steps, source}``; raises NotFoundError where none is documented.

    The zoo's catalog must have been read.
    """
    named = subjects.read(session, zoos.known(session, settings), ref)
    contract = named.listing.contract if named.listing else None
    if contract is None:
        raise NotFoundError(
            f"{named.full_ref} has no documented input contract; `zooaudit compare` takes one for a comparison "
            "(--contract-a, --contract-b).",
            slug="no-contract",
        )
    return {
        "ref": named.full_ref,
        "contract": contract,
        "steps": contracts.steps(contract),
        "source": contract.get(contracts.SOURCE, ""),
    }


def override(
    wanted: dict[str, Any], a: Named, b: Named, scope: Scope, imported: Collection[str]
) -> tuple[Named, Named, Scope]:
    """Return both sides and the scope with the overridden fields of ``{"a": {...}, "b": {...}}``.

    Raises InvalidError for what is no field of a contract or does not fit the listing's other fields, when accuracy is
    not measured, and for predictions that were imported: their pictures have been prepared already.
    """
    fields = {side: value for side, value in wanted.items() if value is not None}
    if fields and Dimension.ACCURACY not in scope.dimensions:
        raise InvalidError("An input contract matters to accuracy only; ask for it, with a data set.", slug="contract")
    sides = {"a": a, "b": b}
    for side, value in fields.items():
        named = sides[side]
        if named.subject.ref in imported:
            raise InvalidError(
                f"{named.full_ref} is compared by imported predictions, whose pictures were prepared elsewhere; leave "
                f"its contract ({side}) out.",
                slug="contract",
            )
        try:
            contracts.check(value)
            if named.listing and named.listing.contract:
                contracts.overridden(named.listing.contract, value)
        except InvalidContractError as error:
            raise InvalidError(str(error), slug="contract") from error
        sides[side] = replace(named, subject=replace(named.subject, contract=value))
    return sides["a"], sides["b"], replace(scope, contracts=fields)
