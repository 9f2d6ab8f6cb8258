import { State } from 'nestjs-state';

// What a room may hold: above it the oldest strokes go.
const MAX_STROKES = 400;
const MAX_POINTS = 20_000;
const MAX_POINTS_OF_STROKE = 1_000;

/** A part of a stroke, as it is drawn. */
export interface StrokePart {
  id: string;
  width: number;
  /** How many points of the stroke come before these. */
  at: number;
  /** x, y, x, y … */
  points: number[];
}

export interface Stroke {
  id: string;
  by: string;
  colour: number;
  width: number;
  points: number[];
}

/** What a room has drawn, in the order in which it was stored. */
@State('board')
export class BoardState {
  /** When the first stroke came: another life of the board begins at another time. 0 while there is none. */
  life = 0;
  strokes: Stroke[] = [];
  /** Of all strokes together. */
  pointCount = 0;

  /**
   * Adds what it has not got yet of a part: one that is sent again, after a connection was lost, changes nothing. False when
   * what comes before it is missing, or the stroke is too long.
   */
  draw({ id, width, at, points }: StrokePart, by: string, colour: number, nowMs: number): boolean {
    let stroke = this.strokes.findLast((each) => each.id === id && each.by === by);
    const isNew = stroke === undefined;
    stroke ??= { id, by, colour, width, points: [] };
    const stored = stroke.points.length / 2;
    if (at > stored || at + points.length / 2 > MAX_POINTS_OF_STROKE) return false;
    const missing = points.slice((stored - at) * 2);
    stroke.points.push(...missing);
    if (isNew) this.strokes.push(stroke);
    if (this.life === 0) this.life = nowMs;
    this.pointCount += missing.length / 2;
    while (this.strokes.length > MAX_STROKES || this.pointCount > MAX_POINTS) this.remove(0);
    return true;
  }

  /** Takes the last stroke of that member back. */
  undo(by: string): void {
    const index = this.strokes.findLastIndex((stroke) => stroke.by === by);
    if (index >= 0) this.remove(index);
  }

  clear(): void {
    this.strokes = [];
    this.pointCount = 0;
  }

  private remove(index: number): void {
    for (const { points } of this.strokes.splice(index, 1)) this.pointCount -= points.length / 2;
  }
}
