// A newcomer begins with a copy of the room, in Node.

import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { open } from "../../dist/node.js";
import { generousRelay, SCHEMA, writer } from "../snapshot.mjs";

const skip = typeof WebSocket === "undefined" ? "this Node has no WebSocket: run with --experimental-websocket" : false;
const ROWS = 5_000;
const digest = async (db) => (await db.get("SELECT hex(crsql_digest()) AS d")).d;

test("a newcomer begins with a copy, and keeps what is its own", { skip }, async (t) => {
  const hub = await generousRelay("copy");
  const directory = await mkdtemp(join(tmpdir(), "crsql-"));
  t.after(async () => {
    await hub.close();
    await rm(directory, { recursive: true });
  });
  const first = await writer(hub, "copy", ROWS);
  t.after(() => first.db.close());
  for (const storage of ["file", "memory"]) {
    const db = await open(join(directory, "newcomer.db"), { storage, migrations: [SCHEMA] });
    await db.exec("CREATE TABLE IF NOT EXISTS settings (name PRIMARY KEY, value); INSERT INTO settings VALUES ('colour', 'red')");
    await db.run("INSERT INTO todo (id, title) VALUES (?, 'mine')", [storage]);
    const site = [...db.siteId].join();
    const counts = [];
    const live = db.live("SELECT count(*) AS n FROM todo", [], ([row]) => counts.push(row.n));
    const changes = [];
    db.onChange(["todo"], ({ origin }) => changes.push(origin));
    const sync = db.sync({ url: hub.url, room: "copy" });
    const copies = [];
    const states = new Set();
    sync.on("status", ({ snapshot, state }) => (states.add(state), snapshot && copies.push(snapshot)));
    await sync.flush();
    while (!sync.status.caughtUp) await new Promise((resolve) => setTimeout(resolve, 10));
    assert.ok(copies.length > 0 && copies[0].total > 64 << 10, `${storage}: no copy was fetched: ${JSON.stringify(sync.status)}`);
    assert.ok(!states.has("offline"), [...states].join());
    assert.equal(sync.status.snapshot, undefined);
    const mine = storage === "file" ? 1 : 2;
    assert.equal((await db.get("SELECT count(*) AS n FROM todo")).n, ROWS + mine);
    assert.equal(counts.at(-1), ROWS + mine);
    assert.ok(changes.includes("remote"));
    assert.deepEqual(await db.check(), []);
    assert.equal((await db.get("SELECT value FROM settings")).value, "red");
    assert.equal([...db.siteId].join(), site);
    assert.equal((await db.get("SELECT hex(crsql_site_id()) AS s")).s.toLowerCase(), Buffer.from(db.siteId).toString("hex"));
    while ((await digest(first.db)) !== (await digest(db))) await new Promise((resolve) => setTimeout(resolve, 10));
    // It goes on from there: what it writes now is its own next version.
    await db.run("UPDATE todo SET done = 1 WHERE id = '000007'");
    await sync.flush();
    while ((await digest(first.db)) !== (await digest(db))) await new Promise((resolve) => setTimeout(resolve, 10));
    live();
    await db.close();
    assert.deepEqual((await readdir(directory)).filter((name) => name.includes("snapshot")), []);
  }
});
