"""What does a second look by AMES cost: descriptors of a picture once, and pairs of query and hit at every search?

    python benchmarks/ames.py [--public CHECKOUT]

Networks have the sizes of the published ones and weights at random, which cost the same: how well AMES ranks cannot be
measured without the published weights. With `--public`, a checkout of github.com/pavelsuma/ames (c6af26e), its network
takes turns with ours on the same weights and descriptors.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from common import DATA, ROOT, SEED, peak_memory_mib, photographs, report, table
from patchwise.encoders import load_encoder
from patchwise.images import read_picture
from patchwise.rerank.ames import Ames, Attention, Describer, DescriptorSet, Matcher
from patchwise.rerank.ames.settings import AmesSettings

HITS = (100, 400, 1_000)
DIMENSION = 768
TOGETHER = (1, 2, 4, 8, 16, 32)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with subjects/")
    parser.add_argument("--public", type=Path, help="checkout of pavelsuma/ames")
    parser.add_argument("--public-hits", type=int, default=100, help="pairs that the public code is timed with")
    parser.add_argument("--pictures", type=int, default=2, help="photographs that descriptors are taken of")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests" / "shim"))  # where torchvision was built for another torch
    import sitecustomize  # noqa: F401

    usual, busy = AmesSettings(Path(), None), os.getloadavg()[0]
    torch.manual_seed(SEED)
    matcher = Matcher().eval().requires_grad_(False).to(options.device)
    torch.nn.init.trunc_normal_(matcher.mtc_token, std=0.02)
    ames = Ames(matcher, lambda _: None, lambda _: [])
    query = random_descriptors(usual.query_descriptors, 0)
    images = [random_descriptors(usual.image_descriptors, number) for number in range(1, max(HITS) + 1)]

    looked = extraction(options, usual)
    before = peak_memory_mib()
    ours = shortlists(ames, query, images, options.rounds)
    public = None
    if options.public is not None:
        public = against(options.public, matcher, ames, query, images[: options.public_hits], options.rounds)
    each = statistics.median(looked["seconds"])
    rows = [
        [
            f"{hits:,}",
            f"{statistics.median(ours[hits]):.1f}",
            f"{statistics.median(ours[hits]) / hits * 1000:.0f}",
            f"{statistics.median(public['public']):.1f}" if public and hits == options.public_hits else "",
            f"{(each * hits + statistics.median(ours[hits])) / 60:.0f}",
            f"{looked['bytes_kept'] * hits / 2**20:.1f}",
        ]
        for hits in HITS
    ]
    report(
        "ames",
        f"AMES on {options.device} with networks of the published sizes and random weights: {usual.query_descriptors} "
        f"descriptors of the query against {usual.image_descriptors} of each hit. Descriptors of a hit, once for every "
        f"image: {each:.1f} s (median of {len(looked['seconds'])} photographs at {usual.longer_side} pixels), which a "
        "first search spends on every hit before it is matched. Load of the machine when this began: "
        f"{busy:.1f} on {torch.get_num_threads()} processors.",
        ["hits", "matching, s", "ms a pair", "public code, s", "first search, min", "kept, MiB"],
        rows,
        device=options.device,
        load=[busy, *os.getloadavg()],
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        extraction=looked,
        matching=ours,
        public=public,
        pairs_together=together(matcher, query, images),
        peak_memory_mib={"after extraction": before, "after matching": peak_memory_mib()},
    )
    if public:
        print(f"logits of the public code differ by {public['largest_difference']:.1e} at most")


def random_descriptors(count: int, seed: int) -> DescriptorSet:
    features = np.random.default_rng((SEED, seed)).standard_normal((count, DIMENSION), dtype=np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return DescriptorSet(features, np.zeros((count, 2), dtype=np.float32), np.zeros(count, dtype=np.float32))


def extraction(options: argparse.Namespace, usual: AmesSettings) -> dict[str, Any]:
    """Seconds for each photograph, its decoding included, and the bytes that are kept of it."""
    import torch
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    files = photographs(options.data / "subjects")[: options.pictures]
    with tempfile.TemporaryDirectory() as temporary:
        network = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(patch_size=14, image_size=518))
        network.save_pretrained(temporary)
        (Path(temporary) / "preprocessor_config.json").write_text(PROCESSOR, encoding="utf-8")
        parameters = sum(each.numel() for each in network.parameters())
        del network
        backbone: Any = load_encoder(f"hf:{temporary}", device=options.device)
    describer = Describer(backbone, Attention(DIMENSION).eval().to(torch.device(options.device)))
    times, kept = [], 0
    for file in files:
        began = time.perf_counter()
        found = describer.describe(read_picture(file).pixels, usual.image_descriptors)
        times.append(time.perf_counter() - began)
        kept = sum(part.astype(np.float16).nbytes for part in found)
        print(f"descriptors of {file.name}: {times[-1]:.1f} s", file=sys.stderr)
    return {
        "seconds": times,
        "bytes_kept": kept,
        "parameters": parameters,
        "pictures": [file.name for file in files],
        "peak_memory_mib": peak_memory_mib(),
    }


PROCESSOR = (
    '{"image_processor_type": "BitImageProcessor", "image_mean": [0.485, 0.456, 0.406], '
    '"image_std": [0.229, 0.224, 0.225], "resample": 3, "size": {"shortest_edge": 256}, "do_center_crop": true, '
    '"crop_size": {"height": 224, "width": 224}}'
)


def against(
    checkout: Path, matcher: Matcher, ames: Ames, query: DescriptorSet, images: Sequence[DescriptorSet], rounds: int
) -> dict[str, Any]:
    """Seconds of the public code and ours in turns, and by how much their logits differ."""
    import torch

    sys.path.insert(0, str(checkout))
    from src.models.matcher import AMES  # type: ignore[import-not-found]

    public = AMES(None, DIMENSION, 128, 2, 5, 1_024, "relu", False, binarized=False)
    public.load_state_dict(matcher.state_dict(), strict=True)
    public.eval().to(matcher.mtc_token.device)
    asked = torch.from_numpy(query.features)[None]
    shown = torch.from_numpy(np.stack([each.features for each in images]))

    def logits() -> np.ndarray[Any, Any]:
        found = []
        with torch.inference_mode():
            for some in shown.split(ames.pairs_at_once):
                pairs = asked.expand(len(some), -1, -1)
                nothing = [torch.zeros(part.shape[:2], dtype=torch.bool) for part in (pairs, some)]
                inputs = (each.to(matcher.mtc_token.device) for each in (pairs, nothing[0], some, nothing[1]))
                found.append(public(*inputs).cpu())
        return torch.cat(found).numpy()

    times: dict[str, list[float]] = {"public": [], "ours": []}
    difference = 0.0
    for _ in range(rounds):
        theirs = logits_and_time(logits, times["public"])
        own = logits_and_time(lambda: ames.logits(query, images), times["ours"])
        difference = max(difference, float(np.abs(theirs - own).max()))
    return {**times, "pairs": len(images), "largest_difference": difference}


def logits_and_time(work: Callable[[], Any], times: list[float]) -> Any:
    began = time.perf_counter()
    found = work()
    times.append(time.perf_counter() - began)
    print(f"a shortlist matched: {times[-1]:.1f} s", file=sys.stderr)
    return found


def shortlists(
    ames: Ames, query: DescriptorSet, images: Sequence[DescriptorSet], rounds: int
) -> dict[int, list[float]]:
    """Seconds until so many pairs are done, in each round."""
    done: dict[int, list[float]] = {hits: [] for hits in HITS}
    for _ in range(rounds):
        parts: list[float] = []
        for first, hits in pairwise((0, *HITS)):
            logits_and_time(lambda part=images[first:hits]: ames.logits(query, part), parts)
            done[hits].append(sum(parts))
    return done


def together(matcher: Matcher, query: DescriptorSet, images: Sequence[DescriptorSet]) -> dict[str, float]:
    """Milliseconds a pair with so many of them going through the network at once, the quicker of two turns."""
    import torch

    device, best = matcher.mtc_token.device, dict.fromkeys(TOGETHER, float("inf"))
    asked = matcher.tokens(torch.from_numpy(query.features)[None].to(device))
    shown = torch.from_numpy(np.stack([each.features for each in images[: max(TOGETHER)]])).to(device)
    with torch.inference_mode():
        for _ in range(2):
            for count in TOGETHER:
                began, some = time.perf_counter(), shown[:count]
                pairs = asked.expand(count, -1, -1)
                nothing = [torch.zeros(part.shape[:2], dtype=torch.bool, device=device) for part in (pairs, some)]
                matcher.match(pairs, nothing[0], matcher.tokens(some), nothing[1]).cpu()
                best[count] = min(best[count], (time.perf_counter() - began) / count * 1000)
    print(*table(["pairs at once", "ms a pair"], [[count, f"{ms:.1f}"] for count, ms in best.items()]), sep="\n")
    return {str(count): ms for count, ms in best.items()}


if __name__ == "__main__":
    main()
