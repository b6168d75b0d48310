/** How calls reach a server: any transport of Connect, by default gRPC over HTTP/2 of Node. */

import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Interceptor, Transport } from "@connectrpc/connect";
import { Http2SessionManager, createGrpcTransport } from "@connectrpc/connect-node";

import { Cancelled, Unauthenticated } from "./errors.js";
import { ofCall } from "./status.js";
import type { Target } from "./target.js";

/** A method of one request and one reply. */
export type Unary<I extends DescMessage, O extends DescMessage> = DescMethodUnary<I, O>;

/** A connection: a transport, and what ends it. */
export interface Connection {
  readonly transport: Transport;
  /** Fails if the connection cannot be used, such as without the file of the key. */
  prepare(): void;
  /** Reads the key again. Returns whether there is another key now. */
  readKey(): boolean;
  close(): void;
}

/** Opens the connection to a real server, at the first call. */
export function grpc(target: Target): Connection {
  const authorize: Interceptor = (next) => (request) => {
    const value = target.authorization();
    if (value !== undefined) {
      request.header.set("authorization", value);
    }
    return next(request);
  };
  const sessions = new Http2SessionManager(
    target.url,
    { pingIntervalMs: 30_000, pingTimeoutMs: 10_000, pingIdleConnection: false },
    target.tls as { ca?: Buffer; cert?: Buffer; key?: Buffer },
  );
  const transport = createGrpcTransport({
    baseUrl: target.url,
    interceptors: [authorize],
    sessionManager: sessions,
    // Messages are small: compression costs more than it saves.
    acceptCompression: [],
  });
  return {
    transport,
    prepare: () => void target.authorization(),
    readKey: () => target.readKey(),
    close: () => sessions.abort(),
  };
}

/** Uses a transport of the caller, which the caller also closes. */
export function foreign(transport: Transport): Connection {
  return { transport, prepare: () => undefined, readKey: () => false, close: () => undefined };
}

/** Makes one call. Errors are those of `errors.ts`. */
export async function call<I extends DescMessage, O extends DescMessage>(
  connection: Connection,
  method: Unary<I, O>,
  request: MessageInitShape<I>,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<MessageShape<O>> {
  throwIfAborted(signal);
  connection.prepare();
  try {
    const reply = await connection.transport.unary(method, signal, Math.ceil(timeoutMs), undefined, request, undefined);
    return reply.message;
  } catch (error) {
    const made = ofCall(error);
    throwIfAborted(signal);
    if (made instanceof Unauthenticated) {
      // The key was exchanged. The caller sees this error, and the next call has the new key.
      try {
        made.keyChanged = connection.readKey();
      } catch {
        // The error of the server says more.
      }
    }
    throw made;
  }
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) {
    throw new Cancelled("the caller's signal ended the call");
  }
}
