"""Names of encoders: aliases, revisions, advice for what nearly works, families of other packages."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from patchwise.encoders import (
    canonical_id,
    encoder_families,
    list_families,
    list_known,
    load_backbone,
    load_encoder,
    registry,
    same_encoder,
)
from patchwise.encoders import overview as overview_module
from patchwise.encoders.known import KNOWN
from patchwise.encoders.registry import FAMILIES
from patchwise.errors import EncoderError


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("builtin", "builtin"),
        ("dinov2-s", "hf:facebook/dinov2-small"),
        (" dinov2-s ", "hf:facebook/dinov2-small"),
        ("dinov2-s,size=336", "hf:facebook/dinov2-small,size=336"),
        ("dinov2-s@4a0f3e1", "hf:facebook/dinov2-small@4a0f3e1"),
        ("dinov3-b", "timm:vit_base_patch16_dinov3.lvd1689m,pooling=cls"),
        ("dinov3-b,pooling=mean", "timm:vit_base_patch16_dinov3.lvd1689m,pooling=mean"),
        ("dinov3-b,encode=dense", "timm:vit_base_patch16_dinov3.lvd1689m,encode=dense"),
        ("dinov3-b,encode=regions", "timm:vit_base_patch16_dinov3.lvd1689m,pooling=cls"),
        (
            "dinov3-b@4a0f3e1,fit=pad,size=512",
            "timm:vit_base_patch16_dinov3.lvd1689m@4a0f3e1,size=512,fit=pad,pooling=cls",
        ),
        ("clip-b32,pooling=projection", "open_clip:ViT-B-32/openai,pooling=projection"),
        ("timm:any.tag", "timm:any.tag"),
    ],
)
def test_aliases_are_written_out(given: str, name: str) -> None:
    assert canonical_id(given) == name
    assert canonical_id(name) == name


def test_paths_are_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "nets").mkdir()
    for given in ("hf:nets", "hf:./nets", "hf:~/nets", "hf:../" + tmp_path.name + "/nets"):
        assert canonical_id(given + ",size=5") == f"hf:{tmp_path}/nets,size=5"
    assert canonical_id("onnx:./missing.onnx") == f"onnx:{tmp_path}/missing.onnx"


def test_a_folder_called_like_an_alias_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dinov2-s").mkdir()
    assert canonical_id("dinov2-s") == "hf:facebook/dinov2-small"


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("bultin", r"unknown; did you mean builtin\?"),
        ("dinov2_s", r"did you mean dinov2-s"),
        ("DINOv2-L,size=5", r"did you mean dinov2-l"),
        ("siglip2-so400", r"did you mean siglip2-so400m"),
        ("openclip:ViT-B-32/openai", r"did you mean open_clip:ViT-B-32/openai\?"),
        ("nobody:ViT-B-32/openai", r"unknown; names are"),
        (
            "quite another thing",
            r"unknown; names are those that `patchwise encoders` lists, or begin with builtin, hf,",
        ),
        ("", "unknown; names are"),
        (":", "unknown; names are"),
        ("facebook/dinov2-small", "a name on the hub needs its family before it: hf:facebook/dinov2-small$"),
        ("facebook/dinov2-small@main,size=5", "needs its family before it: hf:facebook/dinov2-small@main$"),
        ("https://huggingface.co/facebook/dinov2-small/", "before it: hf:facebook/dinov2-small$"),
        ("timm/vit_small.lvd142m", r"before it: timm:vit_small\.lvd142m$"),
        ("builtin@main", "did you mean builtin"),
        ("hf", "names nothing to load; expected hf:OWNER/NAME or hf:FOLDER"),
        ("open_clip:", "names nothing to load; expected open_clip:ARCH/TAG"),
        ("dinov2-s,siez=5", "unknown option 'siez'"),
    ],
)
def test_advice_for_names_that_do_not_work(given: str, advice: str) -> None:
    for use in (canonical_id, load_encoder, load_backbone, lambda name: same_encoder(name, "builtin")):
        with pytest.raises(EncoderError, match=advice):
            use(given)


def test_advice_names_a_form_that_is_understood() -> None:
    with pytest.raises(EncoderError) as raised:
        canonical_id("timm/vit_small_patch16_dinov3.lvd1689m")
    assert same_encoder(str(raised.value).rpartition(" ")[2] + ",pooling=cls", canonical_id("dinov3-s"))


@pytest.mark.parametrize(
    ("file", "content", "families"),
    [
        ("config.json", json.dumps({"model_type": "dinov2", "architectures": ["Dinov2Model"]}), ["hf"]),
        ("config.json", json.dumps({"architecture": "vit_tiny_patch16_224"}), ["timm"]),
        ("open_clip_config.json", "{}", ["open_clip"]),
        ("config.json", "{", ["hf", "timm", "open_clip"]),
        ("config.json", "5", ["hf"]),
        ("readme.txt", "", ["hf", "timm", "open_clip"]),
    ],
)
def test_advice_for_a_bare_folder(tmp_path: Path, file: str, content: str, families: list[str]) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(EncoderError, match="a path needs the family of its network before it") as raised:
        canonical_id(str(tmp_path))
    assert str(raised.value).endswith(": " + " or ".join(f"{family}:{tmp_path}" for family in families))


def test_advice_for_bare_files_and_folders_that_are_not_there() -> None:
    with pytest.raises(EncoderError, match=r"before it: onnx:\./net\.onnx$"):
        canonical_id("./net.onnx")
    with pytest.raises(EncoderError, match=r"before it: hf:/no/such or timm:/no/such or open_clip:/no/such$"):
        canonical_id("/no/such")


@pytest.mark.parametrize(
    ("given", "recorded", "same"),
    [
        ("builtin", "builtin", True),
        ("dinov2-s", "hf:facebook/dinov2-small@abc", True),
        ("hf:facebook/dinov2-small", "hf:facebook/dinov2-small@abc", True),
        ("dinov2-s@abc", "hf:facebook/dinov2-small@abc", True),
        ("dinov2-s@abd", "hf:facebook/dinov2-small@abc", False),
        ("dinov2-s@abc", "hf:facebook/dinov2-small", False),
        ("dinov2-s", "hf:facebook/dinov2-base@abc", False),
        ("dinov2-s,size=5,fit=pad", "hf:facebook/dinov2-small@abc,size=5,fit=pad", True),
        ("dinov2-s", "hf:facebook/dinov2-small@abc,size=5", False),
        ("dinov2-s,size=5", "hf:facebook/dinov2-small@abc", False),
        ("dinov2-s,encode=dense", "hf:facebook/dinov2-small@abc,encode=dense,picture_size=448", True),
        ("dinov2-s,encode=dense,picture_size=448", "hf:facebook/dinov2-small,encode=dense,picture_size=448", True),
        ("dinov2-s,encode=dense,picture_size=336", "hf:facebook/dinov2-small,encode=dense,picture_size=448", False),
        ("dinov2-s", "hf:facebook/dinov2-small@abc,encode=dense,picture_size=448", False),
        ("dinov3-s", "timm:vit_small_patch16_dinov3.lvd1689m@abc,pooling=cls", True),
        ("dinov3-s", "timm:vit_small_patch16_dinov3.lvd1689m@abc", False),
        ("timm:facebook/dinov2-small", "hf:facebook/dinov2-small", False),
        ("hf:/a@b", "hf:/a@b", True),
        ("hf:/a", "hf:/a@b", False),
        ("dinov2-s", "family-of-nobody:x", False),
        ("hf:a/b,fit=square,encode=regions", "hf:a/b", True),
        ("hf:a/b,encode=dense", "hf:a/b@123abc,encode=dense,picture_size=448", True),
        ("hf:a/b,encode=dense,picture_size=224", "hf:a/b,encode=dense,picture_size=448", False),
        ("hf:a/b", "hf:a/b,encode=dense,picture_size=448", False),
        ("hf:a/b@main", "hf:a/b@0123456789abcdef0123456789abcdef01234567", True),
        ("hf:a/b@0123456", "hf:a/b@0123456789abcdef0123456789abcdef01234567", True),
        ("hf:a/b@1123456", "hf:a/b@0123456789abcdef0123456789abcdef01234567", False),
        ("hf:a/c@main", "hf:a/b@0123456789abcdef0123456789abcdef01234567", False),
        ("hf:a/b,size=224", "hf:a/b@0123456", True),
        ("hf:a/b,size=225", "hf:a/b@0123456", False),
        ("hf:a/b", "hf:a/b@0123456,size=224", False),
    ],
)
def test_same_encoder(given: str, recorded: str, same: bool) -> None:
    assert same_encoder(given, recorded, input_size=224) is same


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_devices_that_no_encoder_knows(device: str) -> None:
    with pytest.raises(EncoderError, match="expected auto, cpu, cuda, cuda:NUMBER or mps"):
        load_encoder("builtin", device=device)


# Families of other packages: real distributions, found by their entry points.

PLUGIN = """
    import numpy as np
    from patchwise.encoders.registry import Shipped
    from patchwise.errors import EncoderError
    from patchwise.images import SQUARE

    class Flat:
        dimension, input_size, resampling, fit, batch_size, weights_sha256 = 12, 2, "bilinear", SQUARE, 8, "0" * 64

        def __init__(self, spec):
            self.id, self.device = str(spec), spec.device

        def encode(self, pixels):
            return pixels.reshape(len(pixels), -1).astype(np.float32)

    class Legless(Flat):
        encode = property()

    def good(spec):
        spec.allow(("size",))
        return Flat(spec)

    def shipped(spec):
        return Shipped(Flat(spec))

    def refuses(spec):
        raise EncoderError(f"encoder {spec}: no such colour")

    def fails(spec):
        raise KeyError("weights.bin")

    def nothing(spec):
        return None

    def misnamed(spec):
        found = Flat(spec)
        found.id = "flat"
        return found

    def lacking(spec):
        return Legless(spec)
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with a module `NAME_module` that declares encoder families."""

    def put(name: str, code: str = PLUGIN, **families: str) -> None:
        site = tmp_path / f"site-{name}"
        (site / f"{name}-1.5.dist-info").mkdir(parents=True)
        (site / f"{name}_module.py").write_text(dedent(code))
        (site / f"{name}-1.5.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        points = "".join(f"{family} = {target}\n" for family, target in families.items())
        (site / f"{name}-1.5.dist-info" / "entry_points.txt").write_text(f"[patchwise.encoders]\n{points}")
        monkeypatch.syspath_prepend(str(site))
        registry._plugged_in.cache_clear()

    yield put
    registry._plugged_in.cache_clear()
    for name in [name for name in sys.modules if name.endswith("_module")]:
        del sys.modules[name]


@pytest.mark.parametrize("function", ["good", "shipped"])
def test_a_plug_in_brings_a_family(install: Install, function: str) -> None:
    install("flats", flat=f"flats_module:{function}")
    assert "flat" in encoder_families()
    encoder = load_encoder("flat:red", device="cpu")
    assert (encoder.id, encoder.dimension, encoder.device) == ("flat:red", 12, "cpu")  # type: ignore[attr-defined]
    assert encoder.encode(np.ones((3, 2, 2, 3), np.uint8)).shape == (3, 12)
    backbone, prior = load_backbone("flat")
    assert (backbone.id, prior) == ("flat", None)


def test_a_plug_in_refuses_as_it_likes(install: Install) -> None:
    install("flats", flat="flats_module:refuses", other="flats_module:good")
    with pytest.raises(EncoderError, match=r"^encoder flat:red: no such colour$"):
        load_encoder("flat:red")
    with pytest.raises(EncoderError, match="'other' takes no option 'fit'"):
        load_encoder("other:red,fit=pad")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("flats_module:fails", "failed (KeyError: 'weights.bin')"),
        ("flats_module:nothing", "failed (AttributeError: 'NoneType' object has no attribute 'id')"),
        ("flats_module:missing", "failed (AttributeError: module 'flats_module' has no attribute 'missing')"),
        ("nowhere_module:load", "failed (ModuleNotFoundError: No module named 'nowhere_module')"),
        ("broken_module:load", "failed (SyntaxError: "),
        ("flats_module:misnamed", "loads is called 'flat' and not 'bad:red'"),
        ("flats_module:lacking", "loads has no encode"),
    ],
)
def test_a_broken_plug_in_is_one_line_and_hurts_no_other(install: Install, target: str, reason: str) -> None:
    install("flats", bad=target, flat="flats_module:good")
    install("broken", "def load(:")
    with pytest.raises(EncoderError) as raised:
        load_encoder("bad:red")
    message = str(raised.value)
    assert message.startswith("encoder bad:red: ") and f"plug-in {target} {reason}" in message
    assert load_encoder("flat:red").dimension == 12
    assert {"bad", "flat"} <= {family.name for family in list_families()}


def test_our_names_are_not_for_others_to_take(install: Install) -> None:
    install("taker", builtin="taker_module:good", hf="taker_module:good", mine="taker_module:good")
    assert load_encoder("builtin").dimension == 256
    assert registry.plugins() == {"mine": "taker 1.5"}


def test_the_first_of_two_packages_has_the_family(install: Install) -> None:
    install("second", flat="second_module:fails")
    install("first", flat="first_module:good")
    assert registry.plugins() == {"flat": "first 1.5"}
    assert load_encoder("flat:red").dimension == 12


# What is there, in one look.


def test_the_overview_of_known_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview_module, "is_cached", lambda repository: repository == KNOWN["dinov2-b"].repository)
    monkeypatch.setattr(overview_module, "find_spec", lambda name: None if name == "timm" else name)
    states = {one.encoder.alias: (one.weights, one.install) for one in list_known()}
    assert list(states) == list(KNOWN) and next(iter(states)) == "builtin"
    assert states["builtin"] == ("shipped", "")
    assert states["dinov2-s"] == ("to download", "")
    assert states["dinov2-b"] == ("here", "")
    assert states["dinov3-s"] == ("package missing", "pip install 'patchwise[timm]'")


def test_the_overview_of_families(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("flats", flat="flats_module:good", bad="nowhere:load")
    monkeypatch.setattr(overview_module, "find_spec", lambda name: None if name == "torch" else name)
    families = {family.name: family for family in list_families()}
    assert list(families) == ["builtin", "hf", "timm", "open_clip", "onnx", "bad", "flat"]
    assert families["flat"].plugin == "flats 1.5" and families["hf"].plugin == ""
    needing = {name for name, family in families.items() if family.install}
    assert needing == {"hf", "timm", "open_clip"}
    assert "flats_module" not in sys.modules


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.packages])
def test_what_is_to_be_installed_brings_what_is_missing(name: str) -> None:
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    brought = extras[FAMILIES[name].extra]
    brought = [line for one in brought for line in (extras["torch"] if one == "patchwise[torch]" else [one])]
    distributions = {re.split(r"[<>=;\[ ]", line)[0] for line in brought}
    assert distributions >= {{"open_clip": "open_clip_torch"}.get(one, one) for one in FAMILIES[name].packages}
