// The TypeScript interface on the real WebAssembly, in Node: no tabs, no browser storage.

import assert from "node:assert/strict";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CrsqlError, deleteDb, importDb, open } from "../../dist/node.js";

const SCHEMA = `
CREATE TABLE todo (id TEXT PRIMARY KEY NOT NULL, title TEXT, done INTEGER NOT NULL DEFAULT 0);
SELECT crsql_as_crr('todo');`;

async function memory(options = {}) {
  return open("test", { storage: "memory", migrations: [SCHEMA], ...options });
}

async function refused(work, code, message) {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof CrsqlError, String(error));
    assert.equal(error.code, code, error.message);
    if (message) assert.match(error.message, message);
    return true;
  });
}

test("rows come back as they were written", async () => {
  const db = await memory();
  const values = [null, 0, -1, 127, 128, 2 ** 31, -(2 ** 31), 2 ** 53 - 1, 1.5, -0.5, 1e300, "", "å𝒳é", "x".repeat(300)];
  for (const value of values) assert.deepEqual((await db.get("SELECT ?1 AS v", [value])).v, value);
  assert.deepEqual((await db.get("SELECT ? AS v", [new Uint8Array([1, 2, 0])])).v, new Uint8Array([1, 2, 0]));
  assert.deepEqual((await db.get("SELECT ? AS v", [new Uint8Array()])).v, new Uint8Array());
  assert.equal((await db.get("SELECT typeof(?) AS v", [3])).v, "integer");
  assert.equal((await db.get("SELECT typeof(?) AS v", [3.5])).v, "real");
  assert.equal((await db.get("SELECT typeof(?) AS v", [true])).v, "integer");
  assert.deepEqual(await db.values("SELECT 1 AS a, 'b' AS a"), { columns: ["a", "a"], rows: [[1, "b"]] });
  await db.close();
});

test("integers beyond 2^53 are exact", async () => {
  const db = await memory();
  for (const value of [2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n, -(2n ** 53n)]) {
    assert.equal((await db.get("SELECT ? AS v", [value])).v, value);
  }
  assert.equal((await db.get("SELECT 9007199254740991 AS v")).v, 9007199254740991);
  await refused(db.get("SELECT ?", [2n ** 63n]), "VALUE", /64-bit/);
  await db.close();
  const big = await memory({ bigint: true });
  assert.equal((await big.get("SELECT 1 AS v")).v, 1n);
  assert.equal((await big.get("SELECT 1.5 AS v")).v, 1.5);
  await big.close();
});

test("parameters have names or positions and are all needed", async () => {
  const db = await memory();
  assert.deepEqual(await db.get("SELECT :a AS a, $b AS b", { a: 1, $b: "x" }), { a: 1, b: "x" });
  await refused(db.get("SELECT ?, ?", [1]), "SQLITE_MISUSE", /2 parameters but 1/);
  await refused(db.get("SELECT :a", { b: 1 }), "SQLITE_MISUSE", /no parameter "b"/);
  await refused(db.get("SELECT ?", [{ a: 1 }]), "VALUE", /Object/);
  await refused(db.get("SELECT 1; SELECT 2"), "SQLITE_MISUSE", /more than one statement/);
  await db.close();
});

test("two queries that differ in the case of a text are two queries", async () => {
  const db = await memory();
  const [a, b] = await Promise.all([db.values("SELECT 'A'"), db.values("SELECT 'a'")]);
  assert.deepEqual([a.rows, b.rows], [[["A"]], [["a"]]]);
  await db.close();
});

test("an error has SQLite's code and leaves nothing behind", async () => {
  const db = await memory();
  await db.run("INSERT INTO todo (id) VALUES ('a')");
  await refused(db.run("INSERT INTO todo (id) VALUES ('a')"), "SQLITE_CONSTRAINT", /UNIQUE/);
  await refused(db.exec("INSERT INTO todo (id) VALUES ('b'); INSERT INTO todo (id) VALUES ('a')"), "SQLITE_CONSTRAINT");
  await refused(db.run("SELEC"), "SQLITE_ERROR", /syntax/);
  const batch = db.batch([["INSERT INTO todo (id) VALUES (?)", ["c"]], ["INSERT INTO todo (id) VALUES (?)", ["a"]]]);
  await assert.rejects(batch, { index: 1 });
  assert.deepEqual(await db.all("SELECT id FROM todo"), [{ id: "a" }]);
  assert.deepEqual(await db.check(), []);
  await db.close();
});

test("run, batch and their results", async () => {
  const db = await memory();
  assert.deepEqual(await db.run("INSERT INTO todo (id) VALUES ('a'), ('b')"), { changes: 2, lastInsertRowid: 2n });
  assert.equal((await db.run("UPDATE todo SET title = 'x' WHERE id = 'none'")).changes, 0);
  const many = await db.batch([..."cdef"].map((id) => ["INSERT INTO todo (id) VALUES (?)", [id]]));
  assert.deepEqual(many, { changes: 4, lastInsertRowid: 6n });
  const results = await db.batch(
    [["UPDATE todo SET done = 1 WHERE id = ? RETURNING id", ["c"]], ["SELECT count(*) AS n FROM todo"]],
    { rows: true },
  );
  assert.deepEqual(results.map(({ changes, rows }) => ({ changes, rows })), [
    { changes: 1, rows: [{ id: "c" }] },
    { changes: 0, rows: [{ n: 6 }] },
  ]);
  await db.close();
});

