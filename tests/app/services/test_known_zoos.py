from __future__ import annotations

import pytest

from app.db.teams import TeamSession
from app.errors import InvalidError
from app.services import zoos
from app.settings import Settings


@pytest.fixture
def zoo(tmp_path):
    def make(folder, content=""):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "zoo.toml").write_text(content)
        return tmp_path / folder

    return make


def known(*folders):
    with TeamSession(None, None) as session:
        return zoos.known(session, Settings(local_zoos=folders))


def test_a_folder_is_a_zoo_by_its_own_name_or_the_one_it_states(zoo):
    plain, named = zoo("plain"), zoo("folder", 'name = "team"\ntitle = "The team\'s own"\n')
    found = known(plain, named)
    assert list(found)[:4] == ["torchvision", "timm", "keras", "onnx"]
    assert found["plain"].folder == str(plain)
    assert (found["team"].title, found["team"].mutable) == ("The team's own", True)


def test_a_folder_of_zoos_stands_for_each_of_them(zoo, tmp_path):
    zoo("all/one")
    zoo("all/two")
    assert {"one", "two"} < set(known(tmp_path / "all"))


def test_two_zoos_of_one_name_are_refused(zoo):
    with pytest.raises(InvalidError, match="choose another name"):
        known(zoo("a", 'name = "same"'), zoo("b", 'name = "same"'))
    with pytest.raises(InvalidError, match="ships with the project"):
        known(zoo("timm"))


@pytest.mark.parametrize(
    ("content", "said"), [("name = ", "cannot be read"), ('name = "Team Zoo"', "small letters"), ("name = 3", "zoo 3")]
)
def test_what_cannot_be_read_is_named(zoo, content, said):
    folder = zoo("folder", content)
    with pytest.raises(InvalidError, match=said) as refused:
        known(folder)
    assert str(folder / "zoo.toml") in refused.value.message


def test_a_folder_without_a_zoo_is_refused(tmp_path):
    with pytest.raises(InvalidError, match="neither it nor a folder in it"):
        known(tmp_path)
