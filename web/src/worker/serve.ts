/** What a page's worker does with its messages. */

import { toPlain } from "../errors.js";
import type { FromWorker, ToWorker } from "../messages.js";
import { browser, deleteDatabase, importDatabase, type Load, loadBy, offered } from "./browser.js";
import { Host } from "./host.js";

/** Serves the page that started this worker. */
export function serve(load: Load): void {
  loadBy(load);
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
}
