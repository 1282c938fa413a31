// Real Chromium for tests: a server for the built package, tabs of one profile, and what fails in them.

import { createServer } from "node:http";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const TYPES = { ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".html": "text/html", ".css": "text/css", ".svg": "image/svg+xml" };
const ARGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const PAGE = "<!doctype html><meta charset=utf-8><title>crsql</title><body>";

/** Where Chromium is, `undefined` if there is none. */
export const CHROMIUM = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
  .find((path) => path && existsSync(path));

/** Serves the package's directory on a free port, as any static server would: no special headers. */
export async function serve() {
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://x").pathname);
    if (path === "/" || path === "/blank.html") return response.setHeader("content-type", "text/html").end(PAGE);
    if (path === "/favicon.ico") return response.writeHead(204).end();
    try {
      const file = join(ROOT, path);
      const { mtime } = await stat(file);
      // Without a date the browser would keep neither the file nor what it compiled of it.
      response.setHeader("last-modified", mtime.toUTCString()).setHeader("cache-control", "no-cache");
      if (request.headers["if-modified-since"] === mtime.toUTCString()) return response.writeHead(304).end();
      const bytes = await readFile(file);
      response.setHeader("content-type", TYPES[extname(path)] ?? "application/octet-stream").end(bytes);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const origin = `http://127.0.0.1:${server.address().port}`;
  return { origin, close: () => new Promise((resolve) => server.close(resolve) && server.closeAllConnections()) };
}

/** A browser with a profile of its own. */
export async function browser(origin) {
  const profile = await mkdtemp(join(tmpdir(), "crsql-chromium-"));
  const context = await chromium.launchPersistentContext(profile, { executablePath: CHROMIUM, args: ARGS, headless: true });
  const errors = [];
  return {
    context,
    profile,
    errors,
    /** A new tab on an empty page, with the package as `crsql`. */
    async tab(path = "/blank.html") {
      const page = await context.newPage();
      page.on("pageerror", (error) => errors.push(String(error)));
      page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
      await page.goto(origin + path);
      await load(page);
      return page;
    },
    load,
    async close() {
      await context.close();
      await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function load(page) {
  await page.evaluate(async () => {
    globalThis.crsql = await import("/dist/index.js");
    globalThis.SCHEMA = `
      CREATE TABLE todo (id TEXT PRIMARY KEY NOT NULL, title TEXT, done INTEGER NOT NULL DEFAULT 0);
      SELECT crsql_as_crr('todo');`;
    globalThis.refusal = (work) => work.then(() => "no error", ({ name, code, message }) => `${name} ${code} ${message}`);
  });
}

/** Opens `name` in a tab as the global `db`. */
export function openIn(page, name = "app", options = {}) {
  return page.evaluate(async ([name, options]) => {
    globalThis.db = await crsql.open(name, { migrations: [SCHEMA], ...options });
    return { storage: db.storage, isLeader: db.isLeader, site: [...db.siteId].join() };
  }, [name, options]);
}

/** Waits until `condition` holds, asking again and again. */
export async function eventually(condition, what, ms = 20_000) {
  const end = Date.now() + ms;
  for (;;) {
    if (await condition()) return;
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
