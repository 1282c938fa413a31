// Browsers and Node in one room of a real relay: offline, back, refused, restarted; all end up equal.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { open } from "../../dist/node.js";
import { native, relay } from "../relay.mjs";
import { browser, CHROMIUM, eventually, openIn, serve } from "./harness.mjs";

const skip = CHROMIUM ? false : "no Chromium: apt-get install chromium, or set CHROMIUM";
let server, hub, phone, laptop;
const SCHEMA = `
  CREATE TABLE todo (id TEXT PRIMARY KEY NOT NULL, title TEXT, done INTEGER NOT NULL DEFAULT 0);
  SELECT crsql_as_crr('todo');`;

before(async () => {
  if (skip) return;
  server = await serve();
  hub = await relay();
  [phone, laptop] = await Promise.all([browser(server.origin), browser(server.origin)]);
});
after(async () => {
  await Promise.all([phone?.close(), laptop?.close()]);
  await hub?.close();
  await server?.close();
});

async function synced(chrome, name, room = name) {
  const page = await chrome.tab();
  await openIn(page, name);
  await page.evaluate(([url, room]) => {
    globalThis.sync = db.sync({ url, room });
  }, [hub.url, room]);
  return page;
}

const digest = (page) => page.evaluate(async () => (await db.get("SELECT hex(crsql_digest()) AS d")).d);
const add = (page, id) => page.evaluate((id) => db.run("INSERT INTO todo (id, title) VALUES (?, 'x')", [id]), id);
const status = (page) => page.evaluate(() => sync.status);

test("two browsers and Node edit apart, reload, come back and are equal", { skip }, async () => {
  const [a, b] = await Promise.all([synced(phone, "room"), synced(laptop, "room")]);
  const node = await open("room", { storage: "memory", migrations: [SCHEMA] });
  const nodeSync = node.sync({ url: hub.url, room: "room" });
  await add(a, "from-a");
  await a.evaluate(() => sync.flush());
  await eventually(() => b.evaluate(async () => (await db.get("SELECT count(*) AS n FROM todo")).n === 1), "a's row at b");

  // The relay goes away; everybody writes; one page is loaded anew while it is away.
  await hub.stop();
  await eventually(async () => (await status(a)).state === "offline", "a to notice");
  await a.evaluate(() => db.batch(Array.from({ length: 50 }, (_, n) => ["INSERT INTO todo (id, title) VALUES (?, 'a')", [`a${n}`]])));
  await add(b, "from-b");
  await b.evaluate(() => db.run("UPDATE todo SET title = 'b was here' WHERE id = 'from-a'"));
  await node.run("INSERT INTO todo (id, title) VALUES ('from-node', 'n')");
  await a.reload();
  await phone.load(a);
  await openIn(a, "room");
  await a.evaluate((url) => {
    globalThis.sync = db.sync({ url, room: "room" });
  }, hub.url);
  assert.equal((await status(b)).flushed, false);

  await hub.start();
  await Promise.all([a, b].map((page) => page.evaluate(() => sync.flush())));
  await nodeSync.flush();
  const equal = async () => {
    const [one, two, three] = [await digest(a), await digest(b), (await node.get("SELECT hex(crsql_digest()) AS d")).d];
    return one === two && two === three;
  };
  await eventually(equal, "equal digests");
  assert.deepEqual(await b.evaluate(() => db.get("SELECT count(*) AS n FROM todo")), { n: 53 });
  assert.equal((await a.evaluate(() => db.get("SELECT title FROM todo WHERE id = 'from-a'"))).title, "b was here");
  for (const page of [a, b]) assert.deepEqual(await page.evaluate(() => db.check()), []);
  await node.close();
  await Promise.all([a.close(), b.close()]);
});

test("two browsers and a native program with a sidecar edit apart, reload, come back and are equal", { skip }, async (t) => {
  const [a, b] = await Promise.all([synced(phone, "native"), synced(laptop, "native")]);
  const desktop = await native(hub.url, "native");
  t.after(() => desktop.close());
  await desktop.sql("CREATE TABLE todo (id TEXT PRIMARY KEY NOT NULL, title TEXT, done INTEGER NOT NULL DEFAULT 0)");
  await desktop.sql("SELECT crsql_as_crr('todo')");
  desktop.start();
  await add(a, "from-a");
  await eventually(async () => (await desktop.sql("SELECT count(*) FROM todo")) === "1", "a's row on the desktop");

  // Everybody is alone: the relay is gone, the sidecar is killed, a page is loaded anew meanwhile.
  await hub.stop();
  await desktop.stop();
  await desktop.sql("INSERT INTO todo (id, title) VALUES ('from-desktop', 'd'), ('both', 'desktop')");
  await desktop.sql("UPDATE todo SET title = 'desktop was here' WHERE id = 'from-a'");
  await a.evaluate(() => db.run("UPDATE todo SET done = 1 WHERE id = 'from-a'"));
  await b.evaluate(() => db.run("INSERT INTO todo (id, title) VALUES ('both', 'browser')"));
  await a.reload();
  await phone.load(a);
  await openIn(a, "native");
  await a.evaluate((url) => {
    globalThis.sync = db.sync({ url, room: "native" });
  }, hub.url);

  await hub.start();
  desktop.start();
  const tables = () => Promise.all([digest(a), digest(b), desktop.sql("SELECT hex(crsql_digest())")]);
  await eventually(async () => {
    const [one, two, three] = await tables();
    return one === two && three.includes(one) && (await desktop.sql("SELECT count(*) FROM todo")) === "3";
  }, "equal digests", 60_000);
  const merged = await b.evaluate(() => db.get("SELECT title, done FROM todo WHERE id = 'from-a'"));
  assert.deepEqual(merged, { title: "desktop was here", done: 1 });
  assert.deepEqual(await b.evaluate(() => db.check()), []);
  assert.equal(await desktop.sql("SELECT crsql_doctor() = '[]'"), "1");
  await Promise.all([a.close(), b.close()]);
});

