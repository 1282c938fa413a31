/** Live queries of all pages. Equal ones are run once; each page gets what changed in the answer. */

import type { Database } from "../wasm/crsql_web.js";
import { toPlain } from "../errors.js";
import type { Peer } from "./peer.js";

interface Shared {
  id: number;
  sql: string;
  params: Uint8Array;
  readers: { peer: Peer; live: number }[];
}

export class Lives {
  private readonly shared = new Map<string, Shared>();
  private readonly keys = new Map<number, string>();
  private stale = new Set<number>();

  constructor(private database: Database) {}

  /** Adds a reader and sends it the whole answer. */
  add(peer: Peer, live: number, sql: string, params: Uint8Array): void {
    const key = `${sql}\0${params.join()}`;
    let shared = this.shared.get(key);
    if (shared === undefined) {
      shared = { id: this.database.liveOpen(sql, params), sql, params, readers: [] };
      this.shared.set(key, shared);
      this.keys.set(shared.id, key);
    } else {
      // The others must not miss what the run below takes for known.
      this.refresh(shared);
    }
    peer.lives.set(live, key);
    const reader = { peer, live };
    try {
      const patch = this.database.liveRun(shared.id, true);
      shared.readers.push(reader);
      if (patch) send(reader, patch);
    } catch (error) {
      this.dropIfUnread(key, shared);
      peer.lives.delete(live);
      throw error;
    }
  }

  /** Removes a reader. */
  remove(peer: Peer, live: number): void {
    const key = peer.lives.get(live);
    const shared = key === undefined ? undefined : this.shared.get(key);
    peer.lives.delete(live);
    if (key === undefined || shared === undefined) return;
    shared.readers = shared.readers.filter((reader) => reader.peer !== peer || reader.live !== live);
    this.dropIfUnread(key, shared);
  }

  /** Removes all readers of a page that is gone. */
  removeAll(peer: Peer): void {
    for (const live of [...peer.lives.keys()]) this.remove(peer, live);
  }

  /** Notes that these must run again. */
  touch(ids: Iterable<number>): void {
    for (const id of ids) this.stale.add(id);
  }

  /** Runs those that must, and tells their readers what changed. */
  refreshStale(): void {
    const stale = this.stale;
    this.stale = new Set();
    for (const id of stale) {
      const shared = this.shared.get(this.keys.get(id) ?? "");
      if (shared) this.refresh(shared);
    }
  }

  /** Goes on with another database that was opened anew: everything is read again. */
  reopen(database: Database): void {
    this.database = database;
    this.keys.clear();
    this.stale.clear();
    for (const [key, shared] of this.shared) {
      shared.id = database.liveOpen(shared.sql, shared.params);
      this.keys.set(shared.id, key);
      this.refresh(shared);
    }
  }

  private refresh(shared: Shared): void {
    try {
      const patch = this.database.liveRun(shared.id, false);
      if (patch) for (const reader of shared.readers) send(reader, patch);
    } catch (error) {
      // A table that it reads is gone, for one. It stays, and is run again when the schema changes.
      const plain = toPlain(error);
      for (const { peer, live } of shared.readers) peer.send({ kind: "liveError", live, error: plain });
    }
  }

  private dropIfUnread(key: string, shared: Shared): void {
    if (shared.readers.length > 0) return;
    this.shared.delete(key);
    this.keys.delete(shared.id);
    this.database.liveClose(shared.id);
  }
}

function send({ peer, live }: { peer: Peer; live: number }, patch: Uint8Array): void {
  peer.send({ kind: "patch", live, patch });
}
