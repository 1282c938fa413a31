// The second half of `build`: optimises the WebAssembly, bundles the JavaScript, emits the types, reports the sizes.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import esbuild from "esbuild";

const release = process.argv[2] === "release";

// Named one by one: with all features wasm-opt writes encodings that browsers don't know yet.
const FEATURES = [
  "bulk-memory", "bulk-memory-opt", "mutable-globals", "nontrapping-float-to-int", "sign-ext", "reference-types",
  "multivalue", "call-indirect-overlong", "extended-const",
];

// Chunks are named by their content: those of earlier builds would be published too.
rmSync("dist", { recursive: true, force: true });
mkdirSync("dist");
// What is loaded, by the directory of its glue.
const VARIANTS = { "src/wasm": "dist/crsql.wasm", "src/wasm-text": "dist/crsql-text.wasm" };
for (const [from, to] of Object.entries(VARIANTS)) {
  writeFileSync(to, readFileSync(`${from}/crsql_web_bg.wasm`));
  if (!release) continue;
  execFileSync("node_modules/.bin/wasm-opt", [
    to, "-o", to, process.env.WASM_OPT_LEVEL ?? "-Os", ...FEATURES.map((name) => `--enable-${name}`),
  ], { stdio: "inherit" });
}

const common = {
  bundle: true, format: "esm", target: "es2022", sourcemap: true, minify: release, logLevel: "warning",
  outdir: "dist", external: ["react", "node:*", "./worker.js", "./worker-text.js"],
};
// Entries that share classes are built together, so that `instanceof` holds across them.
await esbuild.build({
  ...common, splitting: true, entryPoints: ["src/index.ts", "src/react.ts", "src/vlcn.ts"],
});
await esbuild.build({ ...common, entryPoints: ["src/worker.ts", "src/worker-text.ts"] });
await esbuild.build({ ...common, platform: "node", minify: false, entryPoints: ["src/node.ts"] });
execFileSync("node_modules/.bin/tsc", ["-p", "."], { stdio: "inherit" });

const row = (name, bytes) => {
  // Only what is published is worth the time that compressing takes.
  if (!release) return { name, raw: bytes.length };
  const gzip = gzipSync(bytes, { level: 9 }).length;
  const brotli = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }).length;
  const cells = [bytes.length, gzip, brotli].map((size) => String(size).padStart(10));
  console.log(name.padEnd(16) + cells.join(""));
  return { name, raw: bytes.length, gzip, brotli };
};
if (release) console.log(`${"bytes".padEnd(16)}       raw   gzip -9 brotli 11`);
// The page's part as a bundler would take it: the entries share files.
const page = await esbuild.build({ ...common, minify: true, sourcemap: false, write: false, entryPoints: ["src/index.ts"] });
const sizes = [
  row("crsql.wasm", readFileSync("dist/crsql.wasm")),
  row("crsql-text.wasm", readFileSync("dist/crsql-text.wasm")),
  row("worker.js", readFileSync("dist/worker.js")),
  row("index.js", page.outputFiles[0].contents),
];
writeFileSync("dist/sizes.json", JSON.stringify({ release, sizes }, null, 2) + "\n");
