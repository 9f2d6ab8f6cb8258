import { WatchedState } from './state-client.js';

const DEFAULT_ROOM = 'lobby';
const PALETTE = [
  ['#4f46e5', 'indigo'],
  ['#d92d20', 'red'],
  ['#0f766e', 'teal'],
  ['#c2410c', 'orange'],
  ['#a21caf', 'purple'],
  ['#15803d', 'green'],
  ['#0369a1', 'blue'],
  ['#be185d', 'pink'],
  ['#854d0e', 'brown'],
  ['#4d7c0f', 'olive'],
  ['#6d28d9', 'violet'],
  ['#334155', 'slate'],
];
const SIZE = { width: 1_200, height: 1_000 };
const SVG = 'http://www.w3.org/2000/svg';
const ANSWER_TIMEOUT_MS = 10_000;
/** The server takes about sixty messages a second. */
const BETWEEN_PARTS_MS = 25;
const BETWEEN_CURSORS_MS = 50;
const CURSOR_SHOWN_MS = 4_000;
/** With the name. */
const CURSOR_HEIGHT = 66;
const POINTS_OF_PART = 64;
const POINTS_OF_STROKE = 1_000;
/** How long a stroke that was stored is shown without being on the board: somebody may have cleared it. */
const GRACE_MS = 1_000;
/** Nearer points would not be seen. */
const LEAST_STEP = 3;

const element = (id) => document.getElementById(id);
const view = {
  board: element('board'),
  cursors: element('cursors'),
  error: element('error'),
  hint: element('hint'),
  memberCount: element('member-count'),
  members: element('members'),
  pending: element('pending'),
  status: element('status'),
  strokeCount: element('stroke-count'),
  strokes: element('strokes'),
};

const room = new URLSearchParams(location.search).get('room') || DEFAULT_ROOM;
element('room').value = room;
element('share').href = `/board?room=${encodeURIComponent(room)}`;
document.title = `${room} · Board · nestjs-state`;

const newId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => (byte % 36).toString(36)).join('');
// With the secret this page stays the same member when it connects again, and nobody else can be it.
const socket = io('/board', { auth: { room, secret: newId() + newId() } });
let me;

function say(text) {
  if (view.error.textContent !== text) view.error.textContent = text;
}

function status(state, text) {
  view.status.dataset.state = state;
  view.status.textContent = text;
}

socket.on('me', (member) => {
  me = member;
  document.documentElement.style.setProperty('--own', colourOf(me.colour));
  status('on', 'live');
  showMembers();
  send();
});
socket.on('disconnect', (reason) => {
  // Only what the server has ended on purpose does not begin again by itself.
  if (reason === 'io server disconnect') status('off', 'disconnected');
  else status('off', 'lost, trying again');
});
socket.on('connect_error', ({ message }) => {
  if (socket.active) {
    status('off', 'not reachable, trying again');
    return;
  }
  status('off', 'refused');
  say(message);
});

// ---- the board --------------------------------------------------------------------------------------------------

/** The drawn strokes, by their objects: one that has not changed is the same object, and drawn already. */
let drawn = new Map();

const board = new WatchedState(socket, 'board', ({ state }, reason) => {
  const kept = new Map();
  const lines = state.strokes.map((stroke) => {
    const line = drawn.get(stroke) ?? lineOf(stroke.points, stroke.colour, stroke.width);
    kept.set(stroke, line);
    return line;
  });
  drawn = kept;
  // Their order is that in which the server has stored them, in every tab.
  for (const [index, line] of lines.entries()) {
    const there = view.strokes.children[index];
    if (there === undefined) view.strokes.append(line);
    else if (there !== line) there.replaceWith(line);
  }
  while (view.strokes.children.length > lines.length) view.strokes.lastElementChild.remove();
  showPending();
  const count = lines.length === 1 ? '1 stroke' : `${lines.length} strokes`;
  view.strokeCount.textContent = lines.length === 0 ? 'No strokes yet' : count;
  view.board.setAttribute('aria-label', `The board, ${lines.length === 0 ? 'empty' : `with ${count}`}`);
  if (reason === 'expired')
    view.hint.textContent = 'The board was left alone for its idle time: it begins anew.';
  if (reason === 'committed') view.hint.textContent = 'Draw here. Everybody in this room sees it at once.';
  view.hint.hidden = lines.length > 0 || outbox.length > 0;
});

