"""What does encoding with a torch backbone cost, against a plain loop over crops?

The plain loop opens each JPEG with Pillow, crops each region at full size, applies the model's own transform of the
timm library, and gives the network the regions of one image as one batch: what a careful script does. The encoder alone
gets regions cut beforehand, in batches of its own choice. The networks have random weights, which cost the same.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import DATA, ROOT, SEED, camera_photographs, photographs, report
from patchwise import Gallery
from patchwise.encoders import Encoder, load_encoder
from patchwise.images import cut_regions, read_picture
from patchwise.regions import View, parse_regions

NETWORKS = {
    "ViT-Ti/16": "vit_tiny_patch16_224",
    "ViT-S/16": "vit_small_patch16_224",
    "ViT-B/16": "vit_base_patch16_224",
}
REGIONS = "pyramid:3"


def plain_rate(model: Any, transform: Any, files: Sequence[Path], device: str) -> float:
    """Images per second of the plain loop."""
    import torch

    strategy = parse_regions(REGIONS)
    began = time.perf_counter()
    with torch.inference_mode():
        for path in files:
            image = Image.open(path).convert("RGB")
            boxes = strategy.regions(View(image.size)).boxes
            batch = torch.stack([transform(image.crop(tuple(np.rint(box).astype(int)))) for box in boxes])
            torch.nn.functional.normalize(model(batch.to(device)), dim=-1).cpu().numpy()
    return len(files) / (time.perf_counter() - began)


def alone_rate(encoder: Encoder, files: Sequence[Path]) -> float:
    """Images per second of the encoder on regions that are ready."""
    strategy = parse_regions(REGIONS)
    crops = []
    for path in files[:8]:
        picture = read_picture(path)
        boxes = strategy.regions(View(picture.size)).boxes
        crops.append(cut_regions(picture, boxes, encoder.input_size, encoder.resampling, encoder.fit))
    together = np.concatenate(crops)
    began = time.perf_counter()
    for first in range(0, len(together), encoder.batch_size):
        encoder.encode(together[first : first + encoder.batch_size])
    return len(crops) / (time.perf_counter() - began)


def indexing_rate(name: str, files: Sequence[Path], device: str) -> float:
    """Images per second from files to a stored gallery."""
    with (
        tempfile.TemporaryDirectory() as place,
        Gallery.create(Path(place) / "g.pw", encoder=name, regions=REGIONS, device=device) as gallery,
    ):
        gallery.encoder.encode(np.zeros((1, gallery.encoder.input_size, gallery.encoder.input_size, 3), np.uint8))
        done = gallery.add(*files)
        return done.added / done.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with logos/, subjects/")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests" / "shim"))  # where torchvision was built for another torch
    import sitecustomize  # noqa: F401
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(SEED)
    precision = "fp32" if options.device == "cpu" else "fp16"
    rows, details = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        camera = Path(temporary) / "camera"
        camera_photographs(photographs(options.data / "subjects"), camera, options.images)
        sources = {"12 megapixels": photographs(camera), "0.2 megapixels": photographs(options.data / "logos")}
        for network in options.networks:
            model = timm.create_model(NETWORKS[network], pretrained=False, num_classes=0).eval()
            weights = Path(temporary) / f"{NETWORKS[network]}.safetensors"
            save_file(model.state_dict(), weights)
            model.to(options.device, torch.float16 if precision == "fp16" else torch.float32)
            config = timm.data.resolve_model_data_config(model)
            transform = timm.data.create_transform(**{**config, "crop_mode": "squash", "crop_pct": 1.0})
            if precision == "fp16":
                transform.transforms.append(lambda tensor: tensor.half())
            name = f"timm:{NETWORKS[network]},weights={weights}"
            encoder = load_encoder(name, device=options.device)
            for pictures, files in sources.items():
                files = files[: options.images]
                plain, alone, whole = [], [], []
                for _ in range(options.rounds):
                    before = alone_rate(encoder, files)
                    plain.append(plain_rate(model, transform, files, options.device))
                    whole.append(indexing_rate(name, files, options.device))
                    alone.append((before + alone_rate(encoder, files)) / 2)
                gain = statistics.median(a / b for a, b in zip(whole, plain, strict=True))
                share = statistics.median(a / b for a, b in zip(whole, alone, strict=True))
                rows.append(
                    [
                        f"{network}, {pictures}",
                        f"{statistics.median(plain):.2f}",
                        f"{statistics.median(whole):.2f}",
                        f"{gain:.2f}",
                        f"{statistics.median(alone):.2f}",
                        f"{100 * share:.0f} %",
                    ]
                )
                details[f"{network}, {pictures}"] = {"plain": plain, "indexing": whole, "encoder_alone": alone}
    report(
        "backbones",
        f"Torch backbones, from JPEG files to a stored gallery ({REGIONS}, 30 regions per image), on {options.device} "
        f"in {precision}, against a plain loop over crops: images per second, median of {options.rounds} rounds.",
        ["network, pictures", "plain loop", "indexing", "times the plain loop", "encoder alone", "share of it"],
        rows,
        device=options.device,
        precision=precision,
        rates=details,
    )


if __name__ == "__main__":
    main()
