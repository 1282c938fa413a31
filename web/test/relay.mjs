// A relay of this repository for tests and the example: built if it is not there, on a free port, gone with the test.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url));

/** The relay's binary, built by cargo unless CRSQL_SERVER names one. */
export function binary({ release = false } = {}) {
  if (process.env.CRSQL_SERVER) return process.env.CRSQL_SERVER;
  const args = ["build", "-q", "-p", "crsql-server", ...(release ? ["--release"] : [])];
  const { status } = spawnSync("cargo", args, { cwd: REPOSITORY, stdio: "inherit" });
  if (status !== 0) throw new Error("the relay can't be built: cargo build -p crsql-server");
  const target = process.env.CARGO_TARGET_DIR ?? join(REPOSITORY, "target");
  return join(target, release ? "release" : "debug", "crsql-server");
}

/** The program that runs SQL on a file with the native extension, built by cargo beside the relay. */
function nativeSite() {
  const path = process.env.CRSQL_SITE ?? join(binary(), "../site");
  if (existsSync(path)) return path;
  const { status } = spawnSync("cargo", ["build", "-q", "-p", "crsql-tests", "--bin", "site"], { cwd: REPOSITORY, stdio: "inherit" });
  if (status !== 0 || !existsSync(path)) throw new Error(`there is no ${path}: cargo build -p crsql-tests --bin site`);
  return path;
}

/**
 * A database file of a native program, and a sidecar that keeps it in sync with a room: `sql` runs a line of SQL in
 * the program, `stop` kills the sidecar, `start` brings it back.
 */
export async function native(url, room) {
  const directory = await mkdtemp(join(tmpdir(), "crsql-native-"));
  const file = join(directory, "native.db");
  const program = spawn(nativeSite(), [file], { stdio: ["pipe", "pipe", "inherit"] });
  const answers = createInterface({ input: program.stdout })[Symbol.asyncIterator]();
  let sidecar;
  const self = {
    async sql(line) {
      program.stdin.write(`${line.replaceAll("\n", " ")}\n`);
      const { value = "error the program ended" } = await answers.next();
      if (value !== "ok" && !value.startsWith("ok ")) throw new Error(`${line}: ${value}`);
      return value.slice(3);
    },
    start() {
      sidecar = spawn(binary(), ["sync", file, `${url}/${room}`, "--quiet"], { stdio: ["ignore", "inherit", "inherit"] });
    },
    async stop() {
      if (!sidecar || sidecar.exitCode !== null || sidecar.signalCode !== null) return;
      const ended = once(sidecar, "exit");
      sidecar.kill("SIGKILL");
      await ended;
    },
    async close() {
      await self.stop();
      program.stdin.end();
      await once(program, "exit");
      await rm(directory, { recursive: true, force: true });
    },
  };
  return self;
}

/** A port that is free now. */
export function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Starts a relay; `stop` and `start` make it go away and come back on its port with its data. */
export async function relay(...flags) {
  const path = binary();
  if (!existsSync(path)) throw new Error(`there is no relay at ${path}`);
  const data = await mkdtemp(join(tmpdir(), "crsql-relay-"));
  const port = await freePort();
  let child;
  const self = {
    url: `ws://127.0.0.1:${port}`,
    async start() {
      child = spawn(path, ["serve", "--listen", `127.0.0.1:${port}`, "--data", data, "--origins", "*", "--log", "warn", ...flags], {
        stdio: ["ignore", "inherit", "inherit"],
      });
      for (let attempt = 0; attempt < 500; attempt++) {
        const alive = await fetch(`http://127.0.0.1:${port}/readyz`).then(({ ok }) => ok, () => false);
        if (alive) return;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      throw new Error("the relay does not answer");
    },
    async stop(signal = "SIGKILL") {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill(signal);
      await ended;
    },
    async close() {
      await self.stop();
      await rm(data, { recursive: true, force: true });
    },
  };
  await self.start();
  return self;
}
