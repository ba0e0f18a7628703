"""Puts ids that the database has in the place of every other valid one that schemathesis makes up."""

from __future__ import annotations

import json
import os
import uuid
from itertools import count

import schemathesis

_KNOWN = json.loads(os.environ.get("ZOOAUDIT_FUZZ_IDS", "{}"))
_calls = count()


@schemathesis.hook
def map_path_parameters(_context, path_parameters):
    return {name: _known(name, value) for name, value in (path_parameters or {}).items()}


@schemathesis.hook
def map_query(_context, query):
    return {name: _known(name, value) for name, value in (query or {}).items()}


def _known(name, value):
    if name not in _KNOWN or next(_calls) % 2:
        return value
    if name.endswith("_id"):
        try:
            uuid.UUID(str(value))
        except ValueError:
            return value
    return _KNOWN[name]
