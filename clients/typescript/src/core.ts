/** The state of a hold, and the rules for how it is settled. Nothing here waits or calls a server. */

import { checkAmounts } from "./ask.js";
import type { Amounts, Ask } from "./ask.js";
import { InvalidArgument, TopeError } from "./errors.js";
import { weigh } from "./estimate.js";
import type { Estimator } from "./estimate.js";
import { wasCalled } from "./evidence.js";
import type { Reservation } from "./gen/tope/v1/usage_pb.js";
import { StreamUsage } from "./stream.js";
import { Usage } from "./usage.js";

/**
 * How the figures of a settlement came to be.
 *
 * `exact`: the provider reported them, or the caller gave them. `partial`: the call broke, and they are what is known.
 * `estimate`: the call ended, nobody reported its usage, and the hold was charged as reserved. `unknown`: the call
 * broke, nothing is known, and `onUnknown` decided. `unused`: no provider was called.
 */
export type Basis = "exact" | "partial" | "estimate" | "unknown" | "unused";

/** How a scope ended. `left`: a stream was not read to its end. */
export type Ending = "end" | "left" | "raise";

/** How a hold is settled. Without `amounts` it is charged as reserved, and with `release` nothing is charged. */
export interface Decision {
  readonly basis: Basis;
  readonly amounts: Amounts | undefined;
  readonly release: boolean;
}

/** The end of a hold. */
export interface Settlement {
  readonly tenant: string;
  readonly requestId: string;
  readonly basis: Basis;
  /** What was charged. Undefined: as reserved. Empty: nothing, the hold was released. */
  readonly amounts: Amounts | undefined;
  /** The last state of the reservation. Undefined if the hold had none of its own, or is not settled. */
  readonly reservation: Reservation | undefined;
  /** Why the hold is not settled. */
  readonly error: TopeError | undefined;
}

/** What a hold needs of its client. */
export interface Home {
  readonly estimator: Estimator;
  readonly cost: string;
  readonly hasMeter: boolean;
  meter(usage: Usage, model: string): Amounts;
  costOf(usage: Usage, model: string): number | undefined;
  warnOfEstimate(ask: Ask): void;
  settled(settlement: Settlement): void;
  log(level: "warn" | "error", text: string): void;
}

/** What a hold knows about the usage inside it. */
export class Known {
  readonly explicit: Record<string, number> = {};
  readonly replies: Usage[] = [];
  readonly streams: StreamUsage[] = [];
  /** Replies without usage. */
  unknown = 0;
  /** Whether a part of the quantities was estimated, since nobody knew the usage of a hold that joined. */
  inexact = false;

  get hasExplicit(): boolean {
    return Object.keys(this.explicit).length > 0;
  }

  /** The streams that count. The items of a guarded generator count if nothing else is known. */
  get counting(): readonly StreamUsage[] {
    const others = this.streams.filter((stream) => !stream.fallback);
    const more = others.length > 0 || this.hasExplicit || this.replies.length > 0 || this.unknown > 0;
    return more ? others : this.streams;
  }

  /** Returns the sum of what is known of replies and streams. Undefined if nothing is known. */
  usage(): Usage | undefined {
    const parts = [...this.replies, ...this.counting.map((stream) => stream.soFar())];
    const known = parts.filter((part) => part !== undefined);
    return known.length > 0 ? known.reduce((sum, part) => sum.plus(part), new Usage()) : undefined;
  }

  /** Whether something is known, and nothing is unknown. */
  isComplete(): boolean {
    const some = this.hasExplicit || this.replies.length > 0 || this.streams.length > 0;
    return some && this.unknown === 0 && this.counting.every((stream) => stream.complete);
  }

  /** Returns the tokens that were used so far. */
  total(exact: boolean): number {
    const replies = this.replies.reduce((sum, reply) => sum + reply.total, this.explicit["tokens"] ?? 0);
    return this.counting.reduce((sum, stream) => sum + stream.total(exact), replies);
  }
}

/** One hold. Its handle, its scope and the worker share it. */
export class Core {
  readonly known = new Known();
  /** Whether a provider was called. Undefined: not known. */
  sent: boolean | undefined;
  /** The error of a call inside the scope, if its caller noted one. */
  failure: { readonly error: unknown } | undefined;
  state: "new" | "open" | "settled" = "new";
  name = "";
  granted: Record<string, number> = {};
  /** The error of an authority that could not be reached, if the call was allowed all the same. */
  allowed: TopeError | undefined;
  settlement: Settlement | undefined;
  /** Holds that joined and are open: what they ask for. */
  readonly children = new Map<Core, Amounts>();

