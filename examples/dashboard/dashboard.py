"""What a dashboard asks of the API, with httpx: `python examples/dashboard/dashboard.py http://127.0.0.1:8000`."""

from __future__ import annotations

import csv
import io
import sys
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator


def every(client: httpx.Client, path: str, **query: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - filters
    """Yield the items of every page of a list."""
    cursor: str | None = None
    while True:
        page = get(client, path, **query, **({} if cursor is None else {"cursor": cursor}))
        yield from page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def get(client: httpx.Client, path: str, **query: Any) -> Any:  # noqa: ANN401 - JSON
    """Return an answer; a problem is raised in its own words."""
    reply = client.get(path, params=query)
    if reply.is_error:
        raise SystemExit(reply.json()["detail"])
    return reply.json()


def main(address: str) -> None:
    """Print the matrix, the largest findings, how the largest went over time, and the number of rows exported."""
    with httpx.Client(base_url=f"{address}/v1", timeout=30) as client:
        for cell in get(client, "matrix", dimension="latency")["cells"]:
            counts = cell["verdicts"]
            print(f"{cell['zoo_a']} against {cell['zoo_b']}: {counts['outside']} of {cell['findings']} outside")
        largest = get(client, "findings", dimension="latency", sort="-effect", limit=3)["items"]
        for finding in largest:
            print(f"{finding['a_ref']} against {finding['b_ref']}: {finding['metric']} {finding['effect']:+.1%}")
        if largest:
            worst = largest[0]
            asked = {"ref": worst["a_ref"], "b_ref": worst["b_ref"], "metric": worst["metric"]}
            for series in get(client, "trends", **asked)["series"]:
                print("over time:", ", ".join(f"{point['effect']:+.1%}" for point in series["points"]))
            # A final result has an ETag: who has it is told so in a few bytes.
            where = f"comparisons/{worst['comparison_id']}"
            tag = client.get(where).headers["ETag"]
            print("again:", client.get(where, headers={"If-None-Match": tag}).status_code)
        print("comparisons that failed:", sum(1 for _ in every(client, "comparisons", state="failed")))
        with client.stream("GET", "findings", params={"format": "csv"}) as reply:
            rows = csv.DictReader(io.StringIO("".join(reply.iter_text()), newline=""))
            print("findings exported:", sum(1 for _ in rows))


if __name__ == "__main__":
    main(sys.argv[1])
