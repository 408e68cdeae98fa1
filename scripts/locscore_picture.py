"""Draw docs/images/locscore.jpg: the poster's worked example of LocScore, with photographs and real boxes.

    pip install 'patchwise[demo]'
    python scripts/locscore_picture.py

Seven images are ranked for one query. In the positives (ranks 1, 3, 4 and 7) the object lies inside a pyramid cell,
which plays the predicted region, and covers the share of it that makes their IoU the example's. Every number in the
picture is computed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from patchwise.boxes import Box, iou_xyxy
from patchwise.demo.scenes import load_photographs, random_piece
from patchwise.evaluation import average_precision, loc_score, mean_iou
from patchwise.report.draw import BOX_COLOUR, draw_hit

TARGET = Path(__file__).parents[1] / "docs" / "images" / "locscore.jpg"
SIZE = (300, 225)
MARGIN, CAPTION, COLUMNS = 14, 84, 4
INK, GREY = (20, 20, 20), (110, 110, 110)

# Of each positive: rank, grid of the predicted cell, its column and row, where in the cell the object lies (0 to 1).
POSITIVES = {
    1: (2, (1, 0), (0.8, 0.3), 0.174),
    3: (2, (0, 1), (0.3, 0.6), 0.391),
    4: (3, (2, 1), (0.5, 0.5), 0.533),
    7: (3, (0, 0), (0.7, 0.4), 0.461),
}
OTHERS = {2: ("cat", (2, (0, 1))), 5: ("flower", (3, (1, 2))), 6: ("motorcycle", (2, (1, 1)))}
RANKS = 7


def cell(grid: int, place: tuple[int, int]) -> Box:
    """Cell (column, row) of a grid over the picture."""
    width, height = SIZE[0] / grid, SIZE[1] / grid
    return (place[0] * width, place[1] * height, (place[0] + 1) * width, (place[1] + 1) * height)


def inside(outer: Box, share: float, place: tuple[float, float]) -> Box:
    """A box of the same shape within another, of `share` of its area, which is then their IoU."""
    side = share**0.5
    width, height = (outer[2] - outer[0]) * side, (outer[3] - outer[1]) * side
    x0 = outer[0] + place[0] * (outer[2] - outer[0] - width)
    y0 = outer[1] + place[1] * (outer[3] - outer[1] - height)
    return (x0, y0, x0 + width, y0 + height)


def hang(picture: Image.Image, piece: Image.Image, box: Box) -> None:
    x0, y0, x1, y1 = (round(edge) for edge in box)
    picture.paste(piece.resize((x1 - x0, y1 - y0), Image.Resampling.LANCZOS), (x0, y0))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", nargs="?", type=Path, default=TARGET)
    target = parser.parse_args().target

    photographs = load_photographs()
    generator = np.random.default_rng(4)
    query = photographs.queries["coffee cup"]
    query = query.crop((0, 20, query.width, 20 + query.width * 3 // 4))
    walls = generator.permutation(len(photographs.background))
    tiles: list[Image.Image] = []
    ious = np.zeros(RANKS)
    relevant = np.zeros(RANKS, dtype=bool)
    for rank in range(1, RANKS + 1):
        picture = random_piece(photographs.background[walls[rank]], SIZE, generator)
        if rank in POSITIVES:
            grid, place, within, share = POSITIVES[rank]
            predicted = cell(grid, place)
            truth = inside(predicted, share, within)
            hang(picture, query, truth)
            relevant[rank - 1], ious[rank - 1] = True, iou_xyxy(predicted, truth)[0, 0]
            tiles.append(draw_hit(picture, SIZE, predicted, true_box=truth))
        else:
            name, (grid, place) = OTHERS[rank]
            predicted = cell(grid, place)
            hang(picture, photographs.queries[name], inside(predicted, 0.6, (0.5, 0.5)))
            tiles.append(draw_hit(picture, SIZE, predicted))

    step = (SIZE[0] + MARGIN, SIZE[1] + CAPTION)
    rows = (RANKS + COLUMNS) // COLUMNS
    sheet = Image.new("RGB", (COLUMNS * step[0] + MARGIN, rows * step[1] + MARGIN + 40), "white")
    pen = ImageDraw.Draw(sheet)
    hits = np.cumsum(relevant)
    terms = []
    for number, tile in enumerate([query.resize(SIZE), *tiles]):
        x, y = MARGIN + number % COLUMNS * step[0], MARGIN + number // COLUMNS * step[1]
        sheet.paste(tile, (x, y))
        lines = [("query", INK), ("predicted region", BOX_COLOUR), ("truth: the white box", GREY)]
        if number and relevant[number - 1]:
            term = hits[number - 1] / number * ious[number - 1]
            terms.append(term)
            lines = [
                (f"rank {number}: positive", INK),
                (f"precision {hits[number - 1]}/{number}, IoU {ious[number - 1]:.3f}", GREY),
                (f"{hits[number - 1]}/{number} x {ious[number - 1]:.3f} = {term:.3f}", BOX_COLOUR),
            ]
        elif number:
            lines = [(f"rank {number}: another object", INK), ("counts 0", GREY)]
        for place, (text, colour) in enumerate(lines):
            pen.text((x, y + SIZE[1] + 5 + 24 * place), text, fill=colour, font_size=20)
    positives = int(relevant.sum())
    score = loc_score(relevant, ious, positives)
    total = (
        f"LocScore = ({' + '.join(f'{term:.3f}' for term in terms)}) / {positives} = {score:.4f}      "
        f"average precision {average_precision(relevant, positives):.3f}      mean IoU {mean_iou(relevant, ious):.3f}"
    )
    pen.text((MARGIN, rows * step[1] + MARGIN), total, fill=INK, font_size=22)
    sheet.save(target, quality=80, optimize=True)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB, {total}")


if __name__ == "__main__":
    main()
