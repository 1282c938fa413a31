// Bundles the example as an application would be: page, worker and WebAssembly side by side.

import { copyFileSync, mkdirSync } from "node:fs";
import esbuild from "esbuild";

const at = (path) => new URL(path, import.meta.url).pathname;
mkdirSync(at("dist"), { recursive: true });
await esbuild.build({
  entryPoints: [at("app.tsx")], outfile: at("dist/app.js"), bundle: true, format: "esm", target: "es2022", minify: true,
  sourcemap: true, jsx: "automatic", define: { "process.env.NODE_ENV": '"production"' }, logLevel: "warning",
});
for (const file of ["worker-text.js", "crsql-text.wasm"]) copyFileSync(at(`../dist/${file}`), at(`dist/${file}`));
