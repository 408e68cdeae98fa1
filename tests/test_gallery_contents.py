"""What a gallery holds, file by file; and what becomes of metadata when files change, move and go."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.boxes import Box
from patchwise.errors import UsageError
from patchwise.metadata.csv_files import CsvMetadata
from patchwise.metadata.files import MetadataRow
from patchwise.search import CompressedSearcher, Hit, Margins, compressed

WHERE = [
    "brand = 'Acme'",
    "year >= 2010 and brand != 'Acme'",
    "brand is null",
    "not (brand = 'Acme' or year < 2015)",
    "name like '%3.png' or year in (2001, 2007)",
    "brand = 'nobody'",
]


def describe(gallery: Gallery, folder: Path, **brands: str) -> None:
    """Give the picture `_<number>` of the folder its brand."""
    rows = [f"{name[1:]}.png,{brand}" for name, brand in brands.items()]
    (folder / "m.csv").write_text("\n".join(["path,brand", *rows]) + "\n")
    gallery.add_metadata(folder / "m.csv")


def names(gallery: Gallery, **limits: object) -> list[str]:
    return [Path(image.path).name for image in gallery.images(**limits).images]  # type: ignore[arg-type]


# Listing


@pytest.fixture
def shelves(gallery: Gallery, pictures: Path) -> Gallery:
    """Two folders beside the six pictures, with names that sort around separators, and a copy."""
    for name in ("a", "a b", "a0"):
        (pictures / name).mkdir()
    for seed, name in ((7, "a/7.png"), (8, "a b/8.png"), (9, "a0/9.png")):
        make_picture(seed, (30, 20)).save(pictures / name)
    shutil.copy(pictures / "00.png", pictures / "a" / "copy.png")
    gallery.add(pictures)
    return gallery


def test_pages_of_a_listing(shelves: Gallery, pictures: Path) -> None:
    everything = shelves.images()
    paths = [image.path for image in everything.images]
    assert everything.total == len(paths) == len(shelves) == 10
    assert paths == sorted(paths)
    for under in ((), (pictures,), (pictures / "a", pictures / "a b"), (pictures / "a", pictures / "a" / "7.png")):
        for where in ("", "name like '%.png' and brand is null"):
            if where:
                describe(shelves, pictures, _00="Acme")
            whole = shelves.images(under=under, where=where)
            assert [image.path for image in whole.images] == sorted(image.path for image in whole.images)
            assert len(whole.images) == whole.total
            for offset in range(12):
                for limit in (0, 1, 3, 10):
                    page = shelves.images(under=under, where=where, offset=offset, limit=limit)
                    assert page.total == whole.total
                    assert page.images == whole.images[offset : offset + limit]
                assert shelves.images(under=under, where=where, offset=offset).total == whole.total


def test_under_is_a_folder_or_a_file_and_counts_nothing_twice(shelves: Gallery, pictures: Path) -> None:
    assert names(shelves, under=[pictures / "a"]) == ["7.png", "copy.png"]
    assert names(shelves, under=[pictures / "a", pictures / "a", pictures / "a" / "7.png"]) == ["7.png", "copy.png"]
    assert names(shelves, under=[pictures / "03.png", pictures / "a b"]) == ["03.png", "8.png"]
    assert shelves.images(under=[pictures / "nowhere"]).total == 0


def test_the_same_listing_after_a_change_is_counted_again(gallery: Gallery, pictures: Path) -> None:
    assert gallery.images(limit=2).total == 6
    with Gallery.open(gallery.path, encoder=FakeEncoder()) as other:
        other.remove(pictures / "00.png")
        describe(other, pictures, _01="Acme")
    assert gallery.images(limit=2).total == 5
    assert gallery.images(where="brand = 'Acme'", limit=1).total == 1
    describe(gallery, pictures, _02="Acme")
    assert gallery.images(where="brand = 'Acme'", limit=1).total == 2


def test_numbers_that_are_none(gallery: Gallery) -> None:
    for limits in ({"offset": -1}, {"limit": -1}):
        with pytest.raises(UsageError, match="at least 0"):
            gallery.images(**limits)


def test_an_image_is_found_by_its_digest(shelves: Gallery, pictures: Path) -> None:
    (listed,) = shelves.images(under=[pictures / "00.png"]).images
    assert [image.path for image in shelves.image(listed.digest)] == [listed.path, str(pictures / "a" / "copy.png")]
    assert listed.size == (32, 24)
    assert shelves.image(listed.digest)[0] == listed
    for wrong in ("", "zz", "00" * 16, listed.digest[:-2], "'; --", "é"):
        assert shelves.image(wrong) == ()


def test_folders_by_how_many_images_lie_in_them(shelves: Gallery, pictures: Path) -> None:
    assert shelves.folders() == (
        (str(pictures), 6),
        (str(pictures / "a"), 2),
        (str(pictures / "a b"), 1),
        (str(pictures / "a0"), 1),
    )


def test_the_version_changes_with_images_and_with_metadata(gallery: Gallery, pictures: Path) -> None:
    seen = [gallery.version]
    assert gallery.version == seen[0]
    gallery.search(pictures / "00.png")
    assert gallery.version == seen[0]
    gallery.remove(pictures / "00.png")
    seen.append(gallery.version)
    describe(gallery, pictures, _01="Acme")
    seen.append(gallery.version)
    with Gallery.open(gallery.path, encoder=FakeEncoder()) as other:
        seen.append(other.version)
        other.add(pictures)
    seen.append(gallery.version)
    assert len(set(seen)) == len(seen)


def test_columns(gallery: Gallery, pictures: Path) -> None:
    assert gallery.metadata_columns() == ()
    rows = ["00.png,Acme,1.5,1", "01.png,Acme,,2", "02.png,Other,-2.0,x", "none.png,Third,9.0,3"]
    (pictures / "m.csv").write_text("\n".join(["path,brand,price,code", *rows]) + "\n")
    gallery.add_metadata(pictures / "m.csv")
    brand, price, code = gallery.metadata_columns()
    assert (brand.name, brand.kind, brand.images, brand.values) == ("brand", "text", 3, ("Acme", "Other"))
    assert (brand.minimum, brand.maximum) == (None, None)
    assert (price.kind, price.images, price.values) == ("number", 2, (-2.0, 1.5))
    assert (price.minimum, price.maximum) == (-2.0, 1.5)
    assert (code.kind, code.values) == ("text", ("1", "2", "x"))
    (pictures / "n.csv").write_text("path,code\n00.png,7\n")
    gallery.add_metadata(pictures / "n.csv")
    brand, price, code = gallery.metadata_columns()
    assert (code.kind, code.images, code.values, code.minimum, code.maximum) == ("mixed", 3, (7, "2", "x"), 7, 7)
    gallery.remove(pictures / "02.png")
    assert [column.name for column in gallery.metadata_columns()] == ["brand", "code"]
    assert gallery.images(where="price is not null").total == 0  # known still, and of no image


# Searching


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    """Forty pictures, of which thirty are described; some are copies of others with another description."""
    folder = tmp_path_factory.mktemp("described") / "pictures"
    folder.mkdir()
    for seed in range(36):
        make_picture(seed, (32, 24)).save(folder / f"{seed:02d}.png")
    for number in range(36, 40):
        shutil.copy(folder / f"{number - 36:02d}.png", folder / f"{number}.png")
    rows = [f"{number:02d}.png,{'Acme' if number % 3 else 'Other'},{1990 + number}" for number in range(0, 40, 4)]
    rows += [f"{number:02d}.png,{'Acme' if number % 5 else ''},{1980 + number}" for number in range(40) if number % 2]
    (folder.parent / "m.csv").write_text("\n".join(["path,brand,year", *rows]) + "\n")
    with Gallery.create(folder.parent / "g", encoder=FakeEncoder(), regions="pyramid:1") as made:
        made.add(folder, metadata=folder.parent / "m.csv")
        yield made


def by_place(hits: Sequence[Hit]) -> list[tuple[str, float, Box]]:
    return [(hit.path, hit.score, hit.box) for hit in hits]


def expect_all_that_fits(gallery: Gallery, **how: Any) -> None:
    """A search with a condition gives what a search of all gives, less what does not fit; page by page as well."""
    query = make_picture(3, (32, 24))
    everything = gallery.search(query, k=99, exact=True)
    assert len(everything) == 40
    for where in WHERE:
        fitting = {image.path for image in gallery.images(where=where).images}
        expected = by_place([hit for hit in everything if hit.path in fitting])
        assert by_place(gallery.search(query, k=99, where=where, **how)) == expected
        for offset in range(0, len(expected) + 1, 3):
            page = gallery.search(query, k=3, offset=offset, where=where, **how)
            assert by_place(page) == expected[offset : offset + 3]
            assert [hit.rank for hit in page] == list(range(offset + 1, offset + 1 + len(page)))


def test_a_search_with_a_condition_is_a_search_of_all_that_fits(described: Gallery) -> None:
    expect_all_that_fits(described, exact=True)


def test_a_compressed_search_with_a_condition(described: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    scans: list[int] = []
    really = CompressedSearcher._pursuits

    def counted(self: CompressedSearcher, *arguments: Any) -> Any:
        scans.append(1)
        return really(self, *arguments)

    monkeypatch.setattr(CompressedSearcher, "_pursuits", counted)
    monkeypatch.setattr(compressed, "_LEAST_REGIONS", 1)
    monkeypatch.setattr(compressed, "_SCANNED_PER_SCORED", 10**9)
    monkeypatch.setattr(Margins, "expected_regions", lambda *_: 1)
    described.compress("SQ8")
    try:
        expect_all_that_fits(described, recall=0.9999)
    finally:
        described.compress("none")
    assert len(scans) > 20  # these few images were really looked for by their codes


def test_a_copy_that_does_not_fit_is_not_found(described: Gallery) -> None:
    first, copy = (f"{described.images().images[number].path}" for number in (0, 36))
    query = Image.open(first)
    assert {hit.path for hit in described.search(query, k=2)} == {first, copy}
    assert described.metadata(first)["year"] == 1990 and described.metadata(copy)["year"] == 2026
    assert [hit.path for hit in described.search(query, k=1, where="year = 1990")] == [first]
    assert [hit.path for hit in described.search(query, k=1, where="year = 2026")] == [copy]
    folder = Path(first).parent
    assert [hit.path for hit in described.search(query, under=[copy], where="year > 2000")] == [copy]
    assert described.search(query, under=[first], where="year > 2000") == []
    assert len(described.search(query, under=[folder], where="year > 2000", k=99)) == len(
        described.images(under=[folder], where="year > 2000").images
    )


def test_every_way_to_ask_takes_a_condition_and_says_what_is_known(described: Gallery) -> None:
    query, where = make_picture(3, (32, 24)), "brand = 'Acme' and year < 2000"
    expected = [hit.path for hit in described.search(query, k=5, where=where)]
    assert len(expected) == 5
    (one,) = described.search_many([(query, None)], k=5, where=where)
    (vector,) = described.query_vectors([(query, None)])
    assert isinstance(vector, np.ndarray)
    (by_vector,) = described.search_vectors(vector[None], k=5, where=where)
    reranked = described.search(query, k=5, where=where, rerank="neighbours:5")
    collapsed = described.search(query, k=5, where=where, collapse=True)
    for hits in (one.hits, by_vector):
        assert [hit.path for hit in hits] == expected
    for hits in (one.hits, by_vector, reranked, collapsed):
        assert all(hit.metadata == described.metadata(hit.path) for hit in hits)
        assert all(hit.metadata["brand"] == "Acme" for hit in hits)
    whole = described.search(query, k=40, collapse=True)
    together = [(hit, other) for hit in whole for other in hit.alike]
    assert together and all(other.metadata == described.metadata(other.path) for _, other in together)


@pytest.mark.parametrize(
    ("where", "said"), [("nobody = 1", "no column 'nobody'"), ("brand =", "character 8"), (" ", "empty")]
)
def test_a_condition_that_says_nothing_is_refused(described: Gallery, where: str, said: str) -> None:
    query = make_picture(3)
    with pytest.raises(UsageError, match=said):
        described.search(query, where=where)
    with pytest.raises(UsageError, match=said):
        list(described.search_many([(query, None)], where=where))
    with pytest.raises(UsageError, match=said):
        described.images(where=where)


def test_what_is_described_later_is_found_at_once(gallery: Gallery, pictures: Path) -> None:
    describe(gallery, pictures, _00="Acme")
    query = pictures / "00.png"
    assert len(gallery.search(query, where="brand = 'Acme'")) == 1
    with Gallery.open(gallery.path, encoder=FakeEncoder()) as other:
        describe(other, pictures, _01="Acme", _02="Acme")
    assert len(gallery.search(query, where="brand = 'Acme'")) == 3


# What becomes of metadata


def test_metadata_stay_when_a_file_changes(gallery: Gallery, pictures: Path) -> None:
    describe(gallery, pictures, _00="Acme")
    make_picture(77, (40, 40)).save(pictures / "00.png")
    assert gallery.add(pictures).changed == 1
    assert gallery.metadata(pictures / "00.png") == {"brand": "Acme"}
    (pictures / "00.png").write_bytes(b"no picture")
    assert len(gallery.add(pictures).failed) == 1
    assert gallery.images(where="brand = 'Acme'").total == 0 and gallery.metadata_columns() == ()
    make_picture(78, (40, 40)).save(pictures / "00.png")
    gallery.add(pictures)
    assert gallery.images(where="brand = 'Acme'").total == 1


def test_a_renamed_file_takes_its_metadata_along(gallery: Gallery, pictures: Path) -> None:
    describe(gallery, pictures, _00="A", _01="B", _02="C")
    (pictures / "new").mkdir()
    (pictures / "00.png").rename(pictures / "new" / "renamed.png")
    (pictures / "01.png").rename(pictures / "new" / "01.png")
    shutil.copy(pictures / "02.png", pictures / "new" / "copy.png")
    report = gallery.add(pictures)
    assert (report.renamed, report.copied) == (2, 1)
    assert gallery.metadata(pictures / "new" / "renamed.png") == {"brand": "A"}
    assert gallery.metadata(pictures / "new" / "01.png") == {"brand": "B"}
    assert gallery.metadata(pictures / "new" / "copy.png") == {}
    assert gallery.metadata(pictures / "02.png") == {"brand": "C"}
    for gone in ("00.png", "01.png"):
        assert gallery.metadata(pictures / gone) == {}


def test_of_equal_pictures_that_moved_each_goes_on_under_its_name(gallery: Gallery, pictures: Path) -> None:
    for name in ("06.png", "07.png"):
        shutil.copy(pictures / "05.png", pictures / name)
    gallery.add(pictures)
    describe(gallery, pictures, _05="A", _06="B", _07="C")
    (pictures / "new").mkdir()
    for name in ("07.png", "05.png", "06.png"):
        (pictures / name).rename(pictures / "new" / name)
    assert gallery.add(pictures).renamed == 3
    brands = [gallery.metadata(pictures / "new" / name)["brand"] for name in ("05.png", "06.png", "07.png")]
    assert brands == ["A", "B", "C"]


def test_what_was_said_of_a_file_goes_when_another_is_moved_over_it(gallery: Gallery, pictures: Path) -> None:
    describe(gallery, pictures, _00="A", _01="B", _02="C")
    (pictures / "00.png").replace(pictures / "01.png")
    (pictures / "02.png").replace(pictures / "03.png")  # has none
    gallery.add(pictures)
    assert gallery.metadata(pictures / "01.png") == {"brand": "A"}
    assert gallery.metadata(pictures / "03.png") == {"brand": "C"}


def test_what_is_forgotten_comes_back_without_metadata(gallery: Gallery, pictures: Path) -> None:
    describe(gallery, pictures, _00="A", _01="B")
    gallery.remove(pictures / "00.png")
    (pictures / "01.png").rename(pictures.parent / "away.png")
    gallery.add(pictures)
    (pictures.parent / "away.png").rename(pictures / "01.png")
    gallery.add(pictures)
    assert len(gallery) == 6
    assert gallery.metadata(pictures / "00.png") == gallery.metadata(pictures / "01.png") == {}


def test_upkeep_leaves_metadata_alone(gallery: Gallery, pictures: Path) -> None:
    describe(gallery, pictures, _00="A", _01="B")
    gallery.remove(pictures / "05.png")
    assert gallery.compact() == 5
    assert gallery.verify().problems == []
    assert gallery.metadata(pictures / "00.png") == {"brand": "A"}
    (shard,) = (gallery.path / "vectors").glob("*.f16")
    content = bytearray(shard.read_bytes())
    content[:2] = bytes(255 - byte for byte in content[:2])
    shard.write_bytes(content)
    with Gallery.open(gallery.path, encoder=FakeEncoder()) as opened:
        lost = opened.verify(repair=True).affected_files
        assert len(lost) == 1 and len(opened) == 4
        opened.add(pictures)
        assert opened.metadata(lost[0]) == {"brand": "A"}  # encoded again, and described as before


def test_any_order_gives_what_a_fresh_build_gives(tmp_path: Path, pictures: Path) -> None:
    rows = ["path,brand,year", "00.png,A,1", "b.png,B,2", "sub/c.png,C,3", "05.png,D,4"]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    with Gallery.create(tmp_path / "one", encoder=FakeEncoder(), regions="pyramid:1") as one:
        (pictures / "m.csv").write_text("path,brand,year\n01.png,B,2\n02.png,C,3\n")
        one.add(pictures, metadata=pictures / "m.csv")
        (pictures / "01.png").rename(pictures / "b.png")
        one.add(pictures)
        (pictures / "sub").mkdir()
        (pictures / "02.png").rename(pictures / "sub" / "c.png")
        (pictures / "03.png").unlink()
        one.add(pictures)
        (pictures / "n.csv").write_text("path,brand,year\n00.png,A,1\n05.png,D,4\n")
        one.add_metadata(pictures / "n.csv")
        with Gallery.create(tmp_path / "two", encoder=FakeEncoder(), regions="pyramid:1") as two:
            two.add(pictures, metadata=tmp_path / "m.csv")
            assert one.images() == two.images()
            assert {column.name: column for column in one.metadata_columns()} == {
                column.name: column for column in two.metadata_columns()
            }
            for where in ("", "year >= 2", "brand is null or brand = 'A'"):
                assert one.search(make_picture(3), k=9, where=where) == two.search(make_picture(3), k=9, where=where)


def test_images_are_removed_while_another_thread_adds(gallery: Gallery, pictures: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for seed in range(20, 26):
        make_picture(seed, (32, 24)).save(more / f"{seed}.png")
    removed = []

    def in_the_middle(_: object) -> None:
        if not removed:
            with ThreadPoolExecutor(1) as another:
                removed.append(another.submit(gallery.remove, pictures / "00.png").result(timeout=20))
            assert str(pictures / "00.png") not in [hit.path for hit in gallery.search(pictures / "00.png")]

    report = gallery.add(more, progress=in_the_middle)
    assert removed == [1] and report.added == 6
    left = sorted(Path(image.path).name for image in gallery.images().images)
    assert left == [f"{number:02d}.png" for number in (*range(1, 6), *range(20, 26))]
    assert gallery.verify().ok


def test_searches_go_on_while_a_file_of_metadata_is_read(
    gallery: Gallery, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, answered = CsvMetadata.rows, []

    def rows(file: CsvMetadata) -> Iterator[MetadataRow]:
        for row in read(file):
            with ThreadPoolExecutor(1) as another:
                answered.append(another.submit(gallery.search, pictures / "00.png", k=1).result(timeout=20)[0].path)
            yield row

    monkeypatch.setattr(CsvMetadata, "rows", rows)
    describe(gallery, pictures, _00="Acme", _01="Other")
    assert answered == [str(pictures / "00.png")] * 2
    assert gallery.metadata(pictures / "01.png") == {"brand": "Other"}


def test_nothing_fails_where_threads_remove_beside_one_that_adds(gallery: Gallery, pictures: Path) -> None:
    paths = sorted(pictures.glob("*.png"))

    def remove(first: int) -> int:
        return sum(gallery.remove(paths[(first + number) % len(paths)]) for number in range(40))

    with ThreadPoolExecutor(4) as threads:
        removing = [threads.submit(remove, first) for first in range(4)]
        while not all(each.done() for each in removing):
            gallery.add(pictures)
        assert sum(each.result() for each in removing) >= 6
    gallery.add(pictures)
    assert len(gallery) == 6 and gallery.verify().ok
