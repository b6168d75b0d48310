/**
 * The client of Tope, a quota authority for AI tokens: reserve before a model call, and settle it afterwards.
 *
 * ```ts
 * const client = new Client("127.0.0.1:50051", { tenant: "acme" });
 * await client.hold(1_000, (hold) => hold.call(() => openai.chat.completions.create(request)));
 * ```
 */

export type { Amounts, Charge } from "./ask.js";
export { Calls } from "./calls.js";
export { Client } from "./client.js";
export type { Basis, Decision, Settlement } from "./core.js";
export * as errors from "./errors.js";
export { InvalidArgument, QuotaExceeded, TopeError, Unavailable } from "./errors.js";
export type { Fault, Violation } from "./errors.js";
export { Estimator } from "./estimate.js";
export type { AnyTokenizer, Call, Estimate } from "./estimate.js";
export type { ByArguments, Guarded, GuardOptions } from "./guard.js";
export { Hold, currentHold } from "./hold.js";
export { defaultMeter } from "./options.js";
export type { ClientOptions, HoldOptions, Meter, OnUnavailable, Price } from "./options.js";
export { StreamUsage } from "./stream.js";
export type { Tokenizer } from "./stream.js";
export { Usage } from "./usage.js";
export type { Figures } from "./usage.js";
export type { Unary } from "./transport.js";
