"""A script: the command line with small batches, commits and shards, so that a kill meets every kind of moment."""

from __future__ import annotations

import time
from typing import Any

from patchwise.encoders.builtin import BuiltinBackbone
from patchwise.indexing import run
from patchwise.store import shards


def slow(method: str, seconds: float) -> None:
    really = getattr(shards.Shards, method)

    def slowly(*arguments: Any) -> Any:
        time.sleep(seconds)
        answer = really(*arguments)
        time.sleep(seconds)
        return answer

    setattr(shards.Shards, method, slowly)


if __name__ == "__main__":
    from patchwise.cli import main

    BuiltinBackbone.batch_size = 10
    run._COMMIT_PICTURES = 2
    shards.SHARD_BYTES = 8 * 5 * 512  # eight pictures of five regions
    slow("append", 0.005)
    slow("remove", 0.01)
    main()
