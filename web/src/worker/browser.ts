/** A browser's worker: its storage, its locks, and where the WebAssembly comes from. */

import { CrsqlError } from "../errors.js";
import type { StorageKind, ToWorker } from "../messages.js";
import { deleteIdb, idbHas, importIdb, openIdb } from "../storage/idb.js";
import { BLOCK_BYTES, openMemory } from "../storage/memory.js";
import { deleteOpfs, hasOpfs, importOpfs, openOpfs } from "../storage/opfs.js";
import type { Storage, Wasm } from "../storage/files.js";
import type { Surroundings } from "./host.js";
import { renewed } from "./renew.js";

/** Makes the WebAssembly ready, from the page's module or from where it is. */
export type Load = (from: WebAssembly.Module | string | undefined) => Promise<Wasm>;

let loading: Promise<Wasm> | undefined;
let load: Load;
/** Takes the module that the page compiled, or that there is none. */
export let offered: (module: WebAssembly.Module | undefined) => void;
const offer = new Promise<WebAssembly.Module | undefined>((resolve) => (offered = resolve));

/** Says how the WebAssembly is loaded, before anything else. */
export function loadBy(how: Load): void {
  load = how;
}

async function loadWasm(url: string | undefined): Promise<Wasm> {
  loading ??= offer.then((module) => load(module ?? url)).catch((error: unknown) => {
    loading = undefined;
    throw new CrsqlError("UNSUPPORTED", `crsql's WebAssembly can't be loaded: ${(error as Error).message}`, { cause: error });
  });
  return loading;
}

/** Where a database is, or will be when it is made. What is in IndexedDB already stays there. */
async function place(name: string, wish: StorageKind | "auto"): Promise<StorageKind> {
  if (wish !== "auto") return wish;
  if (await idbHas(name).catch(() => false)) return "idb";
  if (await hasOpfs()) return "opfs";
  if (typeof indexedDB !== "undefined") return "idb";
  throw new CrsqlError(
    "UNSUPPORTED",
    'this browser keeps no data for this page; open with storage: "memory" to work without keeping any',
  );
}

async function openStorage(name: string, wish: StorageKind | "auto"): Promise<Storage> {
  const kind = await place(name, wish);
  switch (kind) {
    case "opfs":
      if (!(await hasOpfs())) {
        throw new CrsqlError("UNSUPPORTED", "this page has no origin-private file system; leave the option storage out");
      }
      return openOpfs(name);
    case "idb":
      return openIdb(name);
    case "memory":
      return openMemory();
    case "file":
      throw new CrsqlError("UNSUPPORTED", 'storage "file" is for Node');
  }
}

/** What a browser's worker offers. */
export const browser: Surroundings = { loadWasm, openStorage, tabs: { locks: navigator.locks } };

/** Runs `work` while nobody has the database open. */
async function alone<T>(name: string, work: () => Promise<T>): Promise<T> {
  return navigator.locks.request(`crsql:${name}`, { ifAvailable: true }, async (lock) => {
    if (!lock) {
      throw new CrsqlError("IN_USE", `the database "${name}" is open in this or another tab; close it there first`);
    }
    return work();
  }) as Promise<T>;
}

/** Replaces a database by the bytes of a database file. */
export async function importDatabase(request: Extract<ToWorker, { kind: "import" }>): Promise<void> {
  const { name, bytes, storage, keepSite, wasmUrl } = request;
  const file = await renewed(await loadWasm(wasmUrl), bytes, keepSite);
  await alone(name, async () => {
    const kind = await place(name, storage);
    if (kind === "idb") await importIdb(name, file, BLOCK_BYTES);
    else await importOpfs(name, file);
  });
}

/** Deletes a database wherever it is. */
export async function deleteDatabase(name: string): Promise<void> {
  await alone(name, async () => {
    if (await hasOpfs()) await deleteOpfs(name);
    await deleteIdb(name);
  });
}
