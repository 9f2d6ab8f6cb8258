// What jobs return, and how it is printed: as Markdown, which reads well in a terminal too.

/**
 * @typedef {object} Goal
 * @property {string} text What is to be reached.
 * @property {number} reached What this run has reached.
 * @property {(reached: number) => string} show
 * @property {boolean} met
 */

/**
 * @typedef {object} Table
 * @property {string} [title]
 * @property {readonly string[]} columns
 * @property {readonly (readonly string[])[]} rows
 */

/**
 * @typedef {object} Report
 * @property {readonly Table[]} tables
 * @property {readonly Goal[]} goals
 * @property {readonly string[]} [notes]
 */

export const ratio = (value) => `${value.toFixed(2)}×`;
export const percent = (value) => `${(value * 100).toFixed(1)} %`;
export const milliseconds = (value) => `${value.toFixed(value < 10 ? 2 : 0)} ms`;
export const microseconds = (value) => `${value.toFixed(value < 10 ? 2 : 1)} µs`;
export const count = (value) => Math.round(value).toLocaleString('en-US');
export const bytes = (value) => `${count(value)} B`;

/** A goal that is met from `least` on. */
export function atLeast(text, reached, least, show = ratio) {
  return { text: `${text}: at least ${show(least)}`, reached, show, met: reached >= least };
}

/** A goal that is met up to `most`. */
export function atMost(text, reached, most, show = ratio) {
  return { text: `${text}: at most ${show(most)}`, reached, show, met: reached <= most };
}

/** The table of a comparison. */
export function comparison(outcomes, { title, what = 'turns/s' } = {}) {
  return {
    title,
    columns: ['variant', what, 'ours ÷ variant', 'spread', 'processor'],
    rows: outcomes.map(({ name, perSecond, ratio: gain, spread, cpuMicros }, index) => [
      name,
      count(perSecond),
      index === 0 ? '' : ratio(gain),
      `±${percent(spread)}`,
      microseconds(cpuMicros),
    ]),
  };
}

/** Ours over the variant of that name. */
export function gainOf(outcomes, name) {
  return outcomes.find((outcome) => outcome.name === name).ratio;
}

/** One job as text. */
export function render(title, { tables, goals, notes = [] }) {
  const parts = [`### ${title}`];
  for (const table of tables) {
    if (table.title !== undefined) parts.push(`**${table.title}**`);
    parts.push(renderTable(table));
  }
  if (notes.length > 0) parts.push(notes.join('\n'));
  if (goals.length > 0) parts.push(goals.map(renderGoal).join('\n'));
  return parts.join('\n\n');
}

function renderGoal({ text, reached, show, met }) {
  return `- ${met ? 'met' : 'NOT MET'}: ${text}; this run: ${show(reached)}`;
}

function renderTable({ columns, rows }) {
  const widths = columns.map((column, index) =>
    Math.max(3, column.length, ...rows.map((row) => row[index].length)),
  );
  const line = (cells) =>
    `| ${cells.map((cell, index) => (index === 0 ? cell.padEnd(widths[index]) : cell.padStart(widths[index]))).join(' | ')} |`;
  const rule = widths.map((width, index) => (index === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(columns), line(rule), ...rows.map(line)].join('\n');
}