function lineOf(points, colour, width) {
  const line = document.createElementNS(SVG, 'polyline');
  // A single point is a dot: a line to itself.
  line.setAttribute('points', (points.length === 2 ? [...points, ...points] : points).join(' '));
  line.setAttribute('stroke', colourOf(colour));
  line.setAttribute('stroke-width', width);
  return line;
}

function colourOf(colour) {
  return (PALETTE[colour] ?? PALETTE[0])[0];
}

// ---- drawing ----------------------------------------------------------------------------------------------------

/** What this page has drawn and does not see on the board yet. */
let outbox = [];
/** The stroke under each pointer that is down. */
const open = new Map();
let isSending = false;

function pointOf({ clientX, clientY }) {
  const box = view.board.getBoundingClientRect();
  return [
    Math.round(share(clientX - box.left, box.width) * SIZE.width),
    Math.round(share(clientY - box.top, box.height) * SIZE.height),
  ];
}

function share(part, whole) {
  return Math.min(Math.max(part / whole, 0), 1);
}

function begin(pointer, points) {
  const width = Number(document.querySelector('input[name="width"]:checked').value);
  const stroke = { id: newId(), width, points, sent: 0, isOpen: true };
  open.set(pointer, stroke);
  outbox.push(stroke);
}

view.board.addEventListener('pointerdown', (event) => {
  if (event.button !== 0) return;
  event.preventDefault();
  view.board.setPointerCapture(event.pointerId);
  begin(event.pointerId, pointOf(event));
  changed();
});
view.board.addEventListener('pointermove', (event) => {
  point(event);
  const stroke = open.get(event.pointerId);
  if (stroke === undefined) return;
  for (const each of event.getCoalescedEvents?.() ?? [event]) {
    const [x, y] = pointOf(each);
    const { points } = open.get(event.pointerId);
    if (Math.hypot(x - points.at(-2), y - points.at(-1)) < LEAST_STEP) continue;
    points.push(x, y);
    // The server stores no longer ones; the next one goes on where this one ends.
    if (points.length === 2 * POINTS_OF_STROKE) {
      open.get(event.pointerId).isOpen = false;
      begin(event.pointerId, [x, y]);
    }
  }
  changed();
});
for (const end of ['pointerup', 'pointercancel', 'lostpointercapture']) {
  view.board.addEventListener(end, ({ pointerId }) => {
    const stroke = open.get(pointerId);
    if (stroke === undefined) return;
    open.delete(pointerId);
    stroke.isOpen = false;
    changed();
  });
}
element('undo').addEventListener('click', () => ask('undo'));
element('clear').addEventListener('click', () => ask('clear'));

function changed() {
  view.hint.hidden = true;
  showPending();
  send();
}

/** What is drawn is shown at once, above the board, until the board has it. */
function showPending() {
  const stored = new Map(board?.state?.strokes.map(({ id, by, points }) => [`${by} ${id}`, points.length]));
  outbox = outbox.filter(
    ({ id, points, isOpen, isDropped }) =>
      !isDropped && (isOpen || (stored.get(`${me?.id} ${id}`) ?? 0) < points.length),
  );
  view.pending.replaceChildren(...outbox.map(({ points, width }) => lineOf(points, me?.colour, width)));
}

/**
 * Sends what the server has not got yet, one part after the other, so that however fast somebody draws there is one message
 * under way. Each part says where it belongs: one whose answer was lost can be sent again.
 */
async function send() {
  if (isSending) return;
  isSending = true;
  try {
    for (let stroke = nextToSend(); stroke !== undefined && socket.connected; stroke = nextToSend()) {
      const points = stroke.points.slice(stroke.sent, stroke.sent + 2 * POINTS_OF_PART);
      const { id, width, sent } = stroke;
      const { isDrawn } = await request('draw', { id, width, at: sent / 2, points });
      if (isDrawn) {
        stroke.sent += points.length;
        setTimeout(() => forget(stroke), GRACE_MS);
      } else {
        // Somebody has cleared it away while it was drawn.
        drop(stroke);
      }
      say('');
      await new Promise((resolve) => setTimeout(resolve, BETWEEN_PARTS_MS));
    }
  } catch (error) {
    // A connection that was lost says so itself, and the next one goes on here.
    if (socket.connected) {
      say(`Not drawn: ${error.message}`);
      for (const stroke of outbox) drop(stroke);
    }
  } finally {
    isSending = false;
  }
}

