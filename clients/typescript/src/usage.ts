/**
 * What a model call used, in one form for all providers.
 *
 * `Usage.of(reply)` reads the replies of OpenAI (Chat and Responses), Anthropic, Gemini and Bedrock. Figures that are
 * missing, null, negative or no numbers count as unknown.
 */

/** The figures of a usage. */
export interface Figures {
  input?: number;
  output?: number;
  cacheRead?: number;
  cacheWrite?: number;
  reasoning?: number;
}

/** Tokens. `input` includes `cacheRead` and `cacheWrite`, and `output` includes `reasoning`. */
export class Usage {
  readonly input: number;
  readonly output: number;
  readonly cacheRead: number;
  readonly cacheWrite: number;
  readonly reasoning: number;

  constructor(figures: Figures = {}) {
    this.input = figures.input ?? 0;
    this.output = figures.output ?? 0;
    this.cacheRead = figures.cacheRead ?? 0;
    this.cacheWrite = figures.cacheWrite ?? 0;
    this.reasoning = figures.reasoning ?? 0;
  }

  get total(): number {
    return this.input + this.output;
  }

  plus(other: Usage): Usage {
    return this.zip(other, (one, two) => one + two);
  }

  /** Combines each figure with that of another usage. */
  zip(other: Usage, combine: (one: number, two: number) => number): Usage {
    return new Usage({
      input: combine(this.input, other.input),
      output: combine(this.output, other.output),
      cacheRead: combine(this.cacheRead, other.cacheRead),
      cacheWrite: combine(this.cacheWrite, other.cacheWrite),
      reasoning: combine(this.reasoning, other.reasoning),
    });
  }

  /** Reads the usage of a whole reply. Returns undefined if the reply has no usage, or no figures. */
  static of(reply: unknown): Usage | undefined {
    if (reply instanceof Usage) {
      return reply;
    }
    const usage = find(reply);
    const found = usage === undefined ? undefined : read(usage);
    // No call uses nothing. Providers report zeros when they do not know.
    return found !== undefined && found.total > 0 ? found : undefined;
  }
}

/** Returns the first field that is there and not null. */
export function get(value: unknown, ...names: string[]): unknown {
  if (value === null || value === undefined) {
    return undefined;
  }
  for (const name of names) {
    let found: unknown;
    try {
      found = (value as Record<string, unknown>)[name];
    } catch {
      continue; // A property of an unknown object failed.
    }
    if (found !== null && found !== undefined) {
      return found;
    }
  }
  return undefined;
}

/** Returns a field as a list. */
export function list(value: unknown, name: string): readonly unknown[] {
  const found = get(value, name);
  return Array.isArray(found) ? found : [];
}

const NAMES = [
  "prompt_tokens", "input_tokens", "output_tokens", "prompt_token_count", "promptTokenCount", "inputTokens",
];

/** Finds the usage of a reply, or of an event of a stream. */
function find(reply: unknown): unknown {
  if (typeof reply !== "object" || reply === null) {
    return undefined;
  }
  const own = fieldOf(reply, "usage", "usage_metadata", "usageMetadata");
  if (own !== undefined) {
    return own;
  }
  for (const name of ["response", "message", "metadata"]) {
    const inner = get(reply, name);
    if (typeof inner === "object") {
      const found = fieldOf(inner, "usage", "usage_metadata", "usageMetadata");
      if (found !== undefined) {
        return found;
      }
    }
  }
  return NAMES.some((name) => name in reply) ? reply : undefined;
}

function fieldOf(value: unknown, ...names: string[]): unknown {
  for (const name of names) {
    const found = get(value, name);
    if (found !== undefined && typeof found !== "function") {
      return found;
    }
  }
  return undefined;
}

/** Returns a figure as a whole number, rounded up. Undefined if it is no figure. */
export function whole(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? Math.ceil(value) : undefined;
}

function number(usage: unknown, ...names: string[]): number | undefined {
  for (const name of names) {
    const found = whole(get(usage, name));
    if (found !== undefined) {
      return found;
    }
  }
  return undefined;
}

function read(usage: unknown): Usage | undefined {
  return readChat(usage) ?? readGemini(usage) ?? readBedrock(usage) ?? readTokens(usage);
}

function made(parts: readonly (number | undefined)[], figures: Figures): Usage | undefined {
  return parts.some((part) => part !== undefined) ? new Usage(figures) : undefined;
}

function readChat(usage: unknown): Usage | undefined {
  const prompt = number(usage, "prompt_tokens");
  const completion = number(usage, "completion_tokens");
  return made([prompt, completion], {
    input: prompt ?? 0,
    output: completion ?? 0,
    cacheRead: number(get(usage, "prompt_tokens_details"), "cached_tokens") ?? 0,
    reasoning: number(get(usage, "completion_tokens_details"), "reasoning_tokens") ?? 0,
  });
}

function readGemini(usage: unknown): Usage | undefined {
  const prompt = number(usage, "prompt_token_count", "promptTokenCount");
  const tools = number(usage, "tool_use_prompt_token_count", "toolUsePromptTokenCount") ?? 0;
  const shown = number(usage, "candidates_token_count", "candidatesTokenCount");
  const thoughts = number(usage, "thoughts_token_count", "thoughtsTokenCount");
  return made([prompt, shown, thoughts], {
    input: (prompt ?? 0) + tools,
    output: (shown ?? 0) + (thoughts ?? 0),
    cacheRead: number(usage, "cached_content_token_count", "cachedContentTokenCount") ?? 0,
    reasoning: thoughts ?? 0,
  });
}

function readBedrock(usage: unknown): Usage | undefined {
  const prompt = number(usage, "inputTokens");
  const output = number(usage, "outputTokens");
  const cacheRead = number(usage, "cacheReadInputTokens") ?? 0;
  const cacheWrite = number(usage, "cacheWriteInputTokens") ?? 0;
  const input = (prompt ?? 0) + cacheRead + cacheWrite;
  return made([prompt, output], { input, output: output ?? 0, cacheRead, cacheWrite });
}

/** Reads the form of Anthropic, whose input excludes the cache, and that of OpenAI Responses. */
function readTokens(usage: unknown): Usage | undefined {
  const prompt = number(usage, "input_tokens");
  const output = number(usage, "output_tokens");
  const read = number(usage, "cache_read_input_tokens");
  const write = number(usage, "cache_creation_input_tokens");
  const cached = number(get(usage, "input_tokens_details"), "cached_tokens") ?? 0;
  return made([prompt, output, read, write], {
    input: (prompt ?? 0) + (read ?? 0) + (write ?? 0),
    output: output ?? 0,
    cacheRead: read || cached,
    cacheWrite: write ?? 0,
    reasoning: number(get(usage, "output_tokens_details"), "reasoning_tokens") ?? 0,
  });
}
