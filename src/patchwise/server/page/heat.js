// The heat map of region scores: the same numbers as `Explanation.heat_map` in Python, and their colours.

// A dark-to-bright scale that also reads in grey (after matplotlib's "inferno"), as in the HTML report.
const STOPS = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

/** Python's `round`: halves go to the even neighbour. */
function roundHalfEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

/**
 * Mean over levels of the score at each point; the longer side has `resolution` points.
 *
 * Regions of one level that overlap are averaged; a level that does not reach a point does not count there.
 *
 * @param {[number, number]} size upright (width, height) of the picture
 * @param {{box: number[], level: number, score: number}[]} regions
 * @returns {{width: number, height: number, values: Float32Array}} row by row
 */
export function heatMap(size, regions, resolution = 64) {
  const scale = resolution / Math.max(...size);
  const [width, height] = size.map((side) => Math.max(roundHalfEven(side * scale), 1));
  const total = new Float64Array(width * height);
  const levelsHere = new Uint16Array(width * height);
  for (const level of [...new Set(regions.map((region) => region.level))].sort((a, b) => a - b)) {
    const score = new Float64Array(width * height);
    const cover = new Uint16Array(width * height);
    for (const region of regions) {
      if (region.level !== level) continue;
      const [x0, y0, x1, y1] = region.box;
      const columns = pointsWithin(x0, x1, width, size[0]);
      for (const y of pointsWithin(y0, y1, height, size[1])) {
        for (const x of columns) {
          score[y * width + x] += region.score;
          cover[y * width + x] += 1;
        }
      }
    }
    for (let point = 0; point < total.length; point += 1) {
      if (cover[point] === 0) continue;
      total[point] += score[point] / cover[point];
      levelsHere[point] += 1;
    }
  }
  const values = new Float32Array(total.length);
  for (let point = 0; point < total.length; point += 1) {
    values[point] = levelsHere[point] > 0 ? total[point] / levelsHere[point] : 0;
  }
  return { width, height, values };
}

function pointsWithin(from, to, count, side) {
  const points = [];
  for (let point = 0; point < count; point += 1) {
    const place = (point + 0.5) / count * side;
    if (place >= from && place < to) points.push(point);
  }
  return points;
}

/** Lowest and highest score of a map. */
export function heatRange(map) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of map.values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** The colour of a score between `low` (dark) and `high` (bright): red, green, blue in 0..255. */
export function heatColour(score, low, high) {
  const position = Math.min(Math.max((score - low) / Math.max(high - low, 1e-9), 0), 1) * (STOPS.length - 1);
  const below = Math.min(Math.floor(position), STOPS.length - 2);
  const share = position - below;
  return STOPS[below].map((dark, channel) => roundHalfEven(dark * (1 - share) + STOPS[below + 1][channel] * share));
}

/** Draw a map on a canvas, one pixel for each point; CSS stretches it over the picture. */
export function paintHeat(canvas, map, low, high) {
  canvas.width = map.width;
  canvas.height = map.height;
  const pen = canvas.getContext("2d");
  const pixels = pen.createImageData(map.width, map.height);
  map.values.forEach((score, point) => pixels.data.set([...heatColour(score, low, high), 255], point * 4));
  pen.putImageData(pixels, 0, 0);
}
