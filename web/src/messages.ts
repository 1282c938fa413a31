/** What a page and the owner of a database say to each other. */

import type { PlainError } from "./errors.js";

/** Where a database is kept. */
export type StorageKind = "opfs" | "idb" | "memory" | "file";

/** A request's content. */
export type Body =
  | { op: "info" }
  | { op: "run"; sql: string; params: Uint8Array }
  | { op: "exec"; sql: string }
  | { op: "batch"; requests: Uint8Array; rows: boolean }
  | { op: "begin"; timeoutMs: number }
  | { op: "commit" }
  | { op: "rollback" }
  | { op: "live"; live: number; sql: string; params: Uint8Array }
  | { op: "unlive"; live: number }
  | { op: "export" }
  | { op: "check" }
  | { op: "sync"; sync: number; options: SyncWish }
  | { op: "flush"; sync: number }
  | { op: "presence"; sync: number; topic: string; data: string | null };

/** What a page wants to be kept in sync with. */
export interface SyncWish {
  url: string;
  room: string;
  /** Whether this page can be asked for a token. */
  hasToken: boolean;
  /** What the page wants now. */
  state: "on" | "paused" | "closed";
}

/** From a page to the owner. */
export type ClientMessage =
  | {
      kind: "request";
      /** Counts from 1 for each client. */
      id: number;
      /** Every request below this one has been answered. */
      done: number;
      /** It was sent to an owner before, which may have run it. */
      again: boolean;
      /** The id of the request that began the transaction it belongs to. */
      tx?: number | undefined;
      body: Body;
    }
  | { kind: "token"; ask: number; token?: string | undefined; error?: string | undefined }
  | { kind: "nudge" }
  | { kind: "bye" };

/** Facts of an open database. */
export interface Info {
  siteId: Uint8Array;
  storage: StorageKind;
  version: string;
}

/** Who made a change: this page, another page of this browser, or the network. */
export type Origin = "local" | "tab" | "remote";

/** How sync is doing. */
export interface SyncStatus {
  /** `connecting` until the relay's welcome, `online` after it, `offline` while waiting for another attempt. */
  state: "connecting" | "online" | "offline" | "paused" | "refused" | "closed";
  /** Everything that the relay had when it answered is here. */
  caughtUp: boolean;
  /** Everything that was written here is confirmed by the relay. */
  flushed: boolean;
  /** How much came in and went out since sync began, in bytes. */
  receivedBytes: number;
  sentBytes: number;
  /** A copy of the room is being fetched, instead of all that was ever written in it: bytes so far and in all. */
  snapshot?: { received: number; total: number } | undefined;
  /** Why it is not online. */
  error?: PlainError | undefined;
  /** When the next attempt is, in milliseconds since 1970. */
  retryAt?: number | undefined;
}

/** What somebody in the room says about themselves. */
export interface PresenceEntry {
  site: string;
  topic: string;
  data: string;
}

/** From the owner to a page. */
export type OwnerMessage =
  | { kind: "reply"; id: number; value: unknown }
  | { kind: "error"; id: number; error: PlainError }
  | { kind: "changes"; tables: string[]; origin: Origin }
  | { kind: "patch"; live: number; patch: Uint8Array }
  | { kind: "liveError"; live: number; error: PlainError }
  | { kind: "sync"; sync: number; status: SyncStatus }
  | { kind: "presence"; sync: number; entries: PresenceEntry[] }
  | { kind: "askToken"; sync: number; ask: number }
  /** The file turned out to be a copy, and goes on as another replica. */
  | { kind: "site"; siteId: Uint8Array };

/** From a page to its own worker. */
export type ToWorker =
  | {
      kind: "start";
      name: string;
      client: string;
      storage: StorageKind | "auto";
      wasmUrl?: string | undefined;
    }
  /** Once, after "start" or "import": the compiled WebAssembly, if the page has it. */
  | { kind: "module"; module: WebAssembly.Module | undefined }
  | { kind: "message"; message: ClientMessage }
  | { kind: "pause" }
  | { kind: "resume" }
  | { kind: "nudge" }
  | { kind: "close" }
  | { kind: "delete"; name: string }
  | { kind: "import"; name: string; storage: StorageKind | "auto"; bytes: Uint8Array; keepSite: boolean; wasmUrl?: string | undefined };

/** From a page's worker to it. */
export type FromWorker =
  | { kind: "connected"; isOwner: boolean }
  | { kind: "message"; message: OwnerMessage }
  | { kind: "failed"; error: PlainError }
  | { kind: "crashed" }
  | { kind: "closed" }
  | { kind: "done" };
