/**
 * The owner of a database: the only one that has its files open. It runs the requests of all pages one after the other,
 * makes them durable, answers, and then tells who must know what changed.
 */

import { CrsqlError, toPlain } from "../errors.js";
import type { ClientMessage, Info, Origin } from "../messages.js";
import type { Storage, Wasm } from "../storage/files.js";
import { asArray, Reader } from "../values.js";
import type { Database } from "../wasm/crsql_web.js";
import { Lives } from "./lives.js";
import { Peer } from "./peer.js";
import { Queue } from "./queue.js";
import * as replies from "./replies.js";
import { Syncs } from "./syncs.js";

type Request = Extract<ClientMessage, { kind: "request" }>;

const NONE = new Uint8Array();
/** Statements that SQLite refuses inside of a transaction; running one of them twice does no harm. */
const OUTSIDE = /^\s*(vacuum|pragma|attach|detach)\b[^;]*;?\s*$/i;
const CONTROL = /^\s*(begin|commit|end|rollback|savepoint|release)\b/i;

/** An interactive transaction of a page. */
interface Transaction {
  peer: Peer;
  /** The id of the request that began it. */
  id: number;
  timer: ReturnType<typeof setTimeout>;
}

/** What the owner wants to be told by whoever runs it. */
export interface OwnerOptions {
  /** Whether pages may outlive this owner, so that answers must be kept. */
  handsOver: boolean;
  /** WebAssembly trapped: the database must be given up. */
  onCrash(error: unknown): void;
}

export class Owner {
  private readonly peers = new Map<string, Peer>();
  private readonly queue = new Queue(() => this.drained());
  private readonly lives: Lives;
  private readonly syncs: Syncs;
  private transaction: Transaction | undefined;
  private closed = false;

  private constructor(
    private readonly wasm: Wasm,
    private readonly storage: Storage,
    private database: Database,
    private readonly options: OwnerOptions,
  ) {
    this.lives = new Lives(database);
    this.syncs = new Syncs({
      enqueue: (work, after) => this.enqueueSync(work, after),
      exchange: (work) => this.exchange(work),
      snapshots: storage.snapshots,
      renamed: () => {
        const { siteId } = this.info();
        for (const peer of this.peers.values()) peer.send({ kind: "site", siteId });
      },
    });
  }

  /** Opens the database in its files. */
  static async open(wasm: Wasm, storage: Storage, options: OwnerOptions): Promise<Owner> {
    const database = await storage.open(wasm);
    const owner = new Owner(wasm, storage, database, options);
    await owner.settle();
    return owner;
  }

  /** Makes an opened database ready for use. */
  private async settle(): Promise<void> {
    this.prepare();
    await this.storage.flush?.(this.database);
  }

  private prepare(): void {
    if (this.options.handsOver) replies.prepare(this.database);
    this.database.takeChanged();
  }

  /** Begins anew what hung on the connection before. */
  private goOn(): void {
    this.prepare();
    this.lives.reopen(this.database);
    this.syncs.restart();
  }

  /** Lets a page in. */
  connect(peer: Peer): void {
    this.peers.set(peer.id, peer);
  }

  /** Whether a page is known. */
  knows(id: string): boolean {
    return this.peers.has(id);
  }

  /** Forgets a page that is gone; a transaction of its is rolled back. */
  disconnect(id: string): void {
    const peer = this.peers.get(id);
    if (!peer) return;
    this.peers.delete(id);
    this.lives.removeAll(peer);
    this.syncs.forget(peer);
    if (this.transaction?.peer === peer) {
      const transaction = this.transaction;
      this.queue.push(async () => this.end(transaction, "ROLLBACK"), transaction);
    }
  }

  /** Takes a page's message in. */
  receive(id: string, message: ClientMessage): void {
    const peer = this.peers.get(id);
    if (!peer || this.closed) return;
    switch (message.kind) {
      case "request":
        return this.accept(peer, message);
      case "token":
        return this.syncs.answer(message.ask, message.token, message.error);
      case "nudge":
        return this.syncs.nudge();
      case "bye":
        return this.disconnect(id);
    }
  }

  private accept(peer: Peer, request: Request): void {
    if (peer.running.has(request.id)) return;
    peer.running.add(request.id);
    if (request.body.op === "flush") {
      const { id, body: { sync } } = request;
      // In turn, or it could come before the request that begins to sync; but waiting for a relay must keep nobody else
      // waiting.
      return this.queue.push(async () => void this.awaitFlush(peer, id, sync));
    }
    let holder: Transaction | undefined;
    if (request.tx !== undefined) {
      const transaction = this.transaction;
      const isOpen = transaction?.peer === peer && transaction.id === request.tx;
      // A commit whose answer got lost is looked up when its turn comes, like any other write.
      if (isOpen) holder = transaction;
    }
    this.queue.push(() => this.serve(peer, request), holder);
  }

