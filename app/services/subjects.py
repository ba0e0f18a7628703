"""From the references of a request to what the engine is asked for, checked against the catalogs."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.db import listings, uploads
from app.domain.plan import Subject
from app.domain.references import FILE, RECORDED, UNTRAINED, UPLOAD, MalformedReferenceError, Reference, parse
from app.errors import InvalidError
from app.services import zoos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.db.tables import Listing
    from app.domain.zoos import Zoo


@dataclass(frozen=True)
class Named:
    """A listing that a request names; ``listing`` is None where no catalog knows it (yet)."""

    subject: Subject
    listing: Listing | None
    tags: tuple[str, ...]
    """The model's weights tags behind which something was trained, as far as known."""

    @property
    def full_ref(self) -> str:
        """The reference with its weights tag, where a catalog knows it."""
        return self.listing.ref if self.listing else self.subject.ref


def read(session: Session, known: dict[str, Zoo], text: str) -> Named:
    """Return what a reference names.

    Raises InvalidError when it is malformed, or names a zoo, model or weights tag that is known not to exist.
    """
    return read_all(session, known, [text])[0]


def read_all(session: Session, known: dict[str, Zoo], texts: Sequence[str]) -> list[Named]:
    """Return what references name, in their order; raises InvalidError as ``read`` does."""
    references = [_parsed(text) for text in texts]
    published = listings.named(session, [(each.zoo, each.name) for each in references])
    return [_read(session, known, each, published[each.zoo, each.name]) for each in references]


def _parsed(text: str) -> Reference:
    try:
        return parse(text)
    except MalformedReferenceError as error:
        raise InvalidError(str(error), slug="malformed-reference") from error


def _read(session: Session, known: dict[str, Zoo], reference: Reference, found: list[Listing]) -> Named:
    zoo = zoos.named(known, reference.zoo)
    if reference.zoo == FILE:
        # A worker runs in another folder.
        path = Path(reference.name).expanduser().absolute()
        return Named(Subject.of(replace(reference, name=str(path)), None), None, ())
    if reference.zoo == UPLOAD:
        if uploads.by_digest(session, reference.name) is None:
            raise InvalidError(
                f"There is no upload {reference.name}; `POST /v1/uploads` makes one.", slug="unknown-upload"
            )
        return Named(Subject.of(replace(reference, weights=None), None), None, ())
    if reference.zoo == RECORDED:
        return Named(Subject.of(replace(reference, weights=None), None), None, ())
    found = found or _tagged_by_name(session, reference)
    tags = tuple(item.weights for item in found if item.weights not in UNTRAINED)
    if not found:
        _refuse_unknown_name(session, zoo, reference)
        return Named(Subject.of(reference, zoo.folder), None, tags)
    weights = reference.weights if found[0].name == reference.name else found[0].weights
    listing = _tagged(found, weights)
    if listing is None and weights is not None and zoo.folder is None:
        every = [item.weights for item in found]
        raise InvalidError(
            f"{zoo.name}:{reference.name} has no weights tag {reference.weights!r}{_near(weights, every)} "
            f"It has {', '.join(every)}.",
            slug="unknown-weights",
        )
    return Named(Subject.of(reference, zoo.folder), listing, tags)


def _tagged_by_name(session: Session, reference: Reference) -> list[Listing]:
    # timm writes model.tag where others write model@tag.
    name, _, tag = reference.name.partition(".")
    if reference.weights is not None or not tag:
        return []
    model = (reference.zoo, name)
    return [item for item in listings.named(session, [model])[model] if item.weights == tag]


def _tagged(found: list[Listing], weights: str | None) -> Listing | None:
    if weights is None:
        return next((item for item in found if item.is_default), None)
    return next((item for item in found if item.weights == weights), None)


def _refuse_unknown_name(session: Session, zoo: Zoo, reference: Reference) -> None:
    # A team's folder may have changed since its catalog was read; there the worker has the last word.
    if zoo.folder is not None or zoo.name not in listings.catalogs(session):
        return
    names = listings.names(session, zoo.name)
    raise InvalidError(
        f"{zoo.name} has no model {reference.name!r}{_near(reference.name, names)} "
        f"`zooaudit models --zoo {zoo.name}` lists them.",
        slug="unknown-model",
    )


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f". Did you mean {', '.join(near)}?" if near else "."


def refuse_random_accuracy(named: Named) -> None:
    """Raise InvalidError when accuracy is asked of random weights."""
    if named.subject.weights in UNTRAINED:
        tags = f" ({', '.join(named.tags)})" if named.tags else ""
        raise InvalidError(
            f"{named.subject.ref} has random weights, so its accuracy means nothing; choose a weights tag{tags} or "
            "leave accuracy out.",
            slug="random-weights",
        )
