/** The client: it makes holds, settles them, and calls the server. */

import { create } from "@bufbuild/protobuf";
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";

import { amountsOf, checkAmounts, newId, readTtl, reserveRequest } from "./ask.js";
import type { Amounts, Ask } from "./ask.js";
import { Calls } from "./calls.js";
import { Core } from "./core.js";
import type { Decision, Ending, Home, Settlement } from "./core.js";
import { current } from "./current.js";
import { Cancelled, PermissionDenied, QuotaExceeded, TopeError, Unauthenticated } from "./errors.js";
import { Estimator } from "./estimate.js";
import { isAbort } from "./evidence.js";
import { atExit } from "./exit.js";
import { ExtendRequestSchema, QuotaService } from "./gen/tope/v1/quota_service_pb.js";
import type { ReserveResponse } from "./gen/tope/v1/quota_service_pb.js";
import type { Reservation } from "./gen/tope/v1/usage_pb.js";
import { Gather } from "./gather.js";
import { guard } from "./guard.js";
import type { GuardOptions, Guarded } from "./guard.js";
import { Hold, coreOf } from "./hold.js";
import type { Settler } from "./hold.js";
import { askOf, defaultsOf, readClientOptions, readUnavailable } from "./options.js";
import type { ClientOptions, Defaults, HoldOptions, OnUnavailable, Read } from "./options.js";
import { repeat } from "./retry.js";
import { KeepAlive, ReleaseUnknown, Settle, SettleAllowed, commitOf, releaseOf } from "./settle.js";
import { duration } from "./status.js";
import { Target } from "./target.js";
import { call, foreign, grpc } from "./transport.js";
import type { Connection, Unary } from "./transport.js";
import type { Usage } from "./usage.js";
import { Worker } from "./worker.js";

export type { ClientOptions, HoldOptions, OnUnavailable } from "./options.js";

// Before a settlement is handed to the worker, the caller waits this long for the server.
const SETTLE_MS = 1_000;
const BATCH_MS = 5_000;
const WARNINGS_MAX = 1_000;
const WITH_ID = new Set(["Reserve", "Extend", "Record"]);

/** A client of a server of Tope. A program needs one. */
export class Client implements AsyncDisposable {
  /** Each call of the server, with its request and its reply. */
  readonly calls: Calls;
  readonly estimator: Estimator;
  readonly exitTimeoutMs: number;
  readonly #connection: Connection;
  readonly #defaults: Defaults;
  readonly #options: Read;
  readonly #gather: Gather;
  readonly #worker: Worker;
  readonly #settler: Settler;
  readonly #home: Home;
  readonly #warned = new Set<string>();
  // Settlements for which a caller waits.
  readonly #settling = new Set<Promise<void>>();
  #forgetExit: (() => void) | undefined;
  #closed = false;

  /**
   * `target` is `HOST:PORT`, or a URL with `http` or `https` (default: TOPE_TARGET, then 127.0.0.1:50051), or a
   * transport of Connect.
   */
  constructor(target?: string | Transport, options: ClientOptions = {}) {
    this.#options = readClientOptions(options);
    this.#defaults = defaultsOf(options);
    this.estimator = options.estimator ?? new Estimator(options.tokenizer);
    this.exitTimeoutMs = this.#options.exitTimeoutMs;
    this.#connection =
      typeof target === "object" ? foreign(target) : grpc(new Target(target, options));
    this.#gather = new Gather(this.#connection);
    const send = async (operations: Parameters<ConstructorParameters<typeof Worker>[0]>[0]) =>
      (await call(this.#connection, QuotaService.method.batch, { operations }, BATCH_MS)).results;
    this.#worker = new Worker(send, this.#options.queueMax, (text) => this.#options.log("error", text));
    this.calls = new Calls((method, request) => this.call(method, request));
    this.#home = this.#makeHome();
    this.#settler = {
      settle: (core, ending, error) => this.#settle(core, ending, error),
      settleLater: (core, ending) => this.#settleLater(core, ending),
      grow: (core) => this.#grow(core),
      extend: (core, amounts, ttlMs) => this.#extend(core, amounts, ttlMs),
    };
  }

  #makeHome(): Home {
    const { meter, price, onSettled, log } = this.#options;
    return {
      estimator: this.estimator,
      cost: this.#options.cost,
      hasMeter: this.#options.hasMeter,
      meter,
      costOf: (usage: Usage, model: string) => {
        try {
          return price?.(usage, model);
        } catch (error) {
          log("error", `the cost of a call of model "${model}" is not known: ${String(error)}`);
          return undefined;
        }
      },
      warnOfEstimate: (ask: Ask) => this.#warnOfEstimate(ask),
      settled: (settlement: Settlement) => {
        try {
          onSettled?.(settlement);
        } catch (error) {
          log("error", `onSettled failed: ${String(error)}`);
        }
      },
      log,
    };
  }

