/**
 * What was answered to whom, kept in the transaction of the write itself: when an owner ends between its commit and its
 * answer, the page asks the next owner again, which then knows that the write was made and what the answer was.
 */

import type { Database } from "../wasm/crsql_web.js";
import { encodeParams } from "../values.js";

/** How long the answers to pages that vanished are kept, in milliseconds. */
const KEPT_MS = 3_600_000;

const SCHEMA = `
CREATE TABLE IF NOT EXISTS __crsql_web_reply (
  client TEXT NOT NULL,
  request INTEGER NOT NULL,
  at INTEGER NOT NULL,
  reply BLOB,
  PRIMARY KEY (client, request)
) WITHOUT ROWID`;
const SAVE = "INSERT INTO __crsql_web_reply (client, request, at, reply) VALUES (?1, ?2, ?3, ?4)";
const FORGET = "DELETE FROM __crsql_web_reply WHERE client = ?1 AND request < ?2";
const FORGET_OLD = "DELETE FROM __crsql_web_reply WHERE at < ?1";
const FIND = "SELECT reply FROM __crsql_web_reply WHERE client = ?1 AND request = ?2";

/** The table's name, for those who list what changed. */
export const TABLE = "__crsql_web_reply";

/** Makes the table and forgets what nobody will ask for. */
export function prepare(database: Database): void {
  database.exec(SCHEMA);
  database.run(FORGET_OLD, encodeParams([Date.now() - KEPT_MS]));
}

/** Remembers an answer; to be called inside the transaction. `done`: every request below it has been answered. */
export function save(database: Database, client: string, request: number, done: number, reply: Uint8Array): void {
  database.run(FORGET, encodeParams([client, done]));
  database.run(SAVE, encodeParams([client, request, Date.now(), reply]));
}

/** The rows of the answer to a request that was run already, `undefined` if it was not. */
export function find(database: Database, client: string, request: number): Uint8Array | undefined {
  return database.run(FIND, encodeParams([client, request]));
}
