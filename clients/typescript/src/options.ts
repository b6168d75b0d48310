/** The options of clients and holds, with their defaults. */

import { newId, readAmounts, readChoice, readMillis, readTtl } from "./ask.js";
import type { Amounts, Ask, Charge } from "./ask.js";
import type { Home, Settlement } from "./core.js";
import type { TopeError } from "./errors.js";
import type { AnyTokenizer, Estimator } from "./estimate.js";
import type { Hold } from "./hold.js";
import type { Credentials } from "./target.js";
import { Usage } from "./usage.js";

/** What happens if no server can be reached. A function gets the error and the tenant, and returns true to allow. */
export type OnUnavailable = "refuse" | "allow" | ((error: TopeError, tenant: string) => boolean | Promise<boolean>);
/** Makes quantities of resources of the usage of a model call. */
export type Meter = (usage: Usage, model: string) => Amounts;
/** Returns what a usage of a model costs, as a whole number. Undefined if that is not known. */
export type Price = (usage: Usage, model: string) => number | undefined;

export interface ClientOptions extends Credentials {
  /** The subject of holds that do not name their own (tenant: TOPE_TENANT). */
  tenant?: string | undefined;
  agent?: string | undefined;
  user?: string | undefined;
  model?: string | undefined;
  /** Milliseconds for a decision, repeats included. 2,000 by default. */
  timeoutMs?: number | undefined;
  /** Milliseconds until a hold ends that nobody settles. Holds that live longer are extended. 300,000 by default. */
  ttlMs?: number | undefined;
  /** What happens if no server can be reached. `refuse` by default. */
  onUnavailable?: OnUnavailable | undefined;
  /** What is charged if a call breaks and nobody knows what it used. `charge` by default. */
  onUnknown?: Charge | undefined;
  /** What is charged if the program dies. `charge` by default. */
  onExpiry?: Charge | undefined;
  /** Counts the tokens of a text: a function, or an object with `encode`. */
  tokenizer?: AnyTokenizer | undefined;
  estimator?: Estimator | undefined;
  meter?: Meter | undefined;
  /** Each hold then also reserves the resource that `cost` names. */
  price?: Price | undefined;
  /** The resource of `price`. `cost_nanos` by default. */
  cost?: string | undefined;
  /** Settlements that may wait for the server. 10,000 by default. */
  queueMax?: number | undefined;
  /** Milliseconds that the program waits for settlements at its end. 5,000 by default. */
  exitTimeoutMs?: number | undefined;
  /** Is called with the settlement of each hold. */
  onSettled?: ((settlement: Settlement) => void) | undefined;
  /** Takes warnings and errors. By default they go to the console. */
  log?: ((level: "warn" | "error", text: string) => void) | undefined;
}

export interface HoldOptions {
  /** Quantities by resource; a number means tokens. Without it, `prompt` and `maxTokens` are estimated. */
  amounts?: number | Amounts | undefined;
  tenant?: string | undefined;
  agent?: string | undefined;
  user?: string | undefined;
  model?: string | undefined;
  labels?: Readonly<Record<string, string>> | undefined;
  /** A text, a list of messages, or a whole request. */
  prompt?: unknown;
  tools?: unknown;
  /** The longest answer, in tokens. */
  maxTokens?: number | undefined;
  /** The number of answers. */
  n?: number | undefined;
  /** Whether the hold may get less than it asks for. */
  allowPartial?: boolean | undefined;
  /** The least that is useful, with `allowPartial`. */
  minimum?: number | Amounts | undefined;
  ttlMs?: number | undefined;
  onExpiry?: Charge | undefined;
  onUnknown?: Charge | undefined;
  onUnavailable?: OnUnavailable | undefined;
  /** Whether a hold inside another hold of this tenant becomes a part of it, or stands alone. */
  reuse?: "join" | "alone" | undefined;
  /** The hold that is around this one, if the code does not run in its function. */
  inside?: Hold | undefined;
  /** Whether the hold is extended if a stream outgrows it, or if it lives longer than half of its ttl. */
  extend?: boolean | undefined;
  requestId?: string | undefined;
  /** Ends the wait for a decision. */
  signal?: AbortSignal | undefined;
}

/** The options of a client, with their defaults. */
export interface Read {
  readonly timeoutMs: number;
  readonly onUnavailable: OnUnavailable;
  readonly meter: Meter;
  readonly hasMeter: boolean;
  readonly price: Price | undefined;
  readonly cost: string;
  readonly queueMax: number;
  readonly exitTimeoutMs: number;
  readonly onSettled: ((settlement: Settlement) => void) | undefined;
  readonly log: (level: "warn" | "error", text: string) => void;
}

