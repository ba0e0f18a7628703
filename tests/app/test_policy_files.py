from __future__ import annotations

import pytest

from app.domain.policies import Policy, read
from app.policy_files import PolicyFileError, load


def refused(path, text):
    path.write_text(text)
    with pytest.raises(PolicyFileError) as error:
        load(path)
    return str(error.value).replace(str(path), path.name).splitlines()


def test_yaml_and_json_say_the_same(tmp_path):
    (tmp_path / "p.yaml").write_text("# ours\nname: ours\ncritical: [accuracy, latency]\nlatency_margin: 0.1\n")
    (tmp_path / "p.json").write_text('{"name": "ours", "critical": ["accuracy", "latency"], "latency_margin": 0.1}')
    assert load(tmp_path / "p.yaml") == load(tmp_path / "p.json")
    assert read(load(tmp_path / "p.yaml")) == Policy(
        "ours", critical=read({"name": "p", "critical": ["accuracy", "latency"]}).critical, latency_margin=0.1
    )


def test_every_mistake_is_named_by_file_line_and_key(tmp_path):
    text = "name: ours\ncritical: [acuracy]\naccuracy_marign: 0.01\nsize_margin: 2\nsize_margin: 0.2\n"
    assert refused(tmp_path / "p.yml", text) == [
        "p.yml:2: critical names 'acuracy', which is no criterion; did you mean accuracy?",
        "p.yml:3: A policy has no field accuracy_marign; did you mean accuracy_margin?",
        "p.yml:5: size_margin was set on line 4 already.",
    ]
    json_text = '{\n "name": "ours",\n "laten": 1\n}'
    assert refused(tmp_path / "p.json", json_text) == [
        "p.json:3: A policy has no field laten; did you mean latency_margin?"
    ]
    with_tabs = refused(tmp_path / "p.json", json_text.replace("\n ", "\n\t"))
    assert with_tabs == ["p.json: A policy has no field laten; did you mean latency_margin?"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.yaml", "name: x\ncritical: [a\nb: 1\n", "p.yaml:3: this is no YAML"),
        ("p.yaml", "name: !!python/object:os.system x\n", "p.yaml:1: this is no YAML"),
        ("p.yaml", "", "A policy is a set of fields"),
        ("p.yaml", "[" * 5000, "cannot be read"),
        ("p.json", '{"name": "x",}', "p.json:1: this is no JSON"),
        ("p.json", "[1]", "A policy is a set of fields"),
        ("p.yaml", "{[1]: 2}", "p.yaml"),
    ],
)
def test_what_is_no_policy_is_said(tmp_path, name, text, said):
    assert said in refused(tmp_path / name, text)[0]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(PolicyFileError, match="cannot be read as a policy"):
            load(path)
