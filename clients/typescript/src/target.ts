/** Where the server is, and how the client shows who it is. */

import { readFileSync } from "node:fs";

const DEFAULT_TARGET = "127.0.0.1:50051";

/** Files and texts with which a client shows who it is. */
export interface Credentials {
  /** The text of the key. */
  key?: string | undefined;
  /** A file that contains the key (TOPE_KEY_FILE). It is read again when the key is exchanged. */
  keyFile?: string | undefined;
  /** A file with the certificates of the CA (TOPE_CA_FILE). */
  ca?: string | undefined;
  /** A file with the certificate of the client. */
  clientCert?: string | undefined;
  /** A file with the private key of that certificate. */
  clientKey?: string | undefined;
}

/** The address of a server, with a key and with certificates. */
export class Target {
  /** The URL of the server. */
  readonly url: string;
  readonly keyFile: string | undefined;
  /** The contents of the files for TLS. */
  readonly tls: { ca?: Uint8Array; cert?: Uint8Array; key?: Uint8Array };
  #key: string | undefined;

  /** Reads a target as the commands of Tope do: `HOST:PORT`, or a URL with `http` or `https`. */
  constructor(target: string | undefined, credentials: Credentials = {}) {
    const { key, clientCert, clientKey } = credentials;
    this.url = urlOf(target || process.env["TOPE_TARGET"] || DEFAULT_TARGET);
    this.keyFile = credentials.keyFile ?? (key === undefined ? process.env["TOPE_KEY_FILE"] || undefined : undefined);
    const ca = credentials.ca ?? (process.env["TOPE_CA_FILE"] || undefined);
    if ((clientCert === undefined) !== (clientKey === undefined)) {
      throw new TypeError("clientCert and clientKey must be given together");
    }
    const secure = this.url.startsWith("https:");
    if (!secure && clientCert !== undefined) {
      throw new TypeError(`clientCert needs a target that begins with https://, and ${this.url} does not`);
    }
    if (key !== undefined && !isKey(key)) {
      throw new TypeError("key must be the text that `tope keys create` printed");
    }
    this.#key = key;
    this.tls = {};
    if (secure) {
      Object.assign(this.tls, ca !== undefined && { ca: read(ca, "ca") });
      if (clientCert !== undefined && clientKey !== undefined) {
        Object.assign(this.tls, { cert: read(clientCert, "clientCert"), key: read(clientKey, "clientKey") });
      }
    }
  }

  /** Returns the value of the metadata `authorization`, or undefined. */
  authorization(): string | undefined {
    if (this.#key === undefined && this.keyFile !== undefined) {
      this.readKey();
    }
    return this.#key === undefined ? undefined : `Bearer ${this.#key}`;
  }

  /** Reads the file of the key. Returns whether there is another key now. */
  readKey(): boolean {
    if (this.keyFile === undefined) {
      return false;
    }
    const before = this.#key;
    this.#key = read(this.keyFile, "keyFile").toString("latin1").trim();
    if (!isKey(this.#key)) {
      this.#key = undefined;
      throw new TypeError(`keyFile names ${this.keyFile}, which contains no key`);
    }
    return this.#key !== before;
  }
}

function isKey(text: string): boolean {
  return /^[!-~]+$/.test(text);
}

function read(path: string, setting: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new TypeError(`${setting} names ${path}, which cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
}

function urlOf(text: string): string {
  const fault = `target must be HOST:PORT, or a URL with http or https, and not ${JSON.stringify(text)}`;
  let url: URL;
  try {
    url = new URL(text.includes("://") ? text : `http://${text}`);
  } catch {
    throw new TypeError(fault);
  }
  const rest = url.pathname !== "/" || url.search !== "" || url.hash !== "" || url.username !== "";
  if (!["http:", "https:"].includes(url.protocol) || url.hostname === "" || rest || /\s/.test(text)) {
    throw new TypeError(fault);
  }
  return url.origin;
}
