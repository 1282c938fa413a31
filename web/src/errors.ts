/** The one class of errors, and its codes. */

/**
 * What went wrong: SQLite's own name of it (`SQLITE_CONSTRAINT`, `SQLITE_FULL` when the quota is used up, …) or one
 * of these:
 *
 * - `CLOSED`: the database was closed before the request was answered.
 * - `IN_USE`: another tab or worker has the database open.
 * - `TX_LOST`: the transaction was rolled back because its owner went away or its time was up. Nothing of it was
 *   written; run it again.
 * - `UNSUPPORTED`: the browser or the context lacks what this needs.
 * - `VALUE`: a parameter is of a type that SQLite has no value for.
 * - `SYNC`: the relay refused; the message has its reason.
 * - `INTERNAL`: a defect of crsql; please report it.
 */
export type ErrorCode =
  | `SQLITE_${string}`
  | "CLOSED"
  | "IN_USE"
  | "TX_LOST"
  | "UNSUPPORTED"
  | "VALUE"
  | "SYNC"
  | "ABORTED"
  | "INTERNAL";

/** Everything that this package throws. */
export class CrsqlError extends Error {
  override readonly name = "CrsqlError";
  /** What went wrong, for programs. */
  readonly code: ErrorCode;
  /** SQLite's extended result code, where SQLite refused. */
  readonly sqliteCode: number | undefined;
  /** The index of the statement of a batch that failed, from 0. */
  readonly index: number | undefined;

  constructor(code: ErrorCode, message: string, details: { sqliteCode?: number; index?: number; cause?: unknown } = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.sqliteCode = details.sqliteCode;
    this.index = details.index;
  }
}

/** An error as it travels between workers. */
export interface PlainError {
  code: ErrorCode;
  message: string;
  sqliteCode?: number | undefined;
  index?: number | undefined;
}

/** The names of SQLite's primary result codes. */
const SQLITE_NAMES: Record<number, string> = {
  1: "ERROR", 2: "INTERNAL", 3: "PERM", 4: "ABORT", 5: "BUSY", 6: "LOCKED", 7: "NOMEM", 8: "READONLY",
  9: "INTERRUPT", 10: "IOERR", 11: "CORRUPT", 12: "NOTFOUND", 13: "FULL", 14: "CANTOPEN", 15: "PROTOCOL",
  17: "SCHEMA", 18: "TOOBIG", 19: "CONSTRAINT", 20: "MISMATCH", 21: "MISUSE", 23: "AUTH", 25: "RANGE", 26: "NOTADB",
};

/** Turns anything thrown into what can be posted. */
export function toPlain(error: unknown): PlainError {
  if (error instanceof CrsqlError) {
    return { code: error.code, message: error.message, sqliteCode: error.sqliteCode, index: error.index };
  }
  const { message, sqliteCode, name, index } = (error ?? {}) as {
    message?: string; sqliteCode?: number; name?: string; index?: number;
  };
  if (typeof sqliteCode === "number") {
    const code: ErrorCode = `SQLITE_${SQLITE_NAMES[sqliteCode & 0xff] ?? "ERROR"}`;
    return { code, message: message ?? code, sqliteCode, index };
  }
  if (name === "QuotaExceededError") {
    return { code: "SQLITE_FULL", message: `the browser's storage quota is used up: ${message}`, sqliteCode: 13 };
  }
  if (name === "AbortError") {
    return { code: "ABORTED", message: message || "aborted" };
  }
  return { code: "INTERNAL", message: name && message ? `${name}: ${message}` : String(error) };
}

/** And back again. */
export function fromPlain(plain: PlainError): CrsqlError {
  return new CrsqlError(plain.code, plain.message, plain);
}
