// The benchmark in Chromium: fresh browsers, the contenders by turns, medians. `node web/bench/run.mjs [rounds]`
//
// Needs the released build (web/build) and `npm ci` in web/bench. Run it on a machine that does nothing else.

import { readFileSync, writeFileSync } from "node:fs";
import esbuild from "esbuild";
import { browser, serve } from "../test/browser/harness.mjs";

const rounds = Number(process.argv[2] ?? 5);
const at = (path) => new URL(path, import.meta.url).pathname;
const sizes = JSON.parse(readFileSync(at("../dist/sizes.json"), "utf8"));
if (!sizes.release) throw new Error("dist is a build for tests: run web/build first");
await esbuild.build({
  entryPoints: [at("page.mjs")], outfile: at("dist/page.js"), bundle: true, format: "esm", target: "es2022",
  logLevel: "error", external: ["./worker.js"],
});

const contenders = { "crsql, OPFS": ["ours", "opfs"], "crsql, IndexedDB": ["ours", "idb"], "cr-sqlite, IndexedDB": ["vlcn"] };
const server = await serve();
const samples = {};
for (let round = 0; round < rounds; round++) {
  for (const [name, [library, ...args]] of Object.entries(contenders)) {
    const chrome = await browser(server.origin);
    const page = await chrome.context.newPage();
    await page.goto(`${server.origin}/blank.html`);
    const result = await page.evaluate(async ([library, args]) => (await import("/bench/dist/page.js"))[library](...args), [library, args]);
    if (library === "ours") {
      // The first load makes it; then the browser has had time to keep what it compiled.
      for (const wait of [3000, 0]) {
        await page.reload();
        Object.assign(result, await page.evaluate(async (args) => (await import("/bench/dist/page.js")).reloaded(...args), args));
        await page.waitForTimeout(wait);
      }
    }
    for (const [what, value] of Object.entries(result)) ((samples[what] ??= {})[name] ??= []).push(value);
    await chrome.close();
  }
}
await server.close();

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const names = Object.keys(contenders);
const shown = (values) => {
  if (!values || values[0] === null) return "";
  const value = median(values);
  return value >= 100 ? value.toFixed(0) : value.toFixed(2);
};
console.log(`| median of ${rounds}, ms unless said | ${names.join(" | ")} |\n|${"---|".repeat(names.length + 1)}`);
for (const [what, by] of Object.entries(samples)) console.log(`| ${what} | ${names.map((name) => shown(by[name])).join(" | ")} |`);
writeFileSync(at("dist/results.json"), JSON.stringify({ rounds, samples, sizes }, null, 2));
