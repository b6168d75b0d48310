/** Express, Fastify and Hono: a hold around each request. */

import assert from "node:assert/strict";
import { once } from "node:events";
import type { Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { serve } from "@hono/node-server";
import express from "express";
import fastify from "fastify";
import { Hono } from "hono";
import { currentHold } from "tope";
import type { Client } from "tope";
import { quotaExpress, quotaFastify, quotaHono } from "tope/web";

import { World } from "./world.js";

type Make = (client: Client) => Promise<HttpServer>;

const reply = { usage: { prompt_tokens: 4, completion_tokens: 6 } };

/** What the handler of a path does. It writes pieces of the body. */
async function* handler(path: string, client: Client): AsyncGenerator<string> {
  currentHold()?.use(...(path === "/nothing" ? [] : [reply]));
  if (path === "/nested") {
    await client.hold(5, (hold) => hold.add({ tokens: 5 }));
  }
  yield "one ";
  if (path === "/slow") {
    await sleep(5_000, undefined, { ref: false });
  }
  yield "two";
}

const amounts = (path: string): { amounts: number } | undefined =>
  path === "/free" ? undefined : { amounts: path === "/huge" ? 2_000 : 100 };

const makers: Record<string, Make> = {
  express: async (client) => {
    const app = express();
    app.use(quotaExpress(client, (request: express.Request) => amounts(request.path)));
    app.get("/error", (_, response) => void response.status(500).end());
    app.get("/{*path}", async (request, response) => {
      for await (const piece of handler(request.path, client)) {
        response.write(piece);
      }
      response.end();
    });
    return app.listen(0, "127.0.0.1");
  },
  fastify: async (client) => {
    const app = fastify();
    app.addHook("onRequest", quotaFastify(client, (request: { url: string }) => amounts(request.url)));
    app.get("/error", (_, response) => response.code(500).send());
    app.get("/*", async (request, response) => {
      response.hijack();
      for await (const piece of handler(request.url, client)) {
        response.raw.write(piece);
      }
      response.raw.end();
    });
    await app.listen({ port: 0, host: "127.0.0.1" });
    return app.server;
  },
  hono: async (client) => {
    const app = new Hono();
    app.use(quotaHono(client, (context: { req: { raw: Request } }) => amounts(new URL(context.req.raw.url).pathname)));
    app.get("/error", (context) => context.body(null, 500));
    app.get("/*", (context) => {
      const pieces = handler(new URL(context.req.url).pathname, client);
      const pull = async (controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
        const { done, value } = await pieces.next();
        done ? controller.close() : controller.enqueue(new TextEncoder().encode(value));
      };
      return context.body(new ReadableStream({ pull }));
    });
    return await new Promise<HttpServer>((resolve) => {
      const server = serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, () => resolve(server as HttpServer));
    });
  },
};

for (const [name, make] of Object.entries(makers)) {
  describe(name, () => {
    let world: World;
    let client: Client;
    let server: HttpServer;
    let url: string;

    before(async () => {
      world = new World(undefined);
      await world.add({ tokens: 1_000 });
      client = world.client();
      server = await make(client);
      if (!server.listening) {
        await once(server, "listening");
      }
      url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    });
    after(async () => {
      server.closeAllConnections();
      server.close();
      await world.close();
    });

    /** Waits until the last request is settled, and returns how. */
    async function settled(count: number): Promise<[string | undefined, number]> {
      for (let round = 0; round < 500 && world.settlements.length < count; round += 1) {
        await sleep(10);
      }
      assert.equal(world.settlements.length, count);
      const last = world.settlements.at(-1);
      return [last?.basis, Number(last?.reservation?.amounts[0]?.committed)];
    }

    it("charges what the handler used, also in holds inside it", async () => {
      assert.equal(await (await fetch(`${url}/used`)).text(), "one two");
      assert.deepEqual(await settled(1), ["exact", 10]);
      await (await fetch(`${url}/nested`)).text();
      assert.deepEqual(await settled(2), ["exact", 15]);
      await (await fetch(`${url}/nothing`)).text();
      assert.deepEqual(await settled(3), ["estimate", 100]);
    });

    it("releases the hold of an error, and charges what is known of a request that is left", async () => {
      assert.equal((await fetch(`${url}/error`)).status, 500);
      assert.deepEqual(await settled(4), ["unused", 0]);
      const leave = new AbortController();
      const response = await fetch(`${url}/slow`, { signal: leave.signal });
      await response.body?.getReader().read();
      leave.abort();
      assert.deepEqual(await settled(5), ["exact", 10]);
    });

    it("refuses with 429, and passes requests without a hold", async () => {
      const response = await fetch(`${url}/huge`);
      assert.equal(response.status, 429);
      assert.match(response.headers.get("ratelimit") ?? "", /^"tokens-per-day";r=865;t=\d+$/);
      assert.equal(response.headers.get("ratelimit-policy"), '"tokens-per-day";q=1000');
      assert.equal(response.headers.get("retry-after"), null, "waiting does not help");
      assert.deepEqual(((await response.json()) as { error: { reason: string } }).error.reason, "QUOTA_EXCEEDED");
      assert.equal(await (await fetch(`${url}/free`)).text(), "one two");
      world.faulty.fail("Reserve", "lose-request", { times: 100 });
      assert.equal((await fetch(`${url}/used`)).status, 503);
      world.faulty.heal();
      assert.equal(world.settlements.length, 5);
    });
  });
}
