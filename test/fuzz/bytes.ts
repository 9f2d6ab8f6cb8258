import { seededRandom } from '../conformance/harness.js';

/** What `npm run fuzz` multiplies the number of tries by: then they are a million. */
const SCALE = Number(process.env['FUZZ_SCALE'] ?? 1);

/** How many tries there are, for each thousand of that million. */
export const tries = (thousands: number): number => thousands * 200 * SCALE;

/** What all of them come from: printed with their names, so that a failure can be had again. */
export const SEED = Number(process.env['FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

const INTERESTING = [0x00, 0x7f, 0x80, 0x90, 0xc0, 0xc4, 0xc7, 0xc9, 0xd4, 0xd9, 0xdb, 0xdd, 0xdf, 0xff];

/** Makes bytes that are nearly those of a sample, or nothing like them: the same ones for the same seed. */
export class ByteFuzzer {
  private readonly random: () => number;

  constructor(
    seed: number,
    private readonly samples: readonly Uint8Array[],
  ) {
    this.random = seededRandom(seed);
  }

  next(): Buffer {
    if (this.random() < 0.02) return this.noise();
    let bytes: Buffer = Buffer.from(this.sample());
    for (let change = 0; change <= this.below(3); change += 1) bytes = this.changed(bytes);
    return bytes;
  }

  /** A whole number from 0 to `limit`, which is not among them. */
  below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  private sample(): Uint8Array {
    return this.samples[this.below(this.samples.length)] as Uint8Array;
  }

  private noise(): Buffer {
    return Buffer.from(Array.from({ length: this.below(64) }, () => this.below(256)));
  }

  private changed(bytes: Buffer): Buffer {
    const at = this.below(bytes.length + 1);
    switch (this.below(7)) {
      case 0:
        return Buffer.concat([bytes.subarray(0, at)]);
      case 1:
        return Buffer.concat([bytes.subarray(0, at), this.noise(), bytes.subarray(at)]);
      case 2:
        return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + this.below(8))]);
      case 3: {
        const other = this.sample();
        return Buffer.concat([bytes.subarray(0, at), other.subarray(this.below(other.length))]);
      }
      case 4: {
        // Lengths that promise more than there is.
        if (at + 4 < bytes.length)
          bytes.writeUInt32BE(this.random() < 0.5 ? 0xffffffff : this.below(2 ** 32), at);
        return bytes;
      }
      case 5:
        if (at < bytes.length) bytes[at] = INTERESTING[this.below(INTERESTING.length)] as number;
        return bytes;
      default:
        if (at < bytes.length) bytes[at] = this.below(256);
        return bytes;
    }
  }
}
