"""Answers of a server as the page gets them, and how to show them without one."""

from __future__ import annotations

from typing import Any

# The page's style and an answer, shown as the page shows it; `window.searched` is what was searched with since.
SHOW = """async (answer) => {
    document.head.insertAdjacentHTML("beforeend", `<link rel="stylesheet" href="/page/style.css">
        <link rel="stylesheet" href="/page/compare.css"><link rel="stylesheet" href="/page/results.css">`);
    document.body.innerHTML = '<div id="status"></div><div id="notices"></div><main><div id="results"></div></main>';
    await new Promise((resolve) => document.head.lastElementChild.addEventListener("load", resolve));
    const { showResults } = await import("/page/results.js");
    const { mountCompare } = await import("/page/compare.js");
    const { getState, setState } = await import("/page/state.js");
    const searchWith = (part) => {
        window.searched = part;
        setState({ parts: [part], open: "" }, { push: true });
    };
    const context = { gallery: "g", info: { images: 50, can_remove: true }, parts: getState().parts, searchWith };
    mountCompare(() => context);
    showResults(document.getElementById("results"), answer, context);
}"""


def hit(rank: int, score: float, matches: bool | None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "rank": rank,
        "image": f"{rank:032x}",
        "path": f"/photos/{rank}.png",
        "score": score,
        "box": [100.0, 50.0, 200.0, 150.0],
        "level": 2,
        "cell": [0, 1],
        "size": [400, 300],
        "expected_false_matches": None if matches is None else 0.001 if matches else 4.0,
        "matches": matches,
        "regions": [],
        "metadata": {"brand": "Acme"},
    }
    return {**found, **more}


def answer(*hits: dict[str, Any], verdict: str = "match") -> dict[str, Any]:
    return {
        "query": "q",
        "box": None,
        "parts": [],
        "hits": list(hits),
        "verdict": verdict,
        "seconds": 0.01,
        "images": 50,
    }
