from __future__ import annotations

from html import unescape
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from app.domain.policies import Policy
from app.summary import markdown

CHECK = {
    "criterion": "accuracy",
    "tier": "critical",
    "verdict": "outside",
    "said": "accuracy: top-1 95.00 % against 96.00 %",
    "needed": None,
    "numbers": [],
}
VETTED = {
    "id": "1",
    "comparison_id": "2",
    "state": "succeeded",
    "verdict": "fail",
    "reason": "Outside.",
    "candidate": {"ref": "z:a"},
    "reference": {"ref": "y:b"},
    "policy": Policy("ours", version=3).to_json(),
    "dataset": "digits",
    "checks": [CHECK],
    "advisories": [],
    "needed": [],
    "error": None,
}


class Shown(HTMLParser):
    """What a page shows: text by the element around it, and the elements."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.at, self.text, self.elements = [], [], set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        del attrs
        self.at.append(tag)
        self.elements.add(tag)

    def handle_endtag(self, tag):
        while self.at and self.at.pop() != tag:
            pass

    def handle_data(self, data):
        self.text.append((self.at[-1] if self.at else "", data))

    def of(self, tag):
        return "".join(data for at, data in self.text if at == tag)


def shown(value):
    # GitHub shows raw HTML, as far as it is harmless; so does this.
    return Shown(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown(value)))


def test_it_is_a_heading_a_reason_a_table_and_lists():
    lines = {"needed": ["more items"], "advisories": ["top-5 differs", CHECK["said"]]}
    page = shown(VETTED | lines)
    assert page.of("h3") == "Vetting: fail"
    assert "ours version 3" in page.of("p")
    assert [data for at, data in page.text if at == "td"][:2] == ["accuracy", "critical"]
    assert page.of("strong").startswith("outside")
    assert [data for at, data in page.text if at == "li"] == ["more items", "top-5 differs"]
    two = CHECK | {"said": "latency: torch; onnxruntime", "numbers": [{}, {}]}
    assert "torch<br>onnxruntime" in markdown(VETTED | {"checks": [two]})


def test_before_the_end_and_after_a_failure_it_says_so():
    waiting = VETTED | {"verdict": None, "reason": None, "state": "running", "checks": [], "dataset": None}
    assert shown(waiting).of("h3") == "Vetting: running"
    assert "no decision yet" in shown(waiting).of("p")
    assert "It was cancelled" in shown(waiting | {"state": "cancelled"}).of("p")
    failed = waiting | {"state": "failed", "error": {"message": "It cannot be loaded."}}
    assert "It cannot be loaded." in shown(failed).of("p")


@given(
    st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" |`*_[]<>&"), min_size=1, max_size=30)
    | st.just("&lt; <b> $x$")
)
def test_whatever_a_name_holds_is_shown_as_it_is_and_changes_nothing_else(text):
    text = f"x {' '.join(text.split())} x"
    plain = shown(VETTED)
    told = {"reason": text, "checks": [CHECK | {"said": f"accuracy: {text}"}], "candidate": {"ref": text}}
    page = shown(VETTED | told)
    assert page.elements == plain.elements
    assert page.text.count(("p", text)) == 1
    assert ("td", text) in page.text
    assert ("code", text) in page.text
    assert unescape(page.of("h3")) == "Vetting: fail"
