"""Loading models of the transformers library: quietly, completely, from safetensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchwise.encoders.spec import EncoderSpec
from patchwise.encoders.vision_packages import OTHER_FORMATS, import_package, in_one_line, quiet
from patchwise.errors import EncoderError

__all__ = ["Library", "configuration_digest", "failures", "reason", "weight_files"]

_CONFIGURATION = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_UNUSED = "mask_token"  # only for training
# What a configuration says of its file, of classes to be told and of other uses of the model; no vector depends on it.
_NOT_COMPUTED = {
    "transformers_version",
    "architectures",
    "auto_map",
    "dtype",
    "torch_dtype",
    "id2label",
    "label2id",
    "problem_type",
    "stage_names",
    "out_features",
    "out_indices",
}


@dataclass(frozen=True)
class Library:
    """The transformers package as one encoder asks it."""

    spec: EncoderSpec
    package: Any

    @classmethod
    def find(cls, spec: EncoderSpec) -> Library:
        """Import transformers.

        Raises:
            MissingExtra: it is not installed.
            EncoderError: it does not go with another package here.
        """
        package = import_package(spec, "transformers", "torch")
        try:
            with quiet():
                _ = package.PreTrainedModel  # the package imports its parts when they are named
        except (ImportError, RuntimeError, OSError, AttributeError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            raise EncoderError(
                f"encoder {spec}: transformers {package.__version__} cannot be used ({in_one_line(cause)}). Most often "
                "torchvision was built for another torch than the one installed: install both again together, from "
                "the same source, or uninstall torchvision"
            ) from error
        return cls(spec, package)

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """None of its reports, progress bars and warnings, and afterwards all is as it was."""
        logging = self.package.utils.logging
        level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            with quiet():
                yield
        finally:
            logging.set_verbosity(level)
            if bars:
                logging.enable_progress_bar()

    def configuration(self, folder: Path) -> Any:
        """The configuration of a checkpoint.

        Raises:
            EncoderError: there is none, or of no model that this version of transformers knows.
        """
        file = folder / _CONFIGURATION
        try:
            written = json.loads(file.read_text(encoding="utf-8"))
            kind = written.get("model_type")
        except FileNotFoundError as error:
            raise EncoderError(
                f"{folder}: no {_CONFIGURATION} there, so it is no checkpoint of transformers"
            ) from error
        except (OSError, ValueError, AttributeError) as error:
            raise EncoderError(f"{file}: cannot be read ({in_one_line(error)})") from error
        if kind is None and "architecture" in written:
            raise EncoderError(f"{file}: written by timm; say timm:{self.spec.reference}")
        if kind not in self.package.CONFIG_MAPPING:
            own_code = " It brings its own code, which patchwise never runs." if "auto_map" in written else ""
            raise EncoderError(
                f"{file}: transformers {self.package.__version__} knows no model_type {kind!r}.{own_code} A newer "
                "transformers may know it: pip install -U transformers"
            )
        try:
            with self.quietly():
                return self.package.AutoConfig.from_pretrained(
                    str(folder), local_files_only=True, trust_remote_code=False
                )
        except failures() as error:
            raise EncoderError(f"{file}: cannot be read as {kind!r} ({reason(error)})") from error

    def model(self, folder: Path, family: Any, configuration: Any) -> tuple[Any, list[str]]:
        """A model with its weights in fp32, and the names of weights that the checkpoint does not hold.

        Raises:
            EncoderError: a file is damaged or does not fit the configuration.
        """
        import torch

        if (folder / "adapter_config.json").is_file():
            raise EncoderError(f"{folder}: an adapter for another checkpoint; merge the two and name the result")
        files = weight_files(folder)
        try:
            with self.quietly():
                loaded, found = family.from_pretrained(
                    str(folder),
                    config=configuration,
                    local_files_only=True,
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                    dtype=torch.float32,
                )
        except failures() as error:
            raise EncoderError(
                f"{files[0]}: cannot be loaded as {family.__name__} of transformers {self.package.__version__} "
                f"({in_one_line(error)})"
            ) from error
        for name, held, wanted in sorted(found["mismatched_keys"]):
            raise EncoderError(
                f"{files[0]}: {name} is of shape {tuple(held)}, and {_CONFIGURATION} asks for {tuple(wanted)}; one of "
                "the two belongs to another model"
            )
        return loaded, sorted(name for name in found["missing_keys"] if _UNUSED not in name)

    def refuse_missing(self, folder: Path, family: Any, missing: list[str]) -> None:
        """Weights that are not there would be drawn at random.

        Raises:
            EncoderError: there are such.
        """
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise EncoderError(
                f"{folder}: its weights lack {', '.join(missing[:3])}{more}, which {family.__name__} needs; the file "
                "belongs to another model, or only a part of one was saved"
            )


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads: the single one, otherwise the shards that the index names.

    Raises:
        EncoderError: there are none, or a shard is missing.
    """
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    index = folder / _INDEX
    try:
        shards = sorted(
            {folder / name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        )
    except FileNotFoundError as error:
        raise EncoderError(f"{folder}: no {_WEIGHTS} there; {OTHER_FORMATS}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(f"{index}: cannot be read ({in_one_line(error)})") from error
    for shard in shards:
        if not shard.is_file():
            raise EncoderError(f"{shard}: missing, and {index.name} names it; copy or download the checkpoint again")
    return shards


def configuration_digest(configuration: Any) -> bytes:
    """What of a model's configuration decides its vectors, as sorted JSON.

    What is as usual for the kind of model is left out, whether it is written or not, because another version of
    transformers knows more settings, and writes others of them.
    """
    usual = type(configuration)().to_dict()
    decides = {
        name: value
        for name, value in configuration.to_dict().items()
        if not name.startswith("_") and name not in _NOT_COMPUTED and (name not in usual or usual[name] != value)
    }
    return json.dumps([configuration.model_type, decides], sort_keys=True, default=str).encode()


def failures() -> tuple[type[Exception], ...]:
    """What transformers raises for files that are damaged, foreign or contradict each other."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    known = (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError, ImportError, ZeroDivisionError)
    return (*known, SafetensorError, StrictDataclassError)


def reason(error: Exception) -> str:
    """What transformers says, or that the checkpoint wants its own code run, which the user cannot allow here."""
    if "trust_remote_code" in str(error):
        return "it brings its own code, which patchwise never runs"
    return in_one_line(error)
