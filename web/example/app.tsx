/** A shared shopping list that works offline: the example application of `@crsql/web`. */

import { useRef, useState, type FormEvent, type KeyboardEvent, type PointerEvent } from "react";
import { createRoot } from "react-dom/client";
import { open } from "../src/index.js";
import { DbProvider, useDb, usePresence, useQuery, useSyncStatus, useText } from "../src/react.js";
import { ITEMS, migrations, type Item } from "./schema.js";

interface Person {
  name: string;
  color: string;
}

const COLORS = ["#d9634c", "#c98a1b", "#3f8f5f", "#3b7fb5", "#8a63c4", "#c2568f"];
const NAMES = ["Otter", "Heron", "Fox", "Wren", "Badger", "Lynx", "Finch", "Hare"];

/** Who this device is to the others, the same at each visit. */
function me(): Person {
  const known = localStorage.getItem("me");
  if (known) return JSON.parse(known) as Person;
  const pick = <T,>(from: T[]) => from[Math.floor(Math.random() * from.length)]!;
  const person = { name: pick(NAMES), color: pick(COLORS) };
  localStorage.setItem("me", JSON.stringify(person));
  return person;
}

function App() {
  const { rows: items, loading } = useQuery<Item>(ITEMS);
  const left = items.filter((item) => !item.done).length;
  const clear = useDb();
  const bought = items.length - left;
  return (
    <main>
      <header>
        <div>
          <h1>Shopping</h1>
          <p className="left">{loading ? " " : left === 0 ? "All done" : `${left} to get`}</p>
        </div>
        <div className="meta">
          <People />
          <Status />
        </div>
      </header>
      <AddItem />
      {!loading && items.length === 0 && (
        <div className="empty">
          <div className="basket" aria-hidden>🧺</div>
          <p>Nothing on the list.</p>
          <p>Add something, here or on any other device.</p>
        </div>
      )}
      <List items={items} />
      <Note />
      {bought > 0 && (
        <button className="clear" onClick={() => void clear.run("DELETE FROM item WHERE done")}>
          Clear {bought} bought
        </button>
      )}
    </main>
  );
}

function Note() {
  const field = useText({ table: "note", column: "body", key: { list: "shopping" } });
  return <textarea ref={field} className="note" rows={3} placeholder="A note for everybody" aria-label="Note" />;
}

function Status() {
  const { state, flushed, caughtUp } = useSyncStatus();
  const [text, kind] =
    state === "online"
      ? flushed && caughtUp ? ["Saved everywhere", "ok"] : ["Syncing…", "busy"]
      : state === "refused" ? ["Not allowed", "bad"]
      : flushed ? ["Offline", "off"] : ["Offline — kept here", "off"];
  return <span className={`status ${kind}`} role="status">{text}</span>;
}

function People() {
  const [all] = usePresence<Person>();
  // Without a relay nobody knows who else is still here.
  const isOnline = useSyncStatus().state === "online";
  const entries = all.filter(({ isMe }) => isMe || isOnline);
  return (
    <span className="people" aria-label={`${entries.length} here`}>
      {entries.slice(0, 5).map(({ page, value, isMe }) => (
        <span key={page} className={isMe ? "person me" : "person"} style={{ background: value.color }} title={isMe ? `${value.name} (you)` : value.name}>
          {value.name[0]}
        </span>
      ))}
    </span>
  );
}

function AddItem() {
  const db = useDb();
  const [title, setTitle] = useState("");
  const add = (event: FormEvent) => {
    event.preventDefault();
    if (!title.trim()) return;
    void db.run("INSERT INTO item (id, list, position, title) VALUES (?, 'shopping', '1', ?)", [crypto.randomUUID(), title.trim()]);
    setTitle("");
  };
  return (
    <form onSubmit={add}>
      <input value={title} onChange={(event) => setTitle(event.target.value)} placeholder="Add an item" aria-label="Add an item" enterKeyHint="done" autoComplete="off" />
      <button aria-label="Add" disabled={!title.trim()}>+</button>
    </form>
  );
}

/** The item that is being dragged, and over which place. */
interface Drag {
  id: string;
  from: number;
  to: number;
  startY: number;
  y: number;
  height: number;
}

