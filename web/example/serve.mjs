// Serves the example, and runs a relay beside it until interrupted.

import { spawn, spawnSync } from "node:child_process";
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const repository = join(here, "../..");
const port = Number(process.argv[2] ?? 8080);
const types = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm" };

let server = process.env.CRSQL_SERVER;
if (!server) {
  const { status } = spawnSync("cargo", ["build", "--release", "-p", "crsql-server"], { cwd: repository, stdio: "inherit" });
  if (status !== 0) process.exit(1);
  server = join(process.env.CARGO_TARGET_DIR ?? join(repository, "target"), "release/crsql-server");
}
const relay = spawn(server, ["serve", "--listen", "127.0.0.1:8787", "--data", join(here, "data"), "--origins", `http://localhost:${port},http://127.0.0.1:${port}`], { stdio: "inherit" });
relay.on("exit", (code) => process.exit(code ?? 1));
process.on("SIGINT", () => relay.kill("SIGINT"));
process.on("SIGTERM", () => relay.kill("SIGTERM"));

createServer(async (request, response) => {
  const path = normalize(new URL(request.url, "http://x").pathname);
  try {
    const bytes = await readFile(join(here, path === "/" ? "index.html" : path));
    response.setHeader("content-type", types[extname(path)] ?? (path === "/" ? "text/html" : "application/octet-stream")).end(bytes);
  } catch {
    response.writeHead(404).end();
  }
}).listen(port, "127.0.0.1", () => console.log(`open http://localhost:${port} in any number of tabs and browsers`));
