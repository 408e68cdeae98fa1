"""The gallery directory: what may be created where, what opens, and who may write."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from patchwise.errors import (
    GalleryBusy,
    GalleryDamaged,
    GalleryError,
    GalleryExists,
    GalleryMismatch,
    GalleryNotFound,
    StorageFull,
)
from patchwise.store import Encoded, Manifest, Snapshot, Store, Writer
from patchwise.store import store as store_module
from patchwise.store.catalogue import CATALOGUE
from patchwise.store.database import SCHEMA_VERSION
from patchwise.store.manifest import MANIFEST
from patchwise.store.shards import VECTORS
from store.conftest import make_encoded
from store.test_catalogue import as_schema

Contents = Callable[[Store], dict[str, tuple[bytes, bytes]]]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@contextmanager
def another_process(code: str, *arguments: object) -> Iterator[Callable[[], str]]:
    """Run Python elsewhere; each call of the function yielded lets it run to its next `wait()` or its end."""
    helper = "import sys\ndef wait(word='ready'):\n    print(word, flush=True)\n    sys.stdin.readline()\n"
    process = subprocess.Popen(
        [sys.executable, "-c", helper + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    begun = False

    def proceed() -> str:
        nonlocal begun
        if begun:
            stdin.write("\n")
            stdin.flush()
        begun = True
        return stdout.readline().strip()

    try:
        yield proceed
        _, errors = process.communicate("\n" * 9, timeout=30)
        assert process.returncode == 0, errors
    finally:
        process.kill()
        process.communicate()


HOLD = "from pathlib import Path; from patchwise.store import Store\nstore = Store(Path(sys.argv[1]))\n"


# Creating


def test_a_new_store_is_empty_and_opens_again(tmp_path: Path, manifest: Manifest) -> None:
    folder = tmp_path / "deep" / "er" / "g"
    with Store.create(folder, manifest) as made:
        assert made.catalogue.counts()["images"] == 0
        assert len(made.snapshot()) == 0
    with Store(folder) as opened:
        assert opened.manifest == manifest
        assert opened.verify().problems == []


def test_an_empty_folder_becomes_a_gallery(tmp_path: Path, manifest: Manifest) -> None:
    Store.create(tmp_path, manifest).close()
    Store(tmp_path).close()


@pytest.mark.parametrize("what", ["gallery", "file", "folder", "pictures in vectors", "pictures in compressed"])
def test_nothing_that_is_there_is_overwritten(
    tmp_path: Path, manifest: Manifest, encoded: Callable[..., Encoded], what: str
) -> None:
    folder = tmp_path / "g"
    if what == "gallery":
        with Store.create(folder, manifest) as made, made.writer() as writer:
            writer.add([encoded("/a", 1)])
    elif what == "file":
        folder.write_text("mine")
    else:
        place = folder / what.removeprefix("pictures in ") if what.startswith("pictures in ") else folder
        place.mkdir(parents=True)
        (place / "mine.txt").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(GalleryExists, match=str(folder)) as raised:
        Store.create(folder, Manifest(manifest.encoder, "whole", "shipped", "later", "9"))
    assert "--gallery" in str(raised.value)
    assert ("not a gallery" in str(raised.value)) == (what != "gallery")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_half_made_gallery_is_finished_by_making_it_again(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Creation killed after making the folder, after the catalogue, or while the manifest was written."""
    folder = tmp_path / "g"

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    target = ("patchwise.store.store.Catalogue", "patchwise.store.store.Manifest.write", "pathlib.Path.replace")
    monkeypatch.setattr(target[steps - 1], killed)
    with pytest.raises(KeyboardInterrupt):
        Store.create(folder, manifest)
    monkeypatch.undo()
    with pytest.raises(GalleryNotFound, match=r"begun here but never finished\. Run: patchwise index") as raised:
        Store(folder)
    assert f"--gallery {folder}" in str(raised.value)
    Store.create(folder, manifest).close()
    with Store(folder) as opened:
        assert opened.verify().problems == []


def test_a_place_where_nothing_can_be_made_is_explained(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFull, match="a gallery cannot be made here"):
        Store.create(tmp_path / "file" / "g", manifest)


