/** The dedicated worker of a page: `dist/worker.js`. */

import init, * as wasm from "./wasm/crsql_web.js";
import { serve } from "./worker/serve.js";

// Bundlers look for exactly these words.
serve((from) => init({ module_or_path: from ?? new URL("./crsql.wasm", import.meta.url) }).then(() => wasm));
