from __future__ import annotations

from app.db import listings
from app.db.paging import Selection


def test_text_is_found_in_references_in_any_case(database):
    refs = ["timm:ResNet50.A1@none", "timm:été@none", "timm:vgg_16@none", "timm:vggx16@none"]
    rest = {"zoo": "timm", "weights": "none", "architecture": None, "label_space": None, "classes": None}
    rest |= {"contract": None, "claims": [], "licence": None, "runtimes": ["torch"], "default": True}
    with database.write() as session:
        listings.replace_catalog(session, "timm", "1", [{"ref": ref, "name": ref[5:-5]} | rest for ref in refs])

    def found(text):
        with database.read() as session:
            return [row.ref for row in listings.LISTED.page(session, Selection(filters={"match": text})).items]

    assert found("resnet50.a") == found("RESNET50.A") == [refs[0]]
    assert found("TIMM:é") == [refs[1]]
    assert found("g_1") == [refs[2]]
    assert found("é@N") == [refs[1]]
    assert found("resnet51") == []
