// Where a browser keeps a database, and that a crash loses nothing that was acknowledged.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, CHROMIUM, eventually, openIn, serve } from "./harness.mjs";

const skip = CHROMIUM ? false : "no Chromium: apt-get install chromium, or set CHROMIUM";
let server, chrome;

before(async () => {
  if (skip) return;
  server = await serve();
  chrome = await browser(server.origin);
});
after(async () => {
  await chrome?.close();
  await server?.close();
});

for (const storage of ["opfs", "idb"]) {
  test(`${storage}: data survives a reload, and the replica stays the same one`, { skip }, async () => {
    const page = await chrome.tab();
    const name = `reload-${storage}`;
    const first = await openIn(page, name, { storage });
    assert.equal(first.storage, storage);
    await page.evaluate(() => db.batch(Array.from({ length: 500 }, (_, n) => ["INSERT INTO todo VALUES (?, ?, 0)", [`${n}`, "x".repeat(n)]])));
    await page.reload();
    await chrome.load(page);
    const again = await openIn(page, name, { storage });
    assert.equal(again.site, first.site);
    assert.deepEqual(await page.evaluate(() => db.get("SELECT count(*) AS n, sum(length(title)) AS sum FROM todo")), { n: 500, sum: 124750 });
    assert.deepEqual(await page.evaluate(() => db.check()), []);
    await page.close();
  });

  test(`${storage}: a worker that ends inside a spilled transaction leaves what was acknowledged, 20 times`, { skip }, async () => {
    const page = await chrome.tab();
    const name = `crash-${storage}`;
    let acknowledged = 0;
    for (let round = 0; round < 20; round++) {
      const { storage: kind } = await openIn(page, name, { storage });
      assert.equal(kind, storage);
      const found = await page.evaluate(async () => ({
        rows: await db.get("SELECT count(*) AS n, count(DISTINCT length(title)) AS lengths FROM todo"),
        problems: await db.check(),
        captured: await db.tx(async (tx) => {
          const before = (await tx.get("SELECT crsql_db_version() AS v")).v;
          await tx.run("INSERT INTO todo VALUES ('probe', 'p', 0)");
          const after = (await tx.get("SELECT crsql_next_db_version() AS v")).v;
          await tx.run("DELETE FROM todo WHERE id = 'probe'");
          return after > before;
        }),
      }));
      assert.deepEqual(found.problems, [], `round ${round}`);
      assert.equal(found.rows.n, acknowledged, `round ${round}`);
      assert.ok(found.captured);
      // An acknowledged write, then one that never is: larger than SQLite's cache, so that pages are written before the
      // commit; the page goes away in the middle of it.
      acknowledged += await page.evaluate(async (round) => {
        await db.exec("PRAGMA cache_size = 10");
        await db.run("INSERT INTO todo VALUES (?, 'acknowledged', 0)", [`a${round}`]);
        void db.tx(async (tx) => {
          for (let n = 0; ; n++) await tx.run("INSERT INTO todo VALUES (?, ?, 1)", [`r${round}-${n}`, "y".repeat(20_000)]);
        });
        await new Promise((resolve) => setTimeout(resolve, 60 + round * 3));
        // The worker alone is ended, whatever it does: nobody tells it to close the database first.
        db.link.channel.terminate();
        return 1;
      }, round);
      await page.reload();
      await chrome.load(page);
    }
    await page.close();
  });

  test(`${storage}: export, import and delete`, { skip }, async () => {
    const page = await chrome.tab();
    const result = await page.evaluate(async (storage) => {
      const db = await crsql.open("original", { storage, migrations: [SCHEMA] });
      await db.run("INSERT INTO todo VALUES ('a', 'kept', 0)");
      const bytes = await db.export();
      const busy = [await refusal(crsql.deleteDb("original")), await refusal(crsql.importDb("original", bytes))];
      await crsql.importDb("copy", bytes, { storage });
      const copy = await crsql.open("copy", { storage });
      const rows = await copy.all("SELECT * FROM todo");
      const same = String(copy.siteId) === String(db.siteId);
      const wrong = await refusal(crsql.importDb("wrong", new TextEncoder().encode("nothing".repeat(1000)), { storage }));
      await db.close();
      await copy.close();
      await crsql.deleteDb("original");
      const anew = await crsql.open("original", { storage, migrations: [SCHEMA] });
      const left = await anew.all("SELECT * FROM todo");
      await anew.close();
      return { busy, rows, same, wrong, left, magic: new TextDecoder().decode(bytes.subarray(0, 15)) };
    }, storage);
    for (const text of result.busy) assert.match(text, /^CrsqlError IN_USE/);
    assert.deepEqual(result.rows, [{ id: "a", title: "kept", done: 0 }]);
    assert.equal(result.same, false);
    assert.match(result.wrong, /^CrsqlError SQLITE_NOTADB/);
    assert.deepEqual(result.left, []);
    assert.equal(result.magic, "SQLite format 3");
    await page.close();
  });

  // Chromium's IndexedDB reckons with an old count of what is free, so only OPFS refuses when it should.
  if (storage === "opfs") test(`${storage}: a quota that is used up is an error, and the database goes on`, { skip }, async () => {
    const page = await chrome.tab();
    const cdp = await chrome.context.newCDPSession(page);
    await openIn(page, `quota-${storage}`, { storage });
    await page.evaluate(() => db.run("INSERT INTO todo VALUES ('before', 'x', 0)"));
    const { usage } = await page.evaluate(() => navigator.storage.estimate());
    await cdp.send("Storage.overrideQuotaForOrigin", { origin: server.origin, quotaSize: usage + 3_000_000 });
    // The browser looks at its books now and then: one of many writes is refused, not always the first.
    const { refused, written } = await page.evaluate(async () => {
      for (let n = 0; n < 40; n++) {
        const value = Array.from({ length: 60_000 }, () => crypto.randomUUID()).join("");
        const refused = await refusal(db.run("INSERT INTO todo VALUES (?, ?, 0)", [`big${n}`, value]));
        if (refused !== "no error") return { refused, written: n };
      }
      return { refused: "never", written: 40 };
    });
    assert.match(refused, /^CrsqlError SQLITE_FULL/);
    await cdp.send("Storage.overrideQuotaForOrigin", { origin: server.origin });
    const after = () => page.evaluate(() => refusal(db.run("INSERT OR IGNORE INTO todo VALUES ('after', 'x', 0)")));
    await eventually(async () => (await after()) === "no error", "a write after there is space again");
    assert.deepEqual(await page.evaluate(() => db.get("SELECT count(*) AS n, max(id = 'before') AS b FROM todo")), { n: written + 2, b: 1 });
    assert.deepEqual(await page.evaluate(() => db.check()), []);
    await page.close();
  });
}