/** What holds get from their client. */
export type Defaults = Pick<Ask, "tenant" | "agent" | "user" | "model" | "ttlMs" | "onExpiry" | "onUnknown">;

/** Charges these resources, if they are reserved: all tokens, or tokens by kind. */
export function defaultMeter(usage: Usage): Record<string, number> {
  return {
    tokens: usage.total,
    input_tokens: usage.input,
    output_tokens: usage.output,
    cached_tokens: usage.cacheRead,
    reasoning_tokens: usage.reasoning,
  };
}

/** Reads the options of a client. */
export function readClientOptions(options: ClientOptions): Read {
  const queueMax = options.queueMax ?? 10_000;
  if (!Number.isSafeInteger(queueMax) || queueMax < 1) {
    throw new RangeError(`queueMax must be a whole number above 0, not ${queueMax}`);
  }
  return {
    timeoutMs: readMillis("timeoutMs", options.timeoutMs ?? 2_000),
    onUnavailable: readUnavailable(options.onUnavailable ?? "refuse"),
    meter: options.meter ?? defaultMeter,
    hasMeter: options.meter !== undefined,
    price: options.price,
    cost: options.cost ?? "cost_nanos",
    queueMax,
    exitTimeoutMs: readMillis("exitTimeoutMs", options.exitTimeoutMs ?? 5_000),
    onSettled: options.onSettled,
    log: options.log ?? ((level, text) => console[level](`tope: ${text}`)),
  };
}

/** Reads what happens if no server can be reached. */
export function readUnavailable(value: OnUnavailable): OnUnavailable {
  return typeof value === "function" ? value : readChoice("onUnavailable", value, "refuse", "allow");
}

/** Reads the options of a client that are defaults of its holds. */
export function defaultsOf(options: ClientOptions): Defaults {
  return {
    tenant: options.tenant ?? process.env["TOPE_TENANT"] ?? "",
    agent: options.agent ?? "",
    user: options.user ?? "",
    model: options.model ?? "",
    ttlMs: readTtl(options.ttlMs ?? 300_000),
    onExpiry: readChoice("onExpiry", options.onExpiry ?? "charge", "charge", "release"),
    onUnknown: readChoice("onUnknown", options.onUnknown ?? "charge", "charge", "release"),
  };
}

/** Makes what a hold asks for of its options. */
export function askOf(options: HoldOptions, defaults: Defaults, home: Home, priced: boolean): Ask {
  const { amounts, prompt, maxTokens } = options;
  const model = options.model ?? defaults.model;
  const n = options.n ?? 1;
  if (maxTokens !== undefined && (!Number.isSafeInteger(maxTokens) || maxTokens < 0)) {
    throw new RangeError(`maxTokens must be a whole number, 0 or more, not ${String(maxTokens)}`);
  }
  const estimate = home.estimator.call({ prompt, model, maxTokens, n, tools: options.tools });
  if (amounts === undefined && prompt === undefined && maxTokens === undefined) {
    throw new TypeError("hold needs amounts, or a prompt or maxTokens of which it can estimate them");
  }
  const wanted = readAmounts(amounts ?? estimate.input + estimate.output, "amounts");
  if (priced && !(home.cost in wanted)) {
    // Without an estimate, all tokens might be of the dearer kind.
    const usage = amounts === undefined ? estimate : { input: 0, output: wanted["tokens"] ?? 0 };
    const cost = home.costOf(new Usage({ input: usage.input, output: usage.output }), model);
    Object.assign(wanted, cost !== undefined && { [home.cost]: cost });
  }
  const tenant = options.tenant ?? defaults.tenant;
  if (tenant === "") {
    throw new TypeError("hold needs a tenant: as an option, of the client, or in TOPE_TENANT");
  }
  return {
    tenant,
    amounts: wanted,
    agent: options.agent ?? defaults.agent,
    user: options.user ?? defaults.user,
    model,
    labels: { ...options.labels },
    minimum: options.minimum === undefined ? {} : readAmounts(options.minimum, "minimum"),
    allowPartial: options.allowPartial ?? false,
    ttlMs: readTtl(options.ttlMs ?? defaults.ttlMs),
    onExpiry: readChoice("onExpiry", options.onExpiry ?? defaults.onExpiry, "charge", "release"),
    onUnknown: readChoice("onUnknown", options.onUnknown ?? defaults.onUnknown, "charge", "release"),
    requestId: options.requestId ?? newId(),
    extend: options.extend ?? true,
    estimate: prompt !== undefined || maxTokens !== undefined ? estimate : undefined,
    promptKnown: prompt !== undefined,
  };
}
