// Browsers and Node in one room of a real relay: offline, back, refused, restarted; all end up equal.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { open } from "../../dist/node.js";
import { relay } from "../relay.mjs";
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

test("a large first sync comes in parts, with progress", { skip }, async () => {
  const a = await synced(phone, "large");
  await a.evaluate(() => db.exec(`
    INSERT INTO todo SELECT printf('%06d', value), hex(randomblob(20)), 0 FROM (
      WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 20000) SELECT value FROM n)`));
  await a.evaluate(() => sync.flush());
  const b = await laptop.tab();
  await openIn(b, "large");
  await b.evaluate((url) => {
    globalThis.progress = [];
    globalThis.sync = db.sync({ url, room: "large" });
    sync.on("status", ({ receivedBytes }) => progress.push(receivedBytes));
  }, hub.url);
  await eventually(async () => (await status(b)).caughtUp, "everything to be there", 60_000);
  assert.equal(await b.evaluate(async () => (await db.get("SELECT count(*) AS n FROM todo")).n), 20000);
  assert.equal(await digest(a), await digest(b));
  assert.ok(await b.evaluate(() => new Set(progress).size > 1));
  await Promise.all([a.close(), b.close()]);
});

test("nothing but lost connections was reported to the console", { skip }, () => {
  const errors = [...phone.errors, ...laptop.errors].filter((text) => !/WebSocket connection to/.test(text));
  assert.deepEqual(errors, []);
});
