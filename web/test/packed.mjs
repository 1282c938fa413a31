// The package as npm would publish it, installed and used as its users do: Vite (built and its development server),
// webpack, a plain module script, Node, and React rendered by a server. `node web/test/packed.mjs` after web/build.
//
// It installs Vite, webpack and React from the registry into a temporary directory, so the test suite leaves it out.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createServer } from "node:http";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "./relay.mjs";
import { browser } from "./browser/harness.mjs";

const web = fileURLToPath(new URL("..", import.meta.url));
const app = mkdtempSync(join(tmpdir(), "crsql-packed-"));
const run = (command, ...args) => execFileSync(command, args, { cwd: app, stdio: ["ignore", "pipe", "inherit"], encoding: "utf8" });
const write = (path, text) => {
  mkdirSync(join(app, path, ".."), { recursive: true });
  writeFileSync(join(app, path), text);
};

const PROGRAM = `
const schema = "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, v TEXT); SELECT crsql_as_crr('t')";
const db = await open(NAME, { migrations: [schema] });
await db.run("INSERT OR REPLACE INTO t VALUES ('a', 'it works')");
const { v } = await db.get("SELECT v FROM t");
const outcome = v + " in " + db.storage;`;
// With React's hooks, whose entry must share its classes with the main one.
const MAIN = `
import { createElement as h, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { open, CrsqlError } from "@crsql/web";
import { DbProvider, useQuery } from "@crsql/web/react";
const NAME = "packed";
${PROGRAM}
const refused = await db.run("not SQL").catch((error) => error instanceof CrsqlError);
const Rows = () => { const { rows } = useQuery("SELECT v FROM t"); return rows.length && refused === true ? h("p", { id: "out" }, outcome) : null; };
createRoot(document.getElementById("app")).render(h(StrictMode, null, h(DbProvider, { db }, h(Rows))));`;
const PLAIN = `import { open } from "/node_modules/@crsql/web/dist/index.js";
const NAME = "plain";
${PROGRAM}
const p = document.createElement("p"); p.id = "out"; p.textContent = outcome; document.body.append(p);`;
const html = (script) => `<!doctype html><meta charset=utf-8><link rel=icon href="data:,"><div id=app></div><script type=module src="${script}"></script>`;
const TYPES = { ".js": "text/javascript", ".html": "text/html", ".wasm": "application/wasm" };

async function serve(root) {
  const server = createServer((request, response) => {
    try {
      const path = new URL(request.url, "http://x").pathname;
      const bytes = readFileSync(join(root, path.endsWith("/") ? `${path}index.html` : path));
      response.setHeader("content-type", TYPES[extname(path)] ?? (path.endsWith("/") ? "text/html" : "application/octet-stream")).end(bytes);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { origin: `http://127.0.0.1:${server.address().port}`, close: () => (server.close(), server.closeAllConnections()) };
}

async function works(what, url) {
  const chrome = await browser("");
  try {
    const page = await chrome.context.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    await page.goto(url);
    const out = await page.waitForSelector("#out", { timeout: 30_000 }).catch((error) => assert.fail(`${what}: ${errors.join("; ") || error}`));
    assert.equal(await out.textContent(), "it works in opfs", what);
    assert.deepEqual(errors, [], what);
    console.log(`ok - ${what}`);
  } finally {
    await chrome.close();
  }
}

try {
  const packed = run("npm", "pack", "--silent", "--pack-destination", app, web).trim();
  write("package.json", JSON.stringify({ private: true, type: "module" }));
  run("npm", "install", "--silent", "--no-audit", "--no-fund", `./${packed}`, "vite", "webpack", "webpack-cli", "react", "react-dom");

  write("node.mjs", `import { open } from "@crsql/web";\nconst NAME = "packed.db";\n${PROGRAM}\nconsole.log(outcome);\nawait db.close();`);
  assert.equal(run("node", "node.mjs").trim(), "it works in file");
  console.log("ok - Node");
  write("server.mjs", `
    import { createElement as h } from "react";
    import { renderToString } from "react-dom/server";
    import { DbProvider, useQuery } from "@crsql/web/react";
    const Rows = () => h("p", null, useQuery("SELECT 1 AS n", [], { initial: [{ n: 7 }] }).rows[0].n);
    console.log(renderToString(h(DbProvider, { db: {} }, h(Rows))));`);
  assert.equal(run("node", "server.mjs").trim(), "<p>7</p>");
  console.log("ok - React rendered by a server");

  write("plain.html", html("plain.js"));
  write("plain.js", PLAIN);
  const plain = await serve(app);
  await works("a plain module script", `${plain.origin}/plain.html`);
  plain.close();

  write("index.html", html("/src/main.js"));
  write("src/main.js", MAIN);
  write("vite.config.js", `export default { logLevel: "error", build: { target: "es2022" }, worker: { format: "es" }, optimizeDeps: { exclude: ["@crsql/web"] } };`);
  run("npx", "vite", "build");
  const built = await serve(join(app, "dist"));
  await works("Vite, built", `${built.origin}/`);
  built.close();
  const port = await freePort();
  const vite = spawn("npx", ["vite", "--port", String(port), "--strictPort", "--host", "127.0.0.1"], { cwd: app, stdio: "ignore", detached: true });
  for (let tries = 0; tries < 200 && !(await fetch(`http://127.0.0.1:${port}/`).then(({ ok }) => ok, () => false)); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await works("Vite's development server", `http://127.0.0.1:${port}/`).finally(() => process.kill(-vite.pid));

  write("webpack.config.js", `export default { mode: "production", entry: "./src/main.js", output: { path: "${app}/webpack" }, performance: { hints: false } };`);
  run("npx", "webpack");
  write("webpack/index.html", html("main.js"));
  const bundled = await serve(join(app, "webpack"));
  await works("webpack", `${bundled.origin}/`);
  bundled.close();
} finally {
  rmSync(app, { recursive: true, force: true });
}
