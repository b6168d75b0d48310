/** Streams that are passed on: their hold is settled at their end, at their break, or when their reader leaves. */

import type { Hold } from "./hold.js";

/** What is passed on of a chunk. With a failure, the stream ends after it. */
export interface Passed<T> {
  readonly chunk: T | undefined;
  readonly failure?: { readonly error: unknown } | undefined;
}

/** Looks at the chunks of a stream. */
export interface Reader<T> {
  take(chunk: T): Promise<Passed<T>>;
  /** Takes the end of the stream, and returns what is left to pass on. */
  end(): T | undefined;
}

/** Makes a stream of what a reader passes on. */
export function pass<T>(
  hold: Hold,
  source: ReadableStream<T>,
  signal: AbortSignal | undefined,
  reader: Reader<T>,
): ReadableStream<T> {
  const input = source.getReader();
  let failure: { readonly error: unknown } | undefined;
  // A library may end a stream by its signal alone, and read it no more.
  const abort = (): void => void leave(hold, signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  const fail = async (error: unknown): Promise<never> => {
    await leave(hold, error);
    throw error;
  };
  const end = async (controller: ReadableStreamDefaultController<T>): Promise<void> => {
    signal?.removeEventListener("abort", abort);
    const rest = reader.end();
    if (rest !== undefined) {
      controller.enqueue(rest);
    }
    await hold[Symbol.asyncDispose]();
    controller.close();
  };
  const pull = async (controller: ReadableStreamDefaultController<T>): Promise<void> => {
    for (;;) {
      if (failure !== undefined) {
        await fail(failure.error);
      }
      const { done, value } = await input.read().catch(fail);
      if (done) {
        return await end(controller);
      }
      const passed = await reader.take(value);
      if (passed.failure !== undefined) {
        // The caller gets what came, and then the error.
        ({ failure } = passed);
        await input.cancel().catch(() => undefined);
      }
      if (passed.chunk !== undefined) {
        controller.enqueue(passed.chunk);
        return;
      }
    }
  };
  const cancel = async (reason: unknown): Promise<void> => {
    signal?.removeEventListener("abort", abort);
    const left = input.cancel(reason).catch(() => undefined);
    await leave(hold, new DOMException("the caller left the stream", "AbortError"));
    await left;
  };
  return new ReadableStream<T>({ pull, cancel }, { highWaterMark: 0 });
}

/** Settles a hold whose scope ends by an error. */
export async function leave(hold: Hold, error: unknown): Promise<void> {
  hold.failed(error);
  await hold[Symbol.asyncDispose]();
}

/** Extends a hold that is outgrown. Returns the error if the stream must stop. */
export async function grown(hold: Hold): Promise<{ error: unknown } | undefined> {
  try {
    await hold.extendIfOutgrown();
    return undefined;
  } catch (error) {
    return { error };
  }
}
