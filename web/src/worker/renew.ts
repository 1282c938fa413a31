/** A database file from elsewhere, looked at before it replaces anything. */

import { fromPlain, toPlain } from "../errors.js";
import { openMemory } from "../storage/memory.js";
import type { Wasm } from "../storage/files.js";
import { encodeParams } from "../values.js";
import type { Database } from "../wasm/crsql_web.js";

/**
 * The bytes of a database file, checked, and with a site id of its own unless `keepSite`: the database it was copied
 * from may live on, and two histories under one id would make peers skip changes for ever.
 *
 * @throws CrsqlError `SQLITE_NOTADB` or `SQLITE_CORRUPT`
 */
export async function renewed(wasm: Wasm, bytes: Uint8Array, keepSite: boolean): Promise<Uint8Array> {
  let database: Database | undefined;
  try {
    database = await openMemory(bytes).open(wasm);
    const known = database.run("SELECT 1 FROM sqlite_master WHERE name = '__crsql_state'", encodeParams([]));
    // The outcome has 12 bytes before the rows and 9 of one column; a row adds its cells.
    const isReplica = known.length > EMPTY_LENGTH;
    if (isReplica && !keepSite) database.run("SELECT crsql_new_site()", encodeParams([]));
    return database.export();
  } catch (error) {
    throw fromPlain(toPlain(error));
  } finally {
    database?.close();
    database?.free();
  }
}

/** changes:u32 rowid:i64 columns:u32 (len:u32 "1") rows:u32 cell_bytes:u32 utf8_bytes:u32 */
const EMPTY_LENGTH = 4 + 8 + 4 + 5 + 4 + 4 + 4;
