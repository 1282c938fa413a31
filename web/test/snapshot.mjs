// A room so large that newcomers are given a copy of it.

import { open } from "../dist/node.js";
import { relay } from "./relay.mjs";

export const SCHEMA = `
  CREATE TABLE todo (id TEXT PRIMARY KEY NOT NULL, title TEXT, done INTEGER NOT NULL DEFAULT 0);
  SELECT crsql_as_crr('todo');`;

/** A relay that gives copies away, whose rooms have the table. */
export async function generousRelay(...rooms) {
  const hub = await relay("--snapshot-min", "64KiB");
  for (const room of rooms) {
    const { status } = await fetch(`${hub.url.replace("ws:", "http:")}/v1/rooms/${room}/schema`, { method: "PUT", body: SCHEMA });
    if (status !== 204) throw new Error(`the relay answers ${status}`);
  }
  return hub;
}

/** Somebody in the room who wrote so many rows. */
export async function writer(hub, room, rows) {
  const db = await open("writer", { storage: "memory", migrations: [SCHEMA] });
  for (let from = 0; from < rows; from += 1000) {
    await db.exec(`
      WITH RECURSIVE n(value) AS (SELECT ${from} UNION ALL SELECT value + 1 FROM n WHERE value < ${Math.min(rows, from + 1000) - 1})
      INSERT INTO todo SELECT printf('%06d', value), hex(randomblob(20)), 0 FROM n`);
  }
  const sync = db.sync({ url: hub.url, room });
  await sync.flush();
  const self = {
    db,
    digest: async () => (await db.get("SELECT crsql_digest() AS d")).d,
    /** Waits until the room's database has what its journal has: before that nobody is offered a copy. */
    async isOffered() {
      const url = `${hub.url.replace("ws:", "http:")}/v1/rooms/${room}/digest`;
      const relays = async () => (await fetch(url).then((answer) => answer.json())).digest;
      while ((await relays()) !== (await self.digest())) await new Promise((resolve) => setTimeout(resolve, 50));
    },
  };
  await self.isOffered();
  return self;
}
