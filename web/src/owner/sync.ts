/**
 * Sync of one database with one room of one relay: the socket, when to connect, and what pages are told. What is said
 * over the socket is decided in WebAssembly.
 */

import { CrsqlError, type PlainError } from "../errors.js";
import type { PresenceEntry, SyncStatus, SyncWish } from "../messages.js";
import type { Snapshots, SyncFile } from "../storage/files.js";
import type { Peer } from "./peer.js";
import { fetchSnapshot, Refused, type Offer } from "./snapshot.js";

const SUBPROTOCOL = "crsql-sync.v1";
const BACKOFF_MS = 250;
const BACKOFF_MAX_MS = 30_000;
/** So long a connection must have stood for the next failure to count as the first. */
const STABLE_MS = 10_000;
export const TICK_MS = 1000;
/** After so many failures no snapshot is taken any more. */
const SNAPSHOT_FAILURES = 2;
const TOKEN_MS = 30_000;
const OPEN_MS = 15_000;
/** What a page says about itself lasts so long, and is said again more often than that. */
const PRESENCE_TTL_MS = 15_000;
const PRESENCE_AGAIN_MS = 5_000;
/** The least time between two reports of progress. */
const REPORT_MS = 100;
/** What a report may wait with. */
const PROGRESS = new Set(["receivedBytes", "sentBytes", "snapshot"]);
/** Refusals that another attempt with the same token and schema would meet again. */
const FINAL = new Set(["version", "unauthorized", "forbidden", "no-room", "tie-break", "schema"]);

/** What `Database.syncActions` in `rust/sync.rs` answers. */
export type SyncAction =
  | ["send", link: number, bytes: Uint8Array]
  | ["close", link: number, code?: string, detail?: string, retryAfterMs?: number]
  | ["snapshot", link: number, path: string, checksum: string, bytes: number, epoch: bigint, pos: number]
  | ["event", link: number, name: string, detail: string];

/** The parts of the WebAssembly database that sync uses. */
export interface SyncDatabase {
  syncDial(now: number, peer: string, room: string, token: string | null | undefined, snapshots: boolean): number;
  syncReceive(now: number, link: number, message: Uint8Array): void;
  syncClosed(link: number): void;
  syncClose(now: number, link: number): void;
  syncIsFlushed(link: number): boolean;
  syncPresent(now: number, topic: string, data: string, ttl: number): void;
}

/** What a session needs of the owner. */
export interface SyncContext {
  /** Runs work on the database when its turn comes, makes it durable, and then carries out what follows from it. */
  enqueue(work: (database: SyncDatabase) => void): void;
  /** Where a snapshot is put while it comes. */
  readonly snapshots: Snapshots;
  /** Has a snapshot take the place of the database; a sentence if it can't. */
  adopt(file: SyncFile, offer: Offer, peer: string): Promise<string | undefined>;
  /** Asks a page for its token. */
  askToken(peer: Peer, sync: number): Promise<string | undefined>;
}

interface Wish {
  peer: Peer;
  sync: number;
  wish: SyncWish;
}

export class SyncSession {
  private readonly wishes: Wish[] = [];
  private socket: WebSocket | undefined;
  private link: number | undefined;
  private inbox: Uint8Array[] = [];
  private draining = false;
  private failures = 0;
  private onlineSince = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private reporting: ReturnType<typeof setTimeout> | undefined;
  private attempt = 0;
  private token: string | undefined;
  /** The relay wants a snapshot fetched, and the connection to end. */
  private offer: Offer | undefined;
  private fetching: AbortController | undefined;
  private file: SyncFile | undefined;
  /** How often fetching failed: what can't be had that way comes in parts. */
  private snapshotFailures = 0;
  private fault: { code: string; detail: string; retryAfterMs: number } | undefined;
  private waiters: { resolve: () => void; reject: (error: unknown) => void }[] = [];
  private presences = new Map<string, { peer: Peer; data: string; at: number }>();
  private status: SyncStatus = {
    state: "paused", caughtUp: false, flushed: false, receivedBytes: 0, sentBytes: 0,
  };

  constructor(
    private readonly url: string,
    private readonly room: string,
    private readonly context: SyncContext,
  ) {}

