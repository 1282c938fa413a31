/**
 * What stands between a page and the owner of its database, once per page: it takes part in the election of the owner,
 * and carries the page's messages to whoever that is.
 *
 * The owner is who holds the Web Lock of the database. Others reach it by a broadcast channel of their own with two
 * ends, so that nothing is delivered to those whom it does not concern.
 */

import { CrsqlError, toPlain } from "../errors.js";
import type { ClientMessage, FromWorker, OwnerMessage, StorageKind, ToWorker } from "../messages.js";
import { Owner } from "../owner/owner.js";
import { Peer } from "../owner/peer.js";
import type { Storage, Wasm } from "../storage/files.js";

/** What differs between a browser's worker and Node. */
export interface Surroundings {
  loadWasm(url: string | undefined): Promise<Wasm>;
  /** Opens the files of a database. Memory is only given when asked for. */
  openStorage(name: string, kind: StorageKind | "auto"): Promise<Storage>;
  /** The locks and channels of all tabs; absent where there is only one. */
  readonly tabs?: { locks: LockManager } | undefined;
}

type Start = Extract<ToWorker, { kind: "start" }>;

/** Among all hosts of a database. */
type Announcement = { kind: "owner" } | { kind: "join"; client: string };
/** Between one host and the owner. */
type Line =
  | { kind: "up"; message: ClientMessage }
  | { kind: "down"; message: OwnerMessage }
  | { kind: "welcome" };

const lockOf = (name: string) => `crsql:${name}`;
const clientLockOf = (client: string) => `crsql-client:${client}`;

export class Host {
  private start: Start | undefined;
  private owner: Owner | undefined;
  private everyone: BroadcastChannel | undefined;
  private line: BroadcastChannel | undefined;
  private lines = new Map<string, BroadcastChannel>();
  /** Ends the candidacy, or the ownership once that is over. */
  private candidacy: { abort: AbortController; release: () => void; done: Promise<void> } | undefined;
  private resign: (() => void) | undefined;

  constructor(
    private readonly post: (message: FromWorker, transfer?: Transferable[]) => void,
    private readonly surroundings: Surroundings,
  ) {}

  receive(message: ToWorker): void {
    switch (message.kind) {
      case "start":
        void this.begin(message);
        return;
      case "message":
        return this.carry(message.message);
      case "nudge":
        return this.carry({ kind: "nudge" });
      case "pause":
        void this.leave();
        return;
      case "resume":
        if (this.start && !this.candidacy) void this.run(this.start);
        return;
      case "close":
        void this.end();
        return;
    }
  }

  private async begin(start: Start): Promise<void> {
    this.start = start;
    await this.run(start);
  }

  private async run(start: Start): Promise<void> {
    const tabs = this.surroundings.tabs;
    try {
      if (start.storage === "memory" || !tabs) {
        this.candidacy = { abort: new AbortController(), release: () => {}, done: Promise.resolve() };
        await this.own(start, false);
        return;
      }
      if (!tabs.locks) {
        throw new CrsqlError("UNSUPPORTED", "this page has no Web Locks: it must be served by https or from localhost");
      }
      await this.present(start, tabs.locks);
      this.stand(start, tabs.locks);
    } catch (error) {
      this.post({ kind: "failed", error: toPlain(error) });
    }
  }

  /** Becomes visible to the owner: holds a lock that ends with this worker, listens on a line of its own. */
  private async present(start: Start, locks: LockManager): Promise<void> {
    if (this.line) return this.join(start);
    await new Promise<void>((resolve) => {
      void locks.request(clientLockOf(start.client), () => {
        resolve();
        return new Promise<void>((release) => (this.resign = release));
      });
    });
    this.line = new BroadcastChannel(`crsql:${start.name}:${start.client}`);
    this.line.onmessage = ({ data }: MessageEvent<Line>) => {
      if (this.owner) return;
      if (data.kind === "welcome") this.post({ kind: "connected", isOwner: false });
      if (data.kind === "down") this.post({ kind: "message", message: data.message });
    };
    this.everyone = new BroadcastChannel(lockOf(start.name));
    this.everyone.onmessage = ({ data }: MessageEvent<Announcement>) => {
      if (data.kind === "owner" && !this.owner) this.join(start);
      if (data.kind === "join" && this.owner) this.admit(start, data.client);
    };
    this.join(start);
  }

