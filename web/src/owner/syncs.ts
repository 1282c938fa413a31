/** All sync of a database: sessions by relay and room, and their common turn on the database. */

import { CrsqlError } from "../errors.js";
import type { PresenceEntry, SyncWish } from "../messages.js";
import type { Snapshots, SyncFile } from "../storage/files.js";
import type { Database } from "../wasm/crsql_web.js";
import type { Peer } from "./peer.js";
import type { Offer } from "./snapshot.js";
import { SyncSession, TICK_MS, type SyncAction, type SyncContext, type SyncDatabase } from "./sync.js";

/** What sync needs of the owner. */
export interface SyncHost {
  /** Runs work on the database in its turn; `after` once what it committed is durable. */
  enqueue(work: (database: Database) => void, after: (database: Database) => void): void;
  /** Where a snapshot can lie. */
  readonly snapshots: Snapshots;
  /** Runs work that opens the database anew in its turn, and then reads everything again. */
  exchange<T>(work: (database: Database) => T): Promise<T>;
  /** The replica has another site id now. */
  renamed(): void;
}

export class Syncs implements SyncContext {
  private readonly sessions = new Map<string, SyncSession>();
  private readonly asked = new Map<number, { resolve: (token: string | undefined) => void; reject: (error: Error) => void }>();
  private lastAsk = 0;
  private ticker: ReturnType<typeof setInterval> | undefined;
  private refreshing = false;

  constructor(private readonly host: SyncHost) {}

  /** Whether anything syncs. */
  get isActive(): boolean {
    return this.sessions.size > 0;
  }

  want(peer: Peer, sync: number, wish: SyncWish): void {
    const key = `${wish.url}\0${wish.room}`;
    if (wish.state === "closed") return this.unwant(peer, sync);
    let session = this.sessions.get(key);
    if (!session) {
      session = new SyncSession(wish.url, wish.room, this);
      this.sessions.set(key, session);
    }
    peer.syncs.set(sync, key);
    session.want(peer, sync, wish);
    this.ticker ??= setInterval(() => this.tick(), TICK_MS);
  }

  private unwant(peer: Peer, sync: number): void {
    const key = peer.syncs.get(sync);
    peer.syncs.delete(sync);
    const session = key === undefined ? undefined : this.sessions.get(key);
    if (!session) return;
    session.forget(peer, sync);
    if (session.isOver) this.sessions.delete(key!);
    this.rest();
  }

  /** A page is gone. */
  forget(peer: Peer): void {
    for (const sync of [...peer.syncs.keys()]) this.unwant(peer, sync);
  }

  private rest(): void {
    if (this.isActive) return;
    clearInterval(this.ticker);
    this.ticker = undefined;
  }

  private session(peer: Peer, sync: number): SyncSession {
    const session = this.sessions.get(peer.syncs.get(sync) ?? "");
    if (!session) throw new CrsqlError("CLOSED", "sync was closed");
    return session;
  }

  /** Resolves when the relay has confirmed everything. */
  async flushed(peer: Peer, sync: number): Promise<void> {
    return this.session(peer, sync).flushed();
  }

  present(peer: Peer, sync: number, topic: string, data: string | null): void {
    this.session(peer, sync).present(peer, topic, data);
  }

  restart(): void {
    for (const session of this.sessions.values()) session.restart();
  }

  nudge(): void {
    for (const session of this.sessions.values()) session.nudge();
  }

  /** A page's answer to a question for its token. */
  answer(ask: number, token: string | undefined, error: string | undefined): void {
    const asked = this.asked.get(ask);
    this.asked.delete(ask);
    if (error === undefined) asked?.resolve(token);
    else asked?.reject(new Error(error));
  }

  askToken(peer: Peer, sync: number): Promise<string | undefined> {
    const ask = ++this.lastAsk;
    peer.send({ kind: "askToken", sync, ask });
    return new Promise((resolve, reject) => this.asked.set(ask, { resolve, reject }));
  }

  get snapshots(): Snapshots {
    return this.host.snapshots;
  }

  adopt(file: SyncFile, offer: Offer, peer: string): Promise<string | undefined> {
    return this.host.exchange((database) =>
      database.syncAdopt(Date.now(), file, offer.checksum, peer, offer.epoch, offer.pos),
    );
  }

  /** Something was committed locally: offers it. */
  refresh(): void {
    if (!this.isActive || this.refreshing) return;
    this.refreshing = true;
    this.enqueue(() => {
      this.refreshing = false;
    });
  }

  enqueue(work: (database: SyncDatabase) => void): void {
    this.host.enqueue(
      (database) => {
        work(database);
        database.syncFlush(Date.now());
        database.syncRefresh(Date.now());
      },
      (database) => this.perform(database),
    );
  }

  private tick(): void {
    for (const session of this.sessions.values()) session.tick();
    this.enqueue((database) => (database as Database).syncTick(Date.now()));
  }

  private perform(database: Database): void {
    let presence = false;
    for (const action of database.syncActions() as SyncAction[]) {
      const [kind, link, name] = action;
      if (kind === "event" && link === 0) {
        presence ||= name === "presence";
        if (name === "newSite") this.host.renamed();
        continue;
      }
      for (const session of this.sessions.values()) if (session.has(link)) session.perform(action);
    }
    if (presence) this.showPresence(database);
    for (const session of this.sessions.values()) session.check(database);
  }

  private showPresence(database: Database): void {
    const said = database.syncPresence(Date.now()) as [string, string, string][];
    const entries: PresenceEntry[] = said.map(([site, topic, data]) => ({ site, topic, data }));
    for (const session of this.sessions.values()) session.showPresence(entries);
  }

  /** The owner goes. */
  end(): void {
    for (const session of this.sessions.values()) session.end();
    this.sessions.clear();
    this.rest();
  }
}
