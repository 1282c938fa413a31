/**
 * React hooks: rows, sync and presence as state. Safe under StrictMode (nothing is opened or closed by rendering) and on
 * a server (hooks answer with `initial`, the module does nothing when it is imported).
 *
 * ```tsx
 * <DbProvider db={db}><List /></DbProvider>
 *
 * function List() {
 *   const { rows } = useQuery<Todo>("SELECT * FROM todo WHERE done = ? ORDER BY title", [0]);
 *   return <ul>{rows.map((todo) => <li key={todo.id}>{todo.title}</li>)}</ul>;
 * }
 * ```
 */

import { createContext, createElement, useContext, useMemo, useRef, useSyncExternalStore, type ReactNode } from "react";
import type { Database } from "./client/database.js";
import type { LiveQuery } from "./client/live.js";
import type { Present, Sync } from "./client/sync.js";
import type { CrsqlError } from "./errors.js";
import type { SyncStatus } from "./messages.js";
import { bindText, type TextBinding, type TextField, type TextSpot } from "./text.js";
import type { Row, SqlParams } from "./values.js";

interface Provided {
  db: Database;
  sync: Sync | undefined;
}

const Context = createContext<Provided | null>(null);

/** Gives a database, and its sync, to the hooks below it. */
export function DbProvider({ db, sync, children }: { db: Database; sync?: Sync; children?: ReactNode }): ReactNode {
  const value = useMemo(() => ({ db, sync }), [db, sync]);
  return createElement(Context.Provider, { value }, children);
}

function useProvided(): Provided {
  const provided = useContext(Context);
  if (!provided) throw new Error("there is no <DbProvider> around this component");
  return provided;
}

/** The database of the nearest `DbProvider`. */
export function useDb(): Database {
  return useProvided().db;
}

/** The state of a query. */
export interface QueryState<T> {
  /** The rows; a row that did not change is the same object as before. */
  rows: readonly T[];
  /** There was no answer yet; `rows` is `initial`. */
  loading: boolean;
  error: CrsqlError | undefined;
}

/** How a query is used. */
export interface QueryOptions<T> {
  /** What `rows` is before the first answer, and on a server. */
  initial?: readonly T[];
}

const NONE: readonly never[] = [];

/** Rows that follow the database. Components with the same query share it. */
export function useQuery<T = Row>(sql: string, params?: SqlParams, options: QueryOptions<T> = {}): QueryState<T> {
  const db = useDb();
  const key = `${sql}\0${keyOf(params)}`;
  const store = useMemo(() => new QueryStore<T>(db, key, sql, params, options.initial ?? NONE), [db, key]);
  return useSyncExternalStore(store.subscribe, store.getSnapshot, store.getSnapshot);
}

/** The first row of a query, `undefined` if there is none. */
export function useRow<T = Row>(
  sql: string,
  params?: SqlParams,
): { row: T | undefined; loading: boolean; error: CrsqlError | undefined } {
  const { rows, loading, error } = useQuery<T>(sql, params);
  return { row: rows[0], loading, error };
}

const OFFLINE: SyncStatus = { state: "closed", caughtUp: false, flushed: false, receivedBytes: 0, sentBytes: 0 };
const never = () => () => {};

/** How sync is doing; `closed` where there is none. */
export function useSyncStatus(sync?: Sync): SyncStatus {
  const provided = useContext(Context)?.sync;
  const used = sync ?? provided;
  return useSyncExternalStore(used?.subscribe ?? never, used?.getSnapshot ?? (() => OFFLINE), () => OFFLINE);
}

/** Who is here, this page included, and how to say something about it. */
export function usePresence<T = unknown>(sync?: Sync): [entries: readonly Present<T>[], set: (value: T | null) => void] {
  const provided = useContext(Context)?.sync;
  const used = sync ?? provided;
  const presence = used?.presence;
  const entries = useSyncExternalStore(
    presence?.subscribe ?? never,
    presence?.getSnapshot ?? (() => NONE),
    () => NONE,
  ) as readonly Present<T>[];
  const set = useRef((_value: T | null) => {});
  set.current = (value) => presence?.set(value);
  return [entries, useMemo(() => (value: T | null) => set.current(value), [])];
}

/**
 * A ref for a `textarea` or `input` that shows a text and writes what is typed, with `bindText`. Leave `value` and
 * `defaultValue` out.
 */
export function useText(spot: TextSpot): (field: TextField | null) => void {
  const db = useDb();
  const key = `${spot.table}\0${spot.column}\0${keyOf(Object.entries(spot.key).flat())}`;
  return useMemo(() => {
    let binding: TextBinding | undefined;
    return (field: TextField | null) => {
      void binding?.close();
      binding = field ? bindText(db, spot, field) : undefined;
    };
  }, [db, key]);
}

function keyOf(params: SqlParams | undefined): string {
  return JSON.stringify(params ?? [], (_, value: unknown) => {
    if (typeof value === "bigint") return `${value}n`;
    return value instanceof Uint8Array ? [...value] : value;
  });
}

/** Live queries in use, by database and text. */
const shared = new WeakMap<Database, Map<string, { query: LiveQuery<never>; users: number }>>();
/** A query that nobody uses is kept for so long: StrictMode and navigation mount again at once. */
const LINGER_MS = 1000;

class QueryStore<T> {
  private state: QueryState<T>;

  constructor(
    private readonly db: Database,
    private readonly key: string,
    private readonly sql: string,
    private readonly params: SqlParams | undefined,
    initial: readonly T[],
  ) {
    this.state = { rows: initial, loading: true, error: undefined };
  }

  readonly getSnapshot = (): QueryState<T> => this.state;

  readonly subscribe = (notify: () => void): (() => void) => {
    const queries = shared.get(this.db) ?? new Map<string, { query: LiveQuery<never>; users: number }>();
    shared.set(this.db, queries);
    let entry = queries.get(this.key);
    if (!entry) {
      entry = { query: this.db.live(this.sql, this.params) as LiveQuery<never>, users: 0 };
      queries.set(this.key, entry);
    }
    entry.users++;
    const { query } = entry as unknown as { query: LiveQuery<T> };
    const update = () => {
      const { isLoaded, error } = query;
      const rows = isLoaded ? query.rows : this.state.rows;
      const loading = !isLoaded && error === undefined;
      if (rows === this.state.rows && loading === this.state.loading && error === this.state.error) return;
      this.state = { rows, loading, error };
      notify();
    };
    const off = query.subscribe(update);
    update();
    return () => {
      off();
      entry.users--;
      setTimeout(() => {
        if (entry.users > 0 || queries.get(this.key) !== entry) return;
        queries.delete(this.key);
        entry.query.close();
      }, LINGER_MS);
    };
  };
}