  /** Takes up or changes what a page wants. */
  want(peer: Peer, sync: number, wish: SyncWish): void {
    const known = this.wishes.find((entry) => entry.peer === peer && entry.sync === sync);
    if (known) known.wish = wish;
    else this.wishes.push({ peer, sync, wish });
    this.follow(wish.state === "on");
    peer.send({ kind: "sync", sync, status: this.status });
    this.sendPresence(peer, sync);
  }

  /** A page, or one wish of its, is gone. */
  forget(peer: Peer, sync?: number): void {
    for (let index = this.wishes.length - 1; index >= 0; index--) {
      const wish = this.wishes[index]!;
      if (wish.peer === peer && (sync === undefined || wish.sync === sync)) this.wishes.splice(index, 1);
    }
    for (const [topic, presence] of this.presences) {
      if (presence.peer === peer && !this.wishes.some((wish) => wish.peer === peer)) this.present(peer, topic, null);
    }
    this.follow(false);
  }

  /** Nobody wants it any more. */
  get isOver(): boolean {
    return this.wishes.length === 0;
  }

  /** Connects or disconnects, as the pages want it. */
  private follow(again: boolean): void {
    const on = this.wishes.some(({ wish }) => wish.state === "on");
    if (!on) {
      this.stop(this.isOver ? "closed" : "paused");
    } else if (this.status.state === "paused" || this.status.state === "closed") {
      void this.connect();
    } else if (again && this.status.state === "refused") {
      this.failures = 0;
      void this.connect();
    }
  }

  private stop(state: "paused" | "closed"): void {
    this.attempt++;
    clearTimeout(this.retry);
    this.drop();
    if (state === "closed") this.reject(new CrsqlError("CLOSED", "sync was closed"));
    this.report({ state, caughtUp: false, flushed: false, error: undefined, retryAt: undefined });
  }

  /** Lets go of the socket. */
  private drop(): void {
    const { socket, link } = this;
    this.socket = undefined;
    this.link = undefined;
    this.offer = undefined;
    this.endFetch();
    this.inbox = [];
    if (link !== undefined) {
      this.context.enqueue((database) => {
        database.syncClose(Date.now(), link);
        database.syncClosed(link);
      });
    }
    if (socket) silence(socket);
  }

  /** The database was opened anew: its connections are gone. */
  restart(): void {
    this.link = undefined;
    if (this.socket) void this.connect();
  }

  /** The network is back, or the page is looked at: tries at once what would be tried later. */
  nudge(): void {
    if (this.status.state !== "offline") return;
    this.failures = 0;
    void this.connect();
  }