def test_of_two_that_create_at_once_one_wins(tmp_path: Path, manifest: Manifest) -> None:
    """The loser must not replace the winner's manifest by its own."""
    folder = tmp_path / "g"
    code = HOLD.partition("store =")[0] + (
        "from patchwise.store import Manifest; from patchwise.errors import GalleryError\n"
        "manifest = Manifest({'id': sys.argv[2], 'dimension': int(sys.argv[2])}, 'whole', 'shipped', '', '')\n"
        "wait()\n"
        "try: Store.create(Path(sys.argv[1]), manifest).close(); wait('made')\n"
        "except GalleryError as error: wait(type(error).__name__)"
    )
    with another_process(code, folder, 1) as one, another_process(code, folder, 2) as two:
        assert one() == two() == "ready"
        answers: dict[int, str] = {}
        threads = [
            threading.Thread(target=lambda number=number, ask=ask: answers.update({number: ask()}))
            for number, ask in ((1, one), (2, two))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [number for number, answer in answers.items() if answer == "made"]
        assert len(winners) == 1, answers
        assert set(answers.values()) <= {"made", "GalleryExists", "GalleryBusy"}
        with Store(folder) as opened:
            assert opened.manifest.dimension == winners[0]


def test_a_gallery_made_just_before_the_lock_was_taken_is_kept(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, quicker = store_module._exclusive, [Manifest(manifest.encoder, "whole", "shipped", "first", "1")]

    def late(folder: Path) -> Any:
        if quicker:
            Store.create(folder, quicker.pop()).close()
        return really(folder)

    monkeypatch.setattr(store_module, "_exclusive", late)
    with pytest.raises(GalleryExists, match="a gallery is already there"):
        Store.create(tmp_path / "g", manifest)
    assert Manifest.read(tmp_path / "g").created == "first"


# Opening


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(GalleryNotFound, match="no gallery here") as raised:
        Store(tmp_path / "g")
    assert f"patchwise index FOLDER --gallery {tmp_path / 'g'}" in str(raised.value)


def test_something_else_there(tmp_path: Path) -> None:
    with pytest.raises(GalleryNotFound, match="not a gallery"):
        Store(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(GalleryNotFound, match="not a gallery"):
        Store(tmp_path / "file")


def test_a_missing_manifest(filled: Store) -> None:
    filled.close()
    (filled.folder / MANIFEST).unlink()
    with pytest.raises(GalleryDamaged, match=r"manifest\.json: missing"):
        Store(filled.folder)


def test_a_garbled_manifest(filled: Store) -> None:
    filled.close()
    (filled.folder / MANIFEST).write_text("{}")
    with pytest.raises(GalleryDamaged, match="not a readable manifest"):
        Store(filled.folder)


def test_a_missing_catalogue(filled: Store) -> None:
    filled.close()
    (filled.folder / CATALOGUE).unlink()
    with pytest.raises(GalleryDamaged, match=rf"{CATALOGUE}: missing"):
        Store(filled.folder)


def test_a_garbage_catalogue(filled: Store) -> None:
    filled.close()
    (filled.folder / CATALOGUE).write_bytes(b"garbage" * 1000)
    with pytest.raises(GalleryDamaged, match="not a usable catalogue"):
        Store(filled.folder)


def test_a_newer_schema(filled: Store) -> None:
    filled.close()
    connection = sqlite3.connect(filled.folder / CATALOGUE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(GalleryMismatch, match="pip install -U patchwise"):
        Store(filled.folder)


def test_a_moved_gallery_still_opens(filled: Store, tmp_path: Path, contents: Contents) -> None:
    before = contents(filled)
    filled.close()
    shutil.move(filled.folder, tmp_path / "moved ü\n")
    with Store(tmp_path / "moved ü\n") as opened:
        assert contents(opened) == before


def test_a_copy_of_the_files_alone_is_a_gallery(filled: Store, tmp_path: Path, contents: Contents) -> None:
    before = contents(filled)
    filled.close()
    shutil.copytree(filled.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("lock", "writer.pid"))
    with Store(tmp_path / "copy") as opened:
        assert contents(opened) == before
        assert opened.verify().problems == []


# One writer


def test_one_writer_at_a_time_across_processes(filled: Store) -> None:
    with another_process(HOLD + "with store.writer(): wait(str(__import__('os').getpid()))", filled.folder) as proceed:
        pid = proceed()
        with pytest.raises(GalleryBusy, match=rf"process {pid}\)") as raised, filled.writer():
            pass
        assert str(filled.folder) in str(raised.value)
        with pytest.raises(GalleryBusy):
            filled.verify(repair=True)
        assert filled.verify().problems == []
    with filled.writer():
        pass


def test_a_killed_writer_leaves_the_lock_free(filled: Store) -> None:
    code = HOLD + "import os\nwith store.writer(): wait(); os.kill(os.getpid(), 9)"
    with pytest.raises(AssertionError), another_process(code, filled.folder) as proceed:
        assert proceed() == "ready"
    with filled.writer():
        pass


def test_one_writer_at_a_time_among_threads(filled: Store) -> None:
    outcomes: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with filled.writer():
            inside.set()
            leave.wait(10)
        outcomes.append("done")

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    for store in (filled, Store(filled.folder)):
        with pytest.raises(GalleryBusy, match=rf"process {os.getpid()}\)"), store.writer():
            pass
        if store is not filled:
            store.close()
    leave.set()
    thread.join()
    assert outcomes == ["done"]
    with filled.writer(), pytest.raises(GalleryBusy), filled.writer():
        pass
    with filled.writer():
        pass


def test_a_single_step_joins_the_writer_of_another_thread(filled: Store) -> None:
    path = next(iter(filled.catalogue.known()))
    with filled.writer() as at_work:
        joined: list[object] = []

        def step() -> None:
            with filled.joining_writer() as writer:
                joined.append(writer)
                writer.record(forgotten=[path])

        thread = threading.Thread(target=step)
        thread.start()
        thread.join(20)
        assert joined == [at_work]
        assert path not in filled.catalogue.known()
    with filled.joining_writer() as alone:
        assert alone is not at_work
        with pytest.raises(GalleryBusy), filled.writer():
            pass


def test_a_writer_ends_only_after_the_step_that_joined_it(filled: Store) -> None:
    inside, done = threading.Event(), threading.Event()
    order: list[str] = []

    def step() -> None:
        with filled.joining_writer():
            inside.set()
            done.wait(20)
            order.append("step")

    with filled.writer():
        thread = threading.Thread(target=step)
        thread.start()
        assert inside.wait(20)
        threading.Timer(0.2, done.set).start()
    order.append("writer")
    thread.join(20)
    assert order == ["step", "writer"]


@pytest.mark.parametrize("moment", ["beginning", "end"])
def test_a_step_while_a_writer_begins_or_ends(filled: Store, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """It waits for the beginning and joins the end: neither is a moment at which the gallery is somebody else's."""
    inside, go = threading.Event(), threading.Event()
    target, name = (filled.shards, "check") if moment == "beginning" else (filled.catalogue, "tidy")
    original = getattr(target, name)

    def slowly(*arguments: object) -> None:
        original(*arguments)
        if not inside.is_set():
            inside.set()
            assert go.wait(20)

    monkeypatch.setattr(target, name, slowly)
    forgotten: list[str] = []

    def long_run() -> None:
        with filled.writer():
            pass

    def step() -> None:
        with filled.joining_writer() as writer:
            path = next(iter(writer.catalogue.known()))
            writer.record(forgotten=[path])
            forgotten.append(path)

    with ThreadPoolExecutor(2) as threads:
        run = threads.submit(long_run)
        assert inside.wait(20)
        stepping = threads.submit(step)
        threading.Timer(0.2, go.set).start()
        stepping.result(20)
        run.result(20)
    assert forgotten[0] not in filled.catalogue.known()
    with filled.writer():
        pass


def test_a_long_run_waits_for_a_step_but_not_for_another_long_run(filled: Store) -> None:
    inside, go = threading.Event(), threading.Event()

    def hold(begin: Callable[[], AbstractContextManager[Writer]]) -> None:
        with begin():
            inside.set()
            assert go.wait(20)

    def run() -> None:
        with filled.writer():
            pass

    with ThreadPoolExecutor(2) as threads:
        step = threads.submit(hold, filled.joining_writer)
        assert inside.wait(20)
        waiting = threads.submit(run)
        assert not wait([waiting], 0.2).done
        go.set()
        step.result(20)
        waiting.result(20)

        inside.clear()
        go.clear()
        first = threads.submit(hold, filled.writer)
        assert inside.wait(20)
        with pytest.raises(GalleryBusy):
            threads.submit(run).result(20)
        go.set()
        first.result(20)


def test_a_writer_that_cannot_begin_lets_go(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object) -> None:
        raise GalleryDamaged("a shard is missing")

    with monkeypatch.context() as during:
        during.setattr(filled.shards, "check", damaged)
        for begin in (filled.writer, filled.joining_writer):
            with pytest.raises(GalleryDamaged, match="a shard is missing"), begin():
                pass
    with filled.writer() as at_work, filled.joining_writer() as joined:
        assert joined is at_work


@pytest.mark.parametrize("durable", [False, True])
def test_a_store_is_closed_between_the_transactions_of_other_threads(filled: Store, durable: bool) -> None:
    inside, go = threading.Event(), threading.Event()
    order: list[str] = []

    def change() -> None:
        with filled.catalogue.transaction(durable=durable):
            inside.set()
            assert go.wait(20)
            filled.catalogue.forget(next(iter(filled.catalogue.known())))
            order.append("changed")

    def close() -> None:
        filled.close()
        order.append("closed")

    before = len(filled.catalogue.known())
    threads = [threading.Thread(target=change), threading.Thread(target=close)]
    threads[0].start()
    assert inside.wait(20)
    threads[1].start()
    threads[1].join(0.2)
    go.set()
    for thread in threads:
        thread.join(20)
    assert order == ["changed", "closed"]
    with Store(filled.folder) as again:
        assert len(again.catalogue.known()) == before - 1


@pytest.mark.parametrize("durable", [False, True])
def test_what_goes_on_after_closing_says_so(filled: Store, durable: bool) -> None:
    filled.close()
    with pytest.raises(GalleryError, match="the gallery is closed") as raised, filled.writer():
        pass
    assert type(raised.value) is GalleryError
    for use in (filled.snapshot, filled.catalogue.known, filled.catalogue.data_version, filled.catalogue.tidy):
        with pytest.raises(GalleryError, match="the gallery is closed"):
            use()
    with pytest.raises(GalleryError, match="closed"), filled.catalogue.transaction(durable=durable):
        pass
    again = Store(filled.folder)
    with pytest.raises(GalleryError, match="closed"), again.catalogue.transaction(durable=durable):
        again.close()


def test_a_mistake_in_the_program_is_no_damage(filled: Store) -> None:
    with pytest.raises(sqlite3.ProgrammingError):
        filled.catalogue._all("SELECT ?", ())


def test_the_lock_is_free_again_after_an_error(filled: Store) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError), filled.writer():
            raise RuntimeError


def test_a_full_disk_does_not_keep_the_lock(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is writing is only a courtesy: where it cannot be noted, work goes on."""

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with filled.writer():
        pass


def test_a_writer_refuses_a_broken_shard(filled: Store) -> None:
    (filled.folder / VECTORS / "000001.f16").unlink()
    with pytest.raises(GalleryDamaged, match="vector shard is missing"), filled.writer():
        pass
    with pytest.raises(GalleryDamaged, match="vector shard is missing"):
        filled.snapshot()
    with pytest.raises(GalleryDamaged, match="vector shard is missing"), filled.writer():
        pass  # not "busy": the lock was given back


# Readers


def test_readers_are_not_blocked_by_a_writer(
    filled: Store, encoded: Callable[..., Encoded], contents: Contents
) -> None:
    before = contents(filled)
    with filled.writer() as writer, writer.catalogue.transaction():
        writer.catalogue.forget("/p/0")
        with Store(filled.folder) as reader:  # in the middle of a transaction
            assert contents(reader) == before
            assert reader.verify().problems == []
    with Store(filled.folder) as reader:
        assert contents(reader) == {path: held for path, held in before.items() if path != "/p/0"}


def test_a_reader_in_another_process_sees_new_commits(filled: Store, encoded: Callable[..., Encoded]) -> None:
    code = HOLD + "for _ in range(3): wait(f'{len(store.snapshot())} {store.catalogue.data_version()[0]}')"
    with another_process(code, filled.folder) as proceed:
        first = proceed()
        assert first.split()[0] == "6"
        assert proceed() == first
        with filled.writer() as writer:
            writer.add([encoded("/p/9", 9)])
        last = proceed()
        assert last.split()[0] == "7" and last.split()[1] != first.split()[1]


def test_a_snapshot_outlives_a_compaction_elsewhere(filled: Store, contents: Contents) -> None:
    snapshot = filled.snapshot()
    before = [(snapshot.vectors(index).tobytes(), snapshot.regions(index).table.tobytes()) for index in range(6)]
    compact = HOLD + "with store.writer() as writer: writer.record(forgotten=['/p/1', '/p/4']); print(writer.compact())"
    with another_process(compact, filled.folder) as proceed:
        assert proceed() == "10"
    assert not (filled.folder / VECTORS / "000001.f16").exists()
    after = [(snapshot.vectors(index).tobytes(), snapshot.regions(index).table.tobytes()) for index in range(6)]
    assert after == before
    assert [path for path, _ in snapshot.paths(range(6))] == ["/p/0", "/p/2", "/p/3", "/p/5"]
    assert list(contents(filled)) == ["/p/0", "/p/2", "/p/3", "/p/5"]


@pytest.mark.parametrize("moment", ["before the check", "before the mapping"])
def test_a_shard_compacted_away_while_a_snapshot_is_taken_is_no_damage(
    filled: Store, monkeypatch: pytest.MonkeyPatch, contents: Contents, moment: str
) -> None:
    """The catalogue was read, then another process compacted: the reader looks again."""
    before = contents(filled)
    method = "check" if moment == "before the check" else "vectors"
    really = getattr(filled.shards, method)
    calls = 0

    def late(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            with Store(filled.folder) as other, other.writer() as writer:
                writer.record(forgotten=["/p/2"])
                writer.compact()
        return really(*arguments)

    monkeypatch.setattr(filled.shards, method, late)
    assert contents(filled) == {path: held for path, held in before.items() if path != "/p/2"}
    assert calls == 2


def test_a_snapshot_of_a_shard_that_is_really_gone_is_damage(filled: Store) -> None:
    for path in (filled.folder / VECTORS).iterdir():
        path.unlink()
    with pytest.raises(GalleryDamaged):
        Snapshot(filled.catalogue, filled.shards)
    with pytest.raises(GalleryDamaged):
        filled.snapshot()


# Without the right to write, or to read


def test_a_gallery_without_write_permission_can_be_read_but_not_written(filled: Store, unprivileged: Run) -> None:
    filled.close()
    folders = (filled.folder, filled.folder / VECTORS)
    for folder in folders:
        folder.chmod(0o555)
    code = HOLD.replace("store =", "import json\nstore =", 1) + (
        "from patchwise.errors import PatchwiseError\n"
        "print(json.dumps([len(store.snapshot()), store.verify().problems]))\n"
        "try:\n    with store.writer() as writer: writer.record(forgotten=['/p/1'])\n"
        "except PatchwiseError as error: print(type(error).__name__, error)"
    )
    done = unprivileged("-c", "import sys\n" + code, filled.folder)
    for folder in folders:
        folder.chmod(0o755)
    assert done.stderr == ""
    numbers, refusal = done.stdout.splitlines()
    assert json.loads(numbers) == [6, []]
    assert refusal.startswith(f"StorageFull {filled.folder}") and "cannot be written to" in refusal


def test_a_reader_without_write_permission_sees_what_a_writer_has_committed(
    filled: Store, encoded: Callable[..., Encoded], unprivileged: Run
) -> None:
    """New commits live in the write-ahead log until the writer closes; they count all the same."""
    with filled.writer() as writer:
        writer.add([encoded("/p/9", 9)])
    filled.folder.chmod(0o555)
    code = "import sys\n" + HOLD + "print(len(store.snapshot()), '/p/9' in store.catalogue.known())"
    done = unprivileged("-c", code, filled.folder)
    filled.folder.chmod(0o755)
    assert (done.stdout, done.stderr) == ("7 True\n", "")


@pytest.mark.parametrize("readonly", ["folder", "catalogue"])
def test_a_gallery_of_the_first_schema_is_read_where_it_may_not_be_migrated(
    filled: Store, contents: Contents, unprivileged: Run, readonly: str
) -> None:
    held = contents(filled)
    filled.close()
    as_schema(1, filled.folder)
    places = [filled.folder, filled.folder / VECTORS] if readonly == "folder" else [filled.folder / CATALOGUE]
    modes = {place: place.stat().st_mode for place in places}
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    code = HOLD + (
        "from patchwise.errors import StorageFull\n"
        "snapshot = store.snapshot()\n"
        "print(len(snapshot), snapshot.gather(__import__('numpy').arange(snapshot.rows)).tobytes().hex())\n"
        "print(store.verify().problems, store.catalogue.schema_version(), store.kept_codec())\n"
        "try:\n    with store.writer() as writer: writer.record(forgotten=['/p/1'])\n"
        "except StorageFull as error: print('refused')"
    )
    done = unprivileged("-c", "import sys\n" + code, filled.folder)
    for place, mode in modes.items():
        place.chmod(mode)
    assert done.stderr == ""
    vectors = b"".join(pair[0] for pair in held.values())
    assert done.stdout.splitlines() == [f"6 {vectors.hex()}", "[] 1 None", "refused"]
    with Store(filled.folder) as opened:
        assert contents(opened) == held
        assert opened.catalogue.schema_version() == SCHEMA_VERSION


@pytest.mark.parametrize("what", ["", MANIFEST, CATALOGUE])
def test_what_may_not_be_read_is_named(filled: Store, unprivileged: Run, what: str) -> None:
    filled.close()
    path = filled.folder / what
    mode = path.stat().st_mode
    path.chmod(0)
    code = (
        "import sys; from pathlib import Path; from patchwise.store import Store\n"
        "from patchwise.errors import GalleryDamaged, GalleryError\n"
        "try: Store(Path(sys.argv[1]))\n"
        "except GalleryDamaged as error: print('called damage:', error)\n"
        "except GalleryError as error: print(error)"
    )
    done = unprivileged("-c", code, filled.folder)
    path.chmod(mode)
    assert done.stderr == ""
    assert done.stdout.startswith(str(path))


def test_after_writing_nothing_waits_in_the_log(filled: Store) -> None:
    """What the catalogue takes on disk is then its own size, whatever was written how."""
    log = filled.folder / f"{CATALOGUE}-wal"
    with filled.writer() as writer:
        writer.record(forgotten=["/none.png"])
        writer.add([make_encoded("/later.png", 77)])
        assert log.stat().st_size > 0
    assert log.stat().st_size == 0
    assert "/later.png" in filled.catalogue.known()


def test_a_reader_at_work_does_not_hold_a_writer_up(filled: Store) -> None:
    with Store(filled.folder) as reader, reader.catalogue.reading():
        seen = reader.catalogue.known()
        with filled.writer() as writer:
            writer.add([make_encoded("/later.png", 78)])
        assert reader.catalogue.known() == seen
    assert "/later.png" in filled.catalogue.known()


# Replaced while it is open


def _damage_seen(folder: Path) -> list[str]:
    with Store(folder) as again:
        return [str(problem) for problem in again.verify().problems]


@pytest.mark.parametrize("anew", [True, False], ids=["made anew", "deleted"])
def test_a_gallery_that_was_replaced_since_it_was_opened_is_left_alone(
    filled: Store, manifest: Manifest, anew: bool
) -> None:
    """Its catalogue is the one that was opened, but lock and shards are found by their paths."""
    folder = filled.folder
    assert filled.catalogue.is_in_place()
    shutil.rmtree(folder)
    if anew:
        with Store.create(folder, manifest) as made, made.writer() as writer:
            writer.add([make_encoded(f"/new/{seed}", seed) for seed in range(20, 40)])

    def whole() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    before = whole()
    assert not filled.catalogue.is_in_place()
    for work in (
        lambda: filled.writer().__enter__(),
        lambda: filled.joining_writer().__enter__(),
        lambda: filled.verify(repair=True),
        filled.snapshot,
    ):
        with pytest.raises(GalleryNotFound, match="deleted or made anew since it was opened"):
            work()
    assert whole() == before and folder.exists() == anew
    if anew:
        assert _damage_seen(folder) == []


def test_a_gallery_that_is_replaced_under_a_writer_is_left_alone(filled: Store, manifest: Manifest) -> None:
    folder = filled.folder
    with pytest.raises(GalleryNotFound, match="made anew"), filled.writer() as writer:
        shutil.rmtree(folder)
        with Store.create(folder, manifest) as made, made.writer() as other:
            other.add([make_encoded(f"/new/{seed}", seed) for seed in range(20, 40)])
        with pytest.raises(GalleryNotFound, match="made anew"):
            writer.add([make_encoded("/p/9", 9)])
    assert _damage_seen(folder) == []