  constructor(
    readonly home: Home,
    public ask: Ask,
    readonly parent: Core | undefined,
  ) {}

  get root(): Core {
    return this.parent === undefined ? this : this.parent.root;
  }

  // The beginning.

  open(reservation: Reservation): void {
    this.name = reservation.name;
    this.grant(reservation);
    this.state = "open";
  }

  grant(reservation: Reservation): void {
    for (const amount of reservation.amounts) {
      this.granted[amount.resource] = Number(amount.reserved);
    }
  }

  /** Begins without a reservation: the usage is recorded afterwards. */
  openAllowed(error: TopeError): void {
    this.allowed = error;
    this.granted = { ...this.ask.amounts };
    this.state = "open";
  }

  openJoined(): void {
    this.parent?.children.set(this, this.ask.amounts);
    this.granted = { ...this.ask.amounts };
    this.state = "open";
  }

  // The usage.

  addReply(reply: unknown): void {
    const usage = Usage.of(reply);
    this.sent = true;
    if (usage === undefined) {
      this.known.unknown += 1;
    } else {
      this.known.replies.push(usage);
    }
  }

  addAmounts(amounts: Amounts): void {
    checkAmounts(amounts, "a quantity");
    for (const [resource, quantity] of Object.entries(amounts)) {
      this.known.explicit[resource] = (this.known.explicit[resource] ?? 0) + quantity;
    }
  }

  addStream(prompt?: unknown): StreamUsage {
    const { estimator } = this.home;
    const { estimate, promptKnown, model } = this.ask;
    const ours = promptKnown ? estimate?.input : undefined;
    const tokens = prompt === undefined ? ours : estimator.call({ prompt, model }).input;
    const stream = new StreamUsage(tokens, estimator.tokenizer, weigh);
    this.known.streams.push(stream);
    return stream;
  }

  /** Returns what the root hold lacks: for what was used so far, and for holds that joined. Empty if nothing. */
  outgrown(asked?: Amounts): Record<string, number> {
    const { root } = this;
    if (!root.ask.extend || root.allowed !== undefined || root.state !== "open") {
      return {};
    }
    const lacks = root.lacks(asked, false);
    // The tokenizer has the last word, but it is too slow for each chunk.
    return Object.keys(lacks).length > 0 ? root.lacks(asked, true) : lacks;
  }

  private lacks(asked: Amounts | undefined, exact: boolean): Record<string, number> {
    const needs = new Map<string, number>([["tokens", this.known.total(exact)]]);
    for (const child of [...this.children.values(), asked ?? {}]) {
      for (const [resource, quantity] of Object.entries(child)) {
        needs.set(resource, (needs.get(resource) ?? 0) + quantity);
      }
    }
    const lacks: Record<string, number> = {};
    for (const [resource, need] of needs) {
      const granted = this.granted[resource];
      if (need > (granted ?? 0) && (granted !== undefined || asked !== undefined)) {
        // A stream gets room for what comes next, so that not each chunk needs a call.
        const quarter = Math.floor((this.ask.amounts[resource] ?? 0) / 4);
        lacks[resource] = need - (granted ?? 0) + (asked === undefined ? Math.max(64, quarter) : 0);
      }
    }
    return lacks;
  }

  // The end.

  /** Decides how the hold is settled, by the table in docs/clients/typescript.md. */
  decide(how: Ending, error: unknown): Decision {
    const { known } = this;
    const usage = known.usage();
    const found = known.hasExplicit || usage !== undefined;
    const unread = known.counting.some((stream) => stream.finished === false && !stream.complete);
    const ending = how === "end" && unread ? "left" : how;
    // After an error, figures that the caller gave may be a part of the whole.
    if (known.isComplete() && found && (ending === "end" || !known.hasExplicit)) {
      return { basis: known.inexact ? "estimate" : "exact", amounts: this.metered(usage), release: false };
    }
    if (ending === "end") {
      return this.decideEnd(usage, found);
    }
    if (found) {
      return { basis: "partial", amounts: this.metered(usage), release: false };
    }
    if (!known.streams.some((stream) => stream.began) && !this.mayBeCalled(error)) {
      return { basis: "unused", amounts: {}, release: true };
    }
    const release = this.ask.onUnknown === "release";
    return { basis: "unknown", amounts: release ? {} : undefined, release };
  }

