/** What can be asked of a database and of a transaction alike. */

import type { Body } from "../messages.js";
import {
  asArray, asObject, encodeBatch, encodeParams, Reader,
  type Integers, type Row, type SqlParams, type Table,
} from "../values.js";

/** What a statement did. */
export interface RunResult {
  /** How many rows it changed. */
  changes: number;
  /** The rowid of the latest INSERT of the connection. */
  lastInsertRowid: bigint;
}

/** What a statement of a batch did, and its rows. */
export interface BatchResult<T = Row> extends RunResult {
  rows: T[];
}

/** A statement of a batch: its text and its parameters. */
export type Statement = readonly [sql: string, params?: SqlParams];

type Ask = (body: Body) => Promise<unknown>;

export class Queries {
  constructor(
    private readonly ask: Ask,
    protected readonly integers: Integers,
  ) {}

  /**
   * Runs SQL and ignores rows. Without parameters it may be a whole script, which is one transaction.
   *
   * @throws CrsqlError with SQLite's code; nothing of the script is kept then.
   */
  async exec(sql: string, params?: SqlParams): Promise<void> {
    if (params === undefined) await this.ask({ op: "exec", sql });
    else await this.run(sql, params);
  }

  /** Runs one statement that writes. */
  async run(sql: string, params?: SqlParams): Promise<RunResult> {
    return readRun(new Reader(await this.outcome(sql, params)));
  }

  /** All rows of one statement, as objects. */
  async all<T = Row>(sql: string, params?: SqlParams): Promise<T[]> {
    const reader = new Reader(await this.outcome(sql, params));
    readRun(reader);
    return reader.rows(this.integers, asObject<T>).rows;
  }

  /** The first row of one statement, `undefined` if there is none. */
  async get<T = Row>(sql: string, params?: SqlParams): Promise<T | undefined> {
    return (await this.all<T>(sql, params))[0];
  }

  /** All rows of one statement as arrays, with the columns' names. */
  async values(sql: string, params?: SqlParams): Promise<Table> {
    const reader = new Reader(await this.outcome(sql, params));
    readRun(reader);
    return reader.rows(this.integers, asArray);
  }

  /**
   * Runs many statements in one message and one transaction: the fast way to write. A statement that is equal to the
   * one before it is compiled once. With `rows`, says of each statement what it did and its rows; else of all at once.
   */
  async batch(statements: Iterable<Statement>): Promise<RunResult>;
  async batch<T = Row>(statements: Iterable<Statement>, options: { rows: true }): Promise<BatchResult<T>[]>;
  async batch<T = Row>(
    statements: Iterable<Statement>,
    options: { rows?: boolean } = {},
  ): Promise<RunResult | BatchResult<T>[]> {
    const rows = options.rows === true;
    const reader = new Reader((await this.ask({ op: "batch", requests: encodeBatch(statements), rows })) as Uint8Array);
    if (!rows) return readRun(reader);
    const results: BatchResult<T>[] = [];
    while (!reader.isEmpty) results.push({ ...readRun(reader), rows: reader.rows(this.integers, asObject<T>).rows });
    return results;
  }

  private async outcome(sql: string, params: SqlParams | undefined): Promise<Uint8Array> {
    return (await this.ask({ op: "run", sql, params: encodeParams(params) })) as Uint8Array;
  }
}

function readRun(reader: Reader): RunResult {
  return { changes: reader.u32(), lastInsertRowid: reader.i64() };
}
