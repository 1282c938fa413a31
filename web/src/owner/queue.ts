/** One thing at a time, in order; a transaction keeps the others waiting. */

type Task = () => Promise<void>;

/** The order of work on one connection. */
export class Queue {
  private waiting: Task[] = [];
  private inside: Task[] = [];
  private busy = false;
  /** Who has it for longer than one task. */
  private holder: object | undefined;
  private idle: (() => void)[] = [];

  /** Called when everything is done. */
  constructor(private readonly whenDrained: () => Promise<void>) {}

  /** Runs a task when its turn comes. Tasks of the holder run while it holds. */
  push(task: Task, holder?: object): void {
    (holder ? this.inside : this.waiting).push(task);
    void this.pump();
  }

  /** Only tasks of this holder run until it is released. To be called from a task. */
  hold(holder: object): void {
    this.holder = holder;
  }

  /** Lets the others go on. */
  release(): void {
    this.holder = undefined;
    void this.pump();
  }

  /** How many tasks wait. */
  get length(): number {
    return this.waiting.length;
  }

  /** Drops what has not begun. */
  clear(): void {
    this.waiting = [];
    this.inside = [];
  }

  /** Resolves when no task is running. */
  quiet(): Promise<void> {
    return this.busy ? new Promise((resolve) => this.idle.push(resolve)) : Promise.resolve();
  }

  private next(): Task | undefined {
    return this.inside.shift() ?? (this.holder ? undefined : this.waiting.shift());
  }

  private async pump(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    try {
      for (;;) {
        for (let task = this.next(); task; task = this.next()) await task();
        if (this.holder) break;
        await this.whenDrained();
        if (this.inside.length === 0 && this.waiting.length === 0) break;
      }
    } finally {
      this.busy = false;
      for (const resolve of this.idle.splice(0)) resolve();
    }
  }
}
