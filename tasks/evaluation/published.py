"""The rows that the paper published, as far as they could be found (docs/spec/paper_numbers.md).

They are of other test clips and other networks: printed below our tables for scale, never in them. "AED" and "APD" are
of Deep3DFaceRecon; ours of this project's fit are called aed_fit and apd_fit.
"""

Rows = dict[str, dict[str, float]]

# fmt: off
PUBLISHED_COLUMNS = {
    "CSIM": "likeness to the photo (cosine of ArcFace vectors), higher is better",
    "FID": "distance of the pictures' statistics to those of true ones, lower is better",
    "AED": "mean |difference| of the expression's coefficients of Deep3DFaceRecon to the driver's, lower is better",
    "APD": "the same of the head's pose, lower is better",
    "Sync": "confidence of the published SyncNet, higher is better",
}
# fmt: on

PUBLISHED: dict[str, Rows] = {
    "same_identity": {
        "best baseline": {"FID": 42.96},
        "Real3D-Portrait": {"FID": 37.50, "AED": 0.111, "APD": 0.018},
    },
    "cross_identity": {"Real3D-Portrait": {"CSIM": 0.758, "FID": 42.37, "AED": 0.138}},
    "audio_driven": {"Real3D-Portrait": {"AED": 0.146, "Sync": 6.565}},
}


def published_markdown(protocol: str) -> str:
    """The published rows of a protocol with a line that says what they are; empty if there are none."""
    rows = PUBLISHED.get(protocol)
    if not rows:
        return ""
    names = list(dict.fromkeys(name for values in rows.values() for name in values))
    lines = [
        "Published by the paper on other data, with other networks (docs/spec/paper_numbers.md).",
        "",
        "| published | " + " | ".join(names) + " |",
        "| --- |" + " --- |" * len(names),
    ]
    for method, values in rows.items():
        lines.append(f"| {method} | " + " | ".join(str(values.get(name, "-")) for name in names) + " |")
    return "\n".join([*lines, "", "; ".join(f"{name}: {PUBLISHED_COLUMNS[name]}" for name in names) + "."])
