"""Explanations are asked for once, given up when nobody waits, and share one scale."""

from __future__ import annotations

from .conftest import Call

# A server that answers when it is told to; explanations of hits named after letters, whose scores are given.
BEGIN = """
    const asked = [];
    const open = new Map();
    window.fetch = (url, {body, signal}) => new Promise((resolve, reject) => {
        const {image} = JSON.parse(body);
        asked.push(image);
        signal.addEventListener("abort", () => {
            asked.push(`${image} given up`);
            reject(new DOMException("", "AbortError"));
        });
        open.set(image, (score) => resolve(new Response(JSON.stringify(
            {size: [10, 10], regions: [{box: [0, 0, 10, 10], level: 0, score}], parts: []}))));
    });
    const rest = () => new Promise((resolve) => setTimeout(resolve, 20));
    const {Explanations} = await import("/page/explanations.js");
    const hit = (image) => ({image, path: `/${image}.jpg`});
    const context = {gallery: "g", parts: [{image: "0123456789abcdef", box: null, weight: 1}]};
"""


def test_each_is_asked_for_once(evaluate: Call) -> None:
    asked, same = evaluate(f"""async () => {{ {BEGIN}
        const all = new Explanations(context, hit("a"));
        const both = [all.of(hit("a")), all.of(hit("a"))];
        await rest(); open.get("a")(0.5);
        const [one, other] = await Promise.all(both);
        await all.of(hit("a"));
        return [asked, one === other && all.known(hit("a")) === one];
    }}""")
    assert (asked, same) == (["a"], True)


def test_one_that_nobody_waits_for_is_given_up_and_may_be_asked_for_again(evaluate: Call) -> None:
    asked, error, still = evaluate(f"""async () => {{ {BEGIN}
        const all = new Explanations(context, hit("a"));
        const left = new AbortController();
        const leaving = all.of(hit("a"), left.signal).catch((error) => error.name);
        await rest(); left.abort();
        const error = await leaving;
        await rest();
        const again = all.of(hit("a")); await rest(); open.get("a")(0.5);
        return [asked, error, (await again).regions[0].score];
    }}""")
    assert (asked, error, still) == (["a", "a given up", "a"], "AbortError", 0.5)


def test_one_that_somebody_else_waits_for_goes_on(evaluate: Call) -> None:
    asked, score = evaluate(f"""async () => {{ {BEGIN}
        const all = new Explanations(context, hit("a"));
        const left = new AbortController();
        all.of(hit("a"), left.signal).catch(() => {{}});
        const staying = all.of(hit("a"));
        await rest(); left.abort(); await rest(); open.get("a")(0.25);
        return [asked, (await staying).regions[0].score];
    }}""")
    assert (asked, score) == (["a"], 0.25)


def test_the_scale_holds_the_best_hit_and_widens_for_all(evaluate: Call) -> None:
    asked, scales = evaluate(f"""async () => {{ {BEGIN}
        const all = new Explanations(context, hit("a"));
        const scales = [];
        all.onScale(() => scales.push([all.low, all.high].map((score) => Math.round(score * 10))));
        const weak = all.of(hit("b"));
        await rest(); open.get("b")(0.2); await rest(); open.get("a")(0.8);
        await weak;
        return [asked.sort(), scales];
    }}""")
    assert asked == ["a", "b"]
    assert scales == [[2, 2], [2, 8]]


def test_few_are_asked_for_at_a_time(evaluate: Call) -> None:
    first, then = evaluate(f"""async () => {{ {BEGIN}
        const all = new Explanations(context, undefined);
        "abcdef".split("").forEach((name) => all.of(hit(name)));
        await rest();
        const first = [...asked];
        open.get("b")(0.1); await rest();
        return [first, asked];
    }}""")
    assert (first, then) == (["a", "b", "c"], ["a", "b", "c", "d"])
