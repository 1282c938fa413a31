/** Memory: gone with the page. Only where it was asked for. */

import type { Snapshots, Storage, SyncFile, Wasm } from "./files.js";

let count = 0;

/** A database of its own, filled with the bytes of a database file if there are some. */
export function openMemory(bytes?: Uint8Array): Storage {
  const path = `/memory-${++count}`;
  return {
    kind: "memory",
    async open(wasm: Wasm) {
      return wasm.openMemory(path, bytes ? wholeBlocks(bytes) : [], bytes?.length ?? 0);
    },
    snapshots: snapshotsInMemory,
    async close() {},
  };
}

/** Where the database is in memory, so is a snapshot of it. A larger one comes in parts instead. */
export const snapshotsInMemory: Snapshots = {
  most: 64 << 20,
  async open() {
    return new MemoryFile();
  },
  async clear() {},
};

class MemoryFile implements SyncFile {
  private bytes = new Uint8Array();
  private length = 0;

  read(into: Uint8Array, at: number): number {
    const found = this.bytes.subarray(Math.min(at, this.length), Math.min(at + into.length, this.length));
    into.set(found);
    return found.length;
  }

  write(from: Uint8Array, at: number): number {
    const end = at + from.length;
    if (end > this.bytes.length) {
      const grown = new Uint8Array(Math.max(end, this.bytes.length * 2));
      grown.set(this.bytes.subarray(0, this.length));
      this.bytes = grown;
    }
    this.bytes.set(from, at);
    this.length = Math.max(this.length, end);
    return from.length;
  }

  truncate(size: number): void {
    if (size < this.length) this.bytes.fill(0, size, this.length);
    else this.write(new Uint8Array(size - this.length), this.length);
    this.length = size;
  }

  flush(): void {}

  size(): number {
    return this.length;
  }

  close(): void {
    this.truncate(0);
  }
}

/** The bytes cut into the blocks that WebAssembly takes. */
function wholeBlocks(bytes: Uint8Array): [number, Uint8Array][] {
  const blocks: [number, Uint8Array][] = [];
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    blocks.push([at / BLOCK_BYTES, bytes.subarray(at, at + BLOCK_BYTES)]);
  }
  return blocks;
}

/** As in `rust/files.rs`. */
export const BLOCK_BYTES = 16 * 1024;
