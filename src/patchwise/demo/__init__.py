"""The demonstration: photographs that come with scientific Python packages, hidden in cluttered scenes."""

from patchwise.demo.run import DemoResult, run_demo
from patchwise.demo.scenes import Scene, make_scenes

__all__ = ["DemoResult", "Scene", "make_scenes", "run_demo"]
