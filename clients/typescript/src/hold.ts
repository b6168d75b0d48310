/** The handle that a caller uses inside a hold. */

import type { Amounts } from "./ask.js";
import { current } from "./current.js";
import type { Core, Ending, Settlement } from "./core.js";
import type { StreamUsage } from "./stream.js";

/** What a handle needs of its client. */
export interface Settler {
  settle(core: Core, ending: Ending, error: unknown): Promise<void>;
  settleLater(core: Core, ending: Ending): void;
  grow(core: Core): Promise<void> | undefined;
  extend(core: Core, amounts: Amounts, ttlMs: number | undefined): Promise<void>;
}

// A hold that nobody settled, and whose handle is gone.
const dropped = new FinalizationRegistry<{ settler: Settler; core: Core }>(({ settler, core }) => {
  settler.settleLater(core, "left");
});

const cores = new WeakMap<Hold, Core>();
const handles = new WeakMap<Core, WeakRef<Hold>>();

/** Returns the state of a hold. For this package only. */
export function coreOf(hold: Hold): Core {
  return cores.get(hold) as Core;
}

/** Returns the hold around the code that runs, such as that of a guarded function. */
export function currentHold(): Hold | undefined {
  const core = current.getStore();
  return core === undefined ? undefined : handles.get(core)?.deref();
}

/** A hold. It is settled once: at the end of its scope, or by `commit` or `release`. */
export class Hold implements AsyncDisposable {
  readonly #settler: Settler;
  readonly #core: Core;
  #stream: StreamUsage | undefined;

  /** Holds are made by `Client.hold`. */
  constructor(settler: Settler, core: Core) {
    this.#settler = settler;
    this.#core = core;
    cores.set(this, core);
    handles.set(core, new WeakRef(this));
    dropped.register(this, { settler, core }, this);
  }

  /** Name of the reservation. Empty if the hold has none of its own: it joined another hold, or was allowed. */
  get name(): string {
    return this.#core.name;
  }

  get requestId(): string {
    return this.#core.ask.requestId;
  }

  /** Quantities that were granted, by resource. */
  get granted(): Amounts {
    return { ...this.#core.granted };
  }

  /** Whether no server answered, and `onUnavailable` let the call pass. */
  get allowed(): boolean {
    return this.#core.root.allowed !== undefined;
  }

  /** Whether the hold is a part of an outer hold. */
  get joined(): boolean {
    return this.#core.parent !== undefined;
  }

  /** The longest answer for which the granted tokens suffice. */
  get maxTokens(): number {
    const granted = this.#core.granted["tokens"] ?? 0;
    const { estimate } = this.#core.ask;
    return estimate === undefined ? granted : Math.max(1, Math.min(estimate.output, granted - estimate.input));
  }

  /** How the hold ended. Undefined as long as that is not known. */
  get settlement(): Settlement | undefined {
    return this.#core.settlement;
  }

  /** Adds the usage of replies of providers. */
  use(...replies: unknown[]): void {
    for (const reply of replies) {
      this.#core.addReply(reply);
    }
  }

  /** Adds quantities, such as `{ tokens: 800 }`. */
  add(amounts: Amounts): void {
    this.#core.addAmounts(amounts);
  }

  /** Says that a provider was called. After an error, the hold is then charged by `onUnknown`. */
  sent(): void {
    this.#core.sent = true;
  }

  /** Says that no provider was called. Unless usage is added, the hold is then released. */
  unsent(): void {
    this.#core.sent = false;
  }

  /** Says that the scope ends by an error. `await using` does not see the error, and treats a scope as complete. */
  failed(error: unknown): void {
    this.#core.failure = { error };
  }

  /** Makes a call of a provider, and adds its reply. An error says whether the provider was called. */
  async call<T>(make: () => Promise<T> | T): Promise<T> {
    try {
      const reply = await this.run(make);
      this.#core.addReply(reply);
      this.#core.failure = undefined;
      return reply;
    } catch (error) {
      this.failed(error);
      throw error;
    }
  }

  /** Runs a function inside the hold: holds that it makes join this one. */
  run<T>(body: () => T): T {
    return current.run(this.#core, body);
  }

  /** Adds a chunk of a stream. Extends the hold if the stream outgrows it, which can fail with QuotaExceeded. */
  async observe(chunk: unknown): Promise<void> {
    this.#stream ??= this.#core.addStream();
    this.#stream.observe(chunk);
    await this.#settler.grow(this.#core);
  }

  /** Extends the hold if what was used so far outgrows it, which can fail with QuotaExceeded. */
  async extendIfOutgrown(): Promise<void> {
    await this.#settler.grow(this.#core);
  }

  /** Yields the chunks of a stream, and adds each of them. */
  async *watch<T>(stream: AsyncIterable<T> | Iterable<T>, prompt?: unknown): AsyncGenerator<T, void, undefined> {
    const usage = this.#core.addStream(prompt);
    usage.finished = false;
    this.#core.sent = true;
    try {
      for await (const chunk of stream) {
        usage.observe(chunk);
        const growth = this.#settler.grow(this.#core);
        if (growth !== undefined) {
          await growth;
        }
        yield chunk;
      }
    } catch (error) {
      this.failed(error);
      throw error;
    }
    usage.finished = true;
  }

  /** Adds quantities or time. Fails with QuotaExceeded if the quota does not suffice. */
  async extend(more: { amounts?: Amounts; ttlMs?: number }): Promise<void> {
    await this.#settler.extend(this.#core.root, more.amounts ?? {}, more.ttlMs);
  }

  /** Settles the hold now. Returns undefined if no server answered: then the hold is settled in the background. */
  async commit(amounts: Amounts = {}): Promise<Settlement | undefined> {
    this.#core.addAmounts(amounts);
    await this.#end("end", undefined);
    return this.#core.settlement;
  }

  /** Settles the hold now, without a charge unless usage was added. */
  async release(): Promise<void> {
    this.#core.sent = false;
    await this.#end("end", undefined);
  }

  /** Settles the hold at the end of an `await using` scope. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { failure } = this.#core;
    await this.#end(failure === undefined ? "end" : "raise", failure?.error);
  }

  async #end(ending: Ending, error: unknown): Promise<void> {
    dropped.unregister(this);
    await this.#settler.settle(this.#core, ending, error);
  }
}
