from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import func, select

from app.db import datasets
from app.db.tables import Dataset


def test_imports_that_make_one_data_set_at_once_share_it(database):
    def join(wait_s, hold_s):
        time.sleep(wait_s)
        with database.write() as session:
            joined = datasets.join(session, "new", items=3, classes=2, labels_digest="d" * 64, label_space=None)
            time.sleep(hold_s)
            return joined.id

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(join, (0.0, 0.1), (0.5, 0.0))
    assert first == second
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Dataset).where(Dataset.name == "new")) == 1
