/**
 * Estimates of what a model call will use, before the call.
 *
 * Without a tokenizer, the characters of a text are counted by class, since a token is about four characters of
 * English but only one character of Chinese. What calls really used corrects the estimates for each model and kind of
 * text. The client for Python makes the same estimates.
 */

import type { Tokenizer } from "./stream.js";
import { Usage, get } from "./usage.js";

/** Tokens of an image. */
export const IMAGE_TOKENS = 1_200;
/** Tokens of the frame of each message: its role and its borders. */
export const MESSAGE_TOKENS = 4;
/** Estimated tokens of an answer, until enough calls of the model have ended. */
export const OUTPUT_TOKENS = 1_024;
/** Calls of a model and kind after which their usage corrects the estimates. */
export const CALLS_MIN = 20;
/** Models and kinds that are remembered. */
export const KEYS_MAX = 1_000;

// A text that is longer than this many characters is sampled in slices.
const TEXT_MAX = 1 << 18;
const SLICES = 32;
const SLICE = 1 << 13;
const DEPTH_MAX = 64;

// Runs without a blank, such as base64 and hashes, have short tokens.
const RUNS = /[!-~]{41,}/g;
const DIGITS = /[0-9]+/g;
const PAIRS = /[\ud800-\udbff][\udc00-\udfff]/g;
// eslint-disable-next-line no-control-regex
const ASCII = /[\x00-\x7f]+/g;
// Characters per token of each class. The rest is Indic and other scripts.
const CLASSES: readonly (readonly [string, RegExp, number])[] = [
  ["latin", /[\u0080-\u036f\u1e00-\u1eff\u2000-\u206f]+/gu, 1.5],
  ["alphabetic", /[\u0370-\u08ff]+/gu, 2.5],
  ["cjk", /[\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\ufe30-\uffef\u{20000}-\u{3ffff}]+/gu, 1],
];
const PER_ASCII = 3.5;
const PER_OTHER = 1.5;
const PER_DIGIT = 2;
const PER_RUN = 1.4;

/** Tokens that a call may use. `kind` is the class of most of the prompt. */
export interface Estimate {
  readonly input: number;
  readonly output: number;
  readonly kind: string;
  /** The estimate of the prompt before the corrections. */
  readonly raw: number;
}

type Weights = Map<string, number>;

/** Counts characters, of which some have two units. */
function size(text: string): number {
  return text.length - (text.match(PAIRS)?.length ?? 0);
}

function length(pattern: RegExp, text: string): number {
  return (text.match(pattern) ?? []).reduce((sum, part) => sum + size(part), 0);
}

/** Estimates the tokens of a text by the classes of its characters. */
export function count(text: string): number {
  return Math.ceil(weigh(text));
}

/** Estimates the tokens of a part of a text, of which there are fractions. */
export function weigh(text: string): number {
  return sum(weightsOf(text));
}

function sum(weights: Weights): number {
  let total = 0;
  for (const tokens of weights.values()) {
    total += tokens;
  }
  return total;
}

/** Returns the estimated tokens of a text, by class. */
function weightsOf(text: string): Weights {
  if (text.length > TEXT_MAX) {
    const step = Math.floor((text.length - SLICE) / (SLICES - 1));
    const slices = Array.from({ length: SLICES }, (_, index) => text.slice(index * step, index * step + SLICE));
    const sample = slices.join("");
    const scale = text.length / sample.length;
    return new Map([...weightsOf(sample)].map(([name, tokens]) => [name, tokens * scale]));
  }
  const weights: Weights = new Map();
  const all = size(text);
  const ascii = length(ASCII, text);
  if (ascii < all) {
    let rest = all - ascii;
    for (const [name, pattern, per] of CLASSES) {
      const found = length(pattern, text);
      rest -= found;
      weights.set(name, found / per);
    }
    weights.set("other", rest / PER_OTHER);
  }
  const runs = text.match(RUNS) ?? [];
  const inRuns = runs.reduce((found, run) => found + run.length, 0);
  const digits = runs.reduce((found, run) => found - length(DIGITS, run), length(DIGITS, text));
  weights.set("runs", inRuns / PER_RUN);
  weights.set("digits", digits / PER_DIGIT);
  weights.set("ascii", (ascii - inRuns - digits) / PER_ASCII);
  return weights;
}

