import { immutableJSONPatch } from './immutable-json-patch/index.js';

/**
 * A copy of a state that the server watches for this page, over socket.io: the server answers `watch:<name>` with
 * an event `<name>` for what there is, and one for each change: `{ state, patches, version, reason }`.
 *
 * The server may leave out `state` where the patches say it all. A state whose `life` tells when it began is never
 * shown older than it was, and need not be sent again after a connection was lost.
 */
export class WatchedState {
  /** The state as JSON, immutable: what a change leaves alone stays the same object. `undefined` before the first. */
  state;
  /** How many commits have made it. */
  version = -1;

  /** @param show Called with this copy, and the reason, whenever it has changed. */
  constructor(socket, name, show) {
    this.socket = socket;
    this.name = name;
    this.show = show;
    socket.on(name, (change) => this.take(change));
    // Whenever there is a connection, also a new one: with what this copy has, so that only the rest need be sent.
    socket.on('connect', () => this.subscribe());
    if (socket.connected) this.subscribe();
  }

  subscribe() {
    this.socket.emit(`watch:${this.name}`, { version: this.version, life: this.state?.life });
  }

  take({ state, patches, version, reason }) {
    if (reason === 'committed' && version === this.version + 1) {
      this.become(immutableJSONPatch(this.state, patches), version, reason);
    } else if (state !== undefined) {
      // In one life of the state, a lower version is an older one.
      if (version < this.version && state.life !== undefined && state.life === this.state?.life) return;
      this.become(state, version, reason);
    } else if (version > this.version) {
      // Something was missed: a new subscription brings the whole.
      this.socket.disconnect().connect();
    }
  }

  become(state, version, reason) {
    this.state = state;
    this.version = version;
    this.show(this, reason);
  }
}
