import { describe, expect, it } from '@jest/globals';
import { State, StateToken, type StateDeclaration, type StateEvent } from 'nestjs-state';
import { RecordedLogs } from '../support/manager-logs.js';
import { failureOf, newIdent, type ConformanceHarness } from './harness.js';
import { CounterState } from './states.js';

interface Profile {
  name?: string;
  first?: string;
  last?: string;
  tags?: string[];
}

/** The class of one release: the same name in the store, other fields in the code. */
function release(declaration: StateDeclaration, defaults: () => object): new () => Profile {
  @State({ name: 'profile', ...declaration })
  class ReleasedProfile {
    constructor() {
      Object.assign(this, defaults());
    }
  }
  return ReleasedProfile;
}

export function deploysSuite(harness: ConformanceHarness): void {
  describe('deploys', () => {
    const First = release({}, () => ({ name: 'nobody' }));
    const openStored = async () => {
      const manager = await harness.open();
      const ident = newIdent();
      await manager.modifyState(
        new StateToken(ident, First),
        (profile) => void (profile.name = 'Ada Lovelace'),
      );
      const logs = RecordedLogs.start();
      const events: StateEvent[] = [];
      manager.events$.subscribe((event) => events.push(event));
      return { manager, ident, logs, events };
    };

    it('S13: a field that is new gets the default of the class, and the others keep their values', async () => {
      const { manager, ident, logs } = await openStored();
      const Second = release({}, () => ({ name: 'nobody', tags: ['new'] }));
      const token = new StateToken(ident, Second);

      const profile = await manager.getState(token);
      expect(profile).toBeInstanceOf(Second);
      expect({ ...profile }).toStrictEqual({ name: 'Ada Lovelace', tags: ['new'] });
      await manager.modifyState(token, (draft, turn) => {
        expect(turn.isNew(Second)).toBe(false);
        draft.tags?.push('added');
      });
      expect((await manager.getState(token)).tags).toStrictEqual(['new', 'added']);
      expect(logs.warnings).toStrictEqual([]);
    });

    it('S13: an older version goes through migrate, with its version, until it is stored again', async () => {
      const { manager, ident } = await openStored();
      const versions: number[] = [];
      const Second = release(
        {
          version: 3,
          migrate: (old, version) => {
            versions.push(version);
            const [first, last] = (old['name'] as string).split(' ');
            delete old['name'];
            return { ...old, first, last };
          },
        },
        () => ({ first: '', last: '', tags: [] }),
      );
      const token = new StateToken(ident, Second);

      expect({ ...(await manager.getState(token)) }).toStrictEqual({
        first: 'Ada',
        last: 'Lovelace',
        tags: [],
      });
      await manager.modifyState(token, (profile) => void (profile.first = 'Augusta'));
      const calls = versions.length;
      expect(await manager.getState(token)).toMatchObject({ first: 'Augusta', last: 'Lovelace' });
      expect(versions).toStrictEqual(Array.from({ length: calls }, () => 1));
    });

    it('S13: migrate works on a copy: when its turn fails, the old record is still there', async () => {
      const { manager, ident } = await openStored();
      const Second = release(
        { version: 2, migrate: (old) => Object.assign(old, { name: 'changed' }) },
        () => ({}),
      );
      await failureOf(
        manager.modifyState(new StateToken(ident, Second), () => Promise.reject(new Error('refused'))),
      );

      expect(await manager.getState(new StateToken(ident, First))).toMatchObject({ name: 'Ada Lovelace' });
    });

    const unreadable: [string, StateDeclaration][] = [
      ['whose migrate throws', { version: 2, migrate: () => { throw new Error('no way'); } }], // prettier-ignore
      ['whose migrate returns nothing', { version: 2, migrate: () => undefined as never }],
      ['whose migrate returns what cannot be stored', { version: 2, migrate: () => ({ name: () => 1 }) }],
    ];
    it.each(unreadable)(
      'S13: a record %s yields a fresh state, one warning, one event and no failing call',
      async (_, declaration) => {
        const { manager, ident, logs, events } = await openStored();
        const Second = release(declaration, () => ({ first: 'fresh' }));
        const token = new StateToken(ident, Second);
        for (let round = 0; round < 3; round += 1) {
          expect({ ...(await manager.getState(token)) }).toStrictEqual({ first: 'fresh' });
          await manager.modifyState(token, (profile, turn) => {
            expect(turn.isNew(Second)).toBe(true);
            expect(profile.first).toBe('fresh');
          });
        }
        expect(logs.warnings).toHaveLength(1);
        expect(logs.warnings[0]).toContain('profile');
        expect(events).toMatchObject([{ type: 'unreadable', states: ['profile'] }]);

        await manager.modifyState(token, (profile) => void (profile.first = 'new start'));
        expect(await manager.getState(token)).toMatchObject({ first: 'new start' });
      },
    );

    it('S13: a record of a newer version is unreadable to an older class', async () => {
      const { manager, ident, logs } = await openStored();
      const Second = release({ version: 2 }, () => ({}));
      await manager.modifyState(new StateToken(ident, Second), (profile) => void (profile.tags = ['v2']));

      expect(await manager.getState(new StateToken(ident, First))).toMatchObject({ name: 'nobody' });
      expect(logs.warnings).toHaveLength(1);
      expect(await manager.getState(new StateToken(ident, Second))).toMatchObject({ tags: ['v2'] });
    });

    it('S13: an unreadable record does not touch the other states of its ident', async () => {
      const { manager, ident } = await openStored();
      await manager.modifyState(new StateToken(ident, CounterState), (counter) => counter.increment());
      const Broken = release({ version: 2, migrate: () => undefined as never }, () => ({}));
      await manager.modifyState(new StateToken(ident, Broken), (profile) => void (profile.first = 'x'));

      expect((await manager.getState(new StateToken(ident, CounterState))).count).toBe(1);
      expect(await manager.deleteState(ident)).toBe(true);
      expect(await manager.count()).toBe(0);
    });
  });
}