  private join(start: Start): void {
    this.everyone?.postMessage({ kind: "join", client: start.client } satisfies Announcement);
  }

  /** Stands for owner; becomes it when all who came before are gone. */
  private stand(start: Start, locks: LockManager): void {
    const abort = new AbortController();
    let release = () => {};
    const done = locks
      .request(lockOf(start.name), { signal: abort.signal }, async () => {
        const released = new Promise<void>((resolve) => (release = resolve));
        candidacy.release = release;
        await this.own(start, true);
        this.everyone?.postMessage({ kind: "owner" } satisfies Announcement);
        await released;
      })
      .catch((error: unknown) => {
        if (!abort.signal.aborted) this.post({ kind: "failed", error: toPlain(error) });
      });
    const candidacy = { abort, release, done: done as Promise<void> };
    this.candidacy = candidacy;
  }

  private async own(start: Start, handsOver: boolean): Promise<void> {
    const { loadWasm, openStorage } = this.surroundings;
    const [wasm, storage] = await Promise.all([loadWasm(start.wasmUrl), openStorage(start.name, start.storage)]);
    try {
      this.owner = await Owner.open(wasm, storage, { handsOver, onCrash: () => this.crash(storage) });
    } catch (error) {
      await storage.close();
      throw error;
    }
    const own = new Peer(start.client, true, (message) => this.post({ kind: "message", message }, buffersOf(message)));
    this.owner.connect(own);
    this.post({ kind: "connected", isOwner: true });
  }

  /** Lets another page's host in, and notices when it goes. */
  private admit(start: Start, client: string): void {
    const owner = this.owner!;
    let line = this.lines.get(client);
    if (line === undefined) {
      line = new BroadcastChannel(`crsql:${start.name}:${client}`);
      this.lines.set(client, line);
      line.onmessage = ({ data }: MessageEvent<Line>) => {
        if (data.kind === "up" && this.owner === owner) owner.receive(client, data.message);
      };
      void this.surroundings.tabs!.locks
        .request(clientLockOf(client), { signal: this.candidacy!.abort.signal }, () => this.dismiss(owner, client))
        .catch(() => {});
    }
    const post = (message: Line) => line.postMessage(message);
    if (!owner.knows(client)) {
      owner.connect(new Peer(client, false, (message) => post({ kind: "down", message })));
    }
    post({ kind: "welcome" });
  }

  private dismiss(owner: Owner, client: string): void {
    owner.disconnect(client);
    this.lines.get(client)?.close();
    this.lines.delete(client);
  }

  private carry(message: ClientMessage): void {
    if (this.owner) this.owner.receive(this.start!.client, message);
    else this.line?.postMessage({ kind: "up", message } satisfies Line);
  }

  /** Gives the database up, so that another tab has it; this page is served by the next owner. */
  private async leave(): Promise<void> {
    const { candidacy, owner } = this;
    this.candidacy = undefined;
    this.owner = undefined;
    candidacy?.abort.abort();
    for (const line of this.lines.values()) line.close();
    this.lines.clear();
    try {
      await owner?.close();
    } finally {
      candidacy?.release();
      await candidacy?.done;
    }
  }

  private async end(): Promise<void> {
    const { start } = this;
    this.start = undefined;
    if (!this.owner && start) this.line?.postMessage({ kind: "up", message: { kind: "bye" } } satisfies Line);
    await this.leave();
    this.line?.close();
    this.everyone?.close();
    this.resign?.();
    this.post({ kind: "closed" });
  }

  /** WebAssembly can't go on: the files are given up as they are, as after a power failure. */
  private crash(storage: Storage): void {
    void storage.close();
    this.post({ kind: "crashed" });
  }
}

/** What can be moved to the page instead of copied. */
function buffersOf(message: OwnerMessage): Transferable[] {
  const bytes = message.kind === "reply" ? message.value : undefined;
  return bytes instanceof Uint8Array && bytes.length > 0 ? [bytes.buffer as ArrayBuffer] : [];
}
