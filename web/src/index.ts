/**
 * SQLite tables that converge, in the browser: a full replica in every tab, persistent, live, in sync.
 *
 * ```ts
 * const db = await open("app.db", { migrations: ["CREATE TABLE todo (id TEXT PRIMARY KEY NOT NULL, title TEXT); ..."] });
 * db.live("SELECT * FROM todo", [], (rows) => render(rows));
 * await db.run("INSERT INTO todo VALUES (?, ?)", [crypto.randomUUID(), "milk"]);
 * ```
 */

import type { Database } from "./client/database.js";
import type { Channel } from "./client/link.js";
import { compiled, isOwned } from "./client/module.js";
import { CrsqlError, fromPlain } from "./errors.js";
import type { FromWorker, StorageKind, ToWorker } from "./messages.js";
import { openWith } from "./open.js";
import type { OpenOptions } from "./options.js";

export * from "./exports.js";

/**
 * Opens a database, made if it is not there. Any number of tabs may have it open: one of them owns the files, the others
 * go through it, and when it goes away another one takes over.
 *
 * @throws CrsqlError `UNSUPPORTED` where the browser keeps nothing for the page, `SQLITE_NOTADB` and its like for a
 * damaged database
 */
export async function open(name: string, options: OpenOptions = {}): Promise<Database> {
  if (options.persist !== false && options.storage !== "memory") {
    // Whether the browser agrees changes nothing for us; Firefox asks the user and may take its time.
    void globalThis.navigator?.storage?.persist?.().catch(() => false);
  }
  let page: (() => void) | undefined;
  const db = await openWith((receive) => {
    const channel = startWorker(options, receive);
    // Who is not the owner needs it later or never.
    void isOwned(name).then((owned) => offer(channel, options, !owned));
    page?.();
    page = followPage(channel);
    return channel;
  }, name, options);
  db.onClose(() => page?.());
  return db;
}

/** Replaces a database by the bytes of a database file, as `db.export()` makes them. Nobody may have it open. */
export async function importDb(
  name: string,
  bytes: Uint8Array,
  options: ImportOptions = {},
): Promise<void> {
  const wasmUrl = options.wasmUrl === undefined ? undefined : String(options.wasmUrl);
  const { storage = "auto", keepSite = false } = options;
  await once(options, { kind: "import", name, storage, bytes, keepSite, wasmUrl });
}

/** What `importDb()` takes besides. */
export interface ImportOptions extends Pick<OpenOptions, "workerUrl" | "wasmUrl" | "text"> {
  storage?: Exclude<StorageKind, "memory" | "file"> | "auto";
  /** It is a backup of this very database, and the original is gone: it keeps its site id. */
  keepSite?: boolean;
}

/** Deletes a database and everything in it. Nobody may have it open. Without one of that name it does nothing. */
export async function deleteDb(name: string, options: Pick<OpenOptions, "workerUrl"> = {}): Promise<void> {
  await once(options, { kind: "delete", name });
}

async function once(options: Pick<OpenOptions, "workerUrl" | "wasmUrl" | "text">, request: ToWorker): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const channel = startWorker(options, (message) => {
      channel.terminate();
      if (message.kind === "failed") reject(fromPlain(message.error));
      else resolve();
    });
    channel.post(request);
    if (request.kind === "import") void offer(channel, options, true);
  });
}

/** Gives a worker the compiled module, or word that there will be none. */
async function offer(channel: Channel, options: Pick<OpenOptions, "wasmUrl" | "text">, wanted: boolean): Promise<void> {
  const module = wanted ? await compiled(options.wasmUrl, options.text ?? false) : undefined;
  try {
    channel.post({ kind: "module", module });
  } catch {
    // Not everywhere may a module go to a worker.
    channel.post({ kind: "module", module: undefined });
  }
}

function startWorker(options: Pick<OpenOptions, "workerUrl" | "text">, receive: (message: FromWorker) => void): Channel {
  if (typeof Worker === "undefined") {
    throw new CrsqlError("UNSUPPORTED", "there are no workers here; open the database in a browser, not on the server");
  }
  // Bundlers look for exactly these words.
  const worker = options.workerUrl
    ? new Worker(options.workerUrl, { type: "module", name: "crsql" })
    : options.text
      ? new Worker(new URL("./worker-text.js", import.meta.url), { type: "module", name: "crsql" })
      : new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "crsql" });
  worker.onmessage = ({ data }: MessageEvent<FromWorker>) => receive(data);
  worker.onerror = (event) => {
    const message = `the database's worker can't be started: ${event.message || "is worker.js there?"}`;
    receive({ kind: "failed", error: { code: "UNSUPPORTED", message } });
  };
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer),
    terminate: () => worker.terminate(),
  };
}

/**
 * Lets another tab have the database while this page is frozen or kept for the back button, since a frozen owner would
 * answer nobody.
 */
function followPage(channel: Channel): () => void {
  if (typeof document === "undefined") return () => {};
  const aborter = new AbortController();
  const { signal } = aborter;
  const pause = () => channel.post({ kind: "pause" });
  const resume = () => channel.post({ kind: "resume" });
  const nudge = () => document.visibilityState === "visible" && channel.post({ kind: "nudge" });
  addEventListener("online", nudge, { signal });
  document.addEventListener("visibilitychange", nudge, { signal });
  addEventListener("pagehide", pause, { signal });
  addEventListener("pageshow", (event) => event.persisted && resume(), { signal });
  document.addEventListener("freeze", pause, { signal });
  document.addEventListener("resume", resume, { signal });
  return () => aborter.abort();
}
