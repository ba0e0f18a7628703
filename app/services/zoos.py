"""Which zoos there are: those that ship with the project, and a team's own folders."""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import TYPE_CHECKING, Any

from app.db import listings
from app.db.teams import may_see
from app.domain.teams import NAME, NAMING, SHARED
from app.domain.zoos import NAMED_BY_REFERENCES, SHIPPED, Zoo
from app.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session

    from app.db.tables import Catalog
    from app.settings import Settings

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,99}")
_MANIFEST = "zoo.toml"


def known(session: Session, settings: Settings) -> dict[str, Zoo]:
    """Return every zoo that the session's team may see by name, the shipped ones first.

    Raises InvalidError when a folder of ``settings.local_zoos`` holds no zoo, when a ``zoo.toml`` cannot be read, or
    when two zoos have one name.
    """
    zoos = dict(SHIPPED)
    for folder in settings.local_zoos:
        for manifest in _manifests(folder):
            zoo = _read(manifest)
            if zoo.name in zoos or zoo.name in NAMED_BY_REFERENCES:
                taken = zoos[zoo.name].folder if zoo.name in zoos else None
                raise InvalidError(
                    f"{manifest} names its zoo {zoo.name!r}, but {taken or 'a zoo that ships with the project'} has "
                    "that name; choose another name.",
                    slug="duplicate-zoo",
                )
            zoos[zoo.name] = zoo
    return {name: zoo for name, zoo in zoos.items() if may_see(session, zoo.team)}


def _manifests(folder: Path) -> Iterator[Path]:
    if (folder / _MANIFEST).is_file():
        yield folder / _MANIFEST
        return
    found = sorted(folder.glob(f"*/{_MANIFEST}"))
    if not found:
        raise InvalidError(
            f"{folder} is set as a local zoo, but neither it nor a folder in it has a {_MANIFEST}.", slug="no-zoo"
        )
    yield from found


def _read(manifest: Path) -> Zoo:
    try:
        content = tomllib.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidError(f"{manifest} cannot be read: {error}.", slug="unreadable-zoo") from error
    name, title = content.get("name", manifest.parent.name), content.get("title")
    team = content.get("team", SHARED)
    # A zoo without a name of its own goes by its folder's.
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidError(
            f"{manifest} is of a zoo {name!r}; a zoo's name is made of small letters, digits, - and _.",
            slug="unreadable-zoo",
        )
    if not isinstance(team, str) or not NAME.fullmatch(team):
        raise InvalidError(f"{manifest} is of a team {team!r}; {NAMING}", slug="unreadable-zoo")
    title = title if isinstance(title, str) else name
    return Zoo(name, title, folder=str(manifest.parent), mutable=True, team=team)


def named(zoos: dict[str, Zoo], name: str) -> Zoo:
    """Return a zoo that a request names, also those without a catalog; raises InvalidError with near names."""
    if name in NAMED_BY_REFERENCES:
        return NAMED_BY_REFERENCES[name]
    if name not in zoos:
        raise InvalidError(_unknown(zoos, name), slug="unknown-zoo")
    return zoos[name]


def _unknown(zoos: dict[str, Zoo], name: str) -> str:
    near = difflib.get_close_matches(name, zoos, n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    return f"There is no zoo {name!r}.{hint} The zoos are {', '.join(zoos)}."


def show_all(session: Session, settings: Settings) -> list[dict[str, Any]]:
    """Return every zoo as JSON, with what its catalog says if it was read."""
    catalogs = listings.catalogs(session)
    return [_json(zoo, catalogs.get(zoo.name)) for zoo in known(session, settings).values()]


def show(session: Session, settings: Settings, name: str) -> dict[str, Any]:
    """Return one zoo as JSON; raises NotFoundError with near names."""
    zoos = known(session, settings)
    if name not in zoos:
        raise NotFoundError(_unknown(zoos, name), slug="unknown-zoo")
    return _json(zoos[name], listings.catalogs(session).get(name))


def _json(zoo: Zoo, catalog: Catalog | None) -> dict[str, Any]:
    return {
        "name": zoo.name,
        "title": zoo.title,
        "local": zoo.folder is not None,
        "listings": catalog.listings if catalog else None,
        "version": catalog.version if catalog else None,
        "refreshed_at": catalog.refreshed_at.isoformat() if catalog else None,
    }
