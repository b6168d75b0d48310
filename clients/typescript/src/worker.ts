/**
 * The queue of a client: it settles what its callers left to it, and keeps long holds alive.
 *
 * All that is due is sent in one Batch, so a crowd of settlements costs few calls. There is one timer for all tasks.
 */

import type { Core } from "./core.js";
import { Internal, TopeError, Unauthenticated } from "./errors.js";
import type { OperationResult } from "./gen/tope/v1/quota_service_pb.js";
import { backoff } from "./retry.js";
import type { Operation, Task } from "./settle.js";
import { ofStatus } from "./status.js";

const BATCH_MAX = 500;
const TIMER_MAX_MS = 2 ** 31 - 1;
const FIRST_MS = 100;
const LAST_MS = 5_000;
// Attempts without a valid key: they take about a minute.
const KEYLESS_ATTEMPTS = 20;

interface Entry {
  readonly task: Task;
  due: number;
  attempts: number;
  readonly number: number;
}

/** Sends operations, and returns their results. */
export type Send = (operations: Operation[]) => Promise<OperationResult[]>;

export class Worker {
  /** Settlements that were given up: the queue was full, or the client was closed first. */
  lost = 0;
  private readonly heap: Entry[] = [];
  private readonly open = new Set<Core>();
  private numbers = 0;
  private settling = 0;
  private running = false;
  private stopped = false;
  private timer: NodeJS.Timeout | undefined;
  private timerDue = Infinity;
  private waiting: (() => void)[] = [];

  constructor(
    private readonly send: Send,
    private readonly queueMax: number,
    private readonly log: (text: string) => void,
  ) {}

  /** Settlements that wait. */
  get pending(): number {
    return this.settling;
  }

  /** Hands a task over. Returns false if there is no room, or if the client is closed. */
  put(task: Task, delayMs = 0): boolean {
    if (this.stopped || (task.settles && this.settling >= this.queueMax)) {
      if (task.settles) {
        this.lose(1);
      }
      return false;
    }
    this.numbers += 1;
    this.push({ task, due: performance.now() + delayMs, attempts: 0, number: this.numbers });
    return true;
  }

  /** Remembers a hold, so that it is settled when the program ends. */
  watch(core: Core): void {
    this.open.add(core);
  }

  /** Forgets a hold that has ended. */
  forget(core: Core): void {
    this.open.delete(core);
  }

  /** Lists the holds that are open. */
  openHolds(): Core[] {
    return [...this.open].filter((core) => core.state === "open");
  }

  /** Waits until all settlements have ended. Returns whether they did. */
  async flush(timeoutMs: number): Promise<boolean> {
    if (this.settling === 0) {
      return true;
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), timeoutMs);
    });
    const done = new Promise<boolean>((resolve) => this.waiting.push(() => resolve(true)));
    try {
      return await Promise.race([done, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the queue, after waiting for the settlements. */
  async stop(timeoutMs: number): Promise<boolean> {
    const done = await this.flush(timeoutMs);
    this.stopped = true;
    clearTimeout(this.timer);
    if (!done) {
      this.lose(this.settling);
    }
    return done;
  }

  private lose(count: number): void {
    const before = this.lost;
    this.lost += count;
    // 1, 2, 4, 8 and so on: a crowd of them must not fill the log.
    if (Math.floor(Math.log2(this.lost)) > Math.floor(Math.log2(before))) {
      this.log(`${this.lost} settlements are lost: their holds end at their deadlines`);
    }
  }

  private push(entry: Entry): void {
    this.settling += Number(entry.task.settles);
    const { heap } = this;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (before(heap[above] as Entry, entry)) {
        break;
      }
      heap[at] = heap[above] as Entry;
      at = above;
    }
    heap[at] = entry;
    this.schedule();
  }

  private pop(): Entry {
    const { heap } = this;
    const first = heap[0] as Entry;
    const last = heap.pop() as Entry;
    if (heap.length > 0) {
      let at = 0;
      for (;;) {
        let below = 2 * at + 1;
        if (below >= heap.length) {
          break;
        }
        if (below + 1 < heap.length && before(heap[below + 1] as Entry, heap[below] as Entry)) {
          below += 1;
        }
        if (before(last, heap[below] as Entry)) {
          break;
        }
        heap[at] = heap[below] as Entry;
        at = below;
      }
      heap[at] = last;
    }
    this.settling -= Number(first.task.settles);
    return first;
  }

  /** Sets the timer to the first task that is due. */
  private schedule(): void {
    const first = this.heap[0];
    if (this.running || this.stopped || first === undefined) {
      return;
    }
    if (this.timer === undefined || first.due < this.timerDue) {
      clearTimeout(this.timer);
      this.timerDue = first.due;
      const delay = Math.min(TIMER_MAX_MS, Math.max(0, first.due - performance.now()));
      this.timer = setTimeout(() => void this.run(), delay);
    }
    // At the end of a program, `exit.ts` waits for settlements, and nothing waits for the extension of a hold.
    this.timer.unref();
  }

  private async run(): Promise<void> {
    this.timer = undefined;
    this.timerDue = Infinity;
    this.running = true;
    const due = this.due();
    if (due.length > 0) {
      await this.sendAll(due);
    }
    this.running = false;
    if (this.settling === 0) {
      const { waiting } = this;
      this.waiting = [];
      waiting.forEach((wake) => wake());
    }
    this.schedule();
  }

  private due(): [Entry, Operation][] {
    const found: [Entry, Operation][] = [];
    const now = performance.now();
    for (let first = this.heap[0]; first !== undefined && found.length < BATCH_MAX; first = this.heap[0]) {
      if (first.due > now + (found.length > 0 ? first.task.slackMs : 0.5)) {
        break;
      }
      const entry = this.pop();
      const operation = entry.task.operation();
      if (operation !== undefined) {
        found.push([entry, operation]);
      }
    }
    return found;
  }

  private async sendAll(due: readonly [Entry, Operation][]): Promise<void> {
    const settles = due.filter(([entry]) => entry.task.settles).length;
    this.settling += settles;
    let results: OperationResult[] = [];
    let failure: TopeError | undefined;
    try {
      results = await this.send(due.map(([, operation]) => operation));
    } catch (error) {
      failure = error instanceof TopeError ? error : new Internal(String(error));
    }
    this.settling -= settles;
    due.forEach(([entry], index) => this.end(entry, results[index], failure));
  }

  private end(entry: Entry, result: OperationResult | undefined, failure: TopeError | undefined): void {
    const refused = result?.result.case === "error" ? ofStatus(result.result.value) : undefined;
    const missing = failure === undefined && result === undefined ? new Internal("a result is missing") : undefined;
    const error = failure ?? refused ?? missing;
    let delay: number | undefined;
    const keyless = error instanceof Unauthenticated && entry.attempts < KEYLESS_ATTEMPTS;
    if (error !== undefined && (error.transient || keyless)) {
      delay = backoff(entry.attempts, error.retryAfterMs, FIRST_MS, LAST_MS);
      entry.attempts += 1;
    } else {
      try {
        delay = entry.task.done(refused === undefined ? result : undefined, error);
      } catch (fault) {
        this.log(`a settlement failed: ${String(fault)}`);
      }
    }
    if (delay !== undefined && !this.stopped) {
      entry.due = performance.now() + delay;
      this.push(entry);
    }
  }
}

function before(one: Entry, two: Entry): boolean {
  return one.due !== two.due ? one.due < two.due : one.number < two.number;
}
