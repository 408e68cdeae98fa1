"""Write docs/benchmarks.md, and the figures in README.md, from the JSON files that the benchmarks wrote.

`--check` changes nothing and fails if a page is not what the files say.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, table

ORDER = (
    "logos",
    "encoder_choice",
    "adaptation",
    "cutting",
    "region_proposals",
    "indexing_rate",
    "backbones",
    "batch_size",
    "search_latency",
    "compressed_search",
    "million_images",
    "region_vectors",
    "eval_search",
    "incremental",
    "startup",
)
PLOTS = {
    "locscore_over_delta": "LocScore over delta",
    "by_area": "by the object's share of the image",
    "by_centre_distance": "by the object's distance from the centre",
    "accuracy_against_memory": "accuracy against memory",
}
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
        lines += [
            "",
            f"## {name.replace('_', ' ').capitalize()}",
            "",
            found["question"],
            "",
            *found["table"],
            "",
            *gains(found),
            *restricted(found),
            *picture(name),
            circumstances(found, name),
        ]
    return "\n".join(lines) + "\n"


def gains(found: dict[str, Any]) -> list[str]:
    """What a learned layer adds, where that was measured."""
    lines = found["details"].get("gains_table")
    return ["Gain of the layer in mAP, with 95 % intervals over groups of queries:", "", *lines, ""] if lines else []


def restricted(found: dict[str, Any]) -> list[str]:
    """What searches of a part of the images cost, where that was measured."""
    lines = found["details"].get("filters_table")
    return ["Searches of a part of the images, and of what is left of a gallery:", "", *lines, ""] if lines else []


def picture(name: str) -> list[str]:
    """The plot that a benchmark drew, if any."""
    path = ROOT / "docs" / "images" / f"{name}.png"
    return [f"![{name.replace('_', ' ')}](images/{path.name})", ""] if path.exists() else []


def evaluation_page() -> str:
    lines = [
        "# Evaluation",
        "",
        "Which regions retrieve and localise best, with the built-in encoder. Written by `make bench` from the JSON",
        "files in `benchmarks/results/`. [What LocScore says](locscore.md); [how to evaluate](guide.md#patchwise-eval)",
        "on your own data.",
    ]
    for name, title in (("logos", "Logos in photographs"), ("synthetic", "Composed scenes")):
        found = load(f"evaluation_{name}")
        lines += ["", f"## {title}", "", found["question"], "", *found["table"], ""]
        lines += [
            "Each strategy against the one before it, query by query (95 % intervals over groups of queries):",
            "",
        ]
        lines += [*found["details"]["steps_table"], ""]
        lines += [f"{breakdown}\n" for breakdown in found["details"]["breakdowns"]]
        for kind, caption in PLOTS.items():
            lines += [f"![{title}: {caption}](images/evaluation_{name}_{kind}.png)", ""]
        lines.append(circumstances(found, "evaluation"))
    return "\n".join([*lines, "", *mini_ilias()]) + "\n"


def mini_ilias() -> list[str]:
    """What a full run would cost, from the rates measured."""
    images = 5_000_000 + 4_715
    rates = next(figures for name, figures in load("indexing_rate")["details"].items() if "logos" in name)
    regions_per_second = statistics.median(rates["indexing_rates"])
    regions = load("evaluation_logos")["details"]["results"]
    search = load("eval_search")["details"]["seconds"]
    lines = [
        "## What a full mini-ILIAS run costs",
        "",
        "Extrapolated to 5,004,715 images and 1,232 queries from the rates above, on the same two cores: indexing at",
        f"{regions_per_second:.0f} regions a second, and the searching of 1,232 queries from disk in "
        f"{search['1,000 best, from disk']:.1f} s",
        "for 20,000 images x 30 regions. A GPU encoder divides the first figure, not the others.",
        "",
    ]
    rows = []
    for row in regions:
        count, size = row["costs"]["regions_per_image"], row["costs"]["bytes_per_image"]
        if row["method"].endswith("oracle"):
            continue
        hours = images * count / regions_per_second / 3600
        minutes = search["1,000 best, from disk"] * images * count / (20_000 * 30) / 60
        rows.append(
            [row["method"], f"{count:.0f}", f"{hours:,.0f} h", f"{images * size / 1e9:,.0f} GB", f"{minutes:,.0f} min"]
        )
    return [*lines, *table(["method", "regions / image", "indexing", "disk", "searching"], rows)]


def dense_encoding() -> str:
    found = load("dense_encoding")
    details = found["details"]
    lines = [found["question"], "", *found["table"], ""]
    lines += [f"Accuracy with {details['regions']}, mAP and LocScore x 100:", ""]
    for name, figures in details["accuracy"].items():
        lines += [f"**{name}**: {figures['queries']} queries, {figures['images']} images", ""]
        lines += [*details["accuracy_tables"][name], ""]
    return "\n".join([*lines, circumstances(found, "dense_encoding")]) + "\n"


def compression_quality() -> str:
    """What codes cost, by codec and by training set, and what regions could be left out."""
    found = load("compression_quality")
    details = found["details"]
    whole = ", ".join(
        f"{name} {mean:.1f}" + (f" / {located:.1f}" if located is not None else "")
        for name, (mean, located) in details["uncompressed"].items()
    )
    own = [
        row
        for row in details["training_sets"]
        if (row["codec"], row["from"], row["vectors"]) == ("fastscan:64", "the searched", "as pictures")
    ]
    lines = [
        f"What codes cost, in points of mAP / LocScore (uncompressed: {whole}).",
        "*Alone*: vectors are decoded and scaled to unit length, as with codes only. *Re-scored*: the best 5 % of",
        "regions by code are scored by their vectors, as a search does, but for as many as it needs. Means of",
        f"{len(details['seeds'])} seeds; codebooks learned from other pictures than those that are searched.",
        "",
        *_losses(details["codecs"], lambda row: row["codec"], ("unit", "5 %"), ("alone", "re-scored")),
        "",
        "By training set, codes of `fastscan:64` alone, learned from as many regions of the searched pictures as there",
        "are pictures. *Lost*: points of mAP / LocScore, as above. *Not kept*: points of the exact top 10, and of its",
        "winning regions.",
        "",
        *_losses(own, lambda row: f"`{row['set']}`", ("unit", "kept unit"), ("lost", "not kept")),
        "",
        "No set is better than `random` by both measures, so that `random` is the default.",
        "",
        "Regions that could be left out: bytes saved, and points of exact search. This is not built in: plain objects,",
        "which such rules may drop, were not tested.",
        "",
        *details["pruning_table"],
        "",
        circumstances(found, "compression_quality"),
    ]
    return "\n".join(lines) + "\n"


def _losses(
    runs: list[dict[str, Any]],
    name_of: Callable[[dict[str, Any]], str],
    ways: tuple[str, ...],
    titles: tuple[str, ...],
) -> list[str]:
    """A table of the mean losses of runs of the same name, over seeds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(name_of(run), []).append(run["losses"])
    sets = list(next(iter(groups.values()))[0])
    rows = []
    for name, losses in groups.items():
        cells = []
        for way in ways:
            for benchmark in sets:
                pairs = [of_seed[benchmark][way] for of_seed in losses if way in of_seed.get(benchmark, {})]
                if not pairs:
                    cells.append("-")
                    continue
                means = [statistics.mean(values) for values in zip(*pairs, strict=True) if None not in values]
                cells.append(" / ".join(f"{mean:+.2f}" for mean in means))
        rows.append([name, *cells])
    return table(["", *(f"{benchmark}, {title}" for title in titles for benchmark in sets)], rows)


