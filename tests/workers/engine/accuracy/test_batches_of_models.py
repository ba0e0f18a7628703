"""Published graphs whose batch is fixed run in batches, and answer as they do picture by picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from workers.engine.accuracy.runners import Execution, load
from workers.engine.zoos import onnx_models

LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("*.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_the_networks_of_the_onnx_package(path: Path) -> None:
    shape, _ = onnx_models._input_of(path)
    assert shape[0] == 1
    contract = onnx_models.bare_contract(shape, "", path.stem)
    together, alone = (load(Execution(batch=batch), path, contract, None) for batch in (4, 1))
    assert (together.batch, alone.batch) == (4, 1)
    pictures = np.random.default_rng(0).random(contract.input_shape(3), dtype=np.float32)
    answers = np.concatenate([alone.run(pictures[n : n + 1]) for n in range(3)])
    found = together.run(pictures)
    assert np.abs(found - answers).max() <= 1e-3 * np.abs(answers).max()
