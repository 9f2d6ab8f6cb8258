/** A place in objects that are somebody else's. */
export interface PrivateSlot<T> {
  /** What was put into `holder`. */
  get(holder: object): T | undefined;
  /** Puts `value` into `holder`, in the place of what was there. */
  put(holder: object, value: T): void;
}

/** What extends it has its private fields in an object that is there already. */
class Adopted {
  constructor(holder: object) {
    return holder;
  }
}

/**
 * A new slot: a private field that is added to the objects themselves.
 *
 * Guarantee: nothing that copies, logs or lists the properties of an object shows it, and a value that knows its object
 * is garbage together with it. In a WeakMap it would stay until a full collection. Cost: that of a property.
 */
export function createPrivateSlot<T>(): PrivateSlot<T> {
  // What cannot be extended is going to take no private fields either.
  const elsewhere = new WeakMap<object, T>();
  return class Slot extends Adopted {
    #value: T;

    constructor(holder: object, value: T) {
      super(holder);
      this.#value = value;
    }

    static get(holder: object): T | undefined {
      return #value in holder ? holder.#value : elsewhere.get(holder);
    }

    static put(holder: object, value: T): void {
      if (#value in holder) holder.#value = value;
      else if (Object.isExtensible(holder)) void new Slot(holder, value);
      else elsewhere.set(holder, value);
    }
  };
}
