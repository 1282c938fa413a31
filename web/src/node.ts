/**
 * The same interface in Node: for tests, scripts and server rendering. A database is a file, or in memory; one process
 * has it open at a time.
 */

import { readFile, rm, writeFile } from "node:fs/promises";
import type { Database } from "./client/database.js";
import { CrsqlError } from "./errors.js";
import type { FromWorker } from "./messages.js";
import { openWith } from "./open.js";
import type { OpenOptions } from "./options.js";
import type { Wasm } from "./storage/files.js";
import { openMemory } from "./storage/memory.js";
import { openNodeFiles } from "./storage/node.js";
import init, * as wasm from "./wasm-text/crsql_web.js";
import { Host, type Surroundings } from "./worker/host.js";
import { renewed } from "./worker/renew.js";

export * from "./exports.js";

let loading: Promise<Wasm> | undefined;

async function loadWasm(url: string | undefined): Promise<Wasm> {
  loading ??= readFile(url ? new URL(url) : new URL("./crsql-text.wasm", import.meta.url))
    .then((bytes) => init({ module_or_path: bytes }))
    .then(() => wasm);
  return loading;
}

const node: Surroundings = {
  loadWasm,
  async openStorage(name, kind) {
    if (kind === "memory") return openMemory();
    if (kind === "auto" || kind === "file") return openNodeFiles(name);
    throw new CrsqlError("UNSUPPORTED", `storage "${kind}" is for browsers; Node has "file" and "memory"`);
  },
};

/** Opens a database file, made if it is not there; `storage: "memory"` for one that is gone with the process. */
export async function open(name: string, options: OpenOptions = {}): Promise<Database> {
  return openWith((receive) => {
    const later = (message: FromWorker) => queueMicrotask(() => receive(message));
    const host = new Host(later, node);
    return { post: (message) => queueMicrotask(() => host.receive(message)), terminate: () => {} };
  }, name, options);
}

/** Replaces a database file by the bytes of another one. */
export async function importDb(name: string, bytes: Uint8Array, options: { keepSite?: boolean } = {}): Promise<void> {
  const file = await renewed(await loadWasm(undefined), bytes, options.keepSite ?? false);
  await deleteDb(name);
  await writeFile(name, file);
}

/** Deletes a database file, its journal and its log. */
export async function deleteDb(name: string): Promise<void> {
  await Promise.all(["", "-journal", "-wal"].map((suffix) => rm(name + suffix, { force: true })));
}
