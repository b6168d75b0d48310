/**
 * Holds around the requests of web servers: Express, Fastify and Hono.
 *
 * Each request has a hold, which is settled when its response has ended. Holds that the handler makes join it, and so do
 * calls of `quotaFetch`. If the quota does not suffice, the handler does not run, and the caller gets the status 429.
 */

import type { Client, HoldOptions } from "./client.js";
import { PermissionDenied, QuotaExceeded, TopeError } from "./errors.js";
import type { Hold } from "./hold.js";
import { leave, pass } from "./pass.js";

/** What the hold of a request asks for: options of `hold`, or a function of the request. Undefined: there is no hold. */
export type Ask<R> = number | HoldOptions | ((request: R) => number | HoldOptions | undefined);

/** A response of Node, as far as it is used. */
export interface NodeResponse {
  statusCode: number;
  readonly writableFinished: boolean;
  setHeader(name: string, value: string): unknown;
  end(text: string): unknown;
  once(event: "close", listener: () => void): unknown;
}

interface Refusal {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

/** Makes a middleware of Express: `app.use(quotaExpress(client, 1_000))`. */
export function quotaExpress<R extends object>(
  client: Client,
  ask: Ask<R>,
): (request: R, response: NodeResponse, next: (error?: unknown) => void) => void {
  return (request, response, next) => {
    void begin(client, ask, request, (hold, failure) => {
      if (hold === undefined) {
        answer(response, failure, next);
        return;
      }
      settleAtClose(hold, response);
      hold.run(() => next());
    });
  };
}

/** Makes a hook of Fastify: `app.addHook("onRequest", quotaFastify(client, 1_000))`. */
export function quotaFastify<R extends object>(
  client: Client,
  ask: Ask<R>,
): (request: R, reply: { readonly raw: NodeResponse; hijack(): unknown }, done: (error?: Error) => void) => void {
  return (request, reply, done) => {
    void begin(client, ask, request, (hold, failure) => {
      if (hold === undefined) {
        const next = (error?: unknown): void => done(error as Error | undefined);
        answer(reply.raw, failure, next, () => reply.hijack());
        return;
      }
      settleAtClose(hold, reply.raw);
      hold.run(() => done());
    });
  };
}

/** A context of Hono, as far as it is used. */
export interface HonoContext {
  readonly req: { readonly raw: Request };
  res: Response;
}

/** Makes a middleware of Hono: `app.use(quotaHono(client, 1_000))`. */
export function quotaHono<C extends HonoContext>(
  client: Client,
  ask: Ask<C>,
): (context: C, next: () => Promise<void>) => Promise<Response | undefined> {
  return async (context, next) => {
    const options = read(ask, context);
    if (options === undefined) {
      await next();
      return undefined;
    }
    let hold: Hold;
    try {
      hold = await client.hold(options);
    } catch (error) {
      const refused = refusal(error);
      if (refused === undefined) {
        throw error;
      }
      return new Response(refused.text, { status: refused.status, headers: refused.headers });
    }
    try {
      await hold.run(next);
    } catch (error) {
      await leave(hold, error);
      throw error;
    }
    noteStatus(hold, context.res.status);
    if (context.res.body === null) {
      await hold[Symbol.asyncDispose]();
      return undefined;
    }
    const take = async (chunk: Uint8Array): Promise<{ chunk: Uint8Array }> => ({ chunk });
    const body = pass(hold, context.res.body, context.req.raw.signal, { take, end: () => undefined });
    context.res = new Response(body, context.res);
    return undefined;
  };
}

function read<R>(ask: Ask<R>, request: R): number | HoldOptions | undefined {
  return typeof ask === "function" ? ask(request) : ask;
}

/** Makes the hold of a request. Without one, `then` gets an error, or nothing if none was asked for. */
async function begin<R>(
  client: Client,
  ask: Ask<R>,
  request: R,
  then: (hold: Hold | undefined, failure?: { error: unknown }) => void,
): Promise<void> {
  let hold: Hold | undefined;
  let failure: { error: unknown } | undefined;
  try {
    const options = read(ask, request);
    hold = options === undefined ? undefined : await client.hold(options);
  } catch (error) {
    failure = { error };
  }
  then(hold, failure);
}

/** Answers a request that is refused, or lets it pass. */
function answer(
  response: NodeResponse,
  failure: { error: unknown } | undefined,
  next: (error?: unknown) => void,
  before: () => void = () => undefined,
): void {
  const refused = failure === undefined ? undefined : refusal(failure.error);
  if (refused === undefined) {
    next(failure?.error);
    return;
  }
  before();
  response.statusCode = refused.status;
  for (const [name, value] of Object.entries(refused.headers)) {
    response.setHeader(name, value);
  }
  response.end(refused.text);
}

/** Settles a hold when its response is closed, which it is after success, too. */
function settleAtClose(hold: Hold, response: NodeResponse): void {
  response.once("close", () => {
    if (!response.writableFinished) {
      void leave(hold, new DOMException("the caller left", "AbortError"));
      return;
    }
    noteStatus(hold, response.statusCode);
    void hold[Symbol.asyncDispose]();
  });
}

/** A response that is an error is not charged, unless a provider was called. */
function noteStatus(hold: Hold, status: number): void {
  if (status >= 400) {
    hold.failed(Object.assign(new Error(`the response has the status ${status}`), { status }));
  }
}

/** Makes the response to a request that is refused. Undefined: the error is none of Tope. */
function refusal(error: unknown): Refusal | undefined {
  if (!(error instanceof TopeError)) {
    return undefined;
  }
  const headers: Record<string, string> = { "content-type": "application/json" };
  if (error.retryAfterMs !== undefined) {
    headers["retry-after"] = String(Math.max(1, Math.ceil(error.retryAfterMs / 1_000)));
  }
  if (error instanceof QuotaExceeded && error.limit !== "") {
    const name = JSON.stringify(error.limit);
    const seconds = error.windowEnd === undefined ? undefined : (error.windowEnd.getTime() - Date.now()) / 1_000;
    const ends = seconds === undefined ? "" : `;t=${Math.max(0, Math.ceil(seconds))}`;
    headers["ratelimit-policy"] = `${name};q=${error.allowance ?? 0}`;
    headers["ratelimit"] = `${name};r=${error.remaining ?? 0}${ends}`;
  }
  const status = error instanceof QuotaExceeded ? 429 : error instanceof PermissionDenied ? 403 : 503;
  const reason = error.reason || error.code;
  return { status, headers, text: JSON.stringify({ error: { reason, message: error.message } }) };
}
