"""What the benchmarks of the server share: large galleries, a server in a process of its own, and a client."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from common import SEED, photographs
from patchwise import Gallery
from patchwise.regions import Pyramid, View
from patchwise.store import Encoded, Store

_PATIENCE = 120  # seconds until a server listens


def large_gallery(folder: Path, images: int, data: Path) -> Path:
    """A gallery in `folder`, made if it is not there: the photographs of `data`, and random vectors for the rest."""
    made = folder / f"{images}.pw"
    if made.exists():
        return made
    begun = folder / f"{images}.new"
    if begun.exists():
        raise SystemExit(f"{begun}: left by an interrupted run; delete it")
    real = photographs(data)
    print(f"indexing {len(real):,} photographs; adding vectors for {images:,} images", flush=True)
    with Gallery.create(begun) as gallery:
        gallery.add(data)
        known, dimension = len(gallery), gallery.encoder.dimension
    if known < 1:
        raise SystemExit(f"{data}: no photographs")
    generator = np.random.default_rng(SEED)
    regions = Pyramid(3).regions(View((1024, 768)))
    with Store(begun) as store, store.writer() as writer:
        for start in range(known, images, 1000):
            pictures = []
            for number in range(start, min(start + 1000, images)):
                vectors = generator.standard_normal((len(regions), dimension), dtype=np.float32)
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
                digest = number.to_bytes(16, "big")
                pictures.append(Encoded(f"/made-up/{number:06d}.jpg", 0, 0, digest, (1024, 768), regions, vectors))
            writer.add(pictures)
    begun.rename(made)
    return made


class Server:
    """`patchwise serve` in a process of its own, from `with` on; `address` is (host, port).

    Args:
        gallery: what it serves, under the name "load".
        cache: where query pictures are kept.
        options: further ones of the command.
    """

    def __init__(self, gallery: Path, cache: Path, options: Sequence[str] = ()) -> None:
        self._command = [sys.executable, "-m", "patchwise", "serve", "--gallery", f"load={gallery}", "--port", "0"]
        self._command += options
        self._environment = {**os.environ, "PATCHWISE_CACHE": str(cache)}
        self._log = gallery.parent / "server.log"

    def __enter__(self) -> Server:
        with self._log.open("w") as log:
            self.process = subprocess.Popen(self._command, env=self._environment, stderr=log)
        began = time.perf_counter()
        while (found := re.search(r"http://([\d.]+):(\d+)/", self._log.read_text())) is None:
            if self.process.poll() is not None or time.perf_counter() - began > _PATIENCE:
                self.process.kill()
                raise SystemExit(f"the server did not start:\n{self._log.read_text()}")
            time.sleep(0.02)
        self.address = (found[1], int(found[2]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    @property
    def url(self) -> str:
        """Where the page is."""
        return "http://{}:{}/".format(*self.address)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def memory_mib(self) -> float:
        """Its private memory now: anonymous pages, so that mapped files do not count."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
        raise SystemExit("this benchmark reads /proc/PID/status, which is found on Linux only")

    def cpu_seconds(self) -> float:
        """Processor time that it has taken so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Client:
    """One connection that stays open; takes a small fraction of a millisecond per request."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=120)

    def __call__(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, bytes]:
        """Status and body of the answer."""
        headers = {"Content-Type": kind} if kind else {}
        self._connection.request(method, f"/api/v1{path}", body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The answer, read; `body` is sent as JSON."""
        content = None if body is None else json.dumps(body).encode()
        status, answer = self(method, path, content, "application/json" if body is not None else "")
        if status >= 400:
            raise SystemExit(f"{method} {path}: {status} {answer.decode()}")
        return json.loads(answer)

    def upload(self, path: str, field: str, files: Sequence[bytes]) -> Any:
        """The answer to a form of JPEG files."""
        boundary = b"patchwise-benchmark-boundary"
        parts = [
            b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%d.jpg"\r\n'
            b"Content-Type: image/jpeg\r\n\r\n%s\r\n" % (boundary, field.encode(), number, content)
            for number, content in enumerate(files)
        ]
        body = b"".join(parts) + b"--%s--\r\n" % boundary
        status, answer = self("POST", path, body, f"multipart/form-data; boundary={boundary.decode()}")
        if status >= 400:
            raise SystemExit(f"POST {path}: {status} {answer.decode()}")
        return json.loads(answer)

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def client(server: Server) -> Iterator[Client]:
    """A client, closed in the end."""
    opened = Client(server.address)
    try:
        yield opened
    finally:
        opened.close()
