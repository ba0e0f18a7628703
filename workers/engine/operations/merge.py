"""``merge``: the shards of a data set's predictions become one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.accuracy.answers import Answers, join
from workers.engine.accuracy.datasets import open_dataset
from workers.engine.accuracy.inference import finished
from workers.engine.operations.predict import stored
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from workers.engine.protocol import Progress, Result


def run(request: dict[str, Any], scratch: Path, progress: Progress) -> Result:
    """Merge ``{"dataset", "shards"}``; the result and the file are those of ``predict``.

    ``shards`` hold the file of each ``shard`` and what it said, ``{"answers", "provenance", "self_noise"}``; together
    they have all items. Raises UsageError when they do not fit together.
    """
    dataset = open_dataset(request["dataset"])
    shards = request["shards"]
    progress(0, 1, f"merging {len(shards)} shards")
    provenance = shards[0]["provenance"]
    if other := next((shard["provenance"] for shard in shards if shard["provenance"] != provenance), None):
        name = next(name for name in provenance if other.get(name) != provenance[name])
        raise UsageError(
            "shards-differ",
            f"Some shards were run with {name} {provenance[name]} and some with {other.get(name)}; bring the workers "
            "to one version and ask for the predictions again.",
        )
    answers = join([Answers.read(Path(shard["answers"])) for shard in shards], dataset.n)
    noise = next(shard["self_noise"] for shard in shards if shard["self_noise"] is not None)
    return stored(finished(answers, dataset, provenance | {"self_noise": noise}), dataset, scratch)
