// A justified grid: rows of equal height that fill the width, aspect ratios kept.

/**
 * Sizes of tiles, in the order of their aspect ratios (width / height).
 *
 * Pictures flatter or narrower than the given ratios get a tile of the nearest allowed shape, in which they are
 * centred. Widths of a full row and the gaps between them add up to `width` exactly; the last row is never taller
 * than `height`.
 *
 * @returns {{width: number, height: number, row: number}[]} whole pixels
 */
export function justify(ratios, width, { height = 210, gap = 10, narrowest = 0.6, flattest = 3 } = {}) {
  const shapes = ratios.map((ratio) => Math.min(Math.max(ratio, narrowest), flattest));
  const tiles = [];
  let start = 0;
  for (let row = 0; start < shapes.length; row += 1) {
    const end = rowEnd(shapes, start, width, height, gap);
    const shapesHere = shapes.slice(start, end);
    const filling = filledHeight(shapesHere, width, gap);
    const full = end < shapes.length || filling <= height;
    tiles.push(...rowTiles(shapesHere, full ? filling : height, full ? width : null, gap, row));
    start = end;
  }
  return tiles;
}

function filledHeight(shapes, width, gap) {
  const sum = shapes.reduce((total, shape) => total + shape, 0);
  return Math.max((width - gap * (shapes.length - 1)) / sum, 1);
}

// A row ends before or after the tile that brings it below the wanted height, whichever comes nearer to it.
function rowEnd(shapes, start, width, height, gap) {
  for (let end = start + 1; end <= shapes.length; end += 1) {
    const filling = filledHeight(shapes.slice(start, end), width, gap);
    if (filling > height) continue;
    if (end === start + 1) return end;
    const looser = filledHeight(shapes.slice(start, end - 1), width, gap);
    return looser / height < height / filling ? end - 1 : end;
  }
  return shapes.length;
}

function rowTiles(shapes, height, width, gap, row) {
  const whole = Math.max(Math.round(height), 1);
  const tiles = shapes.map((shape) => ({ width: Math.max(Math.floor(shape * height), 1), height: whole, row }));
  if (width !== null) {
    let left = width - gap * (shapes.length - 1) - tiles.reduce((total, tile) => total + tile.width, 0);
    for (let index = 0; left > 0; index = (index + 1) % tiles.length, left -= 1) tiles[index].width += 1;
  }
  return tiles;
}
