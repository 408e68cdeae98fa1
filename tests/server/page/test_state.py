"""A search is its address."""

from __future__ import annotations

from typing import Any

from .conftest import Call

IMAGE, OTHER = "0123456789abcdef" * 2, "f" * 32

STATE: dict[str, Any] = {
    "gallery": "logos",
    "parts": [
        {"image": IMAGE, "box": [40, 30, 210, 260], "weight": 1, "small": True},
        {"image": OTHER, "box": None, "weight": -0.5, "small": False},
        {"text": "50% off; box:1,2 & text: ü+?", "box": None, "weight": 2, "small": False},
    ],
    "k": 100,
    "under": ["/photos/a b", "/photos/ä&c"],
    "where": "brand = 'Acme' and year >= 2019",
    "minScore": 0.35,
    "rerank": "refine:20",
    "collapse": True,
    "view": "browse",
    "open": OTHER,
}

RESTORE = """async (state) => {
    const first = await import("/page/state.js");
    first.setState(state);
    const again = await import("/page/state.js?again"); // reads the address anew
    return [location.search, first.getState(), again.getState()];
}"""

READ = """async (address) => {
    history.replaceState(null, "", address);
    return (await import("/page/state.js")).getState();
}"""


def test_a_state_survives_its_address(evaluate: Call) -> None:
    address, kept, read = evaluate(RESTORE, STATE)
    assert kept == STATE
    assert read == STATE
    assert f"p=image:{IMAGE};box:40,30,210,260;small&" in address


def test_what_has_its_default_is_not_in_the_address(evaluate: Call) -> None:
    address, _, read = evaluate(RESTORE, {"gallery": "logos", "parts": [{"image": IMAGE}]})
    assert address == f"?v=1&g=logos&p=image:{IMAGE}"
    assert read["parts"] == [{"image": IMAGE, "box": None, "weight": 1, "small": False}]


def test_an_address_with_mistakes_says_what_it_can(evaluate: Call) -> None:
    read = evaluate(
        READ,
        f"/?v=1&p=image:../../etc&p=image:{IMAGE};box:9,9,1,1;weight:x&p=weight:3&p=text:%20&k=0&min=&open=x&view=none",
    )
    assert read["parts"] == [{"image": IMAGE, "box": None, "weight": 1, "small": False}]
    assert (read["k"], read["minScore"], read["open"], read["view"]) == (40, None, "", "search")


def test_an_address_of_a_later_version_is_not_guessed_at(evaluate: Call) -> None:
    assert evaluate(READ, f"/?v=2&p=image:{IMAGE}")["parts"] == []


def test_back_and_forward_tell_the_listeners(evaluate: Call) -> None:
    told = evaluate(
        """async () => {
            const { getState, setState, onState } = await import("/page/state.js");
            const told = [];
            const next = () => new Promise((settle) => { const off = onState(() => { off(); settle(); }); });
            setState({ gallery: "a" });
            setState({ where: "x" }, { push: true });
            setState({ where: "y" });                 // replaces the step
            setState({ where: "y" }, { push: true }); // changes nothing: no step
            const length = history.length;
            onState((state, previous) => told.push([previous.where, state.where]));
            for (const way of ["back", "forward"]) { const heard = next(); history[way](); await heard; }
            return [told, history.length - length, getState().gallery];
        }"""
    )
    assert told == [[["y", ""], ["", "y"]], 0, "a"]


def test_the_request_has_what_a_search_needs_and_no_more(evaluate: Call) -> None:
    request = evaluate(
        "async (state) => (await import('/page/state.js')).searchRequest(state)",
        STATE,
    )
    assert request == {
        "parts": [
            {"picture": IMAGE, "box": [40, 30, 210, 260], "weight": 1, "small": True},
            {"picture": OTHER, "weight": -0.5, "small": False},
            {"text": "50% off; box:1,2 & text: ü+?", "weight": 2},
        ],
        "k": 100,
        "under": STATE["under"],
        "where": STATE["where"],
        "rerank": "refine:20",
        "collapse": True,
    }
