/** Server-sent events: where each event of a stream of bytes ends, and what it says. */

const NEWLINE = 10;
const RETURN = 13;

/** An event, with its bytes. */
export interface Event {
  readonly bytes: Uint8Array;
  /** The data as JSON. Undefined if the event has no data that is JSON. */
  readonly data: unknown;
}

/** Splits a stream of bytes into events. */
export class Splitter {
  private rest: Uint8Array = new Uint8Array(0);
  // Where in the rest the search goes on.
  private from = 0;
  private readonly decoder = new TextDecoder();

  /** Takes bytes, and returns the events that have ended. */
  push(bytes: Uint8Array): Event[] {
    const all = this.rest.length === 0 ? bytes : concat([this.rest, bytes]);
    const found: Event[] = [];
    let start = 0;
    let at = this.from;
    for (let end = endOf(all, at); end !== undefined; end = endOf(all, at)) {
      const event = all.subarray(start, end);
      found.push({ bytes: event, data: dataOf(this.decoder.decode(event)) });
      start = end;
      at = end;
    }
    this.rest = all.slice(start);
    this.from = Math.max(0, this.rest.length - 3);
    return found;
  }

  /** Returns the bytes after the last event. */
  takeRest(): Uint8Array {
    const { rest } = this;
    this.rest = new Uint8Array(0);
    this.from = 0;
    return rest;
  }
}

/** Returns where the event ends: after an empty line. Undefined if it has not ended. */
function endOf(bytes: Uint8Array, from: number): number | undefined {
  for (let at = bytes.indexOf(NEWLINE, from); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) {
    if (bytes[at + 1] === NEWLINE) {
      return at + 2;
    }
    if (bytes[at + 1] === RETURN && bytes[at + 2] === NEWLINE) {
      return at + 3;
    }
  }
  return undefined;
}

function dataOf(text: string): unknown {
  const lines = text.split(/\r?\n/).filter((line) => line.startsWith("data:"));
  const data = lines.map((line) => line.slice("data:".length).replace(/^ /, "")).join("\n");
  return parse(data);
}

/** Parses JSON. Returns undefined if the text is none. */
export function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** Joins pieces of bytes. */
export function concat(pieces: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}