test("a transaction is all or nothing, and others wait", async () => {
  const db = await memory();
  const order = [];
  const tx = db.tx(async (tx) => {
    await tx.run("INSERT INTO todo (id) VALUES ('a')");
    await new Promise((resolve) => setTimeout(resolve, 30));
    order.push("tx", (await tx.get("SELECT count(*) AS n FROM todo")).n);
    return "result";
  });
  const read = new Promise((resolve) => setTimeout(resolve, 10))
    .then(() => db.get("SELECT count(*) AS n FROM todo"))
    .then(({ n }) => order.push("read", n));
  assert.equal(await tx, "result");
  await read;
  assert.deepEqual(order, ["tx", 1, "read", 1]);
  await assert.rejects(db.tx(async (tx) => {
    await tx.run("INSERT INTO todo (id) VALUES ('b')");
    throw new Error("no");
  }), /^Error: no$/);
  assert.equal((await db.get("SELECT count(*) AS n FROM todo")).n, 1);
  await db.close();
});

test("a transaction that waits for itself ends with an error", async () => {
  const db = await memory();
  await refused(db.tx(() => db.run("INSERT INTO todo (id) VALUES ('a')")), "SQLITE_MISUSE", /inside of tx/);
  const late = db.tx(async (tx) => {
    await tx.get("SELECT 1");
    await db.get("SELECT 1");
    await tx.run("INSERT INTO todo (id) VALUES ('a')");
  }, { timeoutMs: 50 });
  await refused(late, "TX_LOST");
  await refused(db.run("BEGIN"), "SQLITE_MISUSE", /use tx/);
  assert.equal((await db.get("SELECT count(*) AS n FROM todo")).n, 0);
  await db.close();
});

test("a live query follows the tables it reads, and rows that did not change stay the same objects", async () => {
  const db = await memory();
  await db.batch([..."abc"].map((id) => ["INSERT INTO todo (id) VALUES (?)", [id]]));
  const calls = [];
  const off = db.live("SELECT id, done FROM todo ORDER BY id", [], (rows, diff) => calls.push({ rows, diff }), { key: "id" });
  await settled(db);
  await db.run("UPDATE todo SET done = 1 WHERE id = 'b'");
  await settled(db);
  await db.run("DELETE FROM todo WHERE id = 'a'");
  await settled(db);
  await db.exec("CREATE TABLE other (a); INSERT INTO other VALUES (1)");
  await db.run("UPDATE todo SET title = 'not selected'");
  await settled(db);
  assert.deepEqual(calls.map(({ rows }) => rows.map(({ id, done }) => `${id}${done}`).join(" ")), ["a0 b0 c0", "a0 b1 c0", "b1 c0"]);
  assert.equal(calls[0].rows[2], calls[2].rows[1]);
  assert.deepEqual(calls[1].diff, { added: [], removed: [], changed: [{ before: { id: "b", done: 0 }, after: { id: "b", done: 1 } }] });
  assert.deepEqual(calls[2].diff, { added: [], removed: [{ id: "a", done: 0 }], changed: [] });
  off();
  await db.run("DELETE FROM todo");
  await settled(db);
  assert.equal(calls.length, 3);
  await db.close();
});

test("a live query sees views, joins, full-text search, tables without rowid, truncation and merges", async () => {
  const [db, peer] = [await memory(), await memory()];
  await db.exec(`
    CREATE TABLE pair (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    CREATE VIEW open_todo AS SELECT * FROM todo WHERE NOT done;
    CREATE VIRTUAL TABLE note USING fts5(body);`);
  const count = (sql) => db.live(`SELECT count(*) AS n FROM ${sql}`);
  const lives = [count("open_todo"), count("pair"), count("note WHERE note MATCH 'hello'"), count("todo JOIN pair ON k = id")];
  const now = () => lives.map((live) => live.rows[0].n);
  await Promise.all(lives.map((live) => live.ready));
  await db.batch([["INSERT INTO todo (id) VALUES ('a')"], ["INSERT INTO pair VALUES ('a', 1)"], ["INSERT INTO note VALUES ('hello world')"]]);
  await settled(db);
  assert.deepEqual(now(), [1, 1, 1, 1]);
  await db.run("DELETE FROM pair");
  await db.run("DELETE FROM note");
  await settled(db);
  assert.deepEqual(now(), [1, 0, 0, 0]);
  await peer.run("INSERT INTO todo (id) VALUES ('z')");
  await db.applyChanges(await peer.changesSince(0));
  await settled(db);
  assert.deepEqual(now(), [2, 0, 0, 0]);
  await db.close();
  await peer.close();
});

