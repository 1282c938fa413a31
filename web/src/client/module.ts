/**
 * The WebAssembly, compiled by the page while its worker starts. What V8 and others make of a module belongs to the
 * process: a worker that opens the database again, or takes over from one that crashed, finds it done.
 */

const modules = new Map<string, Promise<WebAssembly.Module | undefined>>();

/**
 * The compiled module; `undefined` where the page can't have it, and the worker must look for itself.
 *
 * @param url where it is, if not beside this file
 * @param text whether it is to have columns of type text
 */
export function compiled(url: string | URL | undefined, text: boolean): Promise<WebAssembly.Module | undefined> {
  const key = String(url ?? (text ? "with texts" : ""));
  let module = modules.get(key);
  if (module === undefined) {
    module = compile(url, text);
    modules.set(key, module);
    // A page that was offline for a moment may have it later.
    void module.then((done) => done ?? modules.delete(key));
  }
  return module;
}

async function compile(url: string | URL | undefined, text: boolean): Promise<WebAssembly.Module | undefined> {
  try {
    // Bundlers look for exactly these words.
    const beside = text ? new URL("./crsql-text.wasm", import.meta.url) : new URL("./crsql.wasm", import.meta.url);
    const response = await fetch(url ?? beside);
    if (!response.ok) return undefined;
    return await WebAssembly.compileStreaming(response);
  } catch {
    return undefined;
  }
}

/** Whether somebody has the database open, so that this page's worker need not load anything yet. */
export async function isOwned(name: string): Promise<boolean> {
  const state = await navigator.locks?.query().catch(() => undefined);
  return state?.held?.some((lock) => lock.name === `crsql:${name}`) ?? false;
}
