import hashlib
import uuid

from workers.files import Attempt, FileStore, Scratch


def test_files_are_stored_once_by_their_bytes(tmp_path):
    store, attempt = FileStore(tmp_path), Attempt(uuid.uuid4(), 1)
    (tmp_path / "a").write_bytes(b"the same")
    (tmp_path / "b").write_bytes(b"the same")
    first, second = store.put(tmp_path / "a", attempt), store.put(tmp_path / "b", attempt)
    assert first == second == hashlib.sha256(b"the same").hexdigest()
    assert store.path(first).read_bytes() == b"the same"
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == [store.path(first)]


def test_unfinished_files_name_their_attempt(tmp_path):
    store, attempt = FileStore(tmp_path), Attempt(uuid.uuid4(), 2)
    (tmp_path / "a").write_bytes(b"kept")
    store.put(tmp_path / "a", attempt)
    left = tmp_path / "files" / "partial" / f"{attempt}.{uuid.uuid4().hex}"
    left.touch()
    (left.parent / "of.another").touch()
    assert store.left() == [(attempt, left)]


def test_scratch_folders_name_their_attempt(tmp_path):
    scratch, attempt = Scratch(tmp_path), Attempt(uuid.uuid4(), 2)
    folder = scratch.make(attempt)
    (folder / "left.onnx").touch()
    (folder.parent / "lost.found").mkdir()
    assert scratch.left() == [(attempt, folder)]
    assert list(scratch.make(attempt).iterdir()) == []
