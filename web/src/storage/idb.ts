/**
 * IndexedDB, for where there is no OPFS: the database lives in memory, and what a commit changed is saved in one
 * IndexedDB transaction before the commit is acknowledged. So what is saved is always the state after some commit; no
 * journal is needed. The whole database is read when it is opened: meant for small ones.
 */

import { CrsqlError } from "../errors.js";
import type { Storage, Wasm } from "./files.js";
import { snapshotsInMemory } from "./memory.js";

const BLOCKS = "blocks";
/** The key beside the blocks' numbers that holds the file's size. */
const SIZE = "size";
const FORMAT = 1;

const databaseName = (name: string) => `crsql:${name}`;

/** Whether a database is kept here. */
export async function idbHas(name: string): Promise<boolean> {
  if (typeof indexedDB === "undefined") return false;
  const all = await indexedDB.databases();
  return all.some((database) => database.name === databaseName(name));
}

/** Opens the store of a database, made if it is not there. */
export async function openIdb(name: string): Promise<Storage> {
  const idb = await connect(name);
  return {
    kind: "idb",
    async open(wasm: Wasm) {
      const store = idb.transaction(BLOCKS).objectStore(BLOCKS);
      const [keys, values] = await Promise.all([done(store.getAllKeys()), done(store.getAll())]);
      const blocks: [number, Uint8Array][] = [];
      let size = 0;
      keys.forEach((key, index) => {
        if (key === SIZE) size = values[index] as number;
        else blocks.push([key as number, values[index] as Uint8Array]);
      });
      return wasm.openMemory(`/${name}`, blocks, size);
    },
    async flush(database) {
      const blocks = database.takeBlocks() as [number, Uint8Array][];
      if (blocks.length === 0) return;
      const transaction = idb.transaction(BLOCKS, "readwrite", { durability: "strict" });
      const store = transaction.objectStore(BLOCKS);
      for (const [number, bytes] of blocks) store.put(bytes, number);
      store.put(database.size(), SIZE);
      await committed(transaction);
    },
    snapshots: snapshotsInMemory,
    async close() {
      idb.close();
    },
  };
}

/** Replaces a database by the bytes of a database file. */
export async function importIdb(name: string, bytes: Uint8Array, blockBytes: number): Promise<void> {
  const idb = await connect(name);
  try {
    const transaction = idb.transaction(BLOCKS, "readwrite", { durability: "strict" });
    const store = transaction.objectStore(BLOCKS);
    store.clear();
    for (let at = 0; at < bytes.length; at += blockBytes) {
      store.put(bytes.slice(at, at + blockBytes), at / blockBytes);
    }
    store.put(bytes.length, SIZE);
    await committed(transaction);
  } finally {
    idb.close();
  }
}

/** Deletes a database. True if there was one. */
export async function deleteIdb(name: string): Promise<boolean> {
  if (!(await idbHas(name))) return false;
  await done(indexedDB.deleteDatabase(databaseName(name)));
  return true;
}

async function connect(name: string): Promise<IDBDatabase> {
  const request = indexedDB.open(databaseName(name), FORMAT);
  request.onupgradeneeded = () => request.result.createObjectStore(BLOCKS);
  try {
    return await done(request);
  } catch (error) {
    throw new CrsqlError("UNSUPPORTED", `IndexedDB can't be opened: ${(error as Error).message}`, { cause: error });
  }
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function committed(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    // A quota that is used up shows only here, as the reason of the abort.
    transaction.onabort = () => reject(transaction.error ?? new DOMException("the save was aborted", "AbortError"));
  });
}
