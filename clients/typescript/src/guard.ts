/** Guarded functions: each call runs inside a hold, which is settled when the call or its stream ends. */

import type { Amounts } from "./ask.js";
import type { Client, HoldOptions } from "./client.js";
import type { Core } from "./core.js";
import { current } from "./current.js";
import { coreOf } from "./hold.js";
import type { Hold } from "./hold.js";
import { Usage } from "./usage.js";

/** A value, or a function of the arguments of the guarded function. */
export type ByArguments<A extends unknown[], T> = T | ((...args: A) => T);

type Fixed = Pick<
  HoldOptions,
  "allowPartial" | "minimum" | "ttlMs" | "onExpiry" | "onUnknown" | "onUnavailable" | "reuse" | "extend" | "n"
>;

/** What the hold of each call asks for. */
export interface GuardOptions<A extends unknown[]> extends Fixed {
  amounts?: ByArguments<A, number | Amounts>;
  tenant?: ByArguments<A, string>;
  agent?: ByArguments<A, string>;
  user?: ByArguments<A, string>;
  model?: ByArguments<A, string>;
  labels?: ByArguments<A, Record<string, string>>;
  maxTokens?: ByArguments<A, number>;
  requestId?: ByArguments<A, string>;
  signal?: ByArguments<A, AbortSignal>;
  /** The prompt: a function of the arguments. */
  prompt?: (...args: A) => unknown;
  /** Tools of the call: a function of the arguments. */
  tools?: (...args: A) => unknown;
  /** Finds the reply of the provider in the result. */
  usage?: (result: never) => unknown;
}

/** What a guarded function returns. */
export type Guarded<R> =
  R extends AsyncGenerator<infer T, infer E, infer N> ? AsyncGenerator<T, E, N>
  : R extends Generator<infer T, infer E, infer N> ? AsyncGenerator<T, E, N>
  : Promise<Awaited<R> extends AsyncIterable<infer T> ? AsyncIterable<T> : Awaited<R>>;

/** Guards a function. */
export function guard<A extends unknown[], R>(
  client: Client,
  options: number | GuardOptions<A>,
  guarded: (...args: A) => R,
): (...args: A) => Guarded<R> {
  const wanted: GuardOptions<A> = typeof options === "number" ? { amounts: options } : options;
  const kind = Object.prototype.toString.call(guarded);
  const isGenerator = kind === "[object AsyncGeneratorFunction]" || kind === "[object GeneratorFunction]";
  return function (this: unknown, ...args: A): Guarded<R> {
    const begin = (): Promise<Hold> => client.hold(holdOptions(wanted, args));
    const body = (): R => guarded.apply(this, args);
    const made = isGenerator ? generate(begin, body as () => AnyGenerator) : answer(begin, body, wanted.usage as never);
    return made as Guarded<R>;
  };
}

function holdOptions<A extends unknown[]>(options: GuardOptions<A>, args: A): HoldOptions {
  const found: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    const fixed = typeof value !== "function" || name === "onUnavailable";
    if (name !== "usage" && value !== undefined) {
      found[name] = fixed ? value : (value as (...args: A) => unknown)(...args);
    }
  }
  return found as HoldOptions;
}

type AnyGenerator = Generator | AsyncGenerator;

async function* generate(begin: () => Promise<Hold>, body: () => AnyGenerator): AsyncGenerator {
  const hold = await begin();
  const core = coreOf(hold);
  return yield* drive(hold, core, current.run(core, body), true);
}

/** Yields what a stream yields. It counts unless the function adds usage itself. */
async function* drive(hold: Hold, core: Core, inner: AnyGenerator, isBody: boolean): AsyncGenerator {
  const stream = core.addStream();
  stream.fallback = isBody;
  stream.finished = false;
  core.sent ??= isBody ? undefined : true;
  let ended = false;
  try {
    let step = await current.run(core, () => inner.next());
    while (step.done !== true) {
      stream.observe(step.value);
      await hold.extendIfOutgrown();
      const { value } = step;
      let sent: unknown;
      try {
        sent = yield value;
      } catch (error) {
        if (typeof inner.throw !== "function") {
          throw error;
        }
        step = await current.run(core, () => inner.throw(error));
        continue;
      }
      step = await current.run(core, () => inner.next(sent as never));
    }
    ended = true;
    stream.finished = true;
    note(core, step.value, undefined);
    return step.value;
  } catch (error) {
    ended = true;
    hold.failed(error);
    throw error;
  } finally {
    if (!ended) {
      // The caller left. The rest of the function runs first: it may add usage.
      try {
        await current.run(core, () => inner.return?.(undefined) as unknown);
      } finally {
        await hold[Symbol.asyncDispose]();
      }
    } else {
      await hold[Symbol.asyncDispose]();
    }
  }
}

async function answer(
  begin: () => Promise<Hold>,
  body: () => unknown,
  usage: ((result: unknown) => unknown) | undefined,
): Promise<unknown> {
  const hold = await begin();
  const core = coreOf(hold);
  let streams = false;
  try {
    const result = await current.run(core, async () => await body());
    if (isStream(result)) {
      streams = true;
      return drive(hold, core, result[Symbol.asyncIterator]() as AsyncGenerator, false);
    }
    note(core, result, usage);
    core.failure = undefined;
    return result;
  } catch (error) {
    hold.failed(error);
    throw error;
  } finally {
    if (!streams) {
      await hold[Symbol.asyncDispose]();
    }
  }
}

function isStream(result: unknown): result is AsyncIterable<unknown> {
  return typeof result === "object" && result !== null && Symbol.asyncIterator in result;
}

/** Adds the usage of a result, unless the function itself has added usage to its hold. */
function note(core: Core, result: unknown, usage: ((result: unknown) => unknown) | undefined): void {
  const { known } = core;
  if (known.hasExplicit || known.replies.length > 0 || known.streams.some((stream) => !stream.fallback)) {
    return;
  }
  const reply = usage === undefined ? result : usage(result);
  if (reply !== undefined && (usage !== undefined || Usage.of(reply) !== undefined)) {
    core.addReply(reply);
  }
}
