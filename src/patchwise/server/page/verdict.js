// What a hit's numbers say, in plain words; never a percentage.

/** How many hits as good are expected by chance, in few characters (as `report.text.by_chance` writes it). */
export function byChance(expected) {
  if (expected === null || expected === undefined) return "?";
  if (expected < 1e-6) return "<1e-6";
  if (expected >= 9.5) return String(Math.round(expected));
  return String(Number(expected.toPrecision(1)));
}

/**
 * A hit's verdict: `kind` for colours and tests, `word` for a label, `detail` for what follows it, `brief` where there
 * is little room.
 *
 * @returns {{kind: "match"|"chance"|"unknown", word: string, detail: string, brief: string}}
 */
export function verdictOf(hit) {
  const expected = byChance(hit.expected_false_matches);
  const detail = `${expected} as good expected by chance`;
  const brief = `by chance: ${expected}`;
  if (hit.matches === true && hit.geometry?.verdict === "verified") {
    const points = `verified by ${hit.geometry.inliers} points`;
    return { kind: "match", word: "match", detail: points, brief: points };
  }
  if (hit.matches === true) return { kind: "match", word: "match", detail, brief };
  if (hit.matches === false) return { kind: "chance", word: "may be chance", detail, brief };
  const unknown = "too few images here to tell a match from chance";
  return { kind: "unknown", word: "unknown", detail: unknown, brief: "too few images to tell" };
}

/** A score as it is shown everywhere. */
export function scoreText(score) {
  return score.toFixed(3).replace("-", "−");
}

/** Where a region lies in its grid. */
export function placeText(level, cell) {
  if (level < 0) return "a box outside any grid";
  if (level === 0) return "whole picture";
  return `level ${level}, row ${cell[0]}, column ${cell[1]}`;
}

/** A box as text, in whole pixels. */
export function boxText(box, size) {
  return `${box.map((edge) => Math.round(edge)).join(", ")} of ${size[0]} × ${size[1]}`;
}
