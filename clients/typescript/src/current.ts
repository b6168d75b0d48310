/** The hold around the code that runs. */

import { AsyncLocalStorage } from "node:async_hooks";

import type { Core } from "./core.js";

// Both forms of this package, ESM and CommonJS, may be loaded at once. They share the hold around the code that runs.
const shared = globalThis as { [key: symbol]: AsyncLocalStorage<Core> | undefined };
const key = Symbol.for("tope.hold.1");

/** The hold around the code that runs. */
export const current: AsyncLocalStorage<Core> = (shared[key] ??= new AsyncLocalStorage<Core>());