  // What callers use.

  /**
   * Makes a hold. With a function, the hold is settled when the function ends. Without one, it is settled by
   * `await using`, or by `commit` or `release`.
   */
  hold(ask: number | HoldOptions): Promise<Hold>;
  hold<T>(ask: number | HoldOptions, body: (hold: Hold) => Promise<T> | T): Promise<T>;
  hold<T>(ask: number | HoldOptions, body?: (hold: Hold) => Promise<T> | T): Promise<Hold | T> {
    // What runs now decides which hold is around it.
    const outer = current.getStore();
    return body === undefined ? this.#begin(ask, outer) : this.#within(ask, outer, body);
  }

  /** Makes a function that runs each call of another function inside a hold. */
  guard<A extends unknown[], R>(
    options: number | GuardOptions<A>,
    guarded: (...args: A) => R,
  ): (...args: A) => Guarded<R> {
    return guard(this, options, guarded);
  }

  /** Calls the server, with repeats. A request without a `requestId` gets one for all repeats. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: Unary<I, O>,
    request: MessageInitShape<I>,
    options: { timeoutMs?: number; signal?: AbortSignal | undefined } = {},
  ): Promise<MessageShape<O>> {
    this.#throwIfClosed();
    const given = request as { requestId?: string };
    const needsId = WITH_ID.has(method.name) && !given.requestId;
    const sent = needsId ? (Object.assign({}, request, { requestId: newId() }) as MessageInitShape<I>) : request;
    return await repeat(options.timeoutMs ?? this.#options.timeoutMs, options.signal, (timeoutMs) =>
      call(this.#connection, method, sent, timeoutMs, options.signal),
    );
  }

  /** Settlements that wait for the server. */
  get pending(): number {
    return this.#worker.pending;
  }

  /** Settlements that were given up. The server ends such holds at their deadlines, by their `onExpiry`. */
  get lost(): number {
    return this.#worker.lost;
  }

