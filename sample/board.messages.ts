import { createHash } from 'node:crypto';
import { WsException } from '@nestjs/websockets';
import type { Member } from './board-members.state.js';
import type { StrokePart } from './board.state.js';
import { RateLimit } from './rate-limit.js';

/** The board, in units of its own: every page shows it at the size it has room for. */
const WIDTH = 1_200;
const HEIGHT = 1_000;
const ROOM = /^[a-z0-9][a-z0-9-]{0,31}$/;
const SECRET = /^[\w-]{16,64}$/;
const STROKE_ID = /^[\w-]{1,24}$/;
const WIDTHS: readonly unknown[] = [4, 10, 24];
const MAX_POINTS_OF_PART = 64;
const MAX_AT = 10_000;

const ADJECTIVES = ['Amber', 'Bold', 'Calm', 'Clever', 'Gentle', 'Lucky', 'Merry', 'Quick', 'Quiet', 'Sunny'];
const ANIMALS = [
  'Badger',
  'Crane',
  'Finch',
  'Fox',
  'Heron',
  'Hare',
  'Lynx',
  'Otter',
  'Raven',
  'Seal',
  'Wren',
];

/** One connection to a board. */
export interface Visitor {
  readonly room: string;
  /** What others know it by. It stays the same when the page connects again. */
  readonly id: string;
  readonly name: string;
  readonly draws: RateLimit;
  readonly cursors: RateLimit;
  /** What it watches already. */
  readonly watches: Set<string>;
  /** Resolves when it is known who it is; `undefined` when it is nobody. */
  member?: Promise<Member | undefined>;
  hasLeft: boolean;
}

/** What a page knows of the board from before its connection was lost. */
export interface Known {
  readonly version: number;
  readonly life: number;
}

/** @throws {Error} when a page does not say properly who it is: the message is for its user. */
export function visitorOf(auth: unknown): Visitor {
  const { room, secret } = fieldsOf(auth);
  if (typeof room !== 'string' || !ROOM.test(room))
    throw new Error('A room has a name of up to 32 small letters, digits and hyphens.');
  if (typeof secret !== 'string' || !SECRET.test(secret)) throw new Error('Reload the page.');
  // Others are shown the id, and must not be able to draw or undo in its name.
  const hash = createHash('sha256').update(secret).digest();
  return {
    room,
    id: hash.toString('hex', 0, 8),
    // No text of anybody is shown to others.
    name: `${ADJECTIVES[(hash[8] ?? 0) % ADJECTIVES.length]} ${ANIMALS[(hash[9] ?? 0) % ANIMALS.length]}`,
    draws: new RateLimit(60, 120),
    cursors: new RateLimit(40, 40),
    watches: new Set(),
    hasLeft: false,
  };
}

export function strokePartOf(message: unknown): StrokePart {
  const { id, width, at, points } = fieldsOf(message);
  if (typeof id !== 'string' || !STROKE_ID.test(id)) throw new WsException('A stroke has an id.');
  if (!WIDTHS.includes(width)) throw new WsException(`A pen is ${WIDTHS.join(', ')} wide.`);
  if (!isWithin(at, MAX_AT)) throw new WsException('A part begins at one of the points of its stroke.');
  const areSome = Array.isArray(points) && points.length >= 2 && points.length <= 2 * MAX_POINTS_OF_PART;
  if (!areSome || points.length % 2 > 0)
    throw new WsException(`A part of a stroke has up to ${MAX_POINTS_OF_PART} points.`);
  if (!points.every((value, index) => isWithin(value, index % 2 === 0 ? WIDTH : HEIGHT)))
    throw new WsException('A point lies on the board.');
  return { id, width: width as number, at, points: points as number[] };
}

/** `undefined` where there is none: such a message is worth no answer. */
export function cursorOf(message: unknown): { x: number; y: number } | undefined {
  const { x, y } = fieldsOf(message);
  return isWithin(x, WIDTH) && isWithin(y, HEIGHT) ? { x, y } : undefined;
}

export function knownOf(message: unknown): Known | undefined {
  const { version, life } = fieldsOf(message);
  const isKnown = isWithin(version, Number.MAX_SAFE_INTEGER) && isWithin(life, Number.MAX_SAFE_INTEGER);
  return isKnown ? { version, life } : undefined;
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function isWithin(value: unknown, highest: number): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= highest;
}
