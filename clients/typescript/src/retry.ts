/** Repeats of one logical call: the same request, with the same `request_id`, until a deadline. */

import { setTimeout as sleep } from "node:timers/promises";

import { Cancelled } from "./errors.js";
import type { TopeError } from "./errors.js";

const FIRST_MS = 50;
const LAST_MS = 1_000;

/** Returns the milliseconds before the next attempt: exponential, with jitter, and never less than the server says. */
export function backoff(attempt: number, retryAfterMs: number | undefined, first = FIRST_MS, last = LAST_MS): number {
  const most = Math.min(last, first * 2 ** Math.min(attempt, 10));
  return Math.max(most / 2 + Math.random() * (most / 2), retryAfterMs ?? 0);
}

/** Makes a call until it succeeds, no repeat can help, or the time is over. */
export async function repeat<T>(
  timeoutMs: number,
  signal: AbortSignal | undefined,
  attempt: (timeoutMs: number) => Promise<T>,
): Promise<T> {
  const end = performance.now() + timeoutMs;
  let refreshed = false;
  for (let number = 0; ; number += 1) {
    // Each attempt has a part of the time, so that one lost reply does not use all of it.
    const left = end - performance.now();
    try {
      return await attempt(left <= 500 ? Math.max(1, left) : Math.max(500, left / 2));
    } catch (error) {
      const failed = error as TopeError;
      if (failed.keyChanged && !refreshed) {
        refreshed = true;
        continue;
      }
      const delay = backoff(number, failed.retryAfterMs);
      if (!failed.transient || performance.now() + delay >= end - 10) {
        throw error;
      }
      await pause(delay, signal);
    }
  }
}

async function pause(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(delayMs, undefined, signal === undefined ? {} : { signal });
  } catch {
    throw new Cancelled("the caller's signal ended the call");
  }
}