  /** Waits until everything is settled. Returns whether it is. */
  async flush(timeoutMs = 5_000): Promise<boolean> {
    const end = performance.now() + timeoutMs;
    // They take a second at most, and then the worker has them.
    await Promise.all(this.#settling);
    return await this.#worker.flush(Math.max(0, end - performance.now()));
  }

  /** Settles what waits, and ends the connection. Returns whether everything is settled. */
  async close(timeoutMs = 5_000): Promise<boolean> {
    this.#forgetExit?.();
    this.#closed = true;
    await Promise.all(this.#settling);
    const done = await this.#worker.stop(timeoutMs);
    this.#connection.close();
    return done;
  }

  /** Settles all holds that are open by what is known, and waits for all settlements. */
  leave(timeoutMs = 5_000): Promise<boolean> {
    for (const core of this.#worker.openHolds()) {
      this.#settleLater(core, "left");
    }
    return this.flush(timeoutMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #throwIfClosed(): void {
    if (this.#closed) {
      throw new Cancelled("the client is closed");
    }
  }

  // The beginning of a hold.

  async #begin(asked: number | HoldOptions, around: Core | undefined): Promise<Hold> {
    this.#throwIfClosed();
    const options: HoldOptions = typeof asked === "number" ? { amounts: asked } : asked;
    const ask = askOf(options, this.#defaults, this.#home, this.#options.price !== undefined);
    const outer = options.inside === undefined ? around : coreOf(options.inside);
    const joins = (options.reuse ?? "join") === "join" && outer?.state === "open" && outer.home === this.#home;
    const parent = joins && outer.ask.tenant === ask.tenant ? outer : undefined;
    const core = new Core(this.#home, ask, parent);
    this.#forgetExit ??= atExit(this);
    if (parent !== undefined) {
      const lacks = core.outgrown(ask.amounts);
      if (Object.keys(lacks).length > 0) {
        await this.#extend(core.root, lacks, undefined);
      }
      core.openJoined();
      return new Hold(this.#settler, core);
    }
    const unavailable = options.onUnavailable === undefined ? this.#options.onUnavailable : options.onUnavailable;
    await this.#reserve(core, readUnavailable(unavailable), options.signal);
    return new Hold(this.#settler, core);
  }

  async #reserve(core: Core, onUnavailable: OnUnavailable, signal: AbortSignal | undefined): Promise<void> {
    let reply: ReserveResponse;
    try {
      const request = reserveRequest(core.ask);
      reply = await repeat(this.#options.timeoutMs, signal, (timeoutMs) =>
        this.#gather.run("reserve", request, timeoutMs, signal),
      );
    } catch (error) {
      if (error instanceof Cancelled) {
        this.#releaseUnknown(core);
      }
      if (!(error instanceof TopeError) || !error.transient) {
        // A refusal passes in no mode.
        throw error;
      }
      await this.#notBegun(core, error, onUnavailable);
      return;
    }
    core.open(reply.reservation as Reservation);
    this.#worker.watch(core);
    if (core.ask.extend) {
      const keep = new KeepAlive(core);
      this.#worker.put(keep, keep.delayMs);
    }
  }

  /** Lets a call pass although no server answered, or throws the error. */
  async #notBegun(core: Core, error: TopeError, onUnavailable: OnUnavailable): Promise<void> {
    let allowed = false;
    try {
      const { tenant } = core.ask;
      allowed = typeof onUnavailable === "string" ? onUnavailable === "allow" : await onUnavailable(error, tenant);
    } finally {
      if (allowed !== true) {
        // A Reserve whose reply was lost may have taken effect.
        this.#releaseUnknown(core);
      }
    }
    if (allowed !== true) {
      throw error;
    }
    const { tenant } = core.ask;
    this.#options.log("warn", `no server answered, and a call of tenant ${tenant} is allowed: ${error.message}`);
    core.openAllowed(error);
    this.#worker.watch(core);
  }

  #releaseUnknown(core: Core): void {
    this.#worker.put(new ReleaseUnknown(core.ask.tenant, core.ask.requestId));
  }

  async #within<T>(
    ask: number | HoldOptions,
    outer: Core | undefined,
    body: (hold: Hold) => Promise<T> | T,
  ): Promise<T> {
    const hold = await this.#begin(ask, outer);
    const core = coreOf(hold);
    let result: T;
    try {
      result = await hold.run(async () => await body(hold));
    } catch (error) {
      await this.#settle(core, "raise", error);
      throw error;
    }
    await this.#settle(core, "end", undefined);
    return result;
  }

  // The end of a hold.

  /** Ends a hold, and waits for the server unless the caller is leaving. */
  async #settle(core: Core, ending: Ending, error: unknown): Promise<void> {
    const decision = this.#decide(core, ending, error);
    if (decision === undefined) {
      return;
    }
    if (isAbort(error)) {
      this.#worker.put(new Settle(core, decision));
      return;
    }
    const settling = this.#send(core, decision);
    this.#settling.add(settling);
    await settling;
    this.#settling.delete(settling);
  }

  async #send(core: Core, decision: Decision): Promise<void> {
    try {
      const reply = decision.release
        ? await this.#gather.run("release", releaseOf(core), SETTLE_MS)
        : await this.#gather.run("commit", commitOf(core, decision), SETTLE_MS);
      core.ended(decision, reply.reservation, undefined);
    } catch (failure) {
      this.#notSettled(core, decision, failure);
    }
  }