/** What callers pass as a tokenizer: a function of a text, or an object with `encode`, such as that of tiktoken. */
export type AnyTokenizer =
  | ((text: string) => number | ArrayLike<unknown>)
  | { encode(text: string): ArrayLike<unknown> };

function asTokenizer(tokenizer: AnyTokenizer | undefined): Tokenizer | undefined {
  if (tokenizer === undefined) {
    return undefined;
  }
  if (typeof tokenizer === "function") {
    return (text) => {
      const found = tokenizer(text);
      return typeof found === "number" ? found : found.length;
    };
  }
  if (typeof tokenizer.encode !== "function") {
    throw new TypeError("tokenizer must be a function of a text, or have a method `encode`");
  }
  return (text) => tokenizer.encode(text).length;
}

/** Yields the texts of a prompt, and the tokens of what is no text. A message is a 0. */
function* pieces(prompt: unknown, depth = 0): Generator<string | number> {
  if (typeof prompt === "string") {
    yield prompt;
  } else if (Array.isArray(prompt) && depth < DEPTH_MAX) {
    for (const item of prompt) {
      yield* pieces(item, depth + 1);
    }
  } else if (typeof prompt === "object" && prompt !== null && !ArrayBuffer.isView(prompt) && depth < DEPTH_MAX) {
    const kind = String(get(prompt, "type") ?? "");
    if (kind.includes("image") || ["inline_data", "inlineData", "image_url"].some((key) => key in prompt)) {
      yield IMAGE_TOKENS;
      return;
    }
    if ("role" in prompt) {
      yield 0;
    }
    const frames = ["system", "instructions", "systemInstruction", "messages", "contents", "prompt"];
    for (const key of [...frames, "text", "content", "parts", "input", "arguments", "output"]) {
      yield* pieces(get(prompt, key), depth + 1);
    }
    const calls = get(prompt, "tool_calls");
    for (const call of Array.isArray(calls) ? calls : []) {
      yield* pieces(get(call, "function"), depth + 1);
    }
    const tools = get(prompt, "tools");
    if (Array.isArray(tools) ? tools.length > 0 : tools !== undefined) {
      yield json(tools);
    }
  }
}

/** Writes JSON with a blank after each comma and colon, as the client for Python does. */
function json(value: unknown): string {
  if (Array.isArray(value)) {
    return `[${value.map(json).join(", ")}]`;
  }
  if (typeof value === "object" && value !== null) {
    const fields = Object.entries(value).filter(([, field]) => field !== undefined);
    return `{${fields.map(([key, field]) => `${JSON.stringify(key)}: ${json(field)}`).join(", ")}}`;
  }
  return JSON.stringify(typeof value === "bigint" ? String(value) : value) ?? "null";
}

/** The latest ratios of what was used to what was estimated. Later ones weigh more. */
class Ratios {
  count = 0;
  private readonly values: number[] = [];
  private cached: readonly [number, number] = [-1, 1];

  add(value: number): void {
    this.values.push(value);
    if (this.values.length > 256) {
      this.values.shift();
    }
    this.count += 1;
  }

  quantile(share: number): number {
    // Sorting for each call would cost more than the rest of the estimate.
    if (this.cached[0] >= 0 && this.count - this.cached[0] < 8) {
      return this.cached[1];
    }
    const last = this.values.length - 1;
    const pairs = this.values.map((value, index): [number, number] => [value, 0.98 ** (last - index)]);
    pairs.sort((one, two) => one[0] - two[0] || one[1] - two[1]);
    let left = share * pairs.reduce((total, [, weight]) => total + weight, 0);
    let result = pairs[pairs.length - 1]?.[0] ?? 1;
    for (const [value, weight] of pairs) {
      left -= weight;
      if (left <= 0) {
        result = value;
        break;
      }
    }
    this.cached = [this.count, result];
    return result;
  }
}