  private async connect(): Promise<void> {
    clearTimeout(this.retry);
    const attempt = ++this.attempt;
    this.drop();
    this.fault = undefined;
    this.report({ state: "connecting", caughtUp: false, flushed: false, retryAt: undefined });
    let token: string | undefined;
    try {
      token = await this.askToken();
    } catch (error) {
      if (attempt === this.attempt) this.later({ code: "SYNC", message: `no token: ${(error as Error).message}` });
      return;
    }
    if (attempt !== this.attempt) return;
    this.token = token;
    let socket: WebSocket;
    try {
      socket = new WebSocket(endpoint(this.url, this.room), [SUBPROTOCOL]);
    } catch (error) {
      return this.refuse({ code: "SYNC", message: `"${this.url}" can't be connected to: ${(error as Error).message}` });
    }
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    const late = setTimeout(() => {
      if (socket.readyState === WebSocket.CONNECTING) this.lost(socket, 1006, `${this.url} does not answer`);
    }, OPEN_MS);
    socket.onopen = () => {
      clearTimeout(late);
      this.context.enqueue((database) => {
        if (this.socket !== socket) return;
        const takes = this.snapshotFailures < SNAPSHOT_FAILURES;
        this.link = database.syncDial(Date.now(), this.peer, this.room, token, takes);
      });
    };
    socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) this.hear(new Uint8Array(data));
    };
    socket.onclose = ({ code, reason }) => this.lost(socket, code, reason);
    // Some only say that it failed, and never that it is closed. Where both come, the close is the one with a reason.
    socket.onerror = () => setTimeout(() => this.lost(socket, 1006, ""), 0);
  }

  /** What the cursor of this relay is called. */
  private get peer(): string {
    return `${this.url} ${this.room}`;
  }

  private async askToken(): Promise<string | undefined> {
    const able = this.wishes.find(({ wish }) => wish.hasToken && wish.state === "on");
    if (!able) return undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("the page did not answer in time")), TOKEN_MS);
    });
    return Promise.race([this.context.askToken(able.peer, able.sync), late]).finally(() => clearTimeout(timer));
  }

  private hear(bytes: Uint8Array): void {
    this.inbox.push(bytes);
    this.report({ receivedBytes: this.status.receivedBytes + bytes.length });
    if (this.draining) return;
    this.draining = true;
    // Everything that came until its turn becomes one transaction.
    this.context.enqueue((database) => {
      this.draining = false;
      for (const message of this.inbox.splice(0)) {
        if (this.link !== undefined) database.syncReceive(Date.now(), this.link, message);
      }
    });
  }

  private lost(socket: WebSocket, code: number, reason: string): void {
    if (this.socket !== socket) return;
    this.socket = undefined;
    silence(socket);
    const link = this.link;
    this.link = undefined;
    if (link !== undefined) this.context.enqueue((database) => database.syncClosed(link));
    if (this.offer) return void this.bootstrap(this.offer);
    const message = this.fault?.detail ?? (reason || `the connection to ${this.url} was closed (${code})`);
    if (this.fault && FINAL.has(this.fault.code)) return this.refuse({ code: "SYNC", message });
    this.later({ code: "SYNC", message }, this.fault?.retryAfterMs);
  }

  /** Fetches a snapshot and has it taken over; dials again, whatever came of it. */
  private async bootstrap(offer: Offer): Promise<void> {
    const attempt = ++this.attempt;
    const { snapshots } = this.context;
    const fetching = (this.fetching = new AbortController());
    this.offer = undefined;
    this.report({ state: "connecting", snapshot: { received: 0, total: offer.bytes } });
    let problem: { text: string; isFinal: boolean } | undefined;
    try {
      if (offer.bytes > snapshots.most) throw new Refused(`${offer.bytes} bytes are too many for this storage`);
      const address = endpoint(this.url, this.room);
      const file = await fetchSnapshot(offer, address, this.token, snapshots, fetching.signal, (received) => {
        this.status.receivedBytes += Math.max(0, received - (this.status.snapshot?.received ?? 0));
        this.report({ snapshot: { received, total: offer.bytes } });
      });
      if (attempt !== this.attempt) return file.close();
      this.file = file;
      const declined = await this.context.adopt(file, offer, this.peer);
      if (declined !== undefined) throw new Refused(declined);
    } catch (error) {
      problem = { text: (error as Error).message, isFinal: error instanceof Refused };
    }
    if (attempt !== this.attempt) return;
    this.endFetch();
    if (problem === undefined) {
      this.snapshotFailures = 0;
    } else {
      this.snapshotFailures = problem.isFinal ? SNAPSHOT_FAILURES : this.snapshotFailures + 1;
    }
    this.report({ snapshot: undefined });
    if (!problem || problem.isFinal) return void this.connect();
    this.later({ code: "SYNC", message: `the snapshot: ${problem.text}` });
  }

  /** What came of a snapshot stays in its file; the file is let go. */
  private endFetch(): void {
    this.fetching?.abort(new CrsqlError("CLOSED", "sync was interrupted"));
    this.fetching = undefined;
    this.file?.close();
    this.file = undefined;
  }

  private refuse(error: PlainError): void {
    this.report({ state: "refused", caughtUp: false, flushed: false, error });
    this.reject(new CrsqlError("SYNC", error.message));
  }

  private reject(error: CrsqlError): void {
    for (const { reject } of this.waiters.splice(0)) reject(error);
  }

  /** Tries again: sooner or later by chance, so that a relay that restarts is not met by everybody at once. */
  private later(error: PlainError, atLeastMs = 0): void {
    if (this.onlineSince > 0 && Date.now() - this.onlineSince > STABLE_MS) this.failures = 0;
    this.onlineSince = 0;
    const most = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** this.failures++);
    const wait = Math.max(atLeastMs, Math.random() * most);
    this.retry = setTimeout(() => void this.connect(), wait);
    this.report({ state: "offline", caughtUp: false, flushed: false, error, retryAt: Date.now() + wait });
  }

  /** Whether an action is about this session's connection. */
  has(link: number): boolean {
    return this.link === link;
  }

  /** Carries out what WebAssembly wants. */
  perform(action: SyncAction): void {
    if (action[0] === "send") {
      this.socket?.send(action[2] as Uint8Array<ArrayBuffer>);
      this.status.sentBytes += action[2].length;
    } else if (action[0] === "close") {
      const [, , code = "", detail = "", retryAfterMs = 0] = action;
      this.fault = { code, detail, retryAfterMs };
      this.link = undefined;
      this.socket?.close();
    } else if (action[0] === "snapshot") {
      const [, , path, checksum, bytes, epoch, pos] = action;
      this.offer = { path, checksum, bytes, epoch, pos };
    } else {
      this.event(action[2], action[3]);
    }
  }

  private event(name: string, detail: string): void {
    switch (name) {
      case "ready":
        this.onlineSince = Date.now();
        this.report({ state: "online", error: undefined, retryAt: undefined });
        for (const [topic, { peer, data }] of this.presences) this.present(peer, topic, data);
        return;
      case "caughtUp":
        // What an earlier attempt left of a snapshot is of no use any more.
        if (!this.fetching) void this.context.snapshots.clear().catch(() => {});
        return this.report({ caughtUp: true });
      case "rejected":
      case "setAside":
      case "warning":
        return this.report({ error: { code: "SYNC", message: detail } });
    }
  }

  /** To be called whenever something may have been confirmed or written. */
  check(database: SyncDatabase): void {
    const flushed = this.link !== undefined && database.syncIsFlushed(this.link);
    if (flushed) for (const { resolve } of this.waiters.splice(0)) resolve();
    if (flushed !== this.status.flushed) this.report({ flushed });
  }

  /** Resolves when everything written until now is confirmed by the relay. */
  flushed(): Promise<void> {
    if (this.status.state === "refused") {
      return Promise.reject(new CrsqlError("SYNC", this.status.error?.message ?? "the relay refused"));
    }
    return new Promise((resolve, reject) => {
      this.waiters.push({ resolve, reject });
      this.context.enqueue(() => {});
    });
  }

  /** Time passed. */
  tick(): void {
    for (const [topic, presence] of this.presences) {
      if (Date.now() - presence.at > PRESENCE_AGAIN_MS) this.present(presence.peer, topic, presence.data);
    }
  }

  /** Says something about a page to the room; `null` takes it back. */
  present(peer: Peer, topic: string, data: string | null): void {
    if (data === null) this.presences.delete(topic);
    else this.presences.set(topic, { peer, data, at: Date.now() });
    this.context.enqueue((database) => database.syncPresent(Date.now(), topic, data ?? "", data === null ? 0 : PRESENCE_TTL_MS));
  }

  private entries: PresenceEntry[] = [];

  /** Who is here changed. */
  showPresence(entries: PresenceEntry[]): void {
    this.entries = entries;
    for (const { peer, sync } of this.wishes) this.sendPresence(peer, sync);
  }

  private sendPresence(peer: Peer, sync: number): void {
    peer.send({ kind: "presence", sync, entries: this.entries });
  }

  /** Tells the pages how it is: a change of state at once, progress now and then. */
  private report(change: Partial<SyncStatus>): void {
    const isState = Object.entries(change).some(([key, value]) => !PROGRESS.has(key) || value === undefined);
    this.status = { ...this.status, ...change };
    if (isState) return this.send();
    this.reporting ??= setTimeout(() => this.send(), REPORT_MS);
  }

  private send(): void {
    clearTimeout(this.reporting);
    this.reporting = undefined;
    for (const { peer, sync } of this.wishes) peer.send({ kind: "sync", sync, status: this.status });
  }

  /** Ends it for good: the owner goes. */
  end(): void {
    clearTimeout(this.retry);
    clearTimeout(this.reporting);
    this.attempt++;
    this.endFetch();
    const { socket } = this;
    this.socket = undefined;
    if (socket) silence(socket);
  }
}

function silence(socket: WebSocket): void {
  socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
  socket.close();
}

/** Where a relay serves a room. */
function endpoint(relay: string, room: string): string {
  const url = new URL(relay);
  if (url.protocol === "http:") url.protocol = "ws:";
  if (url.protocol === "https:") url.protocol = "wss:";
  url.pathname = `${url.pathname.replace(/\/$/, "")}/v1/rooms/${encodeURIComponent(room)}/sync`;
  return url.href;
}
