import { beforeEach, describe, expect, it } from '@jest/globals';
import { State } from 'nestjs-state';
import { StateCodec } from '../../../../lib/internal/state-codec.js';
import { definitionOf, type StateDefinition } from '../../../../lib/internal/state-definition.js';
import { freshSnapshot, StateDraft } from '../../../../lib/internal/state-draft.js';
import type { Look } from '../../../../lib/managers/redis/lock-commands.js';
import type { ChangedMessage } from '../../../../lib/managers/redis/wake-message.js';
import { WatchRoom } from '../../../../lib/managers/redis/watch-room.js';
import { WatchedState } from '../../../../lib/managers/watch/watched-state.js';

@State('room-counter')
class CounterState {
  count = 0;
}

const definition = definitionOf(CounterState) as StateDefinition;
const codec = new StateCodec();

/** The state after so many commits, which is also what it counts. */
function snapshotOf(version: number) {
  const draft = new StateDraft(definition, freshSnapshot(definition));
  (draft.value as CounterState).count = version;
  return draft.finish();
}

function lookAt(version: number): Look {
  if (version === 0) return { commit: '', lifeMs: -2, fields: [] };
  const record = codec.encode(definition, snapshotOf(version), version);
  return {
    commit: `c${version}`,
    lifeMs: 60_000,
    fields: [Buffer.from('room-counter'), Buffer.from(record)],
  };
}

/** What is told of the commit that makes that version. */
function messageOf(version: number): ChangedMessage {
  const patches = [{ op: 'set' as const, path: ['count'], value: version }];
  const record = codec.encode(definition, snapshotOf(version), version);
  const change = version === 1 ? { record } : { patches };
  const states = [{ name: 'room-counter', version: definition.version, commits: version, change }];
  return {
    type: 'changed',
    hash: '',
    before: version === 1 ? '' : `c${version - 1}`,
    commit: `c${version}`,
    isDeleted: false,
    content: { steps: codec.encodeSteps([{ isDeleted: false, states }]) },
  };
}

describe('WatchRoom', () => {
  let nowMs: number;
  let checks: number;
  let state: WatchedState;
  let room: WatchRoom;

  beforeEach(() => {
    nowMs = 1_000;
    checks = 0;
    state = new WatchedState(definition, () => undefined);
    room = new WatchRoom('ident', state, {
      codec,
      nowMs: () => nowMs,
      checkSoon: () => (checks += 1),
      onUnreadable: () => undefined,
    });
  });

  function look(version: number): void {
    room.checking();
    room.found(lookAt(version));
  }

  it('applies what follows, and nothing twice', () => {
    look(1);
    room.hear(messageOf(2));
    room.hear(messageOf(3));
    expect(state.version).toBe(3);
    expect(checks).toBe(0);
  });

  it('applies a commit once that is told twice, because its process has sent it twice', () => {
    look(1);
    room.hear(messageOf(2));
    const told: string[] = [];
    state.gone = (reason) => void told.push(reason);
    room.hear({ ...messageOf(2), before: 'c2', isDeleted: true, content: { fields: [] } });
    room.hear(messageOf(3));
    expect(told).toStrictEqual([]);
    expect(checks).toBe(0);
    expect(state.version).toBe(3);
  });

  it('leaves out what the first look has shown, in whatever order that comes', () => {
    room.checking();
    room.hear(messageOf(2));
    room.hear(messageOf(3));
    room.found(lookAt(3));
    room.hear(messageOf(4));
    expect(state.version).toBe(4);
    look(4);
    expect(state.version).toBe(4);
  });

  it('a commit that was seen in the store and is still on its way as a message is nothing that was missed', () => {
    look(1);
    look(2);
    expect(state.version).toBe(1);
    room.hear(messageOf(2));
    expect(state.version).toBe(2);
    nowMs += 1_000;
    look(2);
    expect(state.version).toBe(2);
  });

  it('one that was applied while the store was looked at does not lead back', () => {
    look(1);
    room.checking();
    room.hear(messageOf(2));
    room.hear(messageOf(3));
    room.found(lookAt(2));
    nowMs += 1_000;
    look(3);
    expect(state.version).toBe(3);
  });

  it('makes up for a message that was lost, also while commits go on and on', () => {
    look(1);
    let version = 3;
    for (; nowMs < 1_200 && state.version === 1; version += 1) {
      room.hear(messageOf(version));
      nowMs += 10;
      look(version);
    }
    expect(checks).toBeGreaterThan(0);
    expect(state.version).toBe(version - 1);
    room.hear(messageOf(version));
    expect(state.version).toBe(version);
  });

  it('a commit on nothing, some time later, says that the states had expired', () => {
    look(5);
    nowMs += 1_000;
    room.hear(messageOf(1));
    expect(state.version).toBe(1);
  });

  it('a patch that does not fit here is no reason to go wrong: the store is asked', () => {
    look(1);
    const message = messageOf(2);
    const steps = [{ isDeleted: false, states: [{ name: 'room-counter', version: 9, commits: 2, change: { patches: [] } }] }]; // prettier-ignore
    room.hear({ ...message, content: { steps: codec.encodeSteps(steps) } });
    expect(checks).toBe(1);
    look(2);
    expect(state.version).toBe(2);
  });
});
