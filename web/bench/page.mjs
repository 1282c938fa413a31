// What the benchmark measures, as both libraries' users would write it. Runs in the page; times in milliseconds.

import initVlcn from "@vlcn.io/crsqlite-wasm";
import { deleteDb, open } from "../src/index.js";

const ROWS = 10_000;
const SCHEMA = "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, title TEXT, done INTEGER, ts REAL)";
const INSERT = "INSERT INTO t VALUES (?, ?, ?, ?)";
const COMMITS = 100;

const rows = Array.from({ length: ROWS }, (_, n) => [crypto.randomUUID().replaceAll("-", ""), `title of row ${n}`, n % 2, n / 7]);
const urls = { workerUrl: "/dist/worker.js", wasmUrl: "/dist/crsql.wasm" };

async function time(work) {
  const start = performance.now();
  const value = await work();
  return [performance.now() - start, value];
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

async function commits(run) {
  const times = [];
  for (let n = 0; n < COMMITS; n++) times.push((await time(() => run(`c${n}`)))[0]);
  return median(times);
}

/** @crsql/web in OPFS: everything is durable when it returns. */
export async function ours(storage) {
  const name = `bench-${crypto.randomUUID()}`;
  const result = {};
  let db;
  [result["open, first time"], db] = await time(() => open(name, { storage, ...urls }));
  await db.exec(`${SCHEMA}; SELECT crsql_as_crr('t'); CREATE TABLE plain AS SELECT * FROM t`);
  [result["insert 10k rows, plain table"]] = await time(() => db.batch(rows.map((row) => ["INSERT INTO plain VALUES (?, ?, ?, ?)", row])));
  [result["insert 10k rows, replicated"]] = await time(() => db.batch(rows.map((row) => [INSERT, row])));
  let changes;
  [result["read 10k rows' changes"], changes] = await time(() => db.changesSince(0));
  result["bytes of 10k rows' changes"] = changes.length;
  result["one-row commit, durable"] = await commits((id) => db.run(INSERT, [id, "x", 0, 1.5]));
  await db.close();
  [result["open again"], db] = await time(() => open(name, { storage, ...urls }));

  const live = db.live("SELECT * FROM t ORDER BY id");
  await live.ready;
  const updates = [];
  for (let n = 0; n < 30; n++) {
    const changed = new Promise((resolve) => {
      const off = live.subscribe(() => resolve(off()));
    });
    updates.push((await time(async () => {
      await db.run("UPDATE t SET title = ? WHERE id = ?", [`changed ${n}`, rows[n * 7][0]]);
      await changed;
    }))[0]);
  }
  result["live query of 10k rows after a one-row change"] = median(updates);
  await db.close();
  await deleteDb(name, urls);

  const peerName = `bench-${crypto.randomUUID()}`;
  const peer = await open(peerName, { storage, ...urls });
  await peer.exec(`${SCHEMA}; SELECT crsql_as_crr('t')`);
  [result["merge 10k rows"]] = await time(() => peer.applyChanges(changes));
  [result["merge them again"]] = await time(() => peer.applyChanges(changes));
  await peer.close();
  await deleteDb(peerName, urls);
  return result;
}

/** The same database when the page is loaded again. */
export async function reloaded(storage) {
  const [taken, db] = await time(() => open("bench-reloaded", { storage, ...urls }));
  await db.exec("CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY NOT NULL, title TEXT); SELECT crsql_as_crr('t')");
  await db.close();
  return { "open after a reload": taken };
}

/** cr-sqlite's own package, on IndexedDB. Its default keeps statement journals there too; memory is fairer. */
export async function vlcn() {
  const result = {};
  const locate = () => "/bench/node_modules/@vlcn.io/crsqlite-wasm/dist/crsqlite.wasm";
  let db;
  [result["open, first time"], db] = await time(async () => (await initVlcn(locate)).open(`bench-${crypto.randomUUID()}`));
  await db.exec("PRAGMA temp_store = memory");
  await db.exec(SCHEMA);
  await db.exec("SELECT crsql_as_crr('t')");
  await db.exec("CREATE TABLE plain AS SELECT * FROM t");
  const insert = async (sql) => {
    const statement = await db.prepare(sql);
    await db.tx(async (tx) => {
      for (const row of rows) await statement.run(tx, ...row);
    });
    await statement.finalize(null);
  };
  [result["insert 10k rows, plain table"]] = await time(() => insert("INSERT INTO plain VALUES (?, ?, ?, ?)"));
  [result["insert 10k rows, replicated"]] = await time(() => insert(INSERT));
  let changes;
  [result["read 10k rows' changes"], changes] = await time(() => db.execA("SELECT * FROM crsql_changes"));
  result["one-row commit, durable"] = null; // It returns before anything is durable.
  await db.close();

  const peer = await (await initVlcn(locate)).open(`bench-${crypto.randomUUID()}`);
  await peer.exec("PRAGMA temp_store = memory");
  await peer.exec(SCHEMA);
  await peer.exec("SELECT crsql_as_crr('t')");
  const merge = async () => {
    const statement = await peer.prepare("INSERT INTO crsql_changes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    await peer.tx(async (tx) => {
      for (const change of changes) await statement.run(tx, ...change);
    });
    await statement.finalize(null);
  };
  [result["merge 10k rows"]] = await time(merge);
  [result["merge them again"]] = await time(merge);
  await peer.close();
  return result;
}
