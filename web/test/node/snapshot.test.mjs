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
const digest = async (db) => (await db.get("SELECT crsql_digest() AS d")).d;

for (const storage of ["file", "memory"]) {
  test(`${storage}: a newcomer begins with a copy, and keeps what is its own`, { skip }, async (t) => {
    const hub = await generousRelay("copy");
    const directory = await mkdtemp(join(tmpdir(), "crsql-"));
    const first = await writer(hub, "copy", ROWS);
    const db = await open(join(directory, "newcomer.db"), { storage, migrations: [SCHEMA] });
    t.after(async () => {
      await Promise.all([db.close(), first.db.close()]);
      await hub.close();
      await rm(directory, { recursive: true });
    });
    const equal = async () => {
      while ((await digest(db)) !== (await first.digest())) await new Promise((resolve) => setTimeout(resolve, 10));
    };
    await db.exec("CREATE TABLE settings (name PRIMARY KEY, value); INSERT INTO settings VALUES ('colour', 'red')");
    await db.run("INSERT INTO todo (id, title) VALUES ('own', 'mine')");
    const site = Buffer.from(db.siteId).toString("hex");
    const counts = [];
    db.live("SELECT count(*) AS n FROM todo", [], ([row]) => counts.push(row.n));
    const changes = [];
    db.onChange(["todo"], ({ origin }) => changes.push(origin));
    const sync = db.sync({ url: hub.url, room: "copy" });
    const copies = [];
    const states = new Set();
    sync.on("status", ({ snapshot, state }) => (states.add(state), snapshot && copies.push(snapshot)));
    await sync.flush();
    while (!sync.status.caughtUp) await new Promise((resolve) => setTimeout(resolve, 10));
    assert.ok(copies.length > 0 && copies[0].total > 64 << 10, `no copy was fetched: ${JSON.stringify(sync.status)}`);
    assert.ok(!states.has("offline"), [...states].join());
    assert.equal(sync.status.snapshot, undefined);
    assert.equal((await db.get("SELECT count(*) AS n FROM todo")).n, ROWS + 1);
    assert.equal(counts.at(-1), ROWS + 1);
    assert.ok(changes.includes("remote"));
    assert.deepEqual(await db.check(), []);
    assert.equal((await db.get("SELECT value FROM settings")).value, "red");
    assert.equal(Buffer.from(db.siteId).toString("hex"), site);
    assert.equal((await db.get("SELECT hex(crsql_site_id()) AS s")).s.toLowerCase(), site);
    await equal();
    // It goes on from there: what it writes now is its own next version.
    await db.run("UPDATE todo SET done = 1 WHERE id = '000007'");
    await sync.flush();
    await equal();
    assert.deepEqual((await readdir(directory)).filter((name) => name.includes("snapshot")), []);
  });
}