def circumstances(found: dict[str, Any], script: str) -> str:
    machine = found["machine"]
    return (
        f"<small>`python benchmarks/{script}.py`, commit {found['commit']}, seed {found['seed']}, "
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        f"onnxruntime {machine['onnxruntime']}</small>"
    )


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
            f"answers in {1000 * start['seconds']['patchwise --help']:.0f} ms. {compressed()}",
            "",
        ]
    )


def compressed() -> str:
    """What compression does for large galleries, in two sentences."""
    fast, large = load("compressed_search")["details"], load("million_images")["details"]
    k, found = next(iter(fast["ours"]["race"]["patchwise"].items()))
    images, sizes = max(large["sizes"].items(), key=lambda of_size: int(of_size[0]))
    aim, search = "0.95", sizes["search"]
    return (
        f"Compressed, a search for the best {k} of {fast['images']:,} images takes {found['median']:.0f} ms, the "
        f"product over all their vectors {found['times_as_fast']:.0f} times as long, and finds "
        f"{100 * found['recall']:.1f} % of the same images; among {int(images):,} images it takes "
        f"{search[aim]['warm']['median_ms']:.0f} ms (recall {search[aim]['recall']:.3f}) and holds "
        f"{search['private_bytes'] / 2**30:.1f} GiB."
    )


def filled(page: Path, generated: str) -> str:
    """A page with its generated part replaced."""
    text = page.read_text(encoding="utf-8")
    return re.sub(f"(?s){START}.*?{END}", lambda _: START + generated + END, text)


def script(name: str) -> str:
    """The benchmark that wrote a result of this name."""
    if name == "fusion":
        return "expansion"
    own = (ROOT / "benchmarks" / f"{name}.py").exists()
    return name if own else name.rpartition("_")[0]


def with_tables(page: Path) -> str:
    """A page, each marked place filled with the table of the benchmark it names."""
    text = page.read_text(encoding="utf-8")

    def measured(place: re.Match[str]) -> str:
        found = load(place["name"])
        lines = [
            place["start"],
            found["question"],
            "",
            *found["table"],
            "",
            circumstances(found, script(place["name"])),
            "",
        ]
        return "\n".join([*lines, END])

    start = r"(?P<start><!-- generated: benchmarks/make_docs.py (?P<name>\w+) -->)"
    return re.sub(f"(?s){start}.*?{END}", measured, text)


def main() -> None:
    readme, dense, compression = ROOT / "README.md", ROOT / "docs" / "dense.md", ROOT / "docs" / "compression.md"
    wanted = {
        ROOT / "docs" / "benchmarks.md": page(),
        ROOT / "docs" / "evaluation.md": evaluation_page(),
        readme: filled(readme, summary()),
        dense: filled(dense, dense_encoding()),
        compression: filled(compression, compression_quality()),
        **{page: with_tables(page) for page in (ROOT / "docs" / "second-look.md", ROOT / "docs" / "server.md")},
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
