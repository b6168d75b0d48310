/** The usage of one stream: what was used so far is known at each instant. */

import { Usage, get, list } from "./usage.js";

/** Counts the tokens of a text. */
export type Tokenizer = (text: string) => number;

const ENDS = ["response.completed", "response.incomplete", "response.failed", "message_delta"];

/**
 * Adds up one stream. `observe` takes each chunk, in order.
 *
 * The figures that the provider reports are cumulative: the last ones count. The text since the last report is counted
 * by the tokenizer, or estimated. So a stream that breaks is known as well as it can be.
 */
export class StreamUsage {
  /** Whether the provider has reported the final figures. */
  complete = false;
  /** Whether any chunk came. */
  began = false;
  /** Whether the stream was read to its end. Undefined: nobody knows. */
  finished: boolean | undefined;
  /** Whether the stream counts only if nothing else is known. */
  fallback = false;

  // With a tokenizer the whole text is kept, since tokens can cross the borders of chunks.
  private readonly texts: string[] = [];
  private weight = 0;
  // Tokens per unit of weight, as the tokenizer counted last.
  private scale = 1;
  private reported: Usage | undefined;
  // The texts, and the weight of all text, that came before the latest report.
  private beforeReport: readonly [number, number] = [0, 0];
  private inputKnown = false;

  constructor(
    /** Estimated tokens of the prompt. Undefined if the prompt is not known. */
    readonly prompt: number | undefined,
    private readonly tokenizer: Tokenizer | undefined,
    private readonly weigh: (text: string) => number,
  ) {}

  /** Takes a chunk. A chunk that is nothing of a provider changes nothing but `began`. */
  observe(chunk: unknown): void {
    this.began = true;
    const text = textOf(chunk);
    if (text !== "") {
      this.add(text);
    }
    const usage = Usage.of(chunk);
    if (usage === undefined) {
      return;
    }
    const kind = get(chunk, "type");
    const before = this.reported ?? new Usage();
    let reported = usage;
    if (kind === "message_delta" && usage.input > 0) {
      // The figures of the end replace those of the beginning.
      reported = new Usage({ ...usage, cacheRead: usage.cacheRead || before.cacheRead });
    } else if (kind === "message_start" || kind === "message_delta") {
      reported = before.zip(usage, Math.max);
    }
    this.report(reported, typeof kind === "string" ? ENDS.includes(kind) : ends(chunk));
  }

  /** Takes figures of the whole stream so far, and whether they are final. */
  report(usage: Usage, final: boolean): void {
    this.reported = usage;
    this.inputKnown ||= usage.input > 0;
    this.beforeReport = [this.texts.length, this.weight];
    this.complete ||= final;
  }

  private add(text: string): void {
    if (this.tokenizer === undefined) {
      this.weight += this.weigh(text);
    } else {
      this.texts.push(text);
      this.weight += text.length / 4;
    }
  }

  /** Counts the tokens of the first texts. */
  private counted(texts: number, weight: number): number {
    if (this.tokenizer === undefined) {
      return Math.ceil(weight);
    }
    return texts > 0 ? this.tokenizer(this.texts.slice(0, texts).join("")) : 0;
  }

  private get input(): number {
    const reported = this.reported?.input ?? 0;
    return this.inputKnown ? reported : this.prompt || reported;
  }

  /** Returns the tokens so far, prompt included. If not `exact`, cheap enough for each chunk of a stream. */
  total(exact: boolean): number {
    if (exact && this.tokenizer !== undefined && this.weight > 0) {
      this.scale = this.counted(this.texts.length, this.weight) / this.weight;
    }
    const since = (this.weight - this.beforeReport[1]) * this.scale;
    return this.input + (this.reported?.output ?? 0) + Math.ceil(Math.max(0, since));
  }

  /** Returns what was used so far. Undefined if that is not known. */
  soFar(): Usage | undefined {
    if (this.complete) {
      return this.reported;
    }
    if (this.reported === undefined && (this.prompt === undefined || !this.began)) {
      return undefined;
    }
    const base = this.reported ?? new Usage();
    // The report contains the text before it, and what the text does not show, such as reasoning.
    const counted = this.counted(this.texts.length, this.weight) - this.counted(...this.beforeReport);
    return new Usage({ ...base, input: this.input, output: base.output + Math.max(0, counted) });
  }
}

/** Whether a chunk without a type has final figures. */
function ends(chunk: unknown): boolean {
  const choices = get(chunk, "choices");
  if (Array.isArray(choices)) {
    // OpenAI sends the figures in a chunk without choices. Others add them to the last choice.
    return choices.length === 0 || choices.some((choice) => Boolean(get(choice, "finish_reason")));
  }
  const candidates = list(chunk, "candidates");
  if (candidates.length > 0) {
    return candidates.some((one) => Boolean(get(one, "finish_reason", "finishReason")));
  }
  // Bedrock sends the figures in an event of their own.
  return get(chunk, "metadata") !== undefined;
}

/** Returns the text that a chunk of a stream adds: answers, reasoning, refusals and arguments of tools. */
export function textOf(chunk: unknown): string {
  if (typeof chunk === "string") {
    return chunk;
  }
  if (typeof chunk !== "object" || chunk === null || ArrayBuffer.isView(chunk)) {
    return "";
  }
  const parts: unknown[] = [];
  for (const choice of list(chunk, "choices")) {
    const delta = get(choice, "delta");
    parts.push(get(choice, "text"));
    for (const name of ["content", "reasoning_content", "reasoning", "refusal"]) {
      parts.push(get(delta, name));
    }
    for (const call of list(delta, "tool_calls")) {
      parts.push(get(get(call, "function"), "arguments"));
    }
  }
  for (const candidate of list(chunk, "candidates")) {
    for (const part of list(get(candidate, "content"), "parts")) {
      parts.push(get(part, "text"));
    }
  }
  const kind = get(chunk, "type");
  const delta = get(chunk, "delta");
  if (typeof kind === "string" && kind.endsWith(".delta")) {
    parts.push(delta);
  } else if (kind === "content_block_delta") {
    parts.push(get(delta, "text"), get(delta, "thinking"), get(delta, "partial_json"));
  }
  parts.push(get(get(get(chunk, "contentBlockDelta"), "delta"), "text"));
  return parts.filter((part) => typeof part === "string").join("");
}
