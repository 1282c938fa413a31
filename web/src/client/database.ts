/** An open database as a page uses it. */

import { CrsqlError } from "../errors.js";
import type { Body, Info, Origin, StorageKind } from "../messages.js";
import { asArray, encodeParams, Reader, type Integers, type Row, type SqlParams } from "../values.js";
import type { Link } from "./link.js";
import { LiveQuery, type LiveCallback, type LiveOptions } from "./live.js";
import { Queries } from "./queries.js";
import { Sync, type SyncOptions } from "./sync.js";

/** What a commit changed, and who made it. */
export interface ChangeEvent {
  /** The tables. */
  tables: string[];
  /** This page, another tab, or a peer. */
  origin: Origin;
}

/** How long a transaction may take. */
export interface TxOptions {
  /** After this many milliseconds it is rolled back; 5000 unless said. Everybody else waits for it. */
  timeoutMs?: number;
}

/** What `applyChanges` did. */
export interface ApplyReport {
  [fact: string]: unknown;
}

const TX_MS = 5000;

/** A transaction: the same methods as the database, seen by nobody else before it is committed. */
export class Tx extends Queries {}

/** A database. Made by `open()`. */
export class Database extends Queries {
  private inTx = 0;
  private readonly closers = new Set<() => void>();

  /** @internal Use `open()`. */
  constructor(
    /** @internal */ readonly link: Link,
    readonly name: string,
    private readonly info: Info,
    integers: Integers,
  ) {
    super((body) => {
      this.checkNotInTx(body);
      return link.request(body);
    }, integers);
  }

  /** This replica's id: 16 random bytes, the same in all tabs. */
  get siteId(): Uint8Array {
    return this.info.siteId;
  }

  /** Where the data is: `opfs`, `idb`, `memory` (gone with the page) or `file` (Node). */
  get storage(): StorageKind {
    return this.info.storage;
  }

  /** Whether this tab has the files open; one tab does, and the others go through it. */
  get isLeader(): boolean {
    return this.link.isOwner;
  }

  /** The versions of this package and of SQLite. */
  version(): string {
    return this.info.version;
  }

  /**
   * Runs `work` in a transaction: committed when it resolves, rolled back when it throws. Only use `tx` inside; a call
   * of `db` waits for the transaction that waits for it, so it is refused where that can be seen, and else ends with
   * the transaction's time.
   *
   * @throws CrsqlError `TX_LOST` when its time was up or the tab that owned the database went away. Nothing of it was
   * written; run it again.
   */
  async tx<T>(work: (tx: Tx) => Promise<T>, options: TxOptions = {}): Promise<T> {
    this.checkNotInTx({ op: "begin", timeoutMs: 0 });
    const { id, answer } = this.link.send({ op: "begin", timeoutMs: options.timeoutMs ?? TX_MS });
    await answer;
    const tx = new Tx((body) => this.link.request(body, id), this.integers);
    let result: T;
    try {
      // Only what `work` does before it first waits is certainly inside of it.
      this.inTx++;
      let running: Promise<T>;
      try {
        running = work(tx);
      } finally {
        this.inTx--;
      }
      result = await running;
    } catch (error) {
      await this.link.request({ op: "rollback" }, id).catch(() => {});
      throw error;
    }
    await this.link.request({ op: "commit" }, id);
    return result;
  }

  private checkNotInTx(body: Body): void {
    if (this.inTx === 0) return;
    throw new CrsqlError("SQLITE_MISUSE", `db.${body.op}() inside of tx() would wait for itself; use the tx that tx() passes`);
  }

  /** Rows that follow the database: by a callback, or as an object to subscribe to or loop over. */
  live<T = Row>(sql: string, params?: SqlParams, options?: LiveOptions<T>): LiveQuery<T>;
  live<T = Row>(
    sql: string,
    params: SqlParams | undefined,
    callback: LiveCallback<T>,
    options?: LiveOptions<T> & { onError?: (error: CrsqlError) => void },
  ): () => void;
  live<T = Row>(
    sql: string,
    params?: SqlParams,
    callbackOrOptions?: LiveCallback<T> | LiveOptions<T>,
    more: LiveOptions<T> & { onError?: (error: CrsqlError) => void } = {},
  ): LiveQuery<T> | (() => void) {
    const callback = typeof callbackOrOptions === "function" ? callbackOrOptions : undefined;
    const options = callback ? more : ((callbackOrOptions ?? {}) as LiveOptions<T>);
    const query = new LiveQuery<T>(this.link, sql, params, this.integers, options);
    if (!callback) return query;
    query.watch(callback, more.onError);
    return () => query.close();
  }

  /** Calls back after each commit that changed one of the tables, or any if none is named. Returns how to stop. */
  onChange(tables: readonly string[] | null, callback: (event: ChangeEvent) => void): () => void {
    const wanted = tables === null ? null : new Set(tables);
    return this.link.listen((message) => {
      if (message.kind !== "changes") return;
      const touched = wanted === null ? message.tables : message.tables.filter((table) => wanted.has(table));
      if (touched.length > 0) callback({ tables: touched, origin: message.origin });
    });
  }

  /**
   * Every change after an apply position of this replica, as one changeset for another replica's `applyChanges`.
   *
   * @param since 0 for everything, or an earlier `dbVersion()`, or another replica's `versionVector()`
   */
  async changesSince(since: number | bigint | Uint8Array): Promise<Uint8Array> {
    return (await this.scalar("SELECT crsql_changeset(?1)", [since])) as Uint8Array;
  }

  /** Merges a changeset, in one transaction. Applying it again does nothing. */
  async applyChanges(changeset: Uint8Array): Promise<ApplyReport> {
    return JSON.parse((await this.scalar("SELECT crsql_apply(?1)", [changeset])) as string) as ApplyReport;
  }

  /** This replica's apply position: grows with every commit that changed replicated data. */
  async dbVersion(): Promise<bigint> {
    return BigInt((await this.scalar("SELECT crsql_db_version()", [])) as number);
  }

  /** What this replica holds, for another one's `changesSince`. */
  async versionVector(): Promise<Uint8Array> {
    return (await this.scalar("SELECT crsql_version_vector()", [])) as Uint8Array;
  }

  private async scalar(sql: string, params: SqlParams) {
    const outcome = (await this.link.request({ op: "run", sql, params: encodeParams(params) })) as Uint8Array;
    const reader = new Reader(outcome);
    reader.u32();
    reader.i64();
    return reader.rows({}, asArray).rows[0]?.[0] ?? null;
  }

  /** Keeps it in sync with a room of a relay, from whichever tab owns the database, until `close()`. */
  sync(options: SyncOptions): Sync {
    return new Sync(this, options);
  }

  /** The whole database as the bytes of a database file. */
  async export(): Promise<Uint8Array> {
    return (await this.link.request({ op: "export" })) as Uint8Array;
  }

  /** SQLite's and crsql's own checks; what they found, nothing if all is well. */
  async check(): Promise<string[]> {
    return (await this.link.request({ op: "check" })) as string[];
  }

  /** @internal Runs something when the database is closed. */
  onClose(close: () => void): () => void {
    this.closers.add(close);
    return () => this.closers.delete(close);
  }

  /** Closes it for this page. Requests that were not answered yet reject with `CLOSED`. */
  async close(): Promise<void> {
    for (const close of [...this.closers]) close();
    this.closers.clear();
    await this.link.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
