"""A model hub on this machine: its cache laid out by hand, and a server that answers as much as a download asks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = hashlib.sha1(b"latest").hexdigest()
OLDER = hashlib.sha1(b"older").hexdigest()


def lay_out(
    cache: Path, repository: str, files: dict[str, bytes], commit: str = COMMIT, reference: str | None = "main"
) -> Path:
    """Put files into a cache as the hub does: blobs by digest, links to them in snapshots, names of commits in refs."""
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    (place / "blobs").mkdir(exist_ok=True)
    for name, content in files.items():
        blob = place / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(Path(*[".."] * (2 + name.count("/"))) / "blobs" / blob.name)
    if reference is not None:
        (place / "refs" / reference).parent.mkdir(parents=True, exist_ok=True)
        (place / "refs" / reference).write_text(commit)
    return snapshot


@dataclass
class FakeHub:
    """`files` by name, all at `COMMIT`; `refuses` is a status and a code that every question is answered with."""

    files: dict[str, bytes]
    refuses: tuple[int, str] | None = None
    repository: str = "owner/name"
    latest: str = COMMIT
    endpoint: str = ""
    downloaded: list[str] = field(default_factory=list)


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Run a server for a hub, on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            path = self.path.partition("?")[0]
            api = f"/api/models/{hub.repository}"
            resolve = f"/{hub.repository}/resolve/{COMMIT}/"
            if hub.refuses is not None:
                self.say(hub.refuses[0], b"{}", {"X-Error-Code": hub.refuses[1]})
            elif path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}", f"{api}/revision/v1"):
                commit = COMMIT if path.endswith((COMMIT, "v1")) else hub.latest
                self.say(200, json.dumps({"id": hub.repository, "sha": commit, "siblings": []}).encode())
            elif path.startswith(f"{api}/revision/"):
                self.say(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            elif path.startswith(f"{api}/tree/"):
                tree = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in hub.files.items()
                ]
                self.say(200, json.dumps(tree).encode())
            elif path.startswith(resolve) and path.removeprefix(resolve) in hub.files:
                content = hub.files[path.removeprefix(resolve)]
                if self.command == "GET":
                    hub.downloaded.append(path.removeprefix(resolve))
                etag = hashlib.sha1(content).hexdigest()
                self.say(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
            else:
                self.say(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def say(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