test("a live query tells of errors and recovers when the schema does", async () => {
  const db = await memory();
  const wrong = db.live("SELECT * FROM nowhere");
  await refused(wrong.ready, "SQLITE_ERROR", /nowhere/);
  await refused(db.live("DELETE FROM todo").ready, "SQLITE_MISUSE", /only read/);
  const live = db.live("SELECT title FROM todo");
  await live.ready;
  await db.exec("ALTER TABLE todo RENAME COLUMN title TO name");
  await settled(db);
  assert.match(live.error.message, /title/);
  await db.exec("ALTER TABLE todo RENAME COLUMN name TO title; INSERT INTO todo (id, title) VALUES ('a', 'back')");
  await settled(db);
  assert.equal(live.error, undefined);
  assert.deepEqual(live.rows, [{ title: "back" }]);
  await db.close();
});

test("a loop over a live query sees each state and ends with it", async () => {
  const db = await memory();
  const seen = [];
  const live = db.live("SELECT count(*) AS n FROM todo");
  for await (const rows of live) {
    seen.push(rows[0].n);
    if (rows[0].n === 3) break;
    await db.run("INSERT INTO todo (id) VALUES (hex(randomblob(8)))");
  }
  assert.deepEqual(seen, [0, 1, 2, 3]);
  await db.close();
});

test("change events come after the commit only, and say whose it was", async () => {
  const db = await memory();
  const events = [];
  db.onChange(["todo"], (event) => events.push(event));
  await assert.rejects(db.tx(async (tx) => {
    await tx.run("INSERT INTO todo (id) VALUES ('a')");
    throw new Error("no");
  }));
  await settled(db);
  assert.deepEqual(events, []);
  await db.run("INSERT INTO todo (id) VALUES ('a')");
  await settled(db);
  assert.deepEqual(events, [{ tables: ["todo"], origin: "local" }]);
  await db.close();
});

test("changesets carry everything to another replica, once", async () => {
  const [a, b] = [await memory(), await memory()];
  await a.run("INSERT INTO todo VALUES ('x', 'milk', 0)");
  await b.run("INSERT INTO todo VALUES ('y', 'eggs', 1)");
  await b.applyChanges(await a.changesSince(0));
  await a.applyChanges(await b.changesSince(await a.versionVector()));
  await a.applyChanges(await b.changesSince(0));
  const rows = (db) => db.all("SELECT * FROM todo ORDER BY id");
  assert.deepEqual(await rows(a), await rows(b));
  const digest = (db) => db.get("SELECT hex(crsql_digest()) AS d");
  assert.deepEqual(await digest(a), await digest(b));
  assert.notDeepEqual(a.siteId, b.siteId);
  await refused(a.applyChanges(new Uint8Array([1, 2, 3])), "SQLITE_ERROR");
  await a.close();
  await b.close();
});

test("a file keeps what was committed, and an import gets a site of its own", async () => {
  const directory = await mkdtemp(join(tmpdir(), "crsql-"));
  const path = join(directory, "app.db");
  const first = await open(path, { migrations: [SCHEMA] });
  assert.equal(first.storage, "file");
  await first.run("INSERT INTO todo (id) VALUES ('a')");
  const site = first.siteId;
  const bytes = await first.export();
  await first.close();
  const again = await open(path, { migrations: [SCHEMA, "ALTER TABLE todo ADD COLUMN extra"] });
  assert.deepEqual(again.siteId, site);
  assert.deepEqual(await again.all("SELECT id, extra FROM todo"), [{ id: "a", extra: null }]);
  await again.close();

  const copy = join(directory, "copy.db");
  await importDb(copy, bytes);
  const imported = await open(copy);
  assert.notDeepEqual(imported.siteId, site);
  assert.deepEqual(await imported.all("SELECT id FROM todo"), [{ id: "a" }]);
  assert.deepEqual(await imported.check(), []);
  await imported.close();
  await importDb(copy, bytes, { keepSite: true });
  const restored = await open(copy);
  assert.deepEqual(restored.siteId, site);
  await restored.close();
  await refused(importDb(copy, new TextEncoder().encode("not a database, far from it".repeat(100))), "SQLITE_NOTADB");
  await deleteDb(copy);
  await assert.rejects(stat(copy));
  await rm(directory, { recursive: true });
});

test("a migration that fails leaves the database as it was", async () => {
  const directory = await mkdtemp(join(tmpdir(), "crsql-"));
  const path = join(directory, "app.db");
  await refused(open(path, { migrations: [SCHEMA, "CREATE TABLE a (x); CREATE TABLE a (x)"] }), "SQLITE_ERROR", /already exists/);
  const db = await open(path, { migrations: [SCHEMA] });
  assert.deepEqual(await db.all("SELECT name FROM sqlite_master WHERE name = 'a'"), []);
  await db.close();
  await rm(directory, { recursive: true });
});

test("after close everything is refused", async () => {
  const db = await memory();
  await db.close();
  await refused(db.get("SELECT 1"), "CLOSED");
  await refused(open(""), "VALUE");
});

// Live queries are told after the answer of the write that changed them: one more round.
async function settled(db) {
  await db.get("SELECT 1");
  await new Promise((resolve) => setTimeout(resolve, 0));
}
