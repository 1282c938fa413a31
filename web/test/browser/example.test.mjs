// The example application on a phone-sized screen: two people, one list, the relay away and back. Its screenshots are in
// test/output.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { relay } from "../relay.mjs";
import { browser, CHROMIUM, eventually, serve } from "./harness.mjs";

const skip = CHROMIUM ? false : "no Chromium: apt-get install chromium, or set CHROMIUM";
const output = new URL("../output/", import.meta.url).pathname;
let server, hub, chromes;

before(async () => {
  if (skip) return;
  await import("../../example/build.mjs");
  mkdirSync(output, { recursive: true });
  server = await serve();
  hub = await relay();
  chromes = [await browser(server.origin), await browser(server.origin)];
});
after(async () => {
  for (const chrome of chromes ?? []) await chrome.close();
  await hub?.close();
  await server?.close();
});

async function device(chrome, name, color) {
  const page = await chrome.context.newPage();
  page.on("pageerror", (error) => chrome.errors.push(String(error)));
  await page.setViewportSize({ width: 390, height: 844 });
  await page.addInitScript(`localStorage.setItem("me", '${JSON.stringify({ name, color })}')`);
  await page.goto(`${server.origin}/example/index.html?relay=${hub.url}`);
  await page.waitForSelector("h1");
  return page;
}

const titles = (page) => page.$$eval("li .title", (inputs) => inputs.map((input) => input.value));
const statusOf = (page) => page.textContent(".status");
async function add(page, title) {
  await page.fill('[aria-label="Add an item"]', title);
  await page.press('[aria-label="Add an item"]', "Enter");
}

test("two devices share a list, apart and together", { skip }, async () => {
  const [ada, bob] = [await device(chromes[0], "Ada", "#3f8f5f"), await device(chromes[1], "Bob", "#3b7fb5")];
  await eventually(async () => (await ada.textContent(".empty")).includes("Nothing"), "the empty list");
  for (const title of ["Sourdough bread from the market", "Tomatoes", "Olive oil", "Coffee", "Oat milk"]) await add(ada, title);
  await eventually(async () => (await titles(bob)).length === 5, "the list at Bob's");
  await bob.click('[aria-label="More Tomatoes"]');
  await ada.click('[aria-label="More Tomatoes"]');
  await ada.click('[aria-label="Coffee"]');
  await eventually(async () => (await bob.textContent("li:nth-child(2) output")) === "3", "both presses to count");
  await eventually(async () => (await ada.$$(".person")).length === 2, "both to be seen");

  await ada.fill(".note", "Market closes at noon.");
  await eventually(async () => (await bob.inputValue(".note")) === "Market closes at noon.", "Ada's note at Bob's");

  await hub.stop();
  await eventually(async () => (await statusOf(bob)).includes("Offline"), "Bob to be offline");
  await add(bob, "Lemons");
  await bob.click('[aria-label="Remove Olive oil"]');
  await add(ada, "Basil");
  // Both write in the note: one at its end, one in its middle.
  await bob.focus(".note");
  await bob.press(".note", "Control+End");
  await bob.type(".note", " Bring bags!");
  await ada.evaluate(() => document.querySelector(".note").setSelectionRange(6, 6));
  await ada.type(".note", " hall");
  await eventually(async () => (await statusOf(bob)) === "Offline — kept here", "Bob to be told");
  // Dragged above everything else.
  const grip = await ada.$("li:nth-child(5) .grip");
  const { x, y } = await grip.boundingBox();
  await ada.mouse.move(x + 8, y + 10);
  await ada.mouse.down();
  await ada.mouse.move(x + 8, y - 260, { steps: 6 });
  await ada.mouse.up();
  await eventually(async () => (await titles(ada))[0] === "Oat milk", "the item to move");
  assert.equal((await bob.$$(".person")).length, 1, "without a relay only Bob himself is known to be here");
  await bob.screenshot({ path: `${output}example-offline.png` });
  // Without any network: the page's own files are kept too.
  await bob.evaluate(() => navigator.serviceWorker.ready.then(() => {}));
  await chromes[1].context.setOffline(true);
  await bob.reload();
  await eventually(async () => (await titles(bob)).includes("Lemons"), "Bob's list after a reload without a relay");

  await chromes[1].context.setOffline(false);
  await bob.reload();
  await hub.start();
  const expected = ["Basil", "Coffee", "Lemons", "Oat milk", "Sourdough bread from the market", "Tomatoes"];
  for (const page of [ada, bob]) {
    await eventually(async () => (await titles(page)).toSorted().join() === expected.join(), "everything everywhere");
    await eventually(async () => (await statusOf(page)) === "Saved everywhere", "to be in sync");
    await eventually(async () => (await page.$$(".person")).length === 2, "both to be seen again", 40_000);
  }
  assert.deepEqual(await titles(ada), await titles(bob));
  const note = "Market hall closes at noon. Bring bags!";
  for (const page of [ada, bob]) await eventually(async () => (await page.inputValue(".note")) === note, "both in the note");
  // The caret stays where Ada typed, whatever others type before it.
  await ada.focus(".note");
  await ada.evaluate(() => document.querySelector(".note").setSelectionRange(11, 11));
  await bob.evaluate(() => document.querySelector(".note").setSelectionRange(0, 0));
  await bob.type(".note", "The ");
  await eventually(async () => (await ada.inputValue(".note")) === `The ${note}`, "Bob's word at Ada's");
  assert.equal(await ada.evaluate(() => document.querySelector(".note").selectionStart), 15);
  assert.equal((await titles(bob))[0], "Oat milk");
  // By keyboard, and at the size of a desktop.
  await ada.focus('[aria-label^="Move Oat milk"]');
  await ada.keyboard.press("ArrowDown");
  await eventually(async () => (await titles(bob))[1] === "Oat milk", "the item to move by a key");
  await ada.screenshot({ path: `${output}example.png` });
  await ada.setViewportSize({ width: 1280, height: 800 });
  await ada.screenshot({ path: `${output}example-desktop.png` });
  await ada.setViewportSize({ width: 390, height: 844 });
  await ada.emulateMedia({ colorScheme: "dark" });
  await ada.screenshot({ path: `${output}example-dark.png` });
  assert.deepEqual(chromes.flatMap(({ errors }) => errors), []);
});
