/** What every entry of the package has. */

export { CrsqlError, type ErrorCode } from "./errors.js";
export { Database, Tx, type ApplyReport, type ChangeEvent, type TxOptions } from "./client/database.js";
export { LiveQuery, type Diff, type LiveCallback, type LiveOptions } from "./client/live.js";
export { Queries, type BatchResult, type RunResult, type Statement } from "./client/queries.js";
export { Presence, Sync, type Present, type SyncEvents, type SyncOptions } from "./client/sync.js";
export type { Origin, StorageKind, SyncStatus } from "./messages.js";
export type { OpenOptions } from "./options.js";
export { bindText, TextBinding, type TextField, type TextSpot } from "./text.js";
export type { Row, SqlParam, SqlParams, SqlValue, Table } from "./values.js";