  /** Whether the provider may have been called. */
  private mayBeCalled(error: unknown): boolean {
    if (this.sent === undefined) {
      return wasCalled(error) !== false;
    }
    // A hold inside this one that is refused says nothing about a call that was made before.
    return this.sent && (error instanceof TopeError || wasCalled(error) !== false);
  }

  private decideEnd(usage: Usage | undefined, found: boolean): Decision {
    if (!found) {
      return this.sent === false
        ? { basis: "unused", amounts: {}, release: true }
        : { basis: "estimate", amounts: undefined, release: false };
    }
    // A part of the usage is known. Charge at least what was reserved, since the rest is not known.
    const amounts = this.metered(usage);
    for (const [resource, held] of Object.entries(this.granted)) {
      amounts[resource] = Math.max(amounts[resource] ?? 0, held);
    }
    return { basis: "estimate", amounts, release: false };
  }

  private metered(usage: Usage | undefined): Record<string, number> {
    const amounts = { ...this.known.explicit };
    if (usage === undefined) {
      return amounts;
    }
    for (const [resource, quantity] of Object.entries(this.home.meter(usage, this.ask.model))) {
      // A resource that was not reserved is charged only if the meter is the caller's own.
      if (resource in this.granted || this.home.hasMeter) {
        amounts[resource] = (amounts[resource] ?? 0) + quantity;
      }
    }
    const { cost } = this.home;
    const price = cost in this.granted ? this.home.costOf(usage, this.ask.model) : undefined;
    if (price !== undefined) {
      amounts[cost] = (amounts[cost] ?? 0) + price;
    }
    return amounts;
  }

  /**
   * Returns the decision without resources that were not reserved, if one of them is wrong. A resource that nobody
   * has declared must not prevent that the others are charged.
   */
  withoutForeign(decision: Decision, error: TopeError): Decision | undefined {
    const amounts = Object.entries(decision.amounts ?? {});
    const foreign = amounts.filter(([resource]) => !(resource in this.granted)).map(([resource]) => resource);
    if (foreign.length === 0 || !(error instanceof InvalidArgument)) {
      return undefined;
    }
    this.home.log("error", `hold ${this.ask.requestId}: ${foreign.join(", ")} is not charged: ${error.message}`);
    const kept = amounts.filter(([resource]) => resource in this.granted);
    return { ...decision, amounts: Object.fromEntries(kept) };
  }

  /** Marks the hold as settled. Returns false if it was settled before. */
  beginSettling(): boolean {
    if (this.state !== "open") {
      return false;
    }
    this.state = "settled";
    return true;
  }

  /** Gives the usage of a hold that joined to the hold that it joined. Returns false if that one has ended. */
  settleJoined(decision: Decision): boolean {
    const parent = this.parent as Core;
    parent.children.delete(this);
    if (parent.state !== "open") {
      return false;
    }
    if (!decision.release) {
      parent.addAmounts(decision.amounts ?? this.ask.amounts);
      parent.known.inexact ||= ["estimate", "unknown"].includes(decision.basis) || this.known.inexact;
    }
    this.settlement = this.settlementOf(decision, undefined, undefined);
    return true;
  }

  private settlementOf(
    decision: Decision,
    reservation: Reservation | undefined,
    error: TopeError | undefined,
  ): Settlement {
    const { tenant, requestId } = this.ask;
    return { tenant, requestId, basis: decision.basis, amounts: decision.amounts, reservation, error };
  }

  /** Notes the outcome, learns from it, and notifies the caller. */
  ended(decision: Decision, reservation: Reservation | undefined, error: TopeError | undefined): void {
    const { estimate, model, requestId, tenant } = this.ask;
    this.settlement = this.settlementOf(decision, reservation, error);
    if (error !== undefined) {
      this.home.log("error", `hold ${requestId} of tenant ${tenant} is not settled: ${error.message}`);
    } else if (decision.basis === "estimate") {
      this.home.warnOfEstimate(this.ask);
    }
    const usage = this.known.usage();
    const one = this.known.replies.length + this.known.streams.length === 1 && !this.known.hasExplicit;
    if (decision.basis === "exact" && estimate !== undefined && usage !== undefined && one) {
      this.home.estimator.learn(model, estimate.kind, estimate.raw, usage);
    }
    this.home.settled(this.settlement);
  }
}
