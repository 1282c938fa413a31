// Fields bound to columns of type text, on the real WebAssembly.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bindText, open } from "../../dist/node.js";

const SCHEMA = `
CREATE TABLE note (id TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL DEFAULT '');
SELECT crsql_as_crr('note', '{"columns":{"body":"text"}}');
INSERT INTO note (id) VALUES ('n');`;
const SPOT = { table: "note", column: "body", key: { id: "n" } };

/** What a textarea is to a binding. */
class Field extends EventTarget {
  #value = "";
  selectionStart = 0;
  selectionEnd = 0;

  get value() {
    return this.#value;
  }
  // As in a browser, what a script sets moves the caret to the end.
  set value(text) {
    this.#value = text;
    this.setSelectionRange(text.length, text.length);
  }
  setSelectionRange(start, end) {
    [this.selectionStart, this.selectionEnd] = [start, end];
  }
  /** A user's edit: at a place, so many units away, these in. */
  type(at, removed, text) {
    this.value = this.#value.slice(0, at) + text + this.#value.slice(at + removed);
    this.setSelectionRange(at + text.length, at + text.length);
    this.dispatchEvent(new Event("input"));
  }
}

const turn = () => new Promise((resolve) => setTimeout(resolve, 1));
async function settled(fields, held) {
  for (let n = 0; n < 2000; n++) {
    const text = await held();
    if (fields.every((field) => field.value === text)) return text;
    await turn();
  }
  assert.fail(`never alike: ${JSON.stringify([...fields.map(({ value }) => value), await held()])}`);
}

async function bound(count) {
  const db = await open("text", { storage: "memory", migrations: [SCHEMA] });
  const fields = Array.from({ length: count }, () => new Field());
  const errors = [];
  const bindings = fields.map((field) => bindText(db, SPOT, field, (error) => errors.push(error)));
  await Promise.all(bindings.map(({ ready }) => ready));
  const held = async () => (await db.get("SELECT body FROM note")).body;
  return { db, fields, bindings, errors, held };
}

test("what is typed is in the row, and what is written appears with the caret where it was", async () => {
  const { db, fields: [field], held, errors } = await bound(1);
  field.type(0, 0, "a 𝒳 cat");
  await settled([field], held);
  assert.equal(await held(), "a 𝒳 cat");
  // Half of the pair of surrogates goes: the character goes.
  field.type(2, 2, "black");
  assert.equal(await settled([field], held), "a black cat");
  field.setSelectionRange(7, 11);
  await db.exec("UPDATE note SET body = 'Once a black cat'");
  assert.equal(await settled([field], held), "Once a black cat");
  assert.deepEqual([field.selectionStart, field.selectionEnd], [12, 16]);
  assert.deepEqual(errors, []);
  await db.close();
});

test("three fields that are typed into at once become alike, and no character that was typed is missing", async () => {
  const { db, fields, held, errors } = await bound(3);
  let seed = 7;
  const below = (n) => (seed = (seed * 48271) % 2147483647) % n;
  let typed = "";
  for (let n = 0; n < 150; n++) {
    const field = fields[below(3)];
    const letters = String.fromCodePoint(...Array.from({ length: 1 + below(3) }, () => (below(4) ? 97 + below(26) : 0x1f600 + below(40))));
    typed += letters;
    // Between characters, as a caret is.
    const places = [0];
    for (const letter of field.value) places.push(places.at(-1) + letter.length);
    field.type(places[below(places.length)], 0, letters);
    if (!below(3)) await turn();
  }
  const text = await settled(fields, held);
  assert.deepEqual([...text].toSorted(), [...typed].toSorted());
  assert.deepEqual(errors, []);
  await db.close();
});

test("fields in which is deleted at once become alike", async () => {
  const { db, fields, held, errors } = await bound(2);
  fields[0].type(0, 0, "the quick brown fox jumps over the lazy dog");
  await settled(fields, held);
  let seed = 11;
  const below = (n) => (seed = (seed * 48271) % 2147483647) % n;
  for (let n = 0; n < 100; n++) {
    const field = fields[below(2)];
    const at = below(field.value.length + 1);
    field.type(at, below(Math.min(5, field.value.length - at + 1)), below(2) ? "xy" : "");
    if (!below(3)) await turn();
  }
  await settled(fields, held);
  assert.deepEqual(errors, []);
  await db.close();
});

test("a binding that is closed writes what was typed, and hears nothing more", async () => {
  const { db, fields: [field], bindings: [binding], held } = await bound(1);
  field.type(0, 0, "last words");
  await binding.close();
  assert.equal(await held(), "last words");
  await db.exec("UPDATE note SET body = 'others'");
  await turn();
  assert.equal(field.value, "last words");
  await db.close();
});

test("a write that fails is told", async () => {
  const { db, fields: [field], errors } = await bound(1);
  await db.exec("DELETE FROM note");
  field.type(0, 0, "to nowhere");
  for (let n = 0; n < 500 && errors.length === 0; n++) await turn();
  assert.equal(errors.length, 1, "the row is gone");
  await db.close();
});
