// Two texts, because each is easier to read alone; the browser gets one file. Text goes into the page as text, never as
// markup, and no style is written into it: the policy that it is served with forbids both.

/** How numbers are said, and how a line is drawn through them. */
const DRAWING = String.raw`
const WINDOW_MS = 120000;
/** Samples further apart than this have nothing in between. */
const GAP_MS = 4000;
const HEIGHT = 40;
const WIDTH = 120;

const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

const number = (value) => (value < 100000 ? whole.format(Math.round(value)) : short.format(value));

function duration(ms) {
  if (ms < 1000) return Math.round(ms) + ' ms';
  if (ms < 60000) return (ms < 10000 ? (ms / 1000).toFixed(1).replace('.0', '') : Math.round(ms / 1000)) + ' s';
  const parts = [[86400000, 'd'], [3600000, 'h'], [60000, 'min'], [1000, 's']];
  const first = parts.findIndex(([size]) => ms >= size);
  return parts
    .slice(first, first + 2)
    .map(([size, unit], index) => [Math.floor((index === 0 ? ms : ms % parts[first][0]) / size), unit])
    .filter(([count]) => count > 0)
    .map((part) => part.join(' '))
    .join(' ');
}

function bytes(count) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return (unit === 0 || count >= 100 ? Math.round(count) : count.toFixed(1)) + ' ' + units[unit];
}

/** The next 1, 2 or 5 with zeros behind it. */
function roundUp(count) {
  const value = Math.max(count, 5);
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

/** Draws the samples of the last two minutes: [when, value] each, a value of undefined is a gap. */
function draw(plot, samples, nowMs) {
  const shown = samples.filter(([at, value]) => value !== undefined && at >= nowMs - WINDOW_MS);
  const highest = Math.max(0, ...shown.map(([, value]) => value));
  const top = roundUp(highest);
  const x = (at) => (((at - nowMs) / WINDOW_MS + 1) * WIDTH).toFixed(2);
  const y = (value) => (HEIGHT - 1 - (value / top) * (HEIGHT - 3)).toFixed(2);
  const runs = [];
  let before = -Infinity;
  for (const [at, value] of shown) {
    if (at - before > GAP_MS) runs.push([]);
    runs.at(-1).push([x(at), y(value)]);
    before = at;
  }
  const lines = runs.map((run) => 'M' + run.map((point) => point.join(' ')).join('L'));
  // A point alone is shown as one.
  plot.querySelector('.line').setAttribute('d', lines.map((line, index) => (runs[index].length === 1 ? line + 'h0.01' : line)).join(''));
  plot.querySelector('.area').setAttribute(
    'd',
    runs.map((run, index) => lines[index] + 'V' + HEIGHT + 'H' + run[0][0] + 'Z').join(''),
  );
  setText(plot.querySelector('.top'), shown.length === 0 ? '' : number(top));
  const title = plot.querySelector('h2').textContent;
  const last = shown.at(-1);
  plot.querySelector('svg').setAttribute(
    'aria-label',
    last === undefined ? title + ', no data yet' : title + ': ' + number(last[1]) + ' now, at most ' + number(highest) + ' in the last two minutes',
  );
}

/** Only what has changed is touched: a text that is being selected, or read out, stays as it is. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Where a line ends, a long name is broken between its words. */
function setName(element, name) {
  if (element.textContent === name) return;
  const words = name.split(/(?<=[.:/_-])|(?<=[a-z])(?=[A-Z])/);
  element.replaceChildren(...words.flatMap((word, index) => (index === 0 ? [word] : [document.createElement('wbr'), word])));
}

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className !== '') made.className = className;
  made.append(...children);
  return made;
}

/** As many rows as there are items, each made once and filled again and again. */
function fill(list, items, make, update) {
  while (list.children.length > items.length) list.lastElementChild.remove();
  while (list.children.length < items.length) list.append(make());
  items.forEach((item, index) => update(list.children[index], item));
}
`;

