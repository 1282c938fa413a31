/**
 * A page's line to the owner of a database, whoever that is at the moment.
 *
 * It keeps every request until it is answered. When the owner changes, what is open is said again: requests (marked, so
 * that the new owner looks up whether the old one ran them), live queries, wishes to sync.
 */

import { CrsqlError, fromPlain, toPlain } from "../errors.js";
import type { Body, ClientMessage, FromWorker, OwnerMessage, ToWorker } from "../messages.js";

/** The way to a worker, or to what plays its part. */
export interface Channel {
  post(message: ToWorker, transfer?: Transferable[]): void;
  /** Ends it at once, whatever it does. */
  terminate(): void;
}

/** Makes a channel; called again when a worker crashed. */
export type MakeChannel = (receive: (message: FromWorker) => void) => Channel;

interface Pending {
  body: Body;
  tx: number | undefined;
  sent: boolean;
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
}

type Start = Extract<ToWorker, { kind: "start" }>;

/** How often a crashed worker is replaced before the link gives up. */
const CRASHES_MAX = 3;

export class Link {
  private channel: Channel;
  private readonly pending = new Map<number, Pending>();
  private lastId = 0;
  private connected = false;
  private crashes = 0;
  private failure: CrsqlError | undefined;
  /** Whether this page's worker owns the database. */
  isOwner = false;
  /** What is to be said to each new owner before the requests. */
  private readonly standing = new Map<object, () => Body>();
  private readonly listeners = new Set<(message: OwnerMessage) => void>();

  constructor(
    private readonly make: MakeChannel,
    private readonly start: Start,
  ) {
    this.channel = this.open();
  }

  private open(): Channel {
    const channel: Channel = this.make((message) => {
      if (channel === this.channel || this.channel === undefined) this.receive(message);
    });
    queueMicrotask(() => channel.post(this.start));
    return channel;
  }

  /** Asks the owner for something. */
  request(body: Body, tx?: number): Promise<unknown> {
    return this.send(body, tx).answer;
  }

  /** As `request`, with the request's id. */
  send(body: Body, tx?: number): { id: number; answer: Promise<unknown> } {
    const id = ++this.lastId;
    if (this.failure) return { id, answer: Promise.reject(this.failure) };
    const answer = new Promise<unknown>((resolve, reject) => {
      this.pending.set(id, { body, tx, sent: false, resolve, reject });
    });
    if (this.connected) this.post(id);
    return { id, answer };
  }

  /** Says something that needs no answer, if anybody listens. */
  tell(message: ClientMessage): void {
    if (this.connected) this.channel.post({ kind: "message", message });
  }

  /** Tells the worker about the page. */
  control(message: ToWorker): void {
    if (!this.failure) this.channel.post(message);
  }

  /** Says this to every owner from now on, until the result is called. Resolves when the first one took it. */
  stand(body: () => Body): { accepted: Promise<unknown>; end: () => void } {
    const key = {};
    const accepted = this.request(body()).then((value) => {
      if (!ended) this.standing.set(key, body);
      return value;
    });
    let ended = false;
    const end = () => {
      ended = true;
      this.standing.delete(key);
    };
    return { accepted, end };
  }

  /** Hears everything that is no answer. */
  listen(listener: (message: OwnerMessage) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private receive(message: FromWorker): void {
    switch (message.kind) {
      case "connected":
        this.isOwner = message.isOwner;
        return this.greet();
      case "message":
        return this.hear(message.message);
      case "failed":
        return this.fail(fromPlain(message.error));
      case "crashed":
        return this.replace();
    }
  }

  private greet(): void {
    this.connected = true;
    const answered = [...this.pending.keys()];
    for (const body of this.standing.values()) {
      // What a new owner refuses now, the listeners of that thing hear from it.
      this.request(body()).catch((error: unknown) => this.refused(body(), error));
    }
    for (const id of answered) this.post(id);
  }

  private refused(body: Body, error: unknown): void {
    if (body.op === "live") this.hear({ kind: "liveError", live: body.live, error: toPlain(error) });
  }

  private post(id: number): void {
    const pending = this.pending.get(id)!;
    const done = this.pending.keys().next().value ?? id;
    const { body, tx, sent } = pending;
    pending.sent = true;
    this.channel.post({ kind: "message", message: { kind: "request", id, done, again: sent, tx, body } });
  }

  private hear(message: OwnerMessage): void {
    if (message.kind !== "reply" && message.kind !== "error") {
      for (const listener of [...this.listeners]) listener(message);
      return;
    }
    const pending = this.pending.get(message.id);
    if (!pending) return;
    this.pending.delete(message.id);
    if (message.kind === "reply") pending.resolve(message.value);
    else pending.reject(fromPlain(message.error));
  }

  private replace(): void {
    this.connected = false;
    this.isOwner = false;
    this.channel.terminate();
    if (++this.crashes > CRASHES_MAX) {
      return this.fail(new CrsqlError("INTERNAL", "the database's worker crashed again and again; reload the page"));
    }
    this.channel = this.open();
  }

  private fail(error: CrsqlError): void {
    this.failure ??= error;
    this.connected = false;
    for (const { reject } of this.pending.values()) reject(this.failure);
    this.pending.clear();
  }

  /** Resolves when the worker has let go of everything. */
  async close(): Promise<void> {
    if (this.failure) return this.channel.terminate();
    const channel = this.channel;
    const closed = new Promise<void>((resolve) => {
      const receive = this.receive.bind(this);
      this.receive = (message) => (message.kind === "closed" ? resolve() : receive(message));
    });
    this.tell({ kind: "bye" });
    channel.post({ kind: "close" });
    await closed;
    this.fail(new CrsqlError("CLOSED", "the database was closed"));
    channel.terminate();
  }
}
