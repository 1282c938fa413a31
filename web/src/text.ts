/**
 * A field of a form and a column of type text, kept alike: what is typed becomes `crsql_text_splice`, what others type
 * appears, and the caret stays where it is.
 *
 * The field is not the database: others' edits may lie between what it shows and what the row holds. So an edit is
 * found by comparing the field with what it showed before, and moved by how that differs from the row.
 */

import type { Database } from "./client/database.js";
import { toPlain, fromPlain, type CrsqlError } from "./errors.js";
import type { SqlParam } from "./values.js";

/** A text: the row's primary key, in the order of its declaration, and the column. */
export interface TextSpot {
  table: string;
  column: string;
  key: Record<string, SqlParam>;
}

/** What a text is typed into: a `textarea`, an `input`. */
export type TextField = Pick<
  HTMLTextAreaElement,
  "value" | "selectionStart" | "selectionEnd" | "setSelectionRange" | "addEventListener" | "removeEventListener"
>;

/** At `at`, `removed` characters give way to `inserted`; places are JavaScript's, in UTF-16. */
export interface Splice {
  at: number;
  removed: number;
  inserted: string;
}

/** What makes `after` of `before`: one splice from the first to the last difference. */
export function spliceBetween(before: string, after: string): Splice {
  const most = Math.min(before.length, after.length);
  let start = 0;
  while (start < most && before[start] === after[start]) start++;
  let end = 0;
  while (end < most - start && before[before.length - 1 - end] === after[after.length - 1 - end]) end++;
  // Not through the middle of a pair of surrogates.
  if (isSecondHalf(before, start) || isSecondHalf(after, start)) start--;
  if (isSecondHalf(before, before.length - end) || isSecondHalf(after, after.length - end)) end--;
  return { at: start, removed: before.length - start - end, inserted: after.slice(start, after.length - end) };
}

function isSecondHalf(text: string, at: number): boolean {
  const unit = at > 0 ? text.charCodeAt(at) : 0;
  return unit >= 0xdc00 && unit < 0xe000;
}

/** Where a place is after a splice. What is removed around it leaves it at the splice's end. */
export function moved(place: number, by: Splice): number {
  if (place <= by.at) return place;
  if (place >= by.at + by.removed) return place + by.inserted.length - by.removed;
  return by.at + by.inserted.length;
}

/** A splice of `seen` as one of `held`: what lies between the two stays. */
export function rebased(splice: Splice, seen: string, held: string): Splice {
  if (seen === held) return splice;
  const between = spliceBetween(seen, held);
  const { at, removed, inserted } = splice;
  const end = at + removed;
  const betweenEnd = between.at + between.removed;
  // What others inserted into what is removed here stays: the removal ends before it, or begins after it.
  if (at < between.at && end > between.at) return { at, removed: between.at - at, inserted };
  if (at < betweenEnd && end > betweenEnd) {
    const start = moved(betweenEnd, between);
    return { at: start, removed: end - betweenEnd, inserted };
  }
  const start = moved(at, between);
  return { at: start, removed: Math.max(0, moved(end, between) - start), inserted };
}

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;
/** SQLite counts characters, JavaScript units of UTF-16. */
const characters = (text: string) => [...text].length;

/** Keeps a field and a text alike until `close()`. The row must be there; without it the field stays empty. */
export class TextBinding {
  private shown: string;
  private held: string | undefined;
  private writing = 0;
  private composing = false;
  private queue: Promise<unknown> = Promise.resolve();
  private readonly stop: () => void;
  /** Resolves when the field shows the text. */
  readonly ready: Promise<void>;

  /** @internal Use `bindText()`. */
  constructor(
    private readonly db: Database,
    private readonly spot: TextSpot,
    private readonly field: TextField,
    private readonly onError: (error: CrsqlError) => void,
  ) {
    this.shown = field.value;
    const { select, key } = this.query();
    const live = db.live<{ text: string | null }>(select, key);
    const off = live.subscribe(() => this.hear(live.rows[0]?.text ?? ""));
    this.ready = live.ready.then((rows) => this.hear(rows[0]?.text ?? ""));
    this.ready.catch(() => {});
    const input = () => this.typed();
    // A word that is being composed is nobody's business yet, and must not be replaced under the fingers.
    const compose = () => (this.composing = true);
    const composed = () => {
      this.composing = false;
      this.typed();
    };
    field.addEventListener("input", input);
    field.addEventListener("compositionstart", compose);
    field.addEventListener("compositionend", composed);
    this.stop = () => {
      off();
      live.close();
      field.removeEventListener("input", input);
      field.removeEventListener("compositionstart", compose);
      field.removeEventListener("compositionend", composed);
    };
  }

  /** Lets the field go. What was typed is written. */
  async close(): Promise<void> {
    this.stop();
    await this.queue;
  }

  private query(): { select: string; key: SqlParam[] } {
    const { table, column, key } = this.spot;
    const where = Object.keys(key).map((name) => `${quoted(name)} IS ?`).join(" AND ");
    const select = `SELECT ${quoted(column)} AS text FROM ${quoted(table)} WHERE ${where}`;
    return { select, key: Object.values(key) };
  }

  private typed(): void {
    if (this.composing || this.field.value === this.shown) return;
    const seen = this.shown;
    this.shown = this.field.value;
    const splice = spliceBetween(seen, this.shown);
    this.writing++;
    this.queue = this.queue
      .then(() => this.write(splice, seen))
      // What the live query said so far is older.
      .then((text) => (this.held = text))
      .catch((error: unknown) => this.onError(fromPlain(toPlain(error))))
      .finally(() => {
        this.writing--;
        this.show();
      });
  }

  private async write(splice: Splice, seen: string): Promise<string> {
    const { table, column } = this.spot;
    const { select, key } = this.query();
    return this.db.tx(async (tx) => {
      const read = async () => (await tx.get<{ text: string | null }>(select, key))?.text ?? "";
      const held = await read();
      const { at, removed, inserted } = rebased(splice, seen, held);
      const place = [characters(held.slice(0, at)), characters(held.slice(at, at + removed)), inserted];
      const marks = key.map(() => "?").join(", ");
      await tx.run(`SELECT crsql_text_splice(?, ?, ${marks}, ?, ?, ?)`, [table, column, ...key, ...place]);
      return read();
    });
  }

  private hear(text: string): void {
    this.held = text;
    this.show();
  }

  /** Shows what the row holds, once all that was typed is in it. */
  private show(): void {
    if (this.held === undefined || this.writing > 0 || this.composing || this.held === this.shown) return;
    const { selectionStart, selectionEnd } = this.field;
    const change = spliceBetween(this.shown, this.held);
    this.shown = this.field.value = this.held;
    this.field.setSelectionRange(moved(selectionStart ?? 0, change), moved(selectionEnd ?? 0, change));
  }
}

/**
 * Keeps a field and a text alike: opened with `text: true`, the column declared as `text`, the row there.
 *
 * @param onError what a failed write is told; the console without it
 */
export function bindText(
  db: Database,
  spot: TextSpot,
  field: TextField,
  onError: (error: CrsqlError) => void = (error) => console.error(error),
): TextBinding {
  return new TextBinding(db, spot, field, onError);
}
