/** How a database is opened. */

import type { StorageKind } from "./messages.js";
import type { Database } from "./client/database.js";

/** What `open()` takes besides the name. */
export interface OpenOptions {
  /**
   * Where the data is kept. `auto`, the default: in the origin-private file system, or in IndexedDB where there is none;
   * never in memory alone. `memory`: gone with the page, and this page's own.
   */
  storage?: StorageKind | "auto";
  /**
   * SQL scripts, in order. Each runs once per database, in a transaction; how many have run is kept in
   * `PRAGMA user_version`. Never change one that was released, append another.
   */
  migrations?: readonly string[];
  /** The database has columns of type text: loads the variant of crsql that knows them, which is larger. In Node it always does. */
  text?: boolean;
  /** All integers as `bigint`, not only those beyond 2^53. */
  bigint?: boolean;
  /** Ask the browser to keep the data when space gets short; true unless said. */
  persist?: boolean;
  /** Where `worker.js` (or `worker-text.js`) is, if the bundler does not find it. Of the page's own origin. */
  workerUrl?: string | URL;
  /** Where `crsql.wasm` (or `crsql-text.wasm`) is, if the bundler does not find it. */
  wasmUrl?: string | URL;
  /** Gives up opening. */
  signal?: AbortSignal;
}

/** Runs the migrations that have not run yet. */
export async function migrate(db: Database, migrations: readonly string[]): Promise<void> {
  const version = async () => Number((await db.values("SELECT user_version FROM pragma_user_version")).rows[0]![0]);
  for (let done = await version(); done < migrations.length; done = await version()) {
    await db.tx(
      async (tx) => {
        // Another tab may have been faster.
        const table = await tx.values("SELECT user_version FROM pragma_user_version");
        if (Number(table.rows[0]![0]) !== done) return;
        await tx.exec(migrations[done]!);
        await tx.exec(`PRAGMA user_version = ${done + 1}`);
      },
      { timeoutMs: MIGRATION_MS },
    );
  }
}

/** Making a large table replicated takes its time. */
const MIGRATION_MS = 300_000;
