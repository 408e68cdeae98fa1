"""How many regions should go through a torch network at once on a processor?

A large batch keeps a GPU busy, but its activations do not fit in the caches of a processor. The batches take turns, so
that other work on the machine meets all alike.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from common import ROOT, SEED, report
from patchwise.encoders import load_encoder

NETWORKS = {"ViT-Ti/16": "vit_tiny_patch16_224", "ViT-S/16": "vit_small_patch16_224"}
BATCHES = (1, 2, 4, 8, 16, 32, 64)
REGIONS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests" / "shim"))  # where torchvision was built for another torch
    import sitecustomize  # noqa: F401
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(SEED)
    regions = np.random.default_rng(SEED).integers(0, 256, (REGIONS, 224, 224, 3), dtype=np.uint8)
    rows, details = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        for network, architecture in NETWORKS.items():
            weights = Path(temporary) / f"{architecture}.safetensors"
            save_file(timm.create_model(architecture, pretrained=False, num_classes=0).state_dict(), weights)
            encoder = load_encoder(f"timm:{architecture},weights={weights}", device="cpu")
            chosen, rates = encoder.batch_size, {batch: [] for batch in BATCHES}
            for _ in range(options.rounds):
                for batch in BATCHES:
                    encoder.batch_size = batch
                    began = time.perf_counter()
                    encoder.encode(regions)
                    rates[batch].append(REGIONS / (time.perf_counter() - began))
            best = max(statistics.median(one) for one in rates.values())
            rows.append(
                [f"{network} (ours: {chosen})", *(f"{statistics.median(rates[b]) / best:.2f}" for b in BATCHES)]
            )
            details[network] = {"chosen": chosen, "regions_per_second": rates}
    report(
        "batch_size",
        f"Regions per second by how many go through the network at once, on a CPU in fp32, as a share of the best; "
        f"median of {options.rounds} rounds of {REGIONS} regions.",
        ["network", *map(str, BATCHES)],
        rows,
        **details,
    )


if __name__ == "__main__":
    main()
