"""`patchwise serve` as a process of its own, and the gallery of scenes that it serves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from patchwise import Gallery
from patchwise.boxes import Box
from patchwise.demo.scenes import Objects, load_photographs, make_scenes, random_piece

START_SECONDS = 60
STOP_SECONDS = 40
QUERY_SIZE = (900, 600)
FOLDERS = ("attic", "cellar")
YEARS = (2018, 2024)  # of the scenes in them


class Server:
    """A running `patchwise serve`; `address` is that of its page, `work` is for what it says and keeps."""

    def __init__(self, work: Path, galleries: Sequence[Path], *options: str) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._log = work / f"server-{len(list(work.iterdir()))}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PATCHWISE_")}
        environment["PATCHWISE_CACHE"] = str(work / "cache")
        named = [part for folder in galleries for part in ("--gallery", str(folder))]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "patchwise", "serve", "--port", "0", *named, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=work,
                env=environment,
            )
        try:
            self.address = self._wait_for_address()
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def _wait_for_address(self) -> str:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            found = re.search(r"patchwise: (http://127\.0\.0\.1:\d+/)", self.said)
            if found:
                return found[1]
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"patchwise serve did not start:\n{self.said}")

    @property
    def said(self) -> str:
        """What it wrote to its output and error streams."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        """End it as a service manager does; returns its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


@dataclass(frozen=True)
class World:
    """Photographs hidden in scenes, indexed by the built-in encoder.

    `places` has the scenes that show an object, each with the box around it.
    """

    folder: Path
    gallery: Path
    objects: Objects
    places: dict[str, dict[Path, Box]]

    def copy(self, folder: Path) -> World:
        """The same gallery once more, over the same files: what is done to it stays there."""
        folder.mkdir(parents=True)
        target = folder / self.gallery.name
        shutil.copytree(self.gallery, target)
        return World(self.folder, target, self.objects, self.places)

    def query(self, file: Path, name: str) -> Box:
        """Write a photograph of an object before a wall; returns the box around the object."""
        wall = random_piece(self.objects.background[0], QUERY_SIZE, np.random.default_rng(7))
        thing = self.objects.queries[name]
        height = 320
        thing = thing.resize((round(thing.width * height / thing.height), height), Image.Resampling.LANCZOS)
        corner = (480, 160)
        wall.paste(thing, corner)
        wall.save(file, quality=92)
        return (corner[0], corner[1], corner[0] + thing.width, corner[1] + thing.height)


def make_world(folder: Path) -> World:
    """Thirty scenes in two folders, two of each object, with metadata: what is shown, and the year."""
    objects = load_photographs()
    scenes = make_scenes(folder / "made", objects, per_object=2, empty=16)
    rows = ["path,shows,year"]
    places: dict[str, dict[Path, Box]] = {}
    for number, scene in enumerate(scenes):
        home = folder / "scenes" / FOLDERS[number % 2]
        home.mkdir(parents=True, exist_ok=True)
        path = scene.path.rename(home / scene.path.name)
        rows.append(f"{path.relative_to(folder / 'scenes')},{scene.shows or ''},{YEARS[number % 2]}")
        if scene.shows is not None and scene.box is not None:
            places.setdefault(scene.shows, {})[path] = scene.box
    metadata = folder / "scenes.csv"
    metadata.write_text("\n".join(rows) + "\n", encoding="utf-8")
    with Gallery.create(folder / "scenes.pw") as gallery:
        gallery.add(folder / "scenes", metadata=metadata)
    return World(folder / "scenes", folder / "scenes.pw", objects, places)