function List({ items }: { items: readonly Item[] }) {
  const db = useDb();
  const [drag, setDrag] = useState<Drag | null>(null);
  const list = useRef<HTMLUListElement>(null);

  /** Puts an item at a place of the list without it. */
  const place = (id: string, to: number) => {
    const after = items.filter((item) => item.id !== id)[to - 1]?.id ?? null;
    void db.run("UPDATE item_fractindex SET after_id = ? WHERE id = ?", [after, id]);
  };
  const step = (index: number) => (event: KeyboardEvent) => {
    const to = index + (event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0);
    if (to === index) return;
    event.preventDefault();
    if (to >= 0 && to < items.length) place(items[index]!.id, to);
  };
  const begin = (index: number) => (event: PointerEvent<HTMLElement>) => {
    const height = list.current!.children[index]!.getBoundingClientRect().height;
    event.currentTarget.setPointerCapture(event.pointerId);
    setDrag({ id: items[index]!.id, from: index, to: index, startY: event.clientY, y: event.clientY, height });
  };
  const move = (event: PointerEvent) => {
    if (!drag) return;
    const steps = Math.round((event.clientY - drag.startY) / drag.height);
    setDrag({ ...drag, y: event.clientY, to: Math.max(0, Math.min(items.length - 1, drag.from + steps)) });
  };
  const drop = () => {
    if (drag && drag.to !== drag.from) place(drag.id, drag.to);
    setDrag(null);
  };
  const shift = (index: number) => {
    if (!drag) return undefined;
    if (index === drag.from) return { transform: `translateY(${drag.y - drag.startY}px) scale(1.02)`, zIndex: 2 };
    const below = index > drag.from && index <= drag.to;
    const above = index < drag.from && index >= drag.to;
    return { transform: `translateY(${below ? -drag.height : above ? drag.height : 0}px)` };
  };

  return (
    <ul ref={list} onPointerMove={move} onPointerUp={drop} onPointerCancel={() => setDrag(null)} className={drag ? "dragging" : ""}>
      {items.map((item, index) => (
        <li key={item.id} className={`${item.done ? "done" : ""} ${drag?.id === item.id ? "lifted" : ""}`} style={shift(index)}>
          <Row item={item} onGrab={begin(index)} onStep={step(index)} />
        </li>
      ))}
    </ul>
  );
}

interface RowProps {
  item: Item;
  onGrab: (event: PointerEvent<HTMLElement>) => void;
  onStep: (event: KeyboardEvent) => void;
}

function Row({ item, onGrab, onStep }: RowProps) {
  const db = useDb();
  const { id, title, done, count } = item;
  const change = (added: number) => void db.run("UPDATE item SET more = more + ? WHERE id = ?", [added, id]);
  const rename = (text: string) => {
    if (text.trim() && text !== title) void db.run("UPDATE item SET title = ? WHERE id = ?", [text.trim(), id]);
  };
  return (
    <>
      <button className="grip" aria-label={`Move ${title} with the arrow keys`} onPointerDown={onGrab} onKeyDown={onStep}>⠿</button>
      <button className="check" role="checkbox" aria-checked={!!done} aria-label={title} onClick={() => void db.run("UPDATE item SET done = NOT done WHERE id = ?", [id])}>
        <svg viewBox="0 0 24 24"><path d="M6 12.5l4 4 8-9" /></svg>
      </button>
      <textarea key={title} className="title" rows={1} defaultValue={title} aria-label={`Rename ${title}`} enterKeyHint="done" onBlur={(event) => rename(event.target.value)} onKeyDown={(event) => event.key === "Enter" && (event.preventDefault(), event.currentTarget.blur())} />
      <span className="count">
        <button aria-label={`Fewer ${title}`} disabled={count <= 1} onClick={() => change(-1)}>−</button>
        <output>{count}</output>
        <button aria-label={`More ${title}`} onClick={() => change(1)}>+</button>
      </span>
      <button className="remove" aria-label={`Remove ${title}`} onClick={() => void db.run("DELETE FROM item WHERE id = ?", [id])}>×</button>
    </>
  );
}

// So that the page itself opens without a network.
void navigator.serviceWorker?.register("sw.js").catch(() => {});

const { searchParams } = new URL(location.href);
const relay = searchParams.get("relay") ?? `${location.protocol === "https:" ? "wss" : "ws"}://${location.hostname}:8787`;
const db = await open("shopping", { migrations, text: true });
const sync = db.sync({ url: relay, room: searchParams.get("room") ?? "shopping" });
sync.presence.set(me());
// For the example's test.
Object.assign(globalThis, { db, sync });
createRoot(document.getElementById("app")!).render(
  <DbProvider db={db} sync={sync}>
    <App />
  </DbProvider>,
);