  #settleLater(core: Core, ending: Ending): void {
    const decision = this.#decide(core, ending, undefined);
    if (decision !== undefined) {
      this.#worker.put(new Settle(core, decision));
    }
  }

  /** Decides how a hold ends. Returns undefined if nothing is left to do for the caller. */
  #decide(core: Core, ending: Ending, error: unknown): Decision | undefined {
    if (!core.beginSettling()) {
      return undefined;
    }
    this.#worker.forget(core);
    const decision = core.decide(ending, error);
    if (core.parent !== undefined) {
      if (!core.settleJoined(decision) && !decision.release) {
        // The outer hold has ended before: the usage of this one is recorded.
        this.#worker.put(new SettleAllowed(core, decision));
      }
      return undefined;
    }
    if (core.allowed !== undefined) {
      this.#worker.put(new SettleAllowed(core, decision));
      return undefined;
    }
    return decision;
  }

  #notSettled(core: Core, decision: Decision, failure: unknown): void {
    const error = failure instanceof TopeError ? failure : new TopeError(String(failure));
    const smaller = core.withoutForeign(decision, error);
    if (error.transient || error instanceof Unauthenticated) {
      this.#worker.put(new Settle(core, decision));
    } else if (smaller !== undefined) {
      this.#worker.put(new Settle(core, smaller));
    } else {
      core.ended(decision, undefined, error);
    }
  }

  // The middle of a hold.

  async #extend(core: Core, amounts: Amounts, ttlMs: number | undefined): Promise<void> {
    checkAmounts(amounts, "an amount of extend");
    if (Object.keys(amounts).length === 0 && ttlMs === undefined) {
      throw new TypeError("extend needs amounts or ttlMs");
    }
    if (core.state !== "open") {
      throw new TypeError("the hold is settled");
    }
    if (core.allowed !== undefined) {
      return;
    }
    const request = create(ExtendRequestSchema, {
      reservation: core.name,
      requestId: newId(),
      amounts: amountsOf(amounts),
      ...(ttlMs !== undefined && { ttl: duration(readTtl(ttlMs)) }),
    });
    const reply = await this.call(QuotaService.method.extend, request);
    core.grant(reply.reservation as Reservation);
  }

  /** Extends the hold of a stream that outgrows it. Returns undefined if there is nothing to do. */
  #grow(core: Core): Promise<void> | undefined {
    const lacks = core.outgrown();
    return Object.keys(lacks).length > 0 ? this.#growBy(core.root, lacks) : undefined;
  }

  async #growBy(core: Core, lacks: Amounts): Promise<void> {
    try {
      await this.#extend(core, lacks, undefined);
    } catch (error) {
      if (error instanceof QuotaExceeded || error instanceof PermissionDenied || !(error instanceof TopeError)) {
        throw error;
      }
      // Ask no more: each chunk would wait again. The Commit charges what the hold lacks.
      core.ask = { ...core.ask, extend: false };
      const text = `hold ${core.ask.requestId} is not extended, and its stream goes on: ${error.message}`;
      this.#options.log("warn", text);
    }
  }

  /** Warns once for each tenant and model of calls whose usage nobody reports. */
  #warnOfEstimate(ask: Ask): void {
    const key = JSON.stringify([ask.tenant, ask.model]);
    if (!this.#warned.has(key) && this.#warned.size < WARNINGS_MAX) {
      this.#warned.add(key);
      const why = `nobody reported what the call used (model "${ask.model}")`;
      this.#options.log("warn", `a hold of tenant ${ask.tenant} was charged as reserved: ${why}`);
    }
  }
}
