/** The errors of Tope, read from a status of gRPC and its details, and written to one. */

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import {
  BadRequestSchema,
  ErrorInfoSchema,
  QuotaFailureSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";
import type { QuotaFailure_Violation } from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";
import * as errors from "./errors.js";
import type { ErrorClass, TopeError, Violation } from "./errors.js";

const DOMAIN = "tope";
const DETAILS = [ErrorInfoSchema, RetryInfoSchema, QuotaFailureSchema, BadRequestSchema, ResourceInfoSchema];

type Details = <D extends DescMessage>(schema: D) => MessageShape<D> | undefined;

/** Makes the error of a status, such as the status of one operation of a Batch. */
export function ofStatus(status: Status): TopeError {
  return make(errors.CODES[status.code] ?? "UNKNOWN", status.message, (schema) => {
    const found = status.details.find((one) => one.typeUrl.split("/").pop() === schema.typeName);
    return found === undefined ? undefined : parse(schema, found.value);
  });
}

/** Makes the error of a call that failed. */
export function ofCall(error: unknown): TopeError {
  if (error instanceof errors.TopeError) {
    return error;
  }
  const failed = ConnectError.from(error);
  const code = errors.CODES[failed.code] ?? "UNKNOWN";
  const made = make(code, failed.rawMessage, (schema) => {
    for (const detail of failed.details) {
      if ("desc" in detail && detail.desc.typeName === schema.typeName) {
        return create(schema, detail.value as MessageInitShape<typeof schema>);
      }
      if ("type" in detail && detail.type === schema.typeName) {
        return parse(schema, detail.value);
      }
    }
    return undefined;
  });
  if (error instanceof Error && made.stack !== undefined) {
    made.cause = error;
  }
  return made;
}

function parse<D extends DescMessage>(schema: D, content: Uint8Array): MessageShape<D> | undefined {
  try {
    return fromBinary(schema, content);
  } catch {
    return undefined;
  }
}

function make(code: string, message: string, details: Details): TopeError {
  const info = details(ErrorInfoSchema);
  const ours = info?.domain === DOMAIN ? info : undefined;
  const kind = ours !== undefined ? errors.REASONS[ours.reason] : withoutReason(code);
  const delay = details(RetryInfoSchema)?.retryDelay;
  const resource = details(ResourceInfoSchema);
  return new (kind ?? errors.OF_CODE[code] ?? errors.TopeError)(message, {
    code,
    reason: ours?.reason ?? "",
    metadata: ours?.metadata ?? {},
    retryAfterMs: delay === undefined ? undefined : Number(delay.seconds) * 1_000 + delay.nanos / 1_000_000,
    violations: details(QuotaFailureSchema)?.violations.map(violation) ?? [],
    faults: details(BadRequestSchema)?.fieldViolations.map(({ field, description }) => ({ field, description })) ?? [],
    what: resource?.resourceType ?? "",
    id: resource?.resourceName ?? "",
  });
}

/** Returns the class of an error that no server of Tope made: a proxy or the transport made it. */
function withoutReason(code: string): ErrorClass | undefined {
  // RESOURCE_EXHAUSTED is also what a transport says about a message that is too large. That is no refusal.
  if (code === "RESOURCE_EXHAUSTED") {
    return errors.TopeError;
  }
  // A connection that broke in the middle of a call is reported with one of these codes.
  return ["UNAVAILABLE", "ABORTED", "CANCELLED", "UNKNOWN", "INTERNAL"].includes(code)
    ? errors.Unreachable
    : undefined;
}

function violation(one: QuotaFailure_Violation): Violation {
  const dimensions = one.quotaDimensions;
  return {
    limit: one.quotaId,
    resource: one.quotaMetric,
    requested: whole(dimensions["requested"]) ?? 0,
    remaining: whole(dimensions["remaining"]),
    allowance: whole(dimensions["allowance"]),
    windowEnd: instant(dimensions["window_end"]),
    subject: one.subject,
    description: one.description,
    dimensions,
  };
}

function whole(text: string | undefined): number | undefined {
  return text !== undefined && /^-?\d+$/.test(text) ? Number(text) : undefined;
}

function instant(text: string | undefined): Date | undefined {
  const found = text === undefined ? Number.NaN : Date.parse(text);
  return Number.isNaN(found) ? undefined : new Date(found);
}

/** Makes the status of an error, as a server does. */
export function toStatus(error: TopeError): Status {
  const details = detailsOf(error).map((detail) => {
    const schema = DETAILS.find((one) => one.typeName === detail.$typeName) as DescMessage;
    return { typeUrl: `type.googleapis.com/${schema.typeName}`, value: toBinary(schema, detail) };
  });
  return create(StatusSchema, { code: errors.CODES.indexOf(error.code), message: error.message, details });
}

/** Makes the error with which a transport fails. */
export function toConnect(error: TopeError): ConnectError {
  const details = detailsOf(error).map((detail) => {
    const schema = DETAILS.find((one) => one.typeName === detail.$typeName) as DescMessage;
    return { desc: schema, value: detail };
  });
  return new ConnectError(error.message, errors.CODES.indexOf(error.code) as Code, undefined, details);
}

function detailsOf(error: TopeError): MessageShape<(typeof DETAILS)[number]>[] {
  const found: MessageShape<(typeof DETAILS)[number]>[] = [];
  if (error.reason !== "") {
    const { reason, metadata } = error;
    found.push(create(ErrorInfoSchema, { reason, domain: DOMAIN, metadata: { ...metadata } }));
  }
  if (error.retryAfterMs !== undefined) {
    found.push(create(RetryInfoSchema, { retryDelay: duration(error.retryAfterMs) }));
  }
  if (error instanceof errors.QuotaExceeded) {
    const violations = error.violations.map((one) => ({
      subject: one.subject,
      description: one.description,
      apiService: DOMAIN,
      quotaMetric: one.resource,
      quotaId: one.limit,
      quotaDimensions: { ...one.dimensions },
      quotaValue: BigInt(one.allowance ?? 0),
    }));
    found.push(create(QuotaFailureSchema, { violations }));
  }
  if (error instanceof errors.InvalidArgument) {
    found.push(create(BadRequestSchema, { fieldViolations: error.faults.map((one) => ({ ...one })) }));
  }
  if (error instanceof errors.NotFound || error instanceof errors.AlreadyExists) {
    found.push(create(ResourceInfoSchema, { resourceType: error.what, resourceName: error.id }));
  }
  return found;
}

/** Makes a duration, of at least a millisecond. */
export function duration(millis: number): { seconds: bigint; nanos: number } {
  const whole = Math.max(1, Math.round(millis));
  return { seconds: BigInt(Math.floor(whole / 1_000)), nanos: (whole % 1_000) * 1_000_000 };
}