test("idb: a save that fails is an error, and the database goes back to what is saved", { skip }, async () => {
  const page = await chrome.tab();
  await openIn(page, "failing", { storage: "idb" });
  await page.evaluate(() => db.run("INSERT INTO todo VALUES ('before', 'x', 0)"));
  // What a full disk does: the transaction takes the blocks and aborts when it is to commit.
  const [worker] = page.workers();
  await worker.evaluate(() => {
    const original = IDBDatabase.prototype.transaction;
    globalThis.healed = () => (IDBDatabase.prototype.transaction = original);
    IDBDatabase.prototype.transaction = function (...args) {
      const transaction = original.apply(this, args);
      if (args[1] === "readwrite") setTimeout(() => transaction.abort());
      return transaction;
    };
  });
  const refused = await page.evaluate(async () => [
    await refusal(db.run("INSERT INTO todo VALUES ('lost', 'x', 0)")),
    await refusal(db.tx(async (tx) => tx.run("UPDATE todo SET title = 'lost'"))),
  ]);
  for (const text of refused) assert.match(text, /^CrsqlError /);
  const now = () => page.evaluate(() => db.all("SELECT id, title FROM todo ORDER BY id"));
  assert.deepEqual(await now(), [{ id: "before", title: "x" }]);
  await worker.evaluate(() => void healed());
  await page.evaluate(() => db.run("INSERT INTO todo VALUES ('later', 'y', 0)"));
  const versions = await page.evaluate(async () => (await db.get("SELECT max(site_version) AS v FROM crsql_changes")).v);
  assert.equal(versions, 2, "the version that was lost is used again: nobody has seen it");
  await page.reload();
  await chrome.load(page);
  await openIn(page, "failing", { storage: "idb" });
  assert.deepEqual(await now(), [{ id: "before", title: "x" }, { id: "later", title: "y" }]);
  assert.deepEqual(await page.evaluate(() => db.check()), []);
  await page.close();
});

test("storage is found out by itself, and memory is only given when asked for", { skip }, async () => {
  const page = await chrome.tab();
  assert.equal((await openIn(page, "auto")).storage, "opfs");
  assert.equal((await openIn(page, "auto-memory", { storage: "memory" })).storage, "memory");
  // What is in IndexedDB stays there, even where OPFS would be had.
  await openIn(page, "stays", { storage: "idb" });
  await page.evaluate(async () => {
    await db.run("INSERT INTO todo VALUES ('a', 'x', 0)");
    await db.close();
  });
  assert.equal((await openIn(page, "stays")).storage, "idb");
  assert.equal(await page.evaluate(async () => (await db.get("SELECT count(*) AS n FROM todo")).n), 1);
  await page.close();
});

test("a page loads the WebAssembly once, and its worker does where the page can't", { skip }, async () => {
  const page = await chrome.tab();
  let loads = 0;
  page.on("request", (request) => (loads += request.url().endsWith(".wasm") ? 1 : 0));
  for (let n = 0; n < 3; n++) {
    await openIn(page, "once");
    await page.evaluate(() => db.close());
  }
  assert.equal(loads, 1);
  await page.reload();
  await chrome.load(page);
  await page.evaluate(() => (WebAssembly.compileStreaming = () => Promise.reject(new Error("not on this page"))));
  await openIn(page, "once");
  assert.deepEqual(await page.evaluate(() => db.check()), []);
  await page.close();
});

test("nothing was reported to the console", { skip }, () => {
  assert.deepEqual(chrome.errors.filter((text) => !/TX_LOST|CLOSED/.test(text)), []);
});
