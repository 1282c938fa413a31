/** What opening is like in a browser and in Node alike. */

import { Database } from "./client/database.js";
import { Link, type MakeChannel } from "./client/link.js";
import { CrsqlError, toPlain, fromPlain } from "./errors.js";
import type { Info } from "./messages.js";
import { migrate, type OpenOptions } from "./options.js";

/** Opens a database through the channels that `make` makes. */
export async function openWith(make: MakeChannel, name: string, options: OpenOptions): Promise<Database> {
  if (typeof name !== "string" || name === "" || name.length > 200) {
    throw new CrsqlError("VALUE", "a database needs a name of 1 to 200 characters");
  }
  options.signal?.throwIfAborted();
  const wasmUrl = options.wasmUrl === undefined ? undefined : String(options.wasmUrl);
  const link = new Link(make, {
    kind: "start",
    name,
    client: crypto.randomUUID(),
    storage: options.storage ?? "auto",
    wasmUrl,
  });
  try {
    const info = (await unlessAborted(link.request({ op: "info" }), options.signal)) as Info;
    const db = new Database(link, name, info, { bigint: options.bigint });
    await unlessAborted(migrate(db, options.migrations ?? []), options.signal);
    return db;
  } catch (error) {
    await link.close();
    throw error instanceof CrsqlError ? error : fromPlain(toPlain(error));
  }
}

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const abort = () => reject(new CrsqlError("ABORTED", "opening the database was aborted"));
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