/** What a call is estimated by. */
export interface Call {
  prompt?: unknown;
  tools?: unknown;
  model?: string;
  /** The longest answer, in tokens. Without it, what the model's answers had counts. */
  maxTokens?: number | undefined;
  /** The number of answers. */
  n?: number;
}

/** Estimates calls, and learns from their usage. */
export class Estimator {
  readonly tokenizer: Tokenizer | undefined;
  private readonly messageTokens: number;
  private readonly ratios = new Map<string, Ratios>();
  private readonly outputs = new Map<string, Ratios>();

  constructor(tokenizer?: AnyTokenizer, options: { messageTokens?: number } = {}) {
    this.tokenizer = asTokenizer(tokenizer);
    this.messageTokens = options.messageTokens ?? MESSAGE_TOKENS;
  }

  /** Counts the tokens of a text by the tokenizer, or estimates them. */
  text(text: string): number {
    return this.tokenizer !== undefined ? this.tokenizer(text) : count(text);
  }

  /** Estimates a prompt without the corrections: a text, messages, or a whole request. Also returns its kind. */
  prompt(prompt: unknown, tools?: unknown): { tokens: number; kind: string } {
    let tokens = 0;
    const weights: Weights = new Map([["ascii", 0]]);
    const hasTools = Array.isArray(tools) ? tools.length > 0 : tools !== undefined && tools !== null;
    for (const piece of [...pieces(prompt), ...(hasTools ? [json(tools)] : [])]) {
      if (piece === 0) {
        tokens += this.messageTokens;
      } else if (typeof piece === "number") {
        tokens += piece;
      } else if (this.tokenizer !== undefined) {
        tokens += this.tokenizer(piece);
      } else {
        const found = weightsOf(piece);
        tokens += Math.ceil(sum(found));
        for (const [name, weight] of found) {
          weights.set(name, (weights.get(name) ?? 0) + weight);
        }
      }
    }
    const [kind] = [...weights].reduce((best, one) => (one[1] > best[1] ? one : best));
    return { tokens, kind };
  }

  /** Estimates a call: its prompt, and the longest answer that is to be expected. */
  call(call: Call): Estimate {
    const model = call.model ?? "";
    const { tokens: raw, kind } = this.prompt(call.prompt, call.tools);
    const factor = this.tokenizer !== undefined ? 1 : this.factor(model, kind);
    const output = call.maxTokens ?? this.output(model);
    return { input: Math.ceil(raw * factor), output: output * Math.max(1, call.n ?? 1), kind, raw };
  }

  /** Returns the correction for prompts: the 90th percentile of used ÷ estimated, between 0.5 and 4. */
  factor(model: string, kind: string): number {
    const ratios = this.ratios.get(keyOf(model, kind));
    if (ratios === undefined || ratios.count < CALLS_MIN) {
      return 1;
    }
    return Math.min(4, Math.max(0.5, ratios.quantile(0.9)));
  }

  /** Returns the 95th percentile of the answers of a model; 1,024 until enough calls have ended. */
  output(model: string): number {
    const outputs = this.outputs.get(model);
    return outputs === undefined || outputs.count < CALLS_MIN ? OUTPUT_TOKENS : Math.ceil(outputs.quantile(0.95));
  }

  /** Learns from a call: `estimated` is what `prompt` returned for it. */
  learn(model: string, kind: string, estimated: number, used: Usage): void {
    if (estimated > 0 && used.input > 0 && this.tokenizer === undefined) {
      entry(this.ratios, keyOf(model, kind)).add(used.input / estimated);
    }
    if (used.output > 0) {
      entry(this.outputs, model).add(used.output);
    }
  }
}

function keyOf(model: string, kind: string): string {
  return `${kind} ${model}`;
}

function entry(table: Map<string, Ratios>, key: string): Ratios {
  const found = table.get(key) ?? new Ratios();
  table.delete(key);
  if (table.size >= KEYS_MAX) {
    // The key that was used longest ago.
    const [oldest] = table.keys();
    table.delete(oldest as string);
  }
  table.set(key, found);
  return found;
}
