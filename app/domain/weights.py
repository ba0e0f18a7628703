"""What is known of the weights and features of two listings without comparing tensors. Pure.

The exact bytes of a model are known by their SHA-256. Equal bytes are equal weights; of other bytes nothing is known,
because the same tensors can be written in many ways, so that the verdict is never ``different``.
"""

from __future__ import annotations

from typing import Any

SAME = "same"
NOT_MEASURED = "not_measured"


def weights(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Judge the weights of two sides of an answer: ``same`` when their artifacts are the same bytes."""
    digests = [(side.get("artifact") or {}).get("sha256") for side in (a, b)]
    told = {"a": digests[0], "b": digests[1]}
    if None in digests:
        return told | {"verdict": NOT_MEASURED, "reason": "the models were not loaded, so their weights are not known"}
    if digests[0] == digests[1]:
        return told | {"verdict": SAME, "reason": "both are the same bytes"}
    return told | {
        "verdict": NOT_MEASURED,
        "reason": "the models are not the same bytes, and tensors are not compared with each other yet",
    }


def features(
    architecture: dict[str, Any] | None, of_weights: dict[str, Any], contract: dict[str, Any] | None
) -> dict[str, Any]:
    """Judge the features of a pair: ``same`` when it is one network, with one set of weights, fed the same way.

    ``contract`` is the comparison of the input contracts; None when one is unknown.
    """
    missing = []
    if (architecture or {}).get("verdict") != "identical":
        missing.append("their architectures are not known to be identical")
    if of_weights["verdict"] != SAME:
        missing.append(of_weights["reason"])
    if contract is None or contract["differences"]:
        missing.append("their input contracts are not known to be the same")
    if not missing:
        return {"verdict": SAME, "reason": "one network with the same weights, fed the same way"}
    reason = f"features are measured nowhere yet, and they do not follow from what is known: {'; '.join(missing)}"
    return {"verdict": NOT_MEASURED, "reason": reason}