function nextToSend() {
  return me === undefined ? undefined : outbox.find(({ sent, points }) => sent < points.length);
}

function forget(stroke) {
  if (!stroke.isOpen && stroke.sent === stroke.points.length) drop(stroke);
}

function drop(stroke) {
  stroke.isDropped = true;
  for (const [pointer, each] of open) if (each === stroke) open.delete(pointer);
  showPending();
}

async function ask(event) {
  try {
    await request(event, {});
    say('');
  } catch (error) {
    say(`That did not work: ${error.message}`);
  }
}

const unanswered = new Set();
// An error comes as an event of its own and not as the acknowledgement. Requests are answered in order.
socket.on('exception', ({ message }) => {
  const [oldest] = unanswered;
  if (oldest === undefined) say(message);
  else oldest(new Error(message));
});

function request(event, message) {
  return new Promise((resolve, reject) => {
    const settle = (error, answer) => {
      unanswered.delete(settle);
      if (error) reject(error);
      else resolve(answer);
    };
    unanswered.add(settle);
    socket.timeout(ANSWER_TIMEOUT_MS).emit(event, message, settle);
  });
}

// ---- who is there -----------------------------------------------------------------------------------------------

const members = new WatchedState(socket, 'members', showMembers);

function showMembers() {
  const there = Object.entries(members?.state?.members ?? {});
  view.memberCount.textContent = there.length > 0 ? `· ${there.length}` : '';
  view.members.replaceChildren(
    ...there.map(([id, { name, colour }]) => {
      const item = document.createElement('li');
      const dot = document.createElement('i');
      dot.style.background = colourOf(colour);
      dot.title = (PALETTE[colour] ?? PALETTE[0])[1];
      item.append(dot, name);
      if (id === me?.id) item.append(Object.assign(document.createElement('small'), { textContent: 'you' }));
      return item;
    }),
  );
  for (const [id, cursor] of cursors) if (!there.some(([other]) => other === id)) removeCursor(id, cursor);
}

const cursors = new Map();
let pointedAtMs = 0;

/** Tells the others where this pointer is. */
function point(event) {
  if (!socket.connected || performance.now() - pointedAtMs < BETWEEN_CURSORS_MS) return;
  pointedAtMs = performance.now();
  const [x, y] = pointOf(event);
  socket.volatile.emit('cursor', { x, y });
}

socket.on('cursor', ({ id, x, y }) => {
  const member = members.state?.members[id];
  if (member === undefined) return;
  let cursor = cursors.get(id);
  if (cursor === undefined) cursors.set(id, (cursor = newCursor(member)));
  cursor.shape.style.transform = `translate(${x}px, ${y}px)`;
  // The name stays on the board.
  const [left, up] = [x + cursor.width > SIZE.width, y + CURSOR_HEIGHT > SIZE.height];
  cursor.label.setAttribute('transform', `translate(${left ? -cursor.width : 0} ${up ? -CURSOR_HEIGHT : 0})`);
  clearTimeout(cursor.timer);
  cursor.timer = setTimeout(() => removeCursor(id, cursor), CURSOR_SHOWN_MS);
});

function newCursor({ name, colour }) {
  const shape = document.createElementNS(SVG, 'g');
  const [arrow, label, box, text] = ['path', 'g', 'rect', 'text'].map((tag) =>
    document.createElementNS(SVG, tag),
  );
  arrow.setAttribute('d', 'M0 0l11 32 7-13 14-5z');
  for (const part of [arrow, box]) part.setAttribute('fill', colourOf(colour));
  text.textContent = name;
  text.setAttribute('x', 38);
  text.setAttribute('y', 56);
  label.append(box, text);
  shape.append(arrow, label);
  view.cursors.append(shape);
  const width = text.getComputedTextLength() + 24;
  for (const [key, value] of Object.entries({ x: 26, y: 30, width, height: 36, rx: 12 }))
    box.setAttribute(key, value);
  return { shape, label, width: width + 26 };
}

function removeCursor(id, { shape, timer }) {
  clearTimeout(timer);
  shape.remove();
  cursors.delete(id);
}
