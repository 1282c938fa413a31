/** A live query as a page sees it: rows that follow the database. */

import { CrsqlError, fromPlain } from "../errors.js";
import type { OwnerMessage } from "../messages.js";
import { asObject, encodeParams, Reader, type Integers, type Row, type SqlParams } from "../values.js";
import type { Link } from "./link.js";

/** How the rows differ from those before. */
export interface Diff<T> {
  added: T[];
  removed: T[];
  /** With the option `key`: the same key, other values. Without, such a row is removed and added. */
  changed: { before: T; after: T }[];
}

/** How a live query is watched. */
export interface LiveOptions<T = Row> {
  /** The column that names a row, so that a diff can tell a change from a removal and an addition. */
  key?: keyof T & string;
  /** The least time between two calls, in milliseconds; the last state is always told. */
  throttleMs?: number;
}

export type LiveCallback<T> = (rows: readonly T[], diff: Diff<T>) => void;

let lastId = 0;

/**
 * Rows that follow the database. A row that did not change is the same object in the next answer, and the array is the
 * same as long as no row changed; so both can be compared by identity.
 */
export class LiveQuery<T = Row> {
  private current: readonly T[] = [];
  private loaded = false;
  private failure: CrsqlError | undefined;
  private readonly subscribers = new Set<() => void>();
  private readonly callbacks = new Set<LiveCallback<T>>();
  private readonly onError = new Set<(error: CrsqlError) => void>();
  private readonly stop: () => void;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private toldAt = 0;
  private told: readonly T[] = [];
  private closed = false;
  /** Resolves with the first answer, or rejects when the query is wrong. */
  readonly ready: Promise<readonly T[]>;

  /** @internal Use `db.live()`. */
  constructor(link: Link, sql: string, params: SqlParams | undefined, private readonly integers: Integers, private readonly options: LiveOptions<T>) {
    const live = ++lastId;
    const unlisten = link.listen((message) => this.hear(live, message));
    const bytes = encodeParams(params);
    const { accepted, end } = link.stand(() => ({ op: "live", live, sql, params: bytes }));
    this.ready = accepted.then(
      () => this.current,
      (error: CrsqlError) => {
        this.fail(error);
        throw error;
      },
    );
    // Whoever only subscribes hears of an error there.
    this.ready.catch(() => {});
    this.stop = () => {
      unlisten();
      end();
      link.request({ op: "unlive", live }).catch(() => {});
    };
  }

  /** The rows now; empty until the first answer. */
  get rows(): readonly T[] {
    return this.current;
  }

  /** Whether there was an answer. */
  get isLoaded(): boolean {
    return this.loaded;
  }

  /** Why there are no rows, or no newer ones. */
  get error(): CrsqlError | undefined {
    return this.failure;
  }

  /** As `rows`: for React's `useSyncExternalStore` and its like. */
  readonly getSnapshot = (): readonly T[] => this.current;

  /** Calls back after each change of `rows` or `error`. */
  readonly subscribe = (callback: () => void): (() => void) => {
    this.subscribers.add(callback);
    return () => this.subscribers.delete(callback);
  };

  /** Calls back with the rows and what changed, at once if there was an answer already. */
  watch(callback: LiveCallback<T>, onError?: (error: CrsqlError) => void): () => void {
    this.callbacks.add(callback);
    if (onError) this.onError.add(onError);
    if (this.loaded) callback(this.current, { added: [...this.current], removed: [], changed: [] });
    return () => {
      this.callbacks.delete(callback);
      if (onError) this.onError.delete(onError);
    };
  }

  /** Each state of the rows, the latest if several came while nobody looked. Leaving the loop closes the query. */
  async *[Symbol.asyncIterator](): AsyncGenerator<readonly T[], void, void> {
    let seen: readonly T[] | undefined;
    try {
      await this.ready;
      while (!this.closed) {
        if (this.failure) throw this.failure;
        if (seen !== this.current) {
          seen = this.current;
          yield seen;
          continue;
        }
        await new Promise<void>((resolve) => {
          const off = this.subscribe(() => {
            off();
            resolve();
          });
        });
      }
    } finally {
      this.close();
    }
  }

  /** Ends it. `rows` stays as it is. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.timer);
    this.stop();
    this.notify();
  }

  private hear(live: number, message: OwnerMessage): void {
    if (message.kind === "patch" && message.live === live) this.patch(message.patch);
    if (message.kind === "liveError" && message.live === live) this.fail(fromPlain(message.error));
  }

  private fail(error: CrsqlError): void {
    if (this.closed) return;
    this.failure = error;
    for (const callback of [...this.onError]) callback(error);
    this.notify();
  }

  private patch(bytes: Uint8Array): void {
    const next = applyPatch(this.current, bytes, this.integers);
    this.failure = undefined;
    this.current = next;
    this.loaded = true;
    this.notify();
    if (this.callbacks.size > 0) this.schedule();
  }

  private schedule(): void {
    const wait = (this.options.throttleMs ?? 0) - (Date.now() - this.toldAt);
    if (wait <= 0) return this.tell();
    this.timer ??= setTimeout(() => this.tell(), wait);
  }

  private tell(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.toldAt = Date.now();
    const diff = difference(this.told, this.current, this.options.key);
    this.told = this.current;
    for (const callback of [...this.callbacks]) callback(this.current, diff);
  }

  private notify(): void {
    for (const callback of [...this.subscribers]) callback();
  }
}

/** The next answer from the last one and a patch: see `rust/patch.rs`. */
function applyPatch<T>(old: readonly T[], bytes: Uint8Array, integers: Integers): T[] {
  const reader = new Reader(bytes);
  const ops = Array.from({ length: reader.u32() }, () =>
    reader.u8() === 0 ? { start: reader.u32(), length: reader.u32() } : { start: -1, length: reader.u32() },
  );
  const fresh = reader.rows(integers, asObject<T>).rows;
  const next: T[] = [];
  let used = 0;
  for (const { start, length } of ops) {
    const from = start < 0 ? fresh : old;
    const first = start < 0 ? used : start;
    for (let index = first; index < first + length; index++) next.push(from[index]!);
    if (start < 0) used += length;
  }
  return next;
}

function difference<T>(before: readonly T[], after: readonly T[], key: (keyof T & string) | undefined): Diff<T> {
  const kept = new Set(before);
  const added = after.filter((row) => !kept.delete(row));
  const removed = [...kept];
  if (key === undefined) return { added, removed, changed: [] };
  const gone = new Map(removed.map((row) => [row[key], row]));
  const changed: Diff<T>["changed"] = [];
  const reallyAdded = added.filter((row) => {
    const old = gone.get(row[key]);
    if (old === undefined) return true;
    gone.delete(row[key]);
    changed.push({ before: old, after: row });
    return false;
  });
  return { added: reallyAdded, removed: [...gone.values()], changed };
}
