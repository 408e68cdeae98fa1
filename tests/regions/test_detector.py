"""Detectors from a folder: tiny networks with random weights, compared with transformers' own way of asking them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.boxes import clip_xyxy, iou_xyxy
from patchwise.errors import MissingExtra, RegionsError
from patchwise.regions import Detector, View, parse_regions

pytest.importorskip("torch", reason="detectors need patchwise[torch]")
pytest.importorskip("transformers", reason="detectors need patchwise[torch]")

SIZE = (150, 90)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """No progress bars and advice on stderr; one thread, since more wait for each other on a busy machine."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rt_detr() -> tuple[Any, Any]:
    import transformers as t
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

    backbone = t.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    configuration = t.RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=16,
        encoder_in_channels=[8, 16, 16],
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        num_queries=30,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        num_labels=3,
        hidden_expansion=1.0,
    )
    return t.RTDetrForObjectDetection(configuration), RTDetrImageProcessorPil(size={"height": 64, "width": 64})


def owlv2() -> tuple[Any, Any]:
    import transformers as t
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    configuration = t.Owlv2Config(
        text_config={**layers, "vocab_size": 99, "max_position_embeddings": 8},
        vision_config={**layers, "image_size": 64, "patch_size": 8},
        projection_dim=16,
    )
    return t.Owlv2ForObjectDetection(configuration), Owlv2ImageProcessorPil(size={"height": 64, "width": 64})


@pytest.fixture(scope="module", params=[rt_detr, owlv2], ids=lambda make: make.__name__)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.manual_seed(3)
    model, processor = request.param()
    with torch.no_grad():  # as it is made, a small network's boxes or scores are all alike
        for name, parameter in model.named_parameters():
            if request.param is rt_detr:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "head" in name:
                parameter.mul_(0.4)
    place = tmp_path_factory.mktemp(request.param.__name__)
    model.save_pretrained(place)
    processor.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def detector(folder: Path) -> Detector:
    return Detector.find(str(folder), 1000)


@pytest.fixture
def image() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (9, 15, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC)


def asked_directly(folder: Path, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """All boxes and scores by the network's ordinary call; OWLv2 gets a text, which must not matter."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForObjectDetection, Owlv2ForObjectDetection

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    inputs = processor(images=image, return_tensors="pt")
    with torch.no_grad():
        if folder.name.startswith("owlv2"):
            model = Owlv2ForObjectDetection.from_pretrained(folder).eval()
            outputs = model(input_ids=torch.tensor([[5, 6, 7]]), **inputs)
            scores = outputs.objectness_logits[0].sigmoid().numpy()
            centre, half = outputs.pred_boxes[0, :, :2].numpy(), outputs.pred_boxes[0, :, 2:].numpy() / 2
            return np.hstack([centre - half, centre + half]) * max(image.size), scores  # padded to a square
        outputs = AutoModelForObjectDetection.from_pretrained(folder).eval()(**inputs)
    scores = outputs.logits[0].sigmoid().amax(dim=-1).numpy()
    centre, half = outputs.pred_boxes[0, :, :2].numpy(), outputs.pred_boxes[0, :, 2:].numpy() / 2
    return np.hstack([centre - half, centre + half]) * (image.size * 2), scores


def test_boxes_are_the_best_of_the_network(detector: Detector, folder: Path, image: Image.Image) -> None:
    found = detector.regions(View(SIZE, "", image)).boxes
    boxes, scores = asked_directly(folder, image)
    boxes = clip_xyxy(boxes, SIZE)
    boxes, scores = boxes[(large := (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= SIZE[0] / 64)], scores[large]
    expected = [np.array([0.0, 0.0, *SIZE])]
    for index in np.argsort(-scores, kind="stable"):
        if iou_xyxy(boxes[index], np.array(expected)).max() < 0.7:
            expected.append(boxes[index])
    assert len(expected) > 10
    assert found[0].tolist() == [0, 0, *SIZE]
    np.testing.assert_allclose(found, np.array(expected), atol=0.05)


def test_boxes_are_in_pixels_of_the_original(detector: Detector, image: Image.Image) -> None:
    here = detector.regions(View(SIZE, "", image)).boxes
    larger = detector.regions(View((4 * SIZE[0], 4 * SIZE[1]), "", image)).boxes
    np.testing.assert_allclose(larger, 4 * here, rtol=1e-5)


def test_the_count_includes_the_whole_image(detector: Detector, image: Image.Image) -> None:
    view = View(SIZE, "", image)
    many = detector.regions(view)
    assert set(many.table["level"].tolist()) == {0, -1}
    for count in (1, 2, 4):
        strategy = replace(detector, count=count)
        assert strategy.typical_count == count
        np.testing.assert_array_equal(strategy.regions(view).boxes, many.boxes[:count])


def test_threads_take_turns(detector: Detector, image: Image.Image) -> None:
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(lambda _: detector.regions(View(SIZE, "", image)).boxes, range(8))
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_a_gallery_of_detected_boxes(folder: Path, tmp_path: Path, picture_folder: Path) -> None:
    with Gallery.create(tmp_path / "g", encoder=FakeEncoder(), regions=f"detector:{folder}:6") as gallery:
        assert gallery.add(picture_folder).added == 6
        assert gallery.verify().ok and 6 < gallery.info().regions <= 36
        assert gallery.search(make_picture(3), k=1)[0].path.endswith("03.png")


def test_the_name_reads_back_and_knows_the_weights(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "with: colon"
    shutil.copytree(folder, copy)
    strategy = parse_regions(f"detector:{copy}:20")
    assert isinstance(strategy, Detector) and strategy.name == f"detector:{copy}:20:sha256={strategy.digest}"
    assert parse_regions(strategy.name) == strategy
    assert parse_regions(f"detector:{folder}:20").name.endswith(strategy.digest)  # the content counts
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(RegionsError, match=r"holds another network .* Restore it .* new gallery"):
        parse_regions(strategy.name)


@pytest.mark.parametrize("content", ['{"model_type": "vit"}', '{"model_type": "no such"}', "{}", "not json"])
def test_a_network_of_another_kind(folder: Path, tmp_path: Path, image: Image.Image, content: str) -> None:
    copy = tmp_path / "other"
    shutil.copytree(folder, copy)
    (copy / "config.json").write_text(content)
    with pytest.raises(RegionsError, match="cannot be loaded as an object detector of transformers"):
        parse_regions(f"detector:{copy}:10").regions(View(SIZE, "", image))


def test_weights_that_do_not_fit_are_refused(folder: Path, tmp_path: Path, image: Image.Image) -> None:
    copy = tmp_path / "cut"
    shutil.copytree(folder, copy)
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(RegionsError, match="cannot be loaded"):
        parse_regions(f"detector:{copy}:10").regions(View(SIZE, "", image))


def test_it_needs_pixels(folder: Path) -> None:
    with pytest.raises(ValueError, match="needs the pixels"):
        parse_regions(f"detector:{folder}:10").regions(View(SIZE))


def test_without_transformers_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'patchwise\[torch\]'"):
        parse_regions(f"detector:{folder}:10")
