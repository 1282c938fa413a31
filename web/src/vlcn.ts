/**
 * The shape of `@vlcn.io/crsqlite-wasm`, so that a program can move by changing an import. What differs:
 *
 * - `open()` keeps data in OPFS, safely; `@vlcn.io`'s own IndexedDB files are not read. Move by syncing, or by
 *   `SELECT * FROM crsql_changes` there and `INSERT INTO crsql_changes` here.
 * - `onUpdate` calls come after the commit, once for each table, without a rowid.
 * - `createFunction` and `imperativeTx` are refused: the database is in another thread.
 */

import { CrsqlError } from "./errors.js";
import { open as openDatabase } from "./index.js";
import type { Database, Tx } from "./client/database.js";
import type { OpenOptions } from "./options.js";
import type { Row, SqlParam, SqlValue } from "./values.js";

/** SQLite's number of an update, for `onUpdate`. */
const UPDATE = 23;

type UpdateCallback = (type: number, dbName: string, table: string, rowid: bigint) => void;

/** `const sqlite = await initWasm(); const db = await sqlite.open("my.db");` */
export default async function initWasm(locateWasm?: (file: string) => string): Promise<SQLite3> {
  return new SQLite3(locateWasm?.("crsql.wasm"));
}

export { initWasm };

export class SQLite3 {
  constructor(private readonly wasmUrl: string | undefined) {}

  /** Opens a database; without a name, or with ":memory:", one that is gone with the page. */
  async open(filename?: string, options: OpenOptions = {}): Promise<DB> {
    const memory = filename === undefined || filename === "" || filename === ":memory:";
    const db = await openDatabase(memory ? "memory" : filename, {
      wasmUrl: this.wasmUrl,
      ...(memory ? { storage: "memory" } : {}),
      ...options,
    });
    return new DB(db, filename ?? ":memory:");
  }
}

/** What a database and a transaction have in common. */
export class TXAsync {
  /** @internal */
  constructor(private readonly queries: Database | Tx) {}

  async exec(sql: string, bind?: SqlParam[]): Promise<void> {
    await this.queries.exec(sql, bind?.length ? bind : undefined);
  }

  async execO<T extends object = Row>(sql: string, bind?: SqlParam[]): Promise<T[]> {
    return this.queries.all<T>(sql, bind);
  }

  async execA<T extends SqlValue[] = SqlValue[]>(sql: string, bind?: SqlParam[]): Promise<T[]> {
    return (await this.queries.values(sql, bind)).rows as T[];
  }

  async execMany(sql: string[]): Promise<void> {
    await this.queries.exec(sql.join(";\n"));
  }

  async prepare(sql: string): Promise<Stmt> {
    return new Stmt(this.queries, sql);
  }
}

export class DB extends TXAsync {
  /** The underlying database. */
  readonly crsql: Database;

  constructor(db: Database, readonly filename: string) {
    super(db);
    this.crsql = db;
  }

  /** The site id in hexadecimal. */
  get siteid(): string {
    return [...this.crsql.siteId].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  async tx(work: (tx: TXAsync) => Promise<void>): Promise<void> {
    await this.crsql.tx((tx) => work(new TXAsync(tx)));
  }

  onUpdate(callback: UpdateCallback): () => void {
    return this.crsql.onChange(null, ({ tables }) => {
      for (const table of tables) callback(UPDATE, "main", table, -1n);
    });
  }

  /** Brings the schema to `schemaContent` by `crsql_automigrate`, if it is another one than before. */
  async automigrateTo(schemaName: string, schemaContent: string): Promise<"noop" | "apply" | "migrate"> {
    await this.exec("CREATE TABLE IF NOT EXISTS __crsql_vlcn_schema (name TEXT, content TEXT)");
    const known = await this.crsql.get<{ name: string; content: string }>("SELECT * FROM __crsql_vlcn_schema");
    if (known && known.content === schemaContent && known.name === schemaName) return "noop";
    await this.crsql.batch([
      ["SELECT crsql_automigrate(?)", [schemaContent]],
      ["DELETE FROM __crsql_vlcn_schema"],
      ["INSERT INTO __crsql_vlcn_schema VALUES (?, ?)", [schemaName, schemaContent]],
    ]);
    return known ? "migrate" : "apply";
  }

  createFunction(name: string): never {
    throw new CrsqlError("UNSUPPORTED", `function ${name}: the database is in another thread, which can't call the page`);
  }

  imperativeTx(): never {
    throw new CrsqlError("UNSUPPORTED", "imperativeTx() would keep every tab waiting; use tx()");
  }

  async close(): Promise<void> {
    await this.crsql.close();
  }
}

/** A statement by its text; it is compiled once, and needs no `finalize`. */
export class Stmt {
  private params: SqlParam[] = [];
  private isRaw = false;

  /** @internal */
  constructor(private readonly queries: Database | Tx, private readonly sql: string) {}

  bind(params: SqlParam[]): this {
    this.params = params;
    return this;
  }

  raw(isRaw = true): this {
    this.isRaw = isRaw;
    return this;
  }

  async run(_tx: TXAsync | null, ...params: SqlParam[]): Promise<void> {
    await this.queries.run(this.sql, params.length ? params : this.params);
  }

  async all(_tx: TXAsync | null, ...params: SqlParam[]): Promise<unknown[]> {
    const bound = params.length ? params : this.params;
    return this.isRaw ? (await this.queries.values(this.sql, bound)).rows : this.queries.all(this.sql, bound);
  }

  async get(tx: TXAsync | null, ...params: SqlParam[]): Promise<unknown> {
    return (await this.all(tx, ...params))[0];
  }

  async *iterate(tx: TXAsync | null, ...params: SqlParam[]): AsyncGenerator<unknown> {
    yield* await this.all(tx, ...params);
  }

  async finalize(_tx: TXAsync | null): Promise<void> {}
}
