"""Write docs/benchmarks.md, and the figures in README.md, from the JSON files that the benchmarks wrote.

`--check` changes nothing and fails if a page is not what the files say.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from common import RESULTS, ROOT, table

ORDER = (
    "logos",
    "encoder_choice",
    "cutting",
    "indexing_rate",
    "search_latency",
    "incremental",
    "startup",
)
START, END = "<!-- generated: benchmarks/make_docs.py -->\n", "<!-- end generated -->"


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def page() -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench` from the JSON files in `benchmarks/results/`; no figure here is typed by hand. Ratios",
        "are taken within one run, because machines differ and are busy with other things.",
    ]
    for name in ORDER:
        found = load(name)
        machine = found["machine"]
        lines += [
            "",
            f"## {name.replace('_', ' ').capitalize()}",
            "",
            found["question"],
            "",
            *found["table"],
            "",
            f"<small>`python benchmarks/{name}.py`, commit {found['commit']}, seed {found['seed']}, "
            f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
            f"onnxruntime {machine['onnxruntime']}</small>",
        ]
    return "\n".join(lines) + "\n"


def summary() -> str:
    logos, search = load("logos")["details"], load("search_latency")["details"]
    again, start, rate = load("incremental")["details"], load("startup")["details"], load("indexing_rate")["details"]
    whole, regions = logos["whole images"], logos["Patchify L3"]
    adapted = logos["Patchify L3, gallery whitening"]
    kinds = (whole, regions, adapted)
    rows = [
        ["logos in photographs, best hit is right (R@1)", *(f"{100 * kind['R@1']:.0f} %" for kind in kinds)],
        ["the same, mAP", *(f"{100 * kind['mAP']:.1f}" for kind in kinds)],
        ["the same, LocScore", *(f"{100 * kind['LocScore']:.1f}" for kind in kinds)],
        ["bytes per image", *(f"{kind['bytes_per_image']:,.0f}" for kind in kinds)],
    ]
    large = next(figures for name, figures in rate.items() if "12 megapixels" in name)
    per_second = sorted(large["indexing_rates"])[len(large["indexing_rates"]) // 2] / 30
    return "\n".join(
        [
            *table(["", "whole images", "30 regions", "30 regions, `--whitening gallery`"], rows),
            "",
            f"On two cores: {per_second:.0f} photographs of 12 megapixels indexed per second; a search among 20,000 "
            f"images takes {search['ours_ms']:.0f} ms ({search['ratio']:.2f} times one numpy product over the same "
            f"vectors); indexing 10,000 unchanged files again takes {again['second']:.2f} s; `patchwise --help` "
            f"answers in {1000 * start['seconds']['patchwise --help']:.0f} ms.",
            "",
        ]
    )


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    wanted = {
        ROOT / "docs" / "benchmarks.md": page(),
        readme: re.sub(f"(?s){START}.*?{END}", lambda _: START + summary() + END, text),
    }
    for path, content in wanted.items():
        if "--check" in sys.argv:
            if not path.exists() or path.read_text(encoding="utf-8") != content:
                raise SystemExit(
                    f"{path.name} is not what benchmarks/results says; run: python benchmarks/make_docs.py"
                )
        else:
            path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
