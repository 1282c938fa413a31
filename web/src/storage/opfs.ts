/**
 * The origin-private file system: three exclusive handles per database, in the directory `crsql/<name>`.
 *
 * They are opened before SQLite asks, since a handle can't be had synchronously. Only a dedicated worker may have them,
 * and only one at a time; the handles of a worker that just ended linger a little.
 */

import { CrsqlError } from "../errors.js";
import { PARTS, type Snapshots, type Storage, type SyncFile, type Wasm } from "./files.js";

/** How long to wait for the handles of a worker that ended. */
const TAKEOVER_MS = 10_000;
const RETRY_MS = 15;

const ROOT = "crsql";

/** Whether this worker can have handles at all: not in every private window. */
export async function hasOpfs(): Promise<boolean> {
  if (typeof FileSystemFileHandle === "undefined" || !("createSyncAccessHandle" in FileSystemFileHandle.prototype)) {
    return false;
  }
  try {
    await navigator.storage.getDirectory();
    return true;
  } catch {
    return false;
  }
}

async function directory(name: string, create: boolean): Promise<FileSystemDirectoryHandle> {
  const root = await navigator.storage.getDirectory();
  const all = await root.getDirectoryHandle(ROOT, { create });
  // A file name may not hold a slash, nor be "." or "..".
  return all.getDirectoryHandle(`db-${encodeURIComponent(name)}`, { create });
}

/** Takes the files of a database, made if they are not there. */
export async function openOpfs(name: string): Promise<Storage> {
  const parent = await directory(name, true);
  const files: OpfsFile[] = [];
  try {
    for (const part of PARTS) files.push(new OpfsFile(await take(parent, part, name)));
  } catch (error) {
    for (const file of files) file.close();
    throw error;
  }
  return {
    kind: "opfs",
    async open(wasm: Wasm) {
      const [main, journal, wal] = files as [OpfsFile, OpfsFile, OpfsFile];
      return wasm.openFiles(`/${name}`, main, journal, wal);
    },
    snapshots: snapshotsIn(parent, name),
    async close() {
      for (const file of files) file.close();
    },
  };
}

const SNAPSHOT = "snapshot-";

/** A snapshot is a file beside the database: what came of it is there after a reload. */
function snapshotsIn(parent: FileSystemDirectoryHandle, name: string): Snapshots {
  const keep = async (wanted: string | undefined) => {
    for await (const entry of parent.keys()) {
      if (entry.startsWith(SNAPSHOT) && entry !== wanted) await parent.removeEntry(entry);
    }
  };
  return {
    most: Infinity,
    async open(checksum) {
      const part = SNAPSHOT + checksum;
      await keep(part);
      return new OpfsFile(await take(parent, part, name));
    },
    clear: () => keep(undefined),
  };
}

async function take(parent: FileSystemDirectoryHandle, part: string, name: string): Promise<FileSystemSyncAccessHandle> {
  const file = await parent.getFileHandle(part, { create: true });
  const end = Date.now() + TAKEOVER_MS;
  for (;;) {
    try {
      return await file.createSyncAccessHandle();
    } catch (error) {
      const busy = (error as DOMException).name === "NoModificationAllowedError";
      if (!busy) throw error;
      if (Date.now() > end) {
        throw new CrsqlError("IN_USE", `the files of database "${name}" are held by something that does not end`);
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/** Replaces a database by the bytes of a database file. */
export async function importOpfs(name: string, bytes: Uint8Array): Promise<void> {
  const parent = await directory(name, true);
  for (const part of PARTS) {
    const file = new OpfsFile(await take(parent, part, name));
    try {
      file.truncate(0);
      if (part === PARTS[0]) file.write(bytes, 0);
      file.flush();
    } finally {
      file.close();
    }
  }
}

/** Deletes a database. True if there was one. */
export async function deleteOpfs(name: string): Promise<boolean> {
  try {
    const parent = await directory(name, false);
    // A worker that ended may hold them still: deleting waits as opening does.
    for (const part of PARTS) (await take(parent, part, name)).close();
    const all = await (await navigator.storage.getDirectory()).getDirectoryHandle(ROOT);
    await all.removeEntry(parent.name, { recursive: true });
    return true;
  } catch (error) {
    if ((error as DOMException).name === "NotFoundError") return false;
    throw error;
  }
}

class OpfsFile implements SyncFile {
  // One object for all calls: a new one for each costs more than the call.
  private readonly position = { at: 0 };

  constructor(private readonly handle: FileSystemSyncAccessHandle) {}

  read(into: Uint8Array, at: number): number {
    this.position.at = at;
    return this.handle.read(into as Uint8Array<ArrayBuffer>, this.position);
  }

  write(from: Uint8Array, at: number): number {
    this.position.at = at;
    return this.handle.write(from as Uint8Array<ArrayBuffer>, this.position);
  }

  truncate(size: number): void {
    this.handle.truncate(size);
  }

  flush(): void {
    this.handle.flush();
  }

  size(): number {
    return this.handle.getSize();
  }

  close(): void {
    this.handle.close();
  }
}