test("sync goes on when the tab that owned the database is closed", { skip }, async () => {
  const first = await synced(phone, "handover");
  const second = await phone.tab();
  await openIn(second, "handover");
  await second.evaluate((url) => {
    globalThis.sync = db.sync({ url, room: "handover" });
  }, hub.url);
  const other = await synced(laptop, "handover");
  await add(first, "one");
  await first.close();
  await add(second, "two");
  await second.evaluate(() => sync.flush());
  await eventually(() => other.evaluate(async () => (await db.get("SELECT count(*) AS n FROM todo")).n === 2), "both rows");
  await add(other, "three");
  await eventually(() => second.evaluate(async () => (await db.get("SELECT count(*) AS n FROM todo")).n === 3), "the answer");
  await Promise.all([second.close(), other.close()]);
});

test("pause keeps writes here, resume sends them, status tells", { skip }, async () => {
  const [a, b] = await Promise.all([synced(phone, "pause"), synced(laptop, "pause")]);
  await eventually(async () => (await status(a)).caughtUp && (await status(b)).caughtUp, "both to be online");
  await a.evaluate(() => sync.pause());
  await add(a, "later");
  await eventually(async () => (await status(a)).state === "paused", "the pause");
  await add(b, "now");
  await b.evaluate(() => sync.flush());
  assert.equal(await a.evaluate(async () => (await db.get("SELECT count(*) AS n FROM todo")).n), 1);
  await a.evaluate(() => sync.resume());
  await a.evaluate(() => sync.flush());
  await eventually(async () => (await digest(a)) === (await digest(b)), "equal digests");
  const end = await status(a);
  assert.equal(end.state, "online");
  assert.ok(end.flushed && end.sentBytes > 0 && end.receivedBytes > 0);
  await Promise.all([a.close(), b.close()]);
});

test("presence shows who is here, and is over when a page goes", { skip }, async () => {
  const [a, b] = await Promise.all([synced(phone, "presence"), synced(laptop, "presence")]);
  await a.evaluate(() => sync.presence.set({ name: "Ada" }));
  await b.evaluate(() => sync.presence.set({ name: "Bob" }));
  const names = (page) => page.evaluate(() => sync.presence.others.map(({ value }) => value.name).join());
  await eventually(async () => (await names(a)) === "Bob" && (await names(b)) === "Ada", "each to see the other");
  await a.evaluate(() => sync.close());
  await eventually(async () => (await names(b)) === "", "Ada to be gone");
  await Promise.all([a.close(), b.close()]);
});

// CRSQL_WEB_ROWS=500000 for the figures in docs/browser.md.
const ROWS = Number(process.env.CRSQL_WEB_ROWS ?? 20_000);

test("a large first sync comes in parts, with progress, in bounded memory", { skip }, async () => {
  const a = await synced(phone, "large");
  await a.evaluate((rows) => db.exec(`
    INSERT INTO todo SELECT printf('%06d', value), hex(randomblob(20)), 0 FROM (
      WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ${rows}) SELECT value FROM n)`), ROWS);
  await a.evaluate(() => sync.flush());
  const b = await laptop.tab();
  const before = rendererMegabytes(laptop);
  let most = before;
  const began = Date.now();
  await openIn(b, "large");
  await b.evaluate((url) => {
    globalThis.progress = [];
    globalThis.sync = db.sync({ url, room: "large" });
    sync.on("status", ({ receivedBytes }) => progress.push(receivedBytes));
  }, hub.url);
  await eventually(async () => {
    most = Math.max(most, rendererMegabytes(laptop));
    return (await status(b)).caughtUp;
  }, "everything to be there", 60_000 + ROWS / 5);
  const seconds = (Date.now() - began) / 1000;
  console.log(`# ${ROWS} rows in ${seconds.toFixed(1)} s, ${most - before} MB more than an empty tab`);
  assert.equal(await b.evaluate(async () => (await db.get("SELECT count(*) AS n FROM todo")).n), ROWS);
  assert.equal(await digest(a), await digest(b));
  assert.ok(await b.evaluate(() => new Set(progress).size > 1));
  // The rows themselves are some 60 bytes each; a copy of everything in memory would be several times that.
  assert.ok(most - before < 200, `${most - before} MB`);
  await Promise.all([a.close(), b.close()]);
});

/** What the tabs of a browser hold in memory now, in megabytes. */
function rendererMegabytes(chrome) {
  let kilobytes = 0;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      if (!command.includes("--type=renderer") || !command.includes(chrome.profile)) continue;
      kilobytes += Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
    } catch {
      // It ended meanwhile.
    }
  }
  return Math.round(kilobytes / 1000);
}

test("nothing but lost connections was reported to the console", { skip }, () => {
  const errors = [...phone.errors, ...laptop.errors].filter((text) => !/WebSocket connection to/.test(text));
  assert.deepEqual(errors, []);
});
