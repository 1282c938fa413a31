// The session in WebAssembly against a real relay that checks tokens, in Node.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { CrsqlError, open } from "../../dist/node.js";
import { relay } from "../relay.mjs";

const SECRET = "a secret for tests, long enough for HS256 as it is";
const SCHEMA = `
  CREATE TABLE todo (id TEXT PRIMARY KEY NOT NULL, title TEXT);
  SELECT crsql_as_crr('todo');`;
const skip = typeof WebSocket === "undefined" ? "this Node has no WebSocket: run with --experimental-websocket" : false;
let hub, directory;

before(async () => {
  if (skip) return;
  directory = await mkdtemp(join(tmpdir(), "crsql-"));
  await writeFile(join(directory, "secret"), SECRET);
  hub = await relay("--jwt-secret-file", join(directory, "secret"));
});
after(async () => {
  await hub?.close();
  if (directory) await rm(directory, { recursive: true });
});

function token(claims, secret = SECRET) {
  const part = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ exp: Math.floor(Date.now() / 1000) + 600, ...claims })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

const both = (room) => token({ sub: "tester", rooms: [{ room, perm: ["read", "write", "create"] }] });
const memory = () => open("test", { storage: "memory", migrations: [SCHEMA] });

async function until(condition, what) {
  for (const end = Date.now() + 20_000; !condition(); ) {
    assert.ok(Date.now() < end, what);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test("the token is asked for at each attempt; a wrong one is final until resume()", { skip }, async () => {
  const db = await memory();
  let asked = 0;
  let current = token({ rooms: [] }, "another secret that the relay does not know");
  const errors = [];
  const sync = db.sync({ url: hub.url, room: "tokens", token: async () => (asked++, current) });
  sync.on("error", (error) => errors.push(error));
  await until(() => sync.status.state === "refused", "the refusal");
  assert.equal(asked, 1);
  assert.ok(errors[0] instanceof CrsqlError && errors[0].code === "SYNC", String(errors[0]));
  await assert.rejects(sync.flush(), { code: "SYNC" });
  current = both("tokens");
  sync.resume();
  await db.run("INSERT INTO todo VALUES ('a', 'x')");
  await sync.flush();
  assert.equal(asked, 2);
  assert.equal(sync.status.state, "online");
  await db.close();
});

test("a token callback that fails is tried again", { skip }, async () => {
  const db = await memory();
  let asked = 0;
  const sync = db.sync({
    url: hub.url,
    room: "flaky",
    token: async () => {
      if (++asked < 3) throw new Error("the login server is down");
      return both("flaky");
    },
  });
  await until(() => sync.status.state === "online", "the third attempt");
  assert.equal(asked, 3);
  await db.close();
});

test("nobody listening is no error, and flush() ends with the sync", { skip }, async () => {
  const db = await memory();
  const sync = db.sync({ url: "ws://127.0.0.1:9", room: "nowhere" });
  await db.run("INSERT INTO todo VALUES ('a', 'x')");
  const flushed = sync.flush();
  await until(() => sync.status.state === "offline" && sync.status.retryAt > 0, "an attempt to fail");
  assert.match(sync.status.error.message, /127\.0\.0\.1/);
  sync.close();
  await assert.rejects(flushed, { code: "CLOSED" });
  assert.equal((await db.get("SELECT count(*) AS n FROM todo")).n, 1);
  await db.close();
});

test("what a file had written before it was closed is sent when it is opened again", { skip }, async () => {
  const path = join(directory, "resume.db");
  const first = await open(path, { migrations: [SCHEMA] });
  const one = first.sync({ url: hub.url, room: "resume", token: () => both("resume") });
  await first.run("INSERT INTO todo VALUES ('sent', 'x')");
  await one.flush();
  one.pause();
  await first.run("INSERT INTO todo VALUES ('unsent', 'x')");
  await first.close();
  const again = await open(path, { migrations: [SCHEMA] });
  await again.sync({ url: hub.url, room: "resume", token: () => both("resume") }).flush();
  const other = await memory();
  const sync = other.sync({ url: hub.url, room: "resume", token: () => both("resume") });
  await until(() => sync.status.caughtUp, "the other to catch up");
  assert.deepEqual(await other.all("SELECT id FROM todo ORDER BY id"), [{ id: "sent" }, { id: "unsent" }]);
  await again.close();
  await other.close();
});
