/** Memory: gone with the page. Only where it was asked for. */

import type { Storage, Wasm } from "./files.js";

let count = 0;

/** A database of its own, filled with the bytes of a database file if there are some. */
export function openMemory(bytes?: Uint8Array): Storage {
  const path = `/memory-${++count}`;
  return {
    kind: "memory",
    async open(wasm: Wasm) {
      return wasm.openMemory(path, bytes ? wholeBlocks(bytes) : [], bytes?.length ?? 0);
    },
    async close() {},
  };
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
