// Conditions on metadata as text: made from choices, and read back into them.
//
// A condition is split at its outermost `and`; what stands between is either a choice of values of a column, an end of
// a range, or something written by hand, which is kept as it is.

const WORDS = new Set(["and", "or", "not", "in", "like", "is", "null", "true", "false"]);
const TOKEN = /\s*(?:("(?:[^"]|"")+")|('(?:[^']|'')*')|([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?(?![\p{L}\p{N}_]))|([\p{L}_][\p{L}\p{N}_]*)|(<=|>=|<>|!=|[=<>(),]))/iuy;

/** A column's name as conditions write it: in double quotes unless it is one plain word. */
export function quoteColumn(name) {
  const plain = /^[\p{L}_][\p{L}\p{N}_]*$/u.test(name) && !WORDS.has(name.toLowerCase());
  return plain ? name : `"${name.replaceAll('"', '""')}"`;
}

/** A value as conditions write it: numbers as they are, texts in single quotes. */
export function quoteValue(value) {
  return typeof value === "number" ? String(value) : `'${String(value).replaceAll("'", "''")}'`;
}

/**
 * A condition from choices: `{columns: Map(name -> {values: [...], from, to}), others: [text, ...]}`.
 *
 * Several values of a column are alternatives; everything else must hold at once.
 */
export function writeWhere({ columns, others = [] }) {
  const tests = [];
  for (const [name, { values = [], from = null, to = null }] of columns) {
    const column = quoteColumn(name);
    if (values.length === 1) tests.push(`${column} = ${quoteValue(values[0])}`);
    else if (values.length > 1) tests.push(`${column} in (${values.map(quoteValue).join(", ")})`);
    if (from !== null) tests.push(`${column} >= ${quoteValue(from)}`);
    if (to !== null) tests.push(`${column} <= ${quoteValue(to)}`);
  }
  const alone = tests.length + others.length === 1;
  return [...tests, ...others.map((text) => (alone ? text : bracketed(text)))].join(" and ");
}

function bracketed(text) {
  const tokens = tokensOf(text);
  let depth = 0;
  for (const { text: word } of tokens ?? []) {
    if (word === "(") depth += 1;
    else if (word === ")") depth -= 1;
    else if (depth === 0 && word.toLowerCase() === "or") return `(${text})`;
  }
  return text;
}

/** Choices from a condition, as `writeWhere` takes them; null where it cannot be split. */
export function readWhere(where) {
  const found = { columns: new Map(), others: [] };
  if (!where.trim()) return found;
  const tokens = tokensOf(where);
  const tests = tokens && conjuncts(tokens);
  if (!tests) return null;
  for (const test of tests) {
    if (!takeTest(test, found.columns)) found.others.push(where.slice(test[0].from, test.at(-1).to));
  }
  return found;
}

function tokensOf(where) {
  const tokens = [];
  TOKEN.lastIndex = 0;
  while (where.slice(TOKEN.lastIndex).trim()) {
    const match = TOKEN.exec(where);
    if (!match) return null;
    const [, column, text, number, word, sign] = match;
    const kind = column ? "column" : text ? "text" : number ? "number" : word ? "word" : "sign";
    const token = column ?? text ?? number ?? word ?? sign;
    tokens.push({ kind, text: token, to: TOKEN.lastIndex, from: TOKEN.lastIndex - token.length });
  }
  return tokens;
}

function conjuncts(tokens) {
  const tests = [[]];
  let depth = 0;
  for (const token of tokens) {
    if (token.text === "(") depth += 1;
    if (token.text === ")") depth -= 1;
    if (depth < 0) return null;
    const word = token.kind === "word" && depth === 0 ? token.text.toLowerCase() : "";
    if (word === "or") return [tokens];
    if (word === "and") tests.push([]);
    else tests.at(-1).push(token);
  }
  return depth === 0 && tests.every((test) => test.length > 0) ? tests : null;
}

// `column = value`, `column in (...)`, `column >= number`, `column <= number`: what the controls can show.
function takeTest([column, operator, ...rest], columns) {
  const name = nameOf(column);
  if (name === null || !operator) return false;
  const choice = columns.get(name) ?? { values: [], from: null, to: null };
  const values = valuesOf(operator.text.toLowerCase(), rest);
  const number = rest.length === 1 && rest[0].kind === "number" ? Number(rest[0].text) : null;
  // A second choice of values would have to hold as well, and a list of alternatives cannot say so.
  if (values && choice.values.length === 0) choice.values = values;
  else if (operator.text === ">=" && number !== null && choice.from === null) choice.from = number;
  else if (operator.text === "<=" && number !== null && choice.to === null) choice.to = number;
  else return false;
  columns.set(name, choice);
  return true;
}

function nameOf(token) {
  if (token.kind === "column") return token.text.slice(1, -1).replaceAll('""', '"');
  return token.kind === "word" && !WORDS.has(token.text.toLowerCase()) ? token.text : null;
}

function valuesOf(operator, tokens) {
  if (operator === "=" && tokens.length === 1) return isValue(tokens[0]) ? [valueOf(tokens[0])] : null;
  if (operator !== "in" || tokens[0]?.text !== "(" || tokens.at(-1)?.text !== ")") return null;
  const inner = tokens.slice(1, -1);
  const regular = inner.length % 2 === 1 && inner.every((token, index) => (index % 2 ? token.text === "," : isValue(token)));
  return regular ? inner.filter((_, index) => index % 2 === 0).map(valueOf) : null;
}

const isValue = ({ kind }) => kind === "text" || kind === "number";
const valueOf = ({ kind, text }) => (kind === "number" ? Number(text) : text.slice(1, -1).replaceAll("''", "'"));
