/** Faults between a client and its server, for tests of what a program does then. */

import type { DescMessage, DescMethodUnary, MessageInitShape } from "@bufbuild/protobuf";
import type { Transport, UnaryResponse } from "@connectrpc/connect";

import { DeadlineExceeded, Overloaded, Unreachable } from "../errors.js";
import type { TopeError } from "../errors.js";
import { coreOf } from "../hold.js";
import type { Hold } from "../hold.js";
import { toConnect } from "../status.js";

/**
 * `lose-reply`: the call takes effect, and its reply is lost. `lose-request`: it takes no effect. `unavailable`: the
 * server says that it is overloaded. `slow`: the reply does not come in time.
 */
export type FaultKind = "lose-reply" | "lose-request" | "unavailable" | "slow";

interface Planned {
  readonly method: string;
  readonly fault: FaultKind;
  readonly retryAfterMs: number | undefined;
  times: number;
}

/**
 * A transport with faults: `new Client(new Faulty(transport))`. A fault is for one call of a method. A client settles
 * in the background by the method `Batch`.
 */
export class Faulty implements Transport {
  /** The number of calls of each method, with those that failed. */
  readonly calls: Record<string, number> = {};
  private planned: Planned[] = [];

  constructor(readonly inner: Transport) {}

  /** Lets the next calls of a method fail. */
  fail(method: string, fault: FaultKind, options: { times?: number; retryAfterMs?: number | undefined } = {}): void {
    this.planned.push({ method, fault, retryAfterMs: options.retryAfterMs, times: options.times ?? 1 });
  }

  /** Forgets all faults that are left. */
  heal(): void {
    this.planned = [];
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
  ): Promise<UnaryResponse<I, O>> {
    this.calls[method.name] = (this.calls[method.name] ?? 0) + 1;
    const planned = this.planned.find((one) => one.method === method.name && one.times > 0);
    if (planned === undefined) {
      return await this.inner.unary(method, signal, timeoutMs, header, input);
    }
    planned.times -= 1;
    if (planned.fault === "lose-reply" || planned.fault === "slow") {
      await this.inner.unary(method, signal, timeoutMs, header, input);
    }
    const error = errorOf(planned);
    // An error without a reason is one that no server made.
    throw toConnect(error);
  }

  stream: Transport["stream"] = (...args) => this.inner.stream(...args);
}

function errorOf(planned: Planned): TopeError {
  if (planned.fault === "unavailable") {
    const { retryAfterMs } = planned;
    return new Overloaded("the queue is full; repeat the call later", { reason: "OVERLOADED", retryAfterMs });
  }
  if (planned.fault === "slow") {
    return new DeadlineExceeded("the time of the call ran out");
  }
  return new Unreachable("the connection broke");
}

/** Forgets a hold, as if the program had died: nothing settles it, and nothing extends it any more. */
export function abandon(hold: Hold): void {
  coreOf(hold).state = "settled";
}
