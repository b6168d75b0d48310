/** A server, real or not, a tenant of one test, and clients with faults between them and the server. */

import { randomBytes } from "node:crypto";

import { createGrpcTransport } from "@connectrpc/connect-node";
import type { Transport } from "@connectrpc/connect";
import { Client, Estimator } from "tope";
import type { ClientOptions, Settlement } from "tope";
import { Fake, Faulty } from "tope/testing";
import type { Limits, Server } from "tope/testing";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Balance, Reservation } from "tope/v1";

/** Counts tokens as the stub does. */
export function words(text: string): number {
  return text.split(/\s+/).filter((word) => word !== "").length;
}

export class World {
  readonly tenant = `t-${randomBytes(6).toString("hex")}`;
  readonly fake: Fake | undefined;
  readonly faulty: Faulty;
  readonly settlements: Settlement[] = [];
  readonly logs: string[] = [];
  private readonly clients: Client[] = [];
  private readonly judge: Client;

  constructor(readonly server: Server | undefined) {
    this.fake = server === undefined ? new Fake() : undefined;
    this.faulty = new Faulty(this.transport());
    this.judge = new Client(this.transport(), { timeoutMs: 10_000 });
  }

  private transport(): Transport {
    return this.fake ?? createGrpcTransport({ baseUrl: `http://${(this.server as Server).target}` });
  }

  get home(): Fake | Server {
    return (this.fake ?? this.server) as Fake | Server;
  }

  async add(limits: Limits): Promise<void> {
    await this.home.add(this.tenant, limits);
  }

  /** Makes a client for the tenant, with a tokenizer that counts words. */
  client(options: ClientOptions = {}): Client {
    const client = new Client(this.faulty, {
      tenant: this.tenant,
      estimator: new Estimator(words, { messageTokens: 0 }),
      onSettled: (settlement) => this.settlements.push(settlement),
      log: (_, text) => this.logs.push(text),
      ...options,
    });
    this.clients.push(client);
    return client;
  }

  async restart(): Promise<void> {
    await this.server?.restart();
    if (this.fake !== undefined) {
      for (const method of ["Reserve", "Commit", "Batch"]) {
        this.faulty.fail(method, "lose-request");
      }
    }
  }

  /** Returns the reservations in the order in which they were made. */
  async reservations(): Promise<Reservation[]> {
    const found: Reservation[] = [];
    for await (const one of this.judge.calls.reservations(this.tenant)) {
      found.unshift(one);
    }
    const at = (one: Reservation): number => (one.createTime === undefined ? 0 : timestampMs(one.createTime));
    return found.sort((one, two) => at(one) - at(two));
  }

  async balances(): Promise<Map<string, Balance>> {
    const found = new Map<string, Balance>();
    for await (const one of this.judge.calls.usage(this.tenant)) {
      found.set(one.limitId, one);
    }
    return found;
  }

  async committed(resource = "tokens"): Promise<number> {
    const amounts = (await this.reservations()).flatMap((one) => one.amounts);
    return amounts.filter((one) => one.resource === resource).reduce((sum, one) => sum + Number(one.committed), 0);
  }

  async close(): Promise<void> {
    this.faulty.heal();
    for (const client of [...this.clients, this.judge]) {
      await client.close(1_000);
    }
  }
}
