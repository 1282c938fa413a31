// A newcomer begins with a copy of the room; one that dies on the way loses nothing and comes to the same.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { generousRelay, writer } from "../snapshot.mjs";
import { browser, CHROMIUM, eventually, openIn, serve } from "./harness.mjs";

const skip = CHROMIUM ? false : "no Chromium: apt-get install chromium, or set CHROMIUM";
const ROWS = 20_000;
let server, hub, chrome, first;

before(async () => {
  if (skip) return;
  server = await serve();
  hub = await generousRelay("copies");
  first = await writer(hub, "copies", ROWS);
  chrome = await browser(server.origin);
});
after(async () => {
  await chrome?.close();
  await first?.db.close();
  await hub?.close();
  await server?.close();
});

const digest = (page) => page.evaluate(async () => (await db.get("SELECT crsql_digest() AS d")).d);
const count = (page) => page.evaluate(async () => (await db.get("SELECT count(*) AS n FROM todo")).n);
/** Begins to sync; what was seen of a snapshot is in `copies`. */
const begin = (page) => page.evaluate((url) => {
  globalThis.copies = [];
  globalThis.sync = db.sync({ url, room: "copies" });
  sync.on("status", ({ snapshot }) => snapshot && copies.push(snapshot));
}, hub.url);
const equal = (page) => eventually(async () => (await digest(page)) === (await first.digest()), "equal digests", 60_000);

for (const storage of ["opfs", "idb"]) {
  test(`${storage}: a newcomer begins with a copy, in two tabs, and keeps what is its own`, { skip }, async () => {
    await first.isOffered();
    const page = await chrome.tab();
    const name = `copy-${storage}`;
    const { site } = await openIn(page, name, { storage });
    await page.evaluate(() => db.exec("CREATE TABLE settings (name PRIMARY KEY, value); INSERT INTO settings VALUES ('colour', 'red')"));
    await page.evaluate((id) => db.run("INSERT INTO todo (id, title) VALUES (?, 'mine')", [id]), name);
    const second = await chrome.tab();
    await openIn(second, name, { storage });
    await second.evaluate(() => {
      globalThis.counts = [];
      db.live("SELECT count(*) AS n FROM todo", [], ([row]) => counts.push(row.n));
    });
    await begin(page);
    await page.evaluate(() => sync.flush());
    await equal(page);
    assert.ok((await page.evaluate(() => copies)).length > 0, "no copy was fetched");
    const all = await count(page);
    assert.ok(all > ROWS);
    await eventually(() => second.evaluate((all) => counts.at(-1) === all, all), "the other tab to see it");
    // Reloaded, it is the same replica with the same data.
    await second.close();
    await page.reload();
    await chrome.load(page);
    assert.equal((await openIn(page, name, { storage })).site, site);
    assert.equal(await count(page), all);
    assert.equal((await page.evaluate(() => db.get("SELECT value FROM settings"))).value, "red");
    assert.deepEqual(await page.evaluate(() => db.check()), []);
    await begin(page);
    await page.evaluate(() => db.run("UPDATE todo SET done = 1 WHERE id = '000007'"));
    await page.evaluate(() => sync.flush());
    await equal(page);
    assert.deepEqual(await page.evaluate(() => copies), [], "it went on from its copy");
    await page.close();
  });

  test(`${storage}: a page that goes while it takes a copy over has all or nothing of it, 10 times`, { skip }, async () => {
    let taken = 0;
    for (let round = 0; round < 10; round++) {
      await first.isOffered();
      const page = await chrome.tab();
      const name = `gone-${storage}-${round}`;
      await openIn(page, name, { storage });
      await page.evaluate((id) => db.run("INSERT INTO todo (id, title) VALUES (?, 'mine')", [id]), name);
      await begin(page);
      // Where it is met differs: while it connects, while the copy comes, while it is put in place, after that.
      if (round > 2) await page.waitForFunction(() => copies.length > 0);
      await new Promise((resolve) => setTimeout(resolve, round < 3 ? round * 20 : (round - 3) * 60));
      await page.goto("about:blank");
      await page.goto(`${server.origin}/blank.html`);
      await chrome.load(page);
      await openIn(page, name, { storage });
      const rows = await count(page);
      assert.ok(rows === 1 || rows > ROWS, `${rows} rows in round ${round}`);
      taken += Number(rows > 1);
      assert.deepEqual(await page.evaluate(() => db.check()), [], `round ${round}`);
      await begin(page);
      await page.evaluate(() => sync.flush());
      await equal(page);
      assert.equal((await page.evaluate((id) => db.get("SELECT title FROM todo WHERE id = ?", [id]), name)).title, "mine");
      await page.close();
    }
    console.log(`# ${storage}: the copy was in place in ${taken} of 10`);
  });
}

test("nothing but lost connections was reported to the console", { skip }, () => {
  assert.deepEqual(chrome.errors.filter((text) => !/WebSocket connection to/.test(text)), []);
});
