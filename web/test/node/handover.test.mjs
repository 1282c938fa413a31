// One owner after another on the same files, without a browser: what is asked again is looked up, not run again.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import esbuild from "esbuild";

let lib, wasm, directory;

before(async () => {
  const outfile = new URL("../output/owner.mjs", import.meta.url).pathname;
  await esbuild.build({
    stdin: {
      resolveDir: new URL("../../src", import.meta.url).pathname,
      contents: `
        export { Owner } from "./owner/owner.js";
        export { Peer } from "./owner/peer.js";
        export { openNodeFiles } from "./storage/node.js";
        export { encodeParams, encodeBatch, Reader, asArray } from "./values.js";
        export { default as init } from "./wasm/crsql_web.js";
        export * as wasm from "./wasm/crsql_web.js";`,
    },
    bundle: true, format: "esm", platform: "node", outfile, logLevel: "warning",
  });
  lib = await import(outfile);
  await lib.init({ module_or_path: await readFile(new URL("../../dist/crsql.wasm", import.meta.url)) });
  wasm = lib.wasm;
  directory = await mkdtemp(join(tmpdir(), "crsql-"));
});
after(() => rm(directory, { recursive: true }));

/** An owner, and a page that hears everything. */
async function owner(path) {
  const storage = lib.openNodeFiles(path);
  const self = await lib.Owner.open(wasm, storage, { handsOver: true, onCrash() {} });
  const heard = [];
  self.connect(new lib.Peer("page", false, (message) => heard.push(message)));
  const ask = async (id, body, { again = false, tx, done = 1 } = {}) => {
    self.receive("page", { kind: "request", id, done, again, tx, body });
    for (;;) {
      const answer = heard.find((message) => message.id === id && (message.kind === "reply" || message.kind === "error"));
      if (answer) return answer;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  return { self, ask };
}

const run = (sql, params) => ({ op: "run", sql, params: lib.encodeParams(params) });
const insert = (id) => run("INSERT INTO t VALUES (?) RETURNING id", [id]);

function rowsOf(answer) {
  const reader = new lib.Reader(answer.value);
  reader.u32();
  reader.i64();
  return reader.rows({}, lib.asArray).rows;
}

async function count(ask, id) {
  return rowsOf(await ask(id, run("SELECT count(*) FROM t")))[0][0];
}

test("a write whose answer was lost is answered by the next owner as it was, and made once", async () => {
  const path = join(directory, "once.db");
  const first = await owner(path);
  await first.ask(1, { op: "exec", sql: "CREATE TABLE t (id)" });
  const answer = await first.ask(2, insert("a"));
  const batch = { op: "batch", requests: lib.encodeBatch([["INSERT INTO t VALUES ('b')"], ["INSERT INTO t VALUES ('c')"]]), rows: false };
  await first.ask(3, batch);
  await first.self.close();

  const second = await owner(path);
  assert.deepEqual(rowsOf(await second.ask(2, insert("a"), { again: true })), rowsOf(answer));
  await second.ask(3, batch, { again: true });
  assert.equal(await count(second.ask, 4), 3);
  // One that the first owner never saw is run.
  await second.ask(5, insert("d"), { again: true });
  assert.equal(await count(second.ask, 6), 4);
  await second.self.close();
});

test("a commit whose answer was lost is known; a transaction without one is lost as a whole", async () => {
  const path = join(directory, "commit.db");
  const first = await owner(path);
  await first.ask(1, { op: "exec", sql: "CREATE TABLE t (id)" });
  await first.ask(2, { op: "begin", timeoutMs: 5000 });
  await first.ask(3, insert("kept"), { tx: 2 });
  await first.ask(4, { op: "commit" }, { tx: 2 });
  await first.ask(5, { op: "begin", timeoutMs: 5000 });
  await first.ask(6, insert("lost"), { tx: 5 });
  await first.self.close();

  const second = await owner(path);
  assert.equal((await second.ask(4, { op: "commit" }, { tx: 2, again: true })).kind, "reply");
  assert.equal((await second.ask(6, insert("lost"), { tx: 5, again: true })).error.code, "TX_LOST");
  assert.equal((await second.ask(7, { op: "commit" }, { tx: 5 })).error.code, "TX_LOST");
  assert.deepEqual(rowsOf(await second.ask(8, run("SELECT id FROM t"))), [["kept"]]);
  await second.self.close();
});

test("answers are kept until they are known to have arrived, and no longer", async () => {
  const path = join(directory, "kept.db");
  const first = await owner(path);
  await first.ask(1, { op: "exec", sql: "CREATE TABLE t (id)" });
  for (let id = 2; id < 50; id++) await first.ask(id, insert(id), { done: id - 1 });
  const kept = rowsOf(await first.ask(50, run("SELECT count(*) FROM __crsql_web_reply")))[0][0];
  assert.ok(kept <= 2, `${kept} answers are kept`);
  await first.self.close();
});

test("a request that is sent twice to one owner is run once", async () => {
  const path = join(directory, "twice.db");
  const { self, ask } = await owner(path);
  await ask(1, { op: "exec", sql: "CREATE TABLE t (id)" });
  self.receive("page", { kind: "request", id: 2, done: 1, again: false, body: insert("a") });
  await ask(2, insert("a"), { again: true });
  assert.equal(await count(ask, 3), 1);
  await self.close();
});
