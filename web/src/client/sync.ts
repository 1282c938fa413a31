/** Sync as a page sees it. */

import { CrsqlError, fromPlain } from "../errors.js";
import type { OwnerMessage, PresenceEntry, SyncStatus, SyncWish } from "../messages.js";
import type { Database } from "./database.js";

/** Whom to sync with. */
export interface SyncOptions {
  /** The relay: `wss://…` (or `ws://` where that is safe). */
  url: string;
  /** The room: all replicas of one room hold the same data. */
  room: string;
  /** Called for each attempt to connect. */
  token?: () => string | Promise<string>;
  /** Do not connect before `resume()`. */
  paused?: boolean;
}

/** What listeners of `on()` get. */
export interface SyncEvents {
  /** After each change of `status`. */
  status: SyncStatus;
  /** The relay refused, or set something aside. */
  error: CrsqlError;
}

/** What somebody says about themselves. */
export interface Present<T> {
  /** Which replica, in hexadecimal. */
  site: string;
  /** Which of its pages. */
  page: string;
  /** Whether it is this very page. */
  isMe: boolean;
  value: T;
}

let lastId = 0;
const INITIAL: SyncStatus = {
  state: "connecting", caughtUp: false, flushed: false, receivedBytes: 0, sentBytes: 0,
};

/** A database in sync with a room. Made by `db.sync()`. */
export class Sync {
  private readonly id = ++lastId;
  private current: SyncStatus = INITIAL;
  private state: SyncWish["state"];
  private readonly listeners = { status: new Set<(value: SyncStatus) => void>(), error: new Set<(value: CrsqlError) => void>() };
  private stand: { end: () => void };
  private readonly unlisten: () => void;
  private readonly uncloser: () => void;
  /** Who is here: what pages say about themselves, to all of the room, never stored. */
  readonly presence: Presence;

  /** @internal Use `db.sync()`. */
  constructor(private readonly db: Database, private readonly options: SyncOptions) {
    this.state = options.paused ? "paused" : "on";
    this.unlisten = db.link.listen((message) => this.hear(message));
    this.stand = this.say();
    this.presence = new Presence(db, this.id);
    this.uncloser = db.onClose(() => this.close());
  }

  /** How it is doing. */
  get status(): SyncStatus {
    return this.current;
  }

  /** For `useSyncExternalStore` and its like. */
  readonly getSnapshot = (): SyncStatus => this.current;
  readonly subscribe = (callback: () => void): (() => void) => this.on("status", callback);

  /** Calls back on events; returns how to stop. */
  on<E extends keyof SyncEvents>(event: E, callback: (value: SyncEvents[E]) => void): () => void {
    const listeners = this.listeners[event] as Set<(value: SyncEvents[E]) => void>;
    listeners.add(callback);
    return () => listeners.delete(callback);
  }

  /**
   * Resolves when everything that was written here is confirmed by the relay, however long that takes.
   *
   * @throws CrsqlError `SYNC` when the relay refuses, `CLOSED` when sync ends before
   */
  async flush(): Promise<void> {
    await this.db.link.request({ op: "flush", sync: this.id });
  }

  /** Disconnects until `resume()`. */
  pause(): void {
    this.change("paused");
  }

  /** Connects again; after a refusal too, with a new token. */
  resume(): void {
    this.change("on");
  }

  /** Ends it. What was written and not confirmed is sent the next time. */
  close(): void {
    if (this.state === "closed") return;
    this.presence.end();
    this.change("closed");
    this.stand.end();
    this.unlisten();
    this.uncloser();
    this.current = { ...this.current, state: "closed" };
    this.emit("status", this.current);
  }

  private change(state: SyncWish["state"]): void {
    if (this.state === "closed") return;
    this.state = state;
    this.stand.end();
    this.stand = this.say();
  }

  private say(): { end: () => void } {
    const { url, room, token } = this.options;
    const wish = (): SyncWish => ({ url, room, hasToken: token !== undefined, state: this.state });
    const { accepted, end } = this.db.link.stand(() => ({ op: "sync", sync: this.id, options: wish() }));
    accepted.catch((error: CrsqlError) => error.code === "CLOSED" || this.emit("error", error));
    return { end };
  }

  private hear(message: OwnerMessage): void {
    if (message.kind === "sync" && message.sync === this.id) {
      const before = this.current.error?.message;
      this.current = message.status;
      this.emit("status", this.current);
      const { error } = this.current;
      const isNews = error && error.message !== before && this.current.state !== "offline";
      if (isNews) this.emit("error", fromPlain(error));
    }
    if (message.kind === "presence" && message.sync === this.id) this.presence.show(message.entries);
    if (message.kind === "askToken" && message.sync === this.id) void this.giveToken(message.ask);
  }

  private async giveToken(ask: number): Promise<void> {
    try {
      this.db.link.tell({ kind: "token", ask, token: await this.options.token?.() });
    } catch (error) {
      this.db.link.tell({ kind: "token", ask, error: (error as Error).message });
    }
  }

  private emit<E extends keyof SyncEvents>(event: E, value: SyncEvents[E]): void {
    for (const callback of [...(this.listeners[event] as Set<(value: SyncEvents[E]) => void>)]) callback(value);
  }
}

/** Who is here. */
export class Presence {
  private readonly page = crypto.randomUUID();
  private entries: readonly Present<unknown>[] = [];
  private readonly subscribers = new Set<() => void>();
  private stand: { end: () => void } | undefined;

  /** @internal Use `sync.presence`. */
  constructor(private readonly db: Database, private readonly sync: number) {}

  /** Says something about this page, anything that JSON can say and 4 KiB hold; `null` takes it back. */
  set(value: unknown): void {
    const data = value === null || value === undefined ? null : JSON.stringify(value);
    this.stand?.end();
    const { accepted, end } = this.db.link.stand(() => ({ op: "presence", sync: this.sync, topic: this.page, data }));
    accepted.catch(() => {});
    this.stand = { end };
  }

  /** Everybody who says something, this page too. */
  get others(): readonly Present<unknown>[] {
    return this.entries.filter((entry) => !entry.isMe);
  }

  /** Everybody, for `useSyncExternalStore` and its like. */
  readonly getSnapshot = (): readonly Present<unknown>[] => this.entries;

  /** Calls back when somebody comes, goes or says something else. */
  readonly subscribe = (callback: (entries: readonly Present<unknown>[]) => void): (() => void) => {
    const call = () => callback(this.entries);
    this.subscribers.add(call);
    return () => this.subscribers.delete(call);
  };

  /** @internal */
  show(entries: PresenceEntry[]): void {
    this.entries = entries.flatMap(({ site, topic, data }) => {
      try {
        return [{ site, page: topic, isMe: topic === this.page, value: JSON.parse(data) as unknown }];
      } catch {
        // Said by a program that is not this package.
        return [];
      }
    });
    for (const call of [...this.subscribers]) call();
  }

  /** @internal */
  end(): void {
    if (this.stand) this.set(null);
    this.stand?.end();
  }
}
