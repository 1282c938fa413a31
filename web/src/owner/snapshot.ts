/** Fetches the snapshot that a relay offers, and goes on where an attempt broke off. */

import type { Snapshots, SyncFile } from "../storage/files.js";

/** How often one snapshot is asked for before the relay is asked what it has now. */
const ATTEMPTS = 4;
/** How long nothing may come. */
const PATIENCE_MS = 30_000;

/** What a relay offers. */
export interface Offer {
  /** A path of the relay. */
  path: string;
  /** The first 16 bytes of its blake3 in hexadecimal; names the file too. */
  checksum: string;
  bytes: number;
  epoch: bigint;
  pos: number;
}

/** Another attempt would meet the same. */
export class Refused extends Error {}

/**
 * The file of a snapshot, complete but not checked. `relay` is the address of the WebSocket it was offered on.
 *
 * @throws when it can't be had, or `signal` is aborted
 */
export async function fetchSnapshot(
  offer: Offer,
  relay: string,
  token: string | undefined,
  snapshots: Snapshots,
  signal: AbortSignal,
  progress: (received: number) => void,
): Promise<SyncFile> {
  const url = new URL(relay);
  url.protocol = url.protocol === "wss:" ? "https:" : "http:";
  // Whatever the relay says, it is asked of the relay that we chose to talk to.
  const address = new URL(offer.path, url);
  if (!offer.path.startsWith("/") || address.origin !== url.origin) throw new Refused("its address is not a path of this relay");
  const file = await snapshots.open(offer.checksum);
  try {
    for (let attempt = 1; ; attempt++) {
      try {
        await load(offer, address, token, file, signal, progress);
        return file;
      } catch (error) {
        if (signal.aborted || error instanceof Refused || attempt === ATTEMPTS) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 100 << attempt));
    }
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Loads what the file lacks. */
async function load(
  offer: Offer,
  address: URL,
  token: string | undefined,
  file: SyncFile,
  signal: AbortSignal,
  progress: (received: number) => void,
): Promise<void> {
  let done = file.size();
  if (done > offer.bytes) {
    file.truncate(0);
    done = 0;
  }
  if (done === offer.bytes) return;
  const abort = new AbortController();
  const stop = () => abort.abort(signal.reason);
  signal.addEventListener("abort", stop);
  let timer = setTimeout(() => abort.abort(new Error("nothing came for too long")), PATIENCE_MS);
  try {
    signal.throwIfAborted();
    const headers: Record<string, string> = {};
    if (done > 0) headers.range = `bytes=${done}-`;
    if (token !== undefined) headers.authorization = `Bearer ${token}`;
    const response = await fetch(address, { headers, signal: abort.signal, cache: "no-store" });
    if (response.status === 200) {
      file.truncate(0);
      done = 0;
    } else if (response.status !== 206) {
      const problem = `the relay answers ${response.status}`;
      throw response.status >= 400 && response.status < 500 ? new Refused(problem) : new Error(problem);
    }
    const reader = response.body!.getReader();
    for (;;) {
      const piece = await reader.read();
      if (piece.done) break;
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(new Error("nothing came for too long")), PATIENCE_MS);
      if (done + piece.value.length > offer.bytes) throw new Refused("it is longer than was said");
      const written = file.write(piece.value, done);
      if (written !== piece.value.length) throw new Refused("there is no room for it");
      done += written;
      progress(done);
    }
    if (done < offer.bytes) throw new Error(`${done} of ${offer.bytes} bytes came`);
  } finally {
    abort.abort();
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}