  private async awaitFlush(peer: Peer, id: number, sync: number): Promise<void> {
    try {
      await this.syncs.flushed(peer, sync);
      peer.send({ kind: "reply", id, value: undefined });
    } catch (error) {
      // An owner that goes leaves it to the next one.
      if (!this.closed) peer.send({ kind: "error", id, error: toPlain(error) });
    }
    peer.running.delete(id);
  }

  /** Sync's turn on the database. */
  private enqueueSync(work: (database: Database) => void, after: (database: Database) => void): void {
    this.queue.push(async () => {
      if (this.closed) return;
      try {
        work(this.database);
        await this.flush();
        after(this.database);
        this.announce(undefined);
      } catch (error) {
        if (error instanceof WebAssembly.RuntimeError) return this.crash(error);
        // The connections were ended by what failed; that is to be carried out all the same.
        after(this.database);
      }
    });
  }

  /** Work that opens the database anew: what hangs on it is begun again, and everything may be different after it. */
  private exchange<T>(work: (database: Database) => T): Promise<T> {
    const turn = async () => {
      if (this.closed) throw new CrsqlError("CLOSED", "the owner goes");
      let result: T;
      try {
        result = work(this.database);
      } catch (error) {
        if (!(error instanceof WebAssembly.RuntimeError)) this.goOn();
        throw error;
      }
      this.goOn();
      // If it can't be kept, what was kept is opened again.
      await this.flush();
      this.announceAll();
      return result;
    };
    return new Promise((resolve, reject) =>
      this.queue.push(() =>
        turn().then(resolve, (error: unknown) => {
          reject(error as Error);
          if (error instanceof WebAssembly.RuntimeError) this.crash(error);
        }),
      ),
    );
  }

  private async serve(peer: Peer, request: Request): Promise<void> {
    try {
      const value = await this.perform(peer, request);
      peer.running.delete(request.id);
      peer.send({ kind: "reply", id: request.id, value });
      this.announce(peer);
    } catch (error) {
      peer.running.delete(request.id);
      peer.send({ kind: "error", id: request.id, error: toPlain(error) });
      if (error instanceof WebAssembly.RuntimeError) this.crash(error);
    }
  }

  private async perform(peer: Peer, request: Request): Promise<unknown> {
    const { body } = request;
    if (request.tx !== undefined) return this.performInside(peer, request, request.tx);
    switch (body.op) {
      case "info":
        return this.info();
      case "run": {
        if (CONTROL.test(body.sql)) throw useTx(body.sql);
        if (OUTSIDE.test(body.sql)) return this.outside(() => this.database.run(body.sql, body.params));
        if (!this.database.mayWrite(body.sql)) return this.database.run(body.sql, body.params);
        return this.write(peer, request, () => this.database.run(body.sql, body.params));
      }
      case "exec":
        if (OUTSIDE.test(body.sql)) {
          return this.outside(() => (this.database.exec(body.sql), NONE));
        }
        return this.write(peer, request, () => (this.database.exec(body.sql), NONE));
      case "batch":
        return this.write(peer, request, () => this.database.batch(body.requests, body.rows));
      case "begin":
        return this.begin(peer, request.id, body.timeoutMs);
      case "live":
        return this.lives.add(peer, body.live, body.sql, body.params);
      case "unlive":
        return this.lives.remove(peer, body.live);
      case "sync":
        return this.syncs.want(peer, body.sync, body.options);
      case "presence":
        return this.syncs.present(peer, body.sync, body.topic, body.data);
      case "export":
        return this.database.export();
      case "check":
        return this.database.check();
      default:
        throw new CrsqlError("INTERNAL", `the owner does not know the request "${body.op}"; reload the page`);
    }
  }

  private info(): Info {
    const rows = this.database.run("SELECT crsql_site_id()", NONE);
    const siteId = readRows(rows)[0]![0] as Uint8Array;
    return { siteId, storage: this.storage.kind, version: this.wasm.version() };
  }

  /** A write of its own: in a transaction together with the note that it was made. */
  private async write(peer: Peer, request: Request, work: () => Uint8Array): Promise<Uint8Array> {
    const database = this.database;
    if (request.again) {
      const known = this.known(peer, request.id);
      if (known) return known;
    }
    database.exec("BEGIN IMMEDIATE");
    let reply: Uint8Array;
    try {
      reply = work();
      if (!database.inTransaction()) {
        throw new CrsqlError("SQLITE_MISUSE", "a COMMIT or ROLLBACK of its own ended the transaction; use tx()");
      }
      this.note(peer, request, reply);
      database.exec("COMMIT");
    } catch (error) {
      this.rollBack();
      throw error;
    }
    await this.flush();
    return reply;
  }

  /** What SQLite only does outside of a transaction. */
  private async outside(work: () => Uint8Array): Promise<Uint8Array> {
    const reply = work();
    await this.flush();
    return reply;
  }

  private note(peer: Peer, request: Request, reply: Uint8Array): void {
    if (this.options.handsOver) replies.save(this.database, peer.id, request.id, request.done, reply);
  }

