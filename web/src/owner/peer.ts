/** A client of the owner: a page of this browser, its own or another one's. */

import type { OwnerMessage } from "../messages.js";

/** The way to a page, and what it has open. */
export class Peer {
  /** Its live queries: its own number to the shared one. */
  readonly lives = new Map<number, string>();
  /** Its wishes to sync, by its own number. */
  readonly syncs = new Map<number, string>();
  /** Requests that wait or run, so that one that is sent again is not run twice. */
  readonly running = new Set<number>();

  constructor(
    readonly id: string,
    /** Whether it is the page of the owner's own worker. */
    readonly isOwn: boolean,
    readonly send: (message: OwnerMessage, transfer?: Transferable[]) => void,
  ) {}
}
