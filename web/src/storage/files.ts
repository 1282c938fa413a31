/** How SQLite's files are kept: what WebAssembly needs of them, and what the owner needs around that. */

import type { Database } from "../wasm/crsql_web.js";
import type { StorageKind } from "../messages.js";

/** A file that is open already and answers at once. Implemented in `rust/files.rs` by name. */
export interface SyncFile {
  /** Reads at most `into.length` bytes; returns how many there were. */
  read(into: Uint8Array, at: number): number;
  /** Writes all of `from` or throws; returns how many bytes that were. */
  write(from: Uint8Array, at: number): number;
  truncate(size: number): void;
  flush(): void;
  size(): number;
  close(): void;
}

/** The files of one database, taken for as long as it is open. */
export interface Storage {
  readonly kind: StorageKind;
  /** Opens the database in them. */
  open(wasm: Wasm): Promise<Database>;
  /**
   * Makes durable what was committed. Rejects when that is impossible: then the database must be opened anew, because
   * memory is ahead of what is saved. Absent where a commit is durable by itself.
   */
  flush?(database: Database): Promise<void>;
  /** Where a snapshot of a relay can lie until it is taken over. */
  readonly snapshots: Snapshots;
  /** Lets go of the files. */
  close(): Promise<void>;
}

/** Room for one snapshot beside a database. Who opens it closes it. */
export interface Snapshots {
  /** The most that it may have, in bytes. */
  readonly most: number;
  /** The file of this name, with what an earlier attempt left in it; those of other names are removed. */
  open(name: string): Promise<SyncFile>;
  /** Removes all of them. */
  clear(): Promise<void>;
}

/** The WebAssembly module. */
export type Wasm = typeof import("../wasm/crsql_web.js");

/** The parts of a database, in the order in which WebAssembly takes them. */
export const PARTS = ["main.db", "main.db-journal", "main.db-wal"] as const;