/** What asks for the data, and shows it. */
const LOOKING = String.raw`
const EVERY_MS = 1000;
const LONGEST_PAUSE_MS = 10000;
const PATIENCE_MS = 5000;

const data = new URL('data', import.meta.url);
data.search = new URL(import.meta.url).search;

const $ = (selector) => document.querySelector(selector);
const main = $('main');
const pause = $('#pause');
const chosen = $('#processes select');

/** The last report and the samples of each process that has answered, by its name. */
const processes = new Map();
let failures = 0;
let answeredAt;
let timer;
let isPaused = false;

function connection(state, text, trouble) {
  document.body.dataset.connection = state;
  setText($('#status'), text);
  $('#trouble').hidden = trouble === undefined;
  if (trouble !== undefined) setText($('#trouble'), trouble);
}

async function look() {
  const startedAt = performance.now();
  try {
    const response = await fetch(data, { cache: 'no-store', redirect: 'error', signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!response.ok) throw response.status;
    const report = await response.json();
    if (isPaused) return;
    failures = 0;
    take(report);
  } catch (error) {
    if (isPaused) return;
    failures += 1;
    lost(error);
  }
  const waitMs = failures === 0 ? EVERY_MS - (performance.now() - startedAt) : Math.min(EVERY_MS * 2 ** (failures - 1), LONGEST_PAUSE_MS);
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, Math.max(waitMs, 50));
}

function take(report) {
  const now = performance.now();
  let known = processes.get(report.process);
  if (known === undefined) processes.set(report.process, (known = { samples: [] }));
  known.report = report;
  known.at = now;
  known.samples.push([now, [report.openTurns, report.waiting, report.expirations.lastMinute, statesOf(report)?.count]]);
  while (known.samples[0][0] < now - WINDOW_MS - GAP_MS) known.samples.shift();
  for (const [name, { at }] of processes) if (now - at > WINDOW_MS) processes.delete(name);
  answeredAt = new Date();
  connection('live', 'Live');
  main.removeAttribute('aria-busy');
  offerProcesses(now);
  const { report: current, samples } = processes.get(chosen.value);
  show(current, samples, now);
}

function lost(error) {
  const since = answeredAt === undefined ? '' : ' since ' + answeredAt.toLocaleTimeString();
  if (error === 401 || error === 403 || error === 404)
    connection('lost', 'Refused', 'The server does not let this page look any more (' + error + '). Reload it to sign in again.');
  else if (typeof error === 'number')
    connection('lost', 'Refused', 'The server answers ' + error + since + '. Trying again…');
  else connection('lost', 'Connection lost', 'No answer' + since + '. Trying again…');
}

/** Behind one address there may be several processes. One of them is shown, and which one can be chosen. */
function offerProcesses(now) {
  const names = [...processes.keys()];
  if (names.join() !== [...chosen.options].map(({ value }) => value).join()) {
    const before = chosen.value;
    chosen.replaceChildren(...names.map((name) => new Option('#' + name, name)));
    if (processes.has(before)) chosen.value = before;
  }
  $('#processes').hidden = names.length < 2;
  // It was restarted, or is gone.
  if (now - processes.get(chosen.value).at > 10 * EVERY_MS) chosen.value = names.find((name) => processes.get(name).at === now);
}

function optionsOf(report) {
  return Object.fromEntries(report.options.map(({ name, value }) => [name, value]));
}

/** How many states there are, counted or reckoned from the sample; undefined when that is not known. */
function statesOf({ states, census }) {
  if (states !== undefined) return { count: states, isExact: true };
  if (census?.idents === undefined) return undefined;
  const counted = census.classes.reduce((sum, { count }) => sum + count, 0);
  const { isPart, scale } = scaleOf(census);
  return { count: Math.round(counted * scale), isExact: !isPart };
}

function scaleOf({ idents, counted, isEstimate }) {
  const isPart = isEstimate || counted < idents;
  return { isPart, scale: idents === undefined || counted === 0 ? 1 : Math.max(idents / counted, 1) };
}

function show(report, samples, now) {
  const { mode, uptimeMs, process } = report;
  setText($('#about'), { memory: 'In memory', redis: 'On Redis', disk: 'On disk' }[mode] + ' · process #' + process + ' · up ' + duration(uptimeMs));
  showPlots(report, samples, now);
  showLocks(report);
  showClasses(report);
  fill(
    $('#options dl'),
    report.options,
    () => element('div', '', element('dt', ''), element('dd', '')),
    (row, { name, value, unit }) => {
      setText(row.children[0], name);
      setText(row.children[1], unit === 'ms' ? duration(value) : typeof value === 'number' ? whole.format(value) : value);
    },
  );
}

function showPlots(report, samples, now) {
  const { openTurns, longestHoldMs, waiting, oldestWaitMs, oldestWaiter, expirations, census } = report;
  const states = statesOf(report);
  const countedMs = expirations.countedMs;
  const plots = {
    turns: [number(openTurns), openTurns === 0 ? 'nobody holds a lock' : 'longest ' + duration(longestHoldMs)],
    waiting: [number(waiting), oldestWaiter === undefined ? 'nobody waits' : 'longest ' + duration(oldestWaitMs)],
    expired: [number(expirations.lastMinute), countedMs < 60000 ? 'counted for ' + duration(Math.floor(countedMs / 1000) * 1000) : 'in this process'],
    states: [
      states === undefined ? '–' : (states.isExact ? '' : '≈ ') + number(states.count),
      census?.idents === undefined ? 'not known' : 'of ' + (census.isEstimate ? '≈ ' : '') + number(census.idents) + ' idents',
    ],
  };
  Object.entries(plots).forEach(([id, [value, detail]], index) => {
    const plot = document.getElementById(id);
    setText(plot.querySelector('.value'), value);
    setText(plot.querySelector('.detail'), detail);
    draw(plot, samples.map(([at, values]) => [at, values[index]]), now);
  });
}

function bar() {
  return element('span', 'bar', element('span', ''));
}

function setBar(row, share) {
  // Through the object model: the policy forbids styles that are written down.
  row.querySelector('.bar > span').style.width = Math.min(share, 1) * 100 + '%';
}

function showLocks(report) {
  const { turns, openTurns } = report;
  const { lockWarningThreshold, maxHold } = optionsOf(report);
  const more = openTurns - turns.length;
  setText($('#locks .note'), 'Of this process. The bars are full after ' + duration(maxHold) + ': then the lock is lost.' + (more > 0 ? ' ' + number(more) + ' more are not shown.' : ''));
  fill(
    $('#locks tbody'),
    turns,
    () => {
      const handler = element('th', '', element('span', ''), ' ', element('span', 'tag'), element('span', 'under', element('span', ''), element('span', 'hash')));
      handler.scope = 'row';
      handler.append(bar());
      return element('tr', '', handler, element('td', 'number'), element('td', 'number'));
    },
    (row, { label, identHash, states, heldMs, waiting }) => {
      const level = heldMs > 0.8 * maxHold ? 'ending' : heldMs > lockWarningThreshold ? 'slow' : 'fine';
      row.dataset.level = level;
      const [name, tag, under] = row.children[0].children;
      setName(name, label);
      setText(tag, { ending: 'lost soon', slow: 'slow', fine: '' }[level]);
      tag.hidden = level === 'fine';
      const classes = states.filter((state) => state !== label).join(', ');
      setText(under.children[0], classes === '' ? '' : classes + ' · ');
      setText(under.children[1], '#' + identHash);
      setText(row.children[1], duration(heldMs));
      setText(row.children[2], number(waiting));
      row.children[2].classList.toggle('waits', waiting > 0);
      setBar(row, heldMs / maxHold);
    },
  );
  $('#locks table').hidden = turns.length === 0;
  $('#locks .empty').hidden = turns.length > 0;
  setText($('#locks .empty'), 'No lock is held right now.');
}

function showClasses(report) {
  const { mode, census, ageMs, hasFailed } = report;
  const classes = census?.classes ?? [];
  const { isPart, scale } = census === undefined ? {} : scaleOf(census);
  const rows = classes
    .map(({ name, count, measured, bytes: size }) => {
      const each = measured === 0 ? undefined : size / measured;
      return { name, count: count * scale, each, together: each === undefined ? undefined : each * count * scale };
    })
    .sort((a, b) => (b.together ?? 0) - (a.together ?? 0));
  const largest = Math.max(1, ...rows.map(({ together }) => together ?? 0));
  const about = (text, isAbout) => (text === undefined ? '–' : (isAbout ? '≈ ' : '') + text);
  fill(
    $('#classes tbody'),
    rows,
    () => {
      const name = element('th', '', element('span', ''));
      name.scope = 'row';
      name.append(bar());
      return element('tr', '', name, element('td', 'number'), element('td', 'number'), element('td', 'number'));
    },
    (row, { name, count, each, together }) => {
      setName(row.children[0].children[0], name);
      setText(row.children[1], about(number(count), isPart));
      setText(row.children[2], each === undefined ? '–' : bytes(each));
      setText(row.children[3], together === undefined ? '–' : bytes(together));
      setBar(row, (together ?? 0) / largest);
    },
  );
  $('#classes table').hidden = rows.length === 0;
  $('#classes .empty').hidden = rows.length > 0;
  setText($('#classes .empty'), emptyClasses(report));
  setText($('#classes .note'), census === undefined ? ' ' : basis(census, mode) + (hasFailed ? ' The store could not be looked at since.' : '') + (ageMs > 15000 ? ' ' + duration(ageMs) + ' ago.' : ''));
}

function emptyClasses({ census, hasFailed }) {
  if (census !== undefined) return 'Nothing is stored.';
  if (hasFailed === undefined) return 'Not known of this manager.';
  return hasFailed ? 'The store cannot be looked at. Trying again…' : 'Counting…';
}

/** What the numbers are from, in words. */
function basis({ idents, counted, measured, isEstimate }, mode) {
  const sizes = mode === 'memory' ? ' Sizes are estimates.' : ' Sizes are those of the records.';
  if (idents === undefined) return 'A sample of ' + number(counted) + ' idents; how many there are is not known.' + sizes;
  if (isEstimate || counted < idents)
    return 'Reckoned from a sample of ' + number(counted) + ' of ' + (isEstimate ? 'about ' : '') + number(idents) + ' idents.' + sizes;
  if (measured < counted) return 'Counts are of all ' + number(idents) + ' idents, sizes from a sample of ' + number(measured) + '.' + sizes;
  return idents === 0 ? ' ' : 'Of all ' + number(idents) + ' idents.' + sizes;
}

pause.addEventListener('click', () => {
  isPaused = !isPaused;
  pause.setAttribute('aria-pressed', String(isPaused));
  clearTimeout(timer);
  if (isPaused) connection('paused', 'Paused' + (answeredAt === undefined ? '' : ' at ' + answeredAt.toLocaleTimeString()));
  else look();
});
chosen.addEventListener('change', () => {
  const { report, samples } = processes.get(chosen.value);
  show(report, samples, performance.now());
});
// A page that nobody sees asks for nothing.
document.addEventListener('visibilitychange', () => {
  clearTimeout(timer);
  if (!document.hidden && !isPaused) look();
});
look();
`;

/** What the page runs: a module without imports. */
export const PAGE_SCRIPT = `${DRAWING}${LOOKING}`.trimStart();
