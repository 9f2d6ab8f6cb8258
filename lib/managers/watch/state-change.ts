import type { Immutable } from 'immer';
import { jsonPatch, toJson, wholeJsonPatch, type JsonPatchOperation } from '../../internal/json-patch.js';

/**
 * Why a watcher is told: `current`, what is committed when it begins to watch; `committed` by one turn; `expired`, `deleted`,
 * `evicted`: nothing is stored any more; `resynced`: commits went by unseen, and this is what they have led to.
 */
export type StateChangeReason = 'current' | 'committed' | 'expired' | 'deleted' | 'evicted' | 'resynced';

/** One change of a watched state. Sent as JSON it is `{ state, patches, version, reason }`. */
export interface StateChange<T> {
  /** The committed state after the change, immutable; a fresh one where nothing is stored. */
  readonly state: Immutable<T>;
  /**
   * What turns the JSON of the state before the change into that of `state`: JSON Patch operations (RFC 6902), made when
   * they are first read. One that replaces the whole document for `current`, or where nothing less says it.
   */
  readonly patches: readonly JsonPatchOperation[];
  /** How many commits have made the state since it was created; 0 where nothing is stored. */
  readonly version: number;
  readonly reason: StateChangeReason;
}

/** A {@link StateChange} that can be sent as it is: as JSON, and as an event of an SSE stream. */
export class SentStateChange implements StateChange<object> {
  declare readonly patches: readonly JsonPatchOperation[];

  constructor(
    readonly state: Immutable<object>,
    readonly version: number,
    readonly reason: StateChangeReason,
    before: object | undefined,
  ) {
    let patches: readonly JsonPatchOperation[] | undefined;
    Object.defineProperty(this, 'patches', {
      enumerable: true,
      get: () => (patches ??= before === undefined ? wholeJsonPatch(state) : jsonPatch(before, state)),
    });
  }

  /** What an SSE stream sends. */
  get data(): object {
    return this.toJSON();
  }

  toJSON(): object {
    const { state, patches, version, reason } = this;
    return { state: toJson(state), patches, version, reason };
  }
}
