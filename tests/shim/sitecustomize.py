"""Lets torchvision be imported beside a torch whose libraries its compiled part was not built for.

The machines that run the tests have torch for the CPU and torchvision for CUDA. Then the compiled part of torchvision
does not load, and its import fails on operators that are not there. They are declared here, without any code behind
them: no test needs them. Python runs this module at its start where its folder is on PYTHONPATH, which reaches the
processes that tests start; nothing happens until torchvision is imported, or where its compiled part loads.
"""

from __future__ import annotations

import re
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

__all__ = ["install"]

_declared = []  # operators live as long as the library that declares them


def install() -> None:
    """Have operators declared when torchvision is imported; calling it again does nothing."""
    if not any(type(finder).__name__ == _Finder.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "torchvision":
            return None
        spec = PathFinder.find_spec(name)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        _declare_operators(Path(self.path).parent)
        super().exec_module(module)


def _declare_operators(folder: Path) -> None:
    import torch

    try:
        for compiled in folder.glob("_C.*"):
            torch.ops.load_library(compiled)
    except OSError:
        source = (folder / "_meta_registrations.py").read_text(encoding="utf-8")
        library = torch.library.Library("torchvision", "DEF")
        for name in sorted(set(re.findall(r'register_fake\("torchvision::(\w+)"', source))):
            library.define(f"{name}(Tensor x) -> Tensor")
        _declared.append(library)


install()
