"""Figures: a panel for the query and each hit, its axes in pixels of the original, boxes where they belong."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Polygon, Rectangle
from PIL import Image

from conftest import make_picture
from patchwise import Explanation, Gallery, Hit, Hits, QueryPart, RegionScore
from patchwise.errors import MissingExtra, UsageError
from patchwise.search import Geometry
from report.conftest import make_hit


def rectangles(axes: Axes) -> list[tuple[float, float, float, float]]:
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(*one.get_xy(), one.get_x() + one.get_width(), one.get_y() + one.get_height()) for one in found]


@pytest.fixture
def photo(tmp_path: Path) -> str:
    make_picture(1, (100, 50)).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def test_the_query_and_the_hits_with_their_boxes(gallery: Gallery, pictures: Path) -> None:
    hits = gallery.search(pictures / "02.png", box=(4, 6, 20, 24), k=4)
    query, *panels = hits.plot(columns=3).axes
    assert rectangles(query) == [(4, 6, 20, 24)] and query.get_title() == "query"
    assert [rectangles(axes) for axes in panels] == [[hit.box] for hit in hits]
    for axes, hit in zip(panels, hits, strict=True):
        assert axes.get_xlim() == (0, 32) and axes.get_ylim() == (24, 0)
        assert axes.images[0].get_extent() == [0, 32, 24, 0]
        assert axes.get_title().startswith(f"{hit.rank}. {Path(hit.path).name}\n{hit.score:.3f}")
    rows = {round(axes.get_subplotspec().rowspan.start) for axes in [query, *panels]}
    assert rows == {0, 1}


def test_boxes_lie_on_the_picture_where_they_should(photo: str) -> None:
    """The picture is half as large as the hit says it was: what is drawn is looked at, pixel by pixel."""
    Image.new("RGB", (100, 50), "white").save(photo)
    hit = replace(make_hit(1, photo), size=(200, 100), box=(100.0, 50.0, 200.0, 100.0))
    figure = Hits([hit]).plot(width=6)
    axes = figure.axes[0]
    pixels = np.asarray(Image.open(io.BytesIO(figure._repr_png_())).convert("RGB")).astype(int)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 120) & (pixels[..., 2] < 150)
    rows, columns = np.nonzero(red)
    place = axes.transData.transform([(100, 50), (200, 100)]) * 100 / figure.dpi
    height = pixels.shape[0]
    assert np.allclose([columns.min(), columns.max()], place[:, 0], atol=3)
    assert np.allclose([rows.min(), rows.max()], height - place[:, 1], atol=3)


def test_second_looks_are_drawn(photo: str) -> None:
    outline = ((10.0, 5.0), (90.0, 6.0), (88.0, 40.0), (12.0, 41.0))
    second = RegionScore((0.0, 0.0, 50.0, 50.0), 1, (0, 0), 0.5)
    hit = replace(make_hit(1, photo), instances=(second,), geometry=Geometry("verified", 31, outline))
    (axes,) = Hits([hit]).plot().axes
    assert rectangles(axes) == [hit.box, second.box]
    (polygon,) = [patch for patch in axes.patches if isinstance(patch, Polygon)]
    assert np.allclose(polygon.get_xy()[:4], outline)


def test_only_the_first_are_drawn(photo: str) -> None:
    hits = Hits(make_hit(rank, photo) for rank in range(1, 8))
    figure = hits.plot(most=3)
    assert len(figure.axes) == 3 and figure.get_suptitle() == "the first 3 of 7 hits"
    assert hits[:2].plot().get_suptitle() == ""
    assert Hits().plot().get_suptitle() == "Nothing matched."


def test_what_cannot_be_shown_says_why(photo: str) -> None:
    figure = Hits([make_hit(1, "/gone.jpg")], [QueryPart(text="a mug"), QueryPart("/no.jpg", weight=-1)]).plot()
    text, picture, hit = figure.axes
    assert [found.get_text() for found in text.texts] == ["a mug"] and not text.axison
    assert "cannot be shown: no such file" in picture.texts[0].get_text().replace("\n", " ")
    assert "cannot be shown: no such file" in hit.texts[0].get_text().replace("\n", " ")
    assert picture.get_title() == "not wanted, weight 1\nno.jpg"
    assert rectangles(hit) == [(100, 50, 200, 100)] and hit.get_xlim() == (0, 200)
    figure._repr_png_()


def test_names_that_no_font_can_write_and_names_like_formulas(hostile_hits: list[Hit]) -> None:
    figure = Hits(hostile_hits, [QueryPart(text="$\\frac{$ 日本語 🎈")]).plot()
    assert figure._repr_png_()[:4] == b"\x89PNG"
    titles = [axes.get_title() for axes in figure.axes]
    assert any("$title $" in title for title in titles) and any("???" in title for title in titles)


def test_tall_and_wide_pictures_have_rows_of_their_own_height(photo: str) -> None:
    tall, wide = replace(make_hit(1, photo), size=(100, 200)), replace(make_hit(2, photo), size=(400, 100))
    figure = Hits([tall, wide]).plot(columns=1, width=4)
    first, second = figure.axes[0].get_gridspec().get_height_ratios()
    assert first > 3 * second


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"most": 0}, {"width": 0}, {"width": float("nan")}])
def test_sizes_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Hits().plot(**wrong)  # type: ignore[arg-type]


def test_an_explanation(gallery: Gallery, pictures: Path) -> None:
    explanation = gallery.explain(pictures / "01.png", pictures / "03.png")
    picture, heat, _ = explanation.plot().axes
    assert picture.get_title() == "03.png" and len(picture.images) == 1
    best = max(explanation.regions, key=lambda region: region.score)
    assert rectangles(heat) == [best.box]
    under, over = heat.images
    assert over.get_extent() == under.get_extent() == [0, 32, 24, 0]
    assert np.array_equal(over.get_array(), explanation.heat_map())
    with pytest.raises(UsageError, match="width"):
        explanation.plot(width=-1)


def test_an_explanation_of_parts_whose_picture_is_gone() -> None:
    regions = (RegionScore((0.0, 0.0, 200.0, 100.0), 0, (0, 0), 0.2), RegionScore((0, 0, 100, 50), 1, (0, 0), 0.6))
    part = Explanation("/gone.jpg", (200, 100), regions[:1])
    figure = Explanation("/gone.jpg", (200, 100), regions, (part, part)).plot()
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["gone.jpg", "all parts together", "part 1", "part 2"]
    assert "cannot be shown" in figure.axes[0].texts[0].get_text()
    figure._repr_png_()


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "patchwise.report.figures", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"pip install 'patchwise\[eval\]'"):
        Hits().plot()


def test_rendering_as_html_needs_no_matplotlib() -> None:
    code = "import sys; from patchwise import Hits; Hits()._repr_html_(); print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
