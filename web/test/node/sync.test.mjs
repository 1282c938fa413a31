// The session in WebAssembly against a real relay that checks tokens, in Node.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { open } from "../../dist/node.js";
import { relay } from "../relay.mjs";

const SECRET = "a secret for tests, long enough for HS256 as it is";
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
