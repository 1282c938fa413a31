/** SQL values in JavaScript, and the bytes in which they cross into WebAssembly: `rust/values.rs`, `rust/rows.rs`. */

import { CrsqlError } from "./errors.js";

/** What a column holds. Integers beyond 2^53 are `bigint`; all of them are with the option `bigint`. */
export type SqlValue = null | number | bigint | string | Uint8Array;
/** What may be bound. A boolean is stored as 1 or 0, `undefined` as NULL. */
export type SqlParam = SqlValue | boolean | undefined | ArrayBuffer;
/** Parameters by position or by name (with or without the sigil of `:name`, `@name`, `$name`). */
export type SqlParams = readonly SqlParam[] | { readonly [name: string]: SqlParam };
/** A row as an object by column name. */
export type Row = { [column: string]: SqlValue };

const I64_MIN = -(2n ** 63n);
const I64_MAX = 2n ** 63n - 1n;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Bytes that grow. */
export class Writer {
  private bytes: Uint8Array<ArrayBuffer> = new Uint8Array(256);
  private view = new DataView(this.bytes.buffer);
  private length = 0;

  finish(): Uint8Array<ArrayBuffer> {
    return this.bytes.slice(0, this.length);
  }

  private reserve(count: number): number {
    const at = this.length;
    if (at + count > this.bytes.length) {
      const grown = new Uint8Array(Math.max(this.bytes.length * 2, at + count));
      grown.set(this.bytes.subarray(0, at));
      this.bytes = grown;
      this.view = new DataView(grown.buffer);
    }
    this.length = at + count;
    return at;
  }

  u8(value: number): void {
    const at = this.reserve(1);
    this.bytes[at] = value;
  }

  u32(value: number): void {
    const at = this.reserve(4);
    this.view.setUint32(at, value, true);
  }

  bytesWithLength(value: Uint8Array): void {
    this.u32(value.length);
    const at = this.reserve(value.length);
    this.bytes.set(value, at);
  }

  text(value: string): void {
    // One UTF-16 unit is at most three bytes of UTF-8.
    const start = this.reserve(4 + value.length * 3);
    const { written } = encoder.encodeInto(value, this.bytes.subarray(start + 4, this.length));
    this.view.setUint32(start, written, true);
    this.length = start + 4 + written;
  }

  integer(value: bigint): void {
    const at = this.reserve(9);
    this.bytes[at] = 1;
    this.view.setBigInt64(at + 1, value, true);
  }

  value(value: SqlParam): void {
    switch (typeof value) {
      case "number":
        // -0 is a real: SQLite's integers have no such thing.
        if (Number.isSafeInteger(value) && !Object.is(value, -0)) {
          const at = this.reserve(9);
          this.bytes[at] = 1;
          this.view.setUint32(at + 1, value >>> 0, true);
          this.view.setInt32(at + 5, Math.floor(value / 0x1_0000_0000), true);
        } else {
          const at = this.reserve(9);
          this.bytes[at] = 2;
          this.view.setFloat64(at + 1, value, true);
        }
        return;
      case "string":
        this.u8(3);
        this.text(value);
        return;
      case "bigint":
        if (value < I64_MIN || value > I64_MAX) {
          throw new CrsqlError("VALUE", `${value} does not fit SQLite's 64-bit integers; bind it as text`);
        }
        this.integer(value);
        return;
      case "boolean":
        this.integer(value ? 1n : 0n);
        return;
      case "undefined":
        this.u8(0);
        return;
    }
    if (value === null) {
      this.u8(0);
    } else if (value instanceof Uint8Array) {
      this.u8(4);
      this.bytesWithLength(value);
    } else if (value instanceof ArrayBuffer) {
      this.u8(4);
      this.bytesWithLength(new Uint8Array(value));
    } else {
      const type = Object.prototype.toString.call(value).slice(8, -1);
      throw new CrsqlError("VALUE", `can't bind a value of type ${type}; convert it to a string, number or Uint8Array`);
    }
  }

