/** Plain files, for Node: tests, scripts, servers. One process at a time. */

import * as fs from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Snapshots, Storage, SyncFile, Wasm } from "./files.js";

/** Opens the database file of that name, with its journal and log beside it. */
export function openNodeFiles(path: string): Storage {
  const files = [path, `${path}-journal`, `${path}-wal`].map((name) => new NodeFile(name));
  return {
    kind: "file",
    async open(wasm: Wasm) {
      const [main, journal, wal] = files as [NodeFile, NodeFile, NodeFile];
      return wasm.openFiles(path, main, journal, wal);
    },
    snapshots: snapshotsBeside(path),
    async close() {
      for (const file of files) file.close();
    },
  };
}

function snapshotsBeside(path: string): Snapshots {
  const prefix = `${basename(path)}-snapshot-`;
  const keep = (wanted: string | undefined) => {
    for (const entry of fs.readdirSync(dirname(path))) {
      if (entry.startsWith(prefix) && entry !== wanted) fs.rmSync(join(dirname(path), entry), { force: true });
    }
  };
  return {
    most: Infinity,
    async open(checksum) {
      keep(prefix + checksum);
      return new NodeFile(join(dirname(path), prefix + checksum));
    },
    async clear() {
      keep(undefined);
    },
  };
}

class NodeFile implements SyncFile {
  private readonly fd: number;

  constructor(private readonly path: string) {
    this.fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o644);
  }

  read(into: Uint8Array, at: number): number {
    let done = 0;
    while (done < into.length) {
      const count = fs.readSync(this.fd, into, done, into.length - done, at + done);
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  write(from: Uint8Array, at: number): number {
    let done = 0;
    while (done < from.length) done += fs.writeSync(this.fd, from, done, from.length - done, at + done);
    return done;
  }

  truncate(size: number): void {
    fs.ftruncateSync(this.fd, size);
  }

  flush(): void {
    fs.fdatasyncSync(this.fd);
  }

  size(): number {
    return fs.fstatSync(this.fd).size;
  }

  close(): void {
    const empty = this.path.match(/-(journal|wal)$/) !== null && this.size() === 0;
    fs.closeSync(this.fd);
    if (empty) fs.rmSync(this.path, { force: true });
  }
}
