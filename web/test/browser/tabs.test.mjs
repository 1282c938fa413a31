// Several tabs of one profile: one owns the files, the others go through it, and nothing is lost when it goes.

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

const isLeader = (page) => page.evaluate(() => db.isLeader);
const ids = (page) => page.evaluate(async () => (await db.all("SELECT id FROM todo ORDER BY id")).map(({ id }) => id));

async function tabs(count, name) {
  const pages = [];
  for (let index = 0; index < count; index++) {
    pages.push(await chrome.tab());
    await openIn(pages[index], name);
  }
  return pages;
}

test("one tab owns the database, all read and write it, and live queries follow everywhere", { skip }, async () => {
  const pages = await tabs(3, "shared");
  assert.deepEqual(await Promise.all(pages.map(isLeader)), [true, false, false]);
  for (const page of pages) {
    await page.evaluate(() => {
      globalThis.seen = [];
      globalThis.origins = [];
      globalThis.live = db.live("SELECT id FROM todo ORDER BY id", [], (rows) => seen.push(rows.map(({ id }) => id).join()));
      db.onChange(["todo"], ({ origin }) => origins.push(origin));
    });
  }
  await pages[1].evaluate(() => db.run("INSERT INTO todo (id) VALUES ('from-1')"));
  await pages[2].evaluate(() => db.tx(async (tx) => {
    await tx.run("INSERT INTO todo (id) VALUES ('from-2')");
    await tx.run("UPDATE todo SET done = 1 WHERE id = 'from-1'");
  }));
  for (const page of pages) {
    await eventually(() => page.evaluate(() => seen.at(-1) === "from-1,from-2"), "the live query in each tab");
  }
  assert.deepEqual(await Promise.all(pages.map((page) => page.evaluate(() => origins))), [
    ["tab", "tab"], ["local", "tab"], ["tab", "local"],
  ]);
  assert.match(await pages[1].evaluate(() => refusal(db.run("INSERT INTO todo (id) VALUES ('from-1')"))), /SQLITE_CONSTRAINT/);
  assert.match(await pages[2].evaluate(() => refusal(crsql.deleteDb("shared"))), /IN_USE/);
  await Promise.all(pages.map((page) => page.close()));
});

/** Writes as fast as it can: rows by itself, and a counter in transactions that are run again when they are lost. */
const load = (page, tab) => page.evaluate((tab) => {
  globalThis.acknowledged = [];
  globalThis.failures = [];
  globalThis.added = 0;
  globalThis.stopped = false;
  const rows = async () => {
    for (let n = 0; !stopped; n++) {
      const id = `${tab}-${String(n).padStart(5, "0")}`;
      try {
        await db.run("INSERT INTO todo (id, title) VALUES (?, 'x')", [id]);
        acknowledged.push(id);
      } catch (error) {
        failures.push(`${id}: ${error.code} ${error.message}`);
      }
    }
  };
  const counter = async () => {
    while (!stopped) {
      try {
        await db.tx(async (tx) => {
          const { n } = await tx.get("SELECT n FROM counter");
          await tx.run("UPDATE counter SET n = ?", [n + 1]);
        });
        added++;
      } catch (error) {
        if (error.code !== "TX_LOST") failures.push(`counter: ${error.code} ${error.message}`);
      }
    }
  };
  globalThis.loading = Promise.all([rows(), counter()]);
}, tab);

for (const how of ["closed", "crashed", "frozen"]) {
  test(`the owner is ${how} under load: no write is lost, none is made twice`, { skip }, async () => {
    const pages = await tabs(3, `handover-${how}`);
    await pages[0].evaluate(() => db.exec("CREATE TABLE counter (n); INSERT INTO counter VALUES (0)"));
    await Promise.all([load(pages[1], "b"), load(pages[2], "c")]);
    await eventually(() => pages[1].evaluate(() => acknowledged.length > 20 && added > 5), "some writes");
    if (how === "closed") await pages[0].close();
    if (how === "crashed") await pages[0].evaluate(() => db.link.channel.terminate());
    if (how === "frozen") await pages[0].evaluate(() => document.dispatchEvent(new Event("freeze")));
    await eventually(async () => (await isLeader(pages[1])) || isLeader(pages[2]), "another owner");
    const before = await pages[2].evaluate(() => [acknowledged.length, added]);
    await eventually(() => pages[2].evaluate(([n, m]) => acknowledged.length > n + 20 && added > m + 5, before), "more writes");
    const [b, c] = await Promise.all(pages.slice(1).map((page) => page.evaluate(async () => {
      stopped = true;
      await loading;
      return { acknowledged, failures, added };
    })));
    assert.deepEqual([...b.failures, ...c.failures], []);
    assert.deepEqual(await ids(pages[1]), [...b.acknowledged, ...c.acknowledged].sort());
    // A transaction that says it was lost was not made; one whose commit was acknowledged was made once.
    assert.equal((await pages[1].evaluate(() => db.get("SELECT n FROM counter"))).n, b.added + c.added);
    assert.deepEqual(await pages[2].evaluate(() => db.check()), []);
    if (how === "frozen") {
      await pages[0].evaluate(() => document.dispatchEvent(new Event("resume")));
      assert.equal((await ids(pages[0])).length, b.acknowledged.length + c.acknowledged.length);
      assert.equal(await isLeader(pages[0]), false);
    }
    await Promise.all(pages.map((page) => page.close().catch(() => {})));
  });
}

test("reload storm: every tab is reloaded again and again, and each acknowledged write stays", { skip }, async () => {
  const pages = await tabs(3, "storm");
  const acknowledged = [];
  for (let round = 0; round < 6; round++) {
    await Promise.all(pages.map(async (page, tab) => {
      const id = `${round}-${tab}`;
      await page.evaluate((id) => db.run("INSERT INTO todo (id) VALUES (?)", [id]), id);
      acknowledged.push(id);
      await page.reload();
      await chrome.load(page);
      await openIn(page, "storm");
    }));
  }
  for (const page of pages) assert.deepEqual(await ids(page), acknowledged.sort());
  assert.equal((await Promise.all(pages.map(isLeader))).filter(Boolean).length, 1);
  await Promise.all(pages.map((page) => page.close()));
});

test("a tab that goes away in a transaction leaves nothing of it, and the others go on", { skip }, async () => {
  const [owner, other, third] = await tabs(3, "abandoned");
  await other.evaluate(() => {
    void db.tx(async (tx) => {
      await tx.run("INSERT INTO todo (id) VALUES ('half')");
      globalThis.half = true;
      await new Promise(() => {});
    }, { timeoutMs: 60_000 });
  });
  await eventually(() => other.evaluate(() => globalThis.half === true), "the transaction to begin");
  await other.close();
  await third.evaluate(() => db.run("INSERT INTO todo (id) VALUES ('whole')"));
  assert.deepEqual(await ids(owner), ["whole"]);
  await Promise.all([owner, third].map((page) => page.close()));
});

test("going back to a page brings its database back", { skip }, async () => {
  const page = await chrome.tab();
  await openIn(page, "bfcache");
  await page.evaluate(() => db.run("INSERT INTO todo (id) VALUES ('kept')"));
  await page.goto(`${server.origin}/blank.html?other`);
  await chrome.load(page);
  await openIn(page, "bfcache");
  assert.deepEqual(await ids(page), ["kept"]);
  await page.goBack();
  const isAlive = await page.evaluate(() => typeof db !== "undefined");
  if (isAlive) assert.deepEqual(await ids(page), ["kept"]);
  await page.close();
});

test("nothing was reported to the console", { skip }, () => {
  assert.deepEqual(chrome.errors, []);
});