  params(params: SqlParams | undefined): void {
    if (params === undefined) return;
    if (Array.isArray(params)) {
      for (const value of params as readonly SqlParam[]) this.value(value);
      return;
    }
    for (const [name, value] of Object.entries(params)) {
      this.u8(5);
      this.text(name);
      this.value(value);
    }
  }
}

/** The bytes of parameters. */
export function encodeParams(params: SqlParams | undefined): Uint8Array<ArrayBuffer> {
  const writer = new Writer();
  writer.params(params);
  return writer.finish();
}

/** The bytes of a batch. A statement equal to the one before it is named by an empty text. */
export function encodeBatch(requests: Iterable<readonly [sql: string, params?: SqlParams]>): Uint8Array<ArrayBuffer> {
  const writer = new Writer();
  let before: string | undefined;
  for (const [sql, params] of requests) {
    writer.text(sql === before ? "" : sql);
    before = sql;
    writer.bytesWithLength(encodeParams(params));
  }
  return writer.finish();
}

/** Rows as they came: the columns' names and every row's values. */
export interface Table {
  columns: string[];
  rows: SqlValue[][];
}

/** How integers are handed out. */
export interface Integers {
  bigint?: boolean | undefined;
}

/** A cursor over bytes that WebAssembly wrote. */
export class Reader {
  private at = 0;
  private readonly view: DataView;

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get isEmpty(): boolean {
    return this.at >= this.bytes.length;
  }

  u8(): number {
    return this.bytes[this.at++]!;
  }

  u32(): number {
    this.at += 4;
    return this.view.getUint32(this.at - 4, true);
  }

  i64(): bigint {
    this.at += 8;
    return this.view.getBigInt64(this.at - 8, true);
  }

  private varint(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.bytes[this.at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  }

  private text(): string {
    const length = this.u32();
    this.at += length;
    return decoder.decode(this.bytes.subarray(this.at - length, this.at));
  }

  /** Rows, each made by `make` of the columns' names and a function that reads the next value. */
  rows<T>(integers: Integers, make: (columns: string[], next: () => SqlValue) => T): { columns: string[]; rows: T[] } {
    const columns = Array.from({ length: this.u32() }, () => this.text());
    const count = this.u32();
    const cellBytes = this.u32();
    const end = this.at + 4 + cellBytes + this.u32();
    const text = decoder.decode(this.bytes.subarray(this.at + cellBytes, end));
    const { bytes, view } = this;
    const big = integers.bigint === true;
    let textAt = 0;
    const next = (): SqlValue => {
      const tag = bytes[this.at++];
      switch (tag) {
        case 1: {
          const value = view.getInt8(this.at++);
          return big ? BigInt(value) : value;
        }
        case 2: {
          this.at += 4;
          const value = view.getInt32(this.at - 4, true);
          return big ? BigInt(value) : value;
        }
        case 3: {
          this.at += 8;
          const value = view.getFloat64(this.at - 8, true);
          return big ? BigInt(value) : value;
        }
        case 4:
          return this.i64();
        case 5:
          this.at += 8;
          return view.getFloat64(this.at - 8, true);
        case 6: {
          const start = textAt;
          textAt += this.varint();
          return text.slice(start, textAt);
        }
        case 7: {
          const length = this.varint();
          this.at += length;
          return bytes.slice(this.at - length, this.at);
        }
        default:
          return null;
      }
    };
    const rows = new Array<T>(count);
    for (let index = 0; index < count; index++) rows[index] = make(columns, next);
    this.at = end;
    return { columns, rows };
  }
}

/** Makes a row object. */
export function asObject<T = Row>(columns: string[], next: () => SqlValue): T {
  const row: Row = {};
  for (const column of columns) row[column] = next();
  return row as T;
}

/** Makes a row array. */
export function asArray(columns: string[], next: () => SqlValue): SqlValue[] {
  return columns.map(() => next());
}
