import hashlib
import os
import uuid

from workers.files import FileStore, Scratch


def test_files_are_stored_once_by_their_bytes(tmp_path):
    store = FileStore(tmp_path)
    (tmp_path / "a").write_bytes(b"the same")
    (tmp_path / "b").write_bytes(b"the same")
    first, second = store.put(tmp_path / "a"), store.put(tmp_path / "b")
    assert first == second == hashlib.sha256(b"the same").hexdigest()
    assert store.path(first).read_bytes() == b"the same"
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == [store.path(first)]


def test_only_old_unfinished_files_are_swept(tmp_path):
    store = FileStore(tmp_path)
    (tmp_path / "a").write_bytes(b"kept")
    kept = store.path(store.put(tmp_path / "a"))
    partial = tmp_path / "files" / "partial"
    (partial / "old").touch()
    (partial / "new").touch()
    os.utime(partial / "old", (0, 0))
    store.sweep(older_than_s=60)
    assert [path.name for path in partial.iterdir()] == ["new"]
    assert kept.exists()


def test_scratch_folders_name_their_attempt(tmp_path):
    scratch, job = Scratch(tmp_path), uuid.uuid4()
    folder = scratch.make(job, 2)
    (folder / "left.onnx").touch()
    assert scratch.attempts() == [(job, 2, folder)]
    assert list(scratch.make(job, 2).iterdir()) == []
