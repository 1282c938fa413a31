/** The dedicated worker of a page whose database has texts: `dist/worker-text.js`. */

import init, * as wasm from "./wasm-text/crsql_web.js";
import { serve } from "./worker/serve.js";

// Bundlers look for exactly these words.
serve((from) => init({ module_or_path: from ?? new URL("./crsql-text.wasm", import.meta.url) }).then(() => wasm));