  /** The answer to a request that was run by this owner or an earlier one. */
  private known(peer: Peer, id: number): Uint8Array | undefined {
    if (!this.options.handsOver) return undefined;
    const rows = replies.find(this.database, peer.id, id);
    return rows && (readRows(rows)[0]?.[0] as Uint8Array | undefined);
  }

  private begin(peer: Peer, id: number, timeoutMs: number): void {
    this.database.exec("BEGIN IMMEDIATE");
    const transaction: Transaction = {
      peer,
      id,
      timer: setTimeout(() => {
        this.queue.push(async () => this.end(transaction, "ROLLBACK"), transaction);
      }, timeoutMs),
    };
    this.transaction = transaction;
    this.queue.hold(transaction);
  }

  /** A request of an interactive transaction. */
  private async performInside(peer: Peer, request: Request, tx: number): Promise<unknown> {
    const { body } = request;
    const transaction = this.transaction;
    if (transaction?.peer !== peer || transaction.id !== tx) {
      if (body.op === "commit" && this.known(peer, request.id)) return NONE;
      if (body.op === "rollback") return NONE;
      throw new CrsqlError(
        "TX_LOST",
        "the transaction was rolled back, because its time was up or the tab that ran it went away; run it again",
      );
    }
    switch (body.op) {
      case "run":
        if (CONTROL.test(body.sql)) throw useTx(body.sql);
        return this.database.run(body.sql, body.params);
      case "exec":
        this.database.exec(body.sql);
        return NONE;
      case "batch":
        return this.database.batch(body.requests, body.rows);
      case "commit":
        try {
          if (!this.database.inTransaction()) {
            throw new CrsqlError("TX_LOST", "SQLite rolled the transaction back after an error; run it again");
          }
          this.note(peer, request, NONE);
          this.end(transaction, "COMMIT");
        } catch (error) {
          this.end(transaction, "ROLLBACK");
          throw error;
        }
        await this.flush();
        return NONE;
      case "rollback":
        this.end(transaction, "ROLLBACK");
        return NONE;
      default:
        throw new CrsqlError("SQLITE_MISUSE", `a transaction can't ${body.op}`);
    }
  }

  private end(transaction: Transaction, how: "COMMIT" | "ROLLBACK"): void {
    if (this.transaction !== transaction) return;
    if (how === "COMMIT") this.database.exec("COMMIT");
    else this.rollBack();
    clearTimeout(transaction.timer);
    this.transaction = undefined;
    this.queue.release();
  }

  private rollBack(): void {
    if (this.database.inTransaction()) this.database.exec("ROLLBACK");
  }

  /** Makes durable what was committed; if that fails, goes back to what is. */
  private async flush(): Promise<void> {
    if (!this.storage.flush) return;
    try {
      await this.storage.flush(this.database);
    } catch (error) {
      this.database.close();
      this.database = await this.storage.open(this.wasm);
      await this.settle();
      this.lives.reopen(this.database);
      this.syncs.restart();
      throw error;
    }
  }

  /** Tells all pages what the last commit changed. Live queries follow when the queue is empty. */
  private announce(author: Peer | undefined): void {
    if (this.database.inTransaction()) return;
    const changes = this.database.takeChanged();
    const tables = changes.tables.filter((table) => !table.startsWith("__crsql_"));
    if (author !== undefined && changes.tables.some((table) => table !== replies.TABLE)) this.syncs.refresh();
    this.lives.touch(changes.lives);
    changes.free();
    if (tables.length === 0) return;
    for (const peer of this.peers.values()) {
      const origin: Origin = author === undefined ? "remote" : peer === author ? "local" : "tab";
      peer.send({ kind: "changes", tables, origin });
    }
  }

  /** Tells all pages that every replicated table may have changed. */
  private announceAll(): void {
    const rows = this.database.run("SELECT name FROM __crsql_table WHERE name <> ''", NONE);
    const tables = readRows(rows).map(([name]) => name as string);
    for (const peer of this.peers.values()) peer.send({ kind: "changes", tables, origin: "remote" });
  }

  private async drained(): Promise<void> {
    if (!this.closed) this.lives.refreshStale();
  }

  private crash(error: unknown): void {
    this.closed = true;
    this.queue.clear();
    this.syncs.end();
    this.options.onCrash(error);
  }

  /** Finishes what is running, gives the files up. Requests that wait are not answered: the next owner will. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.queue.clear();
    this.syncs.end();
    await this.queue.quiet();
    if (this.transaction) this.end(this.transaction, "ROLLBACK");
    try {
      this.database.close();
    } finally {
      await this.storage.close();
    }
  }
}

/** The rows of an outcome: changes, rowid, rows. */
function readRows(outcome: Uint8Array) {
  const reader = new Reader(outcome);
  reader.u32();
  reader.i64();
  return reader.rows({}, asArray).rows;
}

function useTx(sql: string): CrsqlError {
  return new CrsqlError("SQLITE_MISUSE", `${sql.trim().split(/\s/, 1)[0]} is not for run(); use tx()`);
}

