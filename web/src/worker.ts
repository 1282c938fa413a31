/** The dedicated worker of a page: `dist/worker.js`. */

import { toPlain } from "./errors.js";
import type { FromWorker, ToWorker } from "./messages.js";
import { browser, deleteDatabase, importDatabase, offered } from "./worker/browser.js";
import { Host } from "./worker/host.js";

const scope = self as unknown as DedicatedWorkerGlobalScope;
const post = (message: FromWorker, transfer: Transferable[] = []) => scope.postMessage(message, transfer);
const host = new Host(post, browser);

scope.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  const once = (work: Promise<void>) =>
    work.then(
      () => post({ kind: "done" }),
      (error: unknown) => post({ kind: "failed", error: toPlain(error) }),
    );
  if (data.kind === "import") void once(importDatabase(data));
  else if (data.kind === "delete") void once(deleteDatabase(data.name));
  else if (data.kind === "module") offered(data.module);
  else host.receive(data);
};
