// The entries beside the main one: React hooks under StrictMode and on a server, and the shape of another package.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import esbuild from "esbuild";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { browser, CHROMIUM, eventually, serve } from "./harness.mjs";

const skip = CHROMIUM ? false : "no Chromium: apt-get install chromium, or set CHROMIUM";
let server, chrome;

before(async () => {
  if (skip) return;
  server = await serve();
  chrome = await browser(server.origin);
  // The page of the React test, bundled as an application would be.
  await esbuild.build({
    stdin: {
      resolveDir: import.meta.dirname,
      contents: `
        import { StrictMode, createElement as h } from "react";
        import { createRoot } from "react-dom/client";
        import { DbProvider, useQuery, useDb, useRow, useSyncStatus } from "../../src/react.ts";
        globalThis.renders = 0;
        function List() {
          const db = useDb();
          const { rows, loading, error } = useQuery("SELECT id, done FROM todo WHERE done = ? ORDER BY id", [0]);
          const { row } = useRow("SELECT count(*) AS n FROM todo");
          const { state } = useSyncStatus();
          globalThis.renders++;
          globalThis.lastRows = rows;
          return h("p", { onClick: () => db.run("DELETE FROM todo") },
            error ? error.message : loading ? "loading" : rows.map(({ id }) => id).join() + " of " + row?.n + " " + state);
        }
        let root;
        globalThis.mount = (db) => {
          root = createRoot(document.body);
          root.render(h(StrictMode, null, h(DbProvider, { db }, h(List), h(List))));
        };
        globalThis.unmount = () => root.unmount();`,
    },
    bundle: true, format: "esm", outfile: new URL("../output/react.js", import.meta.url).pathname, logLevel: "warning",
    define: { "process.env.NODE_ENV": '"development"' },
  });
});
after(async () => {
  await chrome?.close();
  await server?.close();
});

test("hooks show rows, follow changes, and survive StrictMode", { skip }, async () => {
  const page = await chrome.tab();
  await page.evaluate(async () => {
    await import("/test/output/react.js");
    globalThis.db = await crsql.open("react", { storage: "memory", migrations: [SCHEMA] });
    await db.run("INSERT INTO todo (id) VALUES ('a'), ('b')");
    mount(db);
  });
  const text = () => page.evaluate(() => document.body.innerText.replace(/\s+/g, " ").trim());
  await eventually(async () => (await text()) === "a,b of 2 closed a,b of 2 closed", "the rows");
  const kept = await page.evaluate(async () => {
    const before = lastRows[1];
    await db.run("UPDATE todo SET done = 1 WHERE id = 'a'");
    await new Promise((resolve) => setTimeout(resolve, 100));
    return before === lastRows[0];
  });
  assert.equal(kept, true, "an unchanged row is the same object");
  assert.equal(await text(), "b of 2 closed b of 2 closed");
  const renders = await page.evaluate(async () => {
    const before = renders;
    await db.exec("CREATE TABLE other (a); INSERT INTO other VALUES (1)");
    await new Promise((resolve) => setTimeout(resolve, 100));
    return renders - before;
  });
  assert.equal(renders, 0, "a change elsewhere renders nothing");
  await page.evaluate(() => unmount());
  await page.evaluate(() => db.close());
  await page.close();
});

test("on a server, hooks answer with the initial rows", async () => {
  const { DbProvider, useQuery, useSyncStatus, usePresence } = await import("../../dist/react.js");
  function View() {
    const { rows, loading } = useQuery("SELECT 1 AS n", [], { initial: [{ n: 7 }] });
    return `${rows[0].n} ${loading} ${useSyncStatus().state} ${usePresence()[0].length}`;
  }
  // The database is never touched while a page is rendered.
  assert.equal(renderToString(createElement(DbProvider, { db: {} }, createElement(View))), "7 true closed 0");
});

test("a program written for @vlcn.io/crsqlite-wasm runs", { skip }, async () => {
  const page = await chrome.tab();
  const result = await page.evaluate(async () => {
    const { default: initWasm } = await import("/dist/vlcn.js");
    const sqlite = await initWasm((file) => `/dist/${file}`);
    const db = await sqlite.open("vlcn.db");
    const updates = [];
    db.onUpdate((type, dbName, table) => updates.push(`${type} ${dbName} ${table}`));
    const schema = "CREATE TABLE t (id PRIMARY KEY NOT NULL, v TEXT); SELECT crsql_as_crr('t');";
    const migrated = [await db.automigrateTo("s", schema), await db.automigrateTo("s", schema)];
    await db.exec("INSERT INTO t VALUES (?, ?)", [1, "one"]);
    await db.tx(async (tx) => {
      await tx.exec("INSERT INTO t VALUES (2, 'two')");
    });
    const stmt = await db.prepare("SELECT v FROM t WHERE id = ?");
    const out = {
      migrated,
      o: await db.execO("SELECT * FROM t WHERE id = 1"),
      a: await db.execA("SELECT * FROM t ORDER BY id"),
      get: await stmt.get(null, 2),
      raw: await stmt.raw(true).all(null, 1),
      changes: (await db.execA("SELECT * FROM crsql_changes")).length,
      siteid: db.siteid,
    };
    await stmt.finalize(null);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await db.close();
    return { ...out, updates };
  });
  assert.deepEqual(result.migrated, ["apply", "noop"]);
  assert.deepEqual(result.o, [{ id: 1, v: "one" }]);
  assert.deepEqual(result.a, [[1, "one"], [2, "two"]]);
  assert.deepEqual([result.get, result.raw, result.changes], [{ v: "two" }, [["one"]], 2]);
  assert.match(result.siteid, /^[0-9a-f]{32}$/);
  assert.ok(result.updates.includes("23 main t"));
  await page.close();
});

test("nothing was reported to the console", { skip }, () => {
  assert.deepEqual(chrome.errors, []);
});
