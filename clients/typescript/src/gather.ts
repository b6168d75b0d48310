/**
 * Calls of a crowd. A few calls at once are calls of their own. Beyond that, calls wait for each other and go in a
 * Batch: a thousand holds at once then cost a few calls, and each operation still has its own result.
 */

import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";

import { Cancelled, Internal } from "./errors.js";
import { QuotaService } from "./gen/tope/v1/quota_service_pb.js";
import { ofStatus } from "./status.js";
import { call } from "./transport.js";
import type { Connection } from "./transport.js";

const ALONE_MAX = 32;
const BATCH_MAX = 500;

type Methods = Pick<typeof QuotaService.method, "reserve" | "commit" | "release">;
type Kind = keyof Methods;
type Request<K extends Kind> = MessageInitShape<Methods[K]["input"]>;
type Reply<K extends Kind> = MessageShape<Methods[K]["output"]>;

interface Waiting {
  readonly kind: Kind;
  readonly request: Request<Kind>;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  resolve(reply: unknown): void;
  reject(error: unknown): void;
}

export class Gather {
  private alone = 0;
  private queue: Waiting[] = [];
  private sending = false;

  constructor(private readonly connection: Connection) {}

  /** Makes one attempt of a call. */
  async run<K extends Kind>(kind: K, request: Request<K>, timeoutMs: number, signal?: AbortSignal): Promise<Reply<K>> {
    if (this.alone >= ALONE_MAX || this.queue.length > 0) {
      return await this.wait(kind, request, timeoutMs, signal);
    }
    this.alone += 1;
    try {
      const method = QuotaService.method[kind] as Methods["reserve"];
      return (await call(this.connection, method, request as Request<"reserve">, timeoutMs, signal)) as Reply<K>;
    } finally {
      this.alone -= 1;
    }
  }

  private wait<K extends Kind>(
    kind: K,
    request: Request<K>,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<Reply<K>> {
    return new Promise((resolve, reject) => {
      const leave = (): void => reject(new Cancelled("the caller's signal ended the call"));
      signal?.addEventListener("abort", leave, { once: true });
      const ended = (): void => signal?.removeEventListener("abort", leave);
      this.queue.push({
        kind,
        request: request as Request<Kind>,
        timeoutMs,
        signal,
        resolve: (reply) => {
          ended();
          resolve(reply as never);
        },
        reject: (error) => {
          ended();
          reject(error);
        },
      });
      if (!this.sending) {
        this.sending = true;
        // All that is asked for in this turn of the event loop goes together.
        setImmediate(() => void this.sendAll());
      }
    });
  }

  private async sendAll(): Promise<void> {
    while (this.queue.length > 0) {
      const batch = this.queue.splice(0, BATCH_MAX).filter((one) => one.signal?.aborted !== true);
      if (batch.length > 0) {
        await this.send(batch);
      }
    }
    this.sending = false;
  }

  private async send(batch: readonly Waiting[]): Promise<void> {
    const operations = batch.map(({ kind, request }) => ({ operation: { case: kind, value: request } as never }));
    const timeoutMs = Math.max(...batch.map((one) => one.timeoutMs));
    try {
      const { results } = await call(this.connection, QuotaService.method.batch, { operations }, timeoutMs);
      batch.forEach((one, index) => {
        const result = results[index]?.result;
        if (result?.case === "error") {
          one.reject(ofStatus(result.value));
        } else if (result?.case === one.kind) {
          one.resolve(result.value);
        } else {
          one.reject(new Internal("a result is missing"));
        }
      });
    } catch (error) {
      batch.forEach((one) => one.reject(error));
    }
  }
}
