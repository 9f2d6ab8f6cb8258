/** The states of one class, among the idents that were looked at. */
export interface ClassCensus {
  readonly name: string;
  /** How many of those idents have one. */
  readonly count: number;
  /** Of how many of them the size was seen, and how many bytes those take, about. */
  readonly measured: number;
  readonly bytes: number;
}

/** What a look at some of the stored states has shown. Nothing in it names an ident. */
export interface StateCensus {
  /** How many idents there are; `undefined` when that cannot be known cheaply. */
  readonly idents: number | undefined;
  /** `idents` is reckoned from a part of the store. */
  readonly isEstimate: boolean;
  /** Of how many idents the classes are counted. */
  readonly counted: number;
  /** Of how many idents the sizes were looked at, too. */
  readonly measured: number;
  readonly classes: readonly ClassCensus[];
}

/** Adds up what is found, class by class. */
export class CensusTally {
  private readonly classes = new Map<string, { count: number; measured: number; bytes: number }>();

  /** One more state. @param bytes Its size, where that was looked at. */
  add(name: string, bytes: number | undefined): void {
    let tally = this.classes.get(name);
    if (tally === undefined) this.classes.set(name, (tally = { count: 0, measured: 0, bytes: 0 }));
    tally.count += 1;
    if (bytes === undefined) return;
    tally.measured += 1;
    tally.bytes += bytes;
  }

  /** The classes, those with most states first. */
  list(): ClassCensus[] {
    return [...this.classes].map(([name, tally]) => ({ name, ...tally })).sort((a, b) => b.count - a.count);
  }
}
