import type { DeadlineNode } from '../../internal/deadline-queue.js';

/** An ident with states on the disk. What it is called is known since somebody has used it in this process. */
export class DiskEntry implements DeadlineNode {
  previous: DeadlineNode | undefined = undefined;
  next: DeadlineNode | undefined = undefined;
  deadlineMs = 0;
  ident: string | undefined = undefined;

  constructor(
    readonly hash: string,
    /** Of its states. */
    public names: readonly string[],
  ) {}
}
