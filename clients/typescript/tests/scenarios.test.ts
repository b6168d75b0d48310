/** The scenarios of clients/scenarios, against the fake and the real server, in both forms of a hold. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";

import { Server } from "tope/testing";

import { Player } from "./play.js";
import type { Form, Scenario } from "./play.js";
import { Provider } from "./provider.js";
import { ROOT } from "./root.js";
import { World } from "./world.js";

const text = readFileSync(`${ROOT}/clients/scenarios/scenarios.json`, "utf8");
const { scenarios } = JSON.parse(text) as { scenarios: Scenario[] };

describe("scenarios", () => {
  let provider: Provider;
  let server: Server;

  before(async () => {
    [provider, server] = await Promise.all([Provider.start(), Server.start()]);
  });
  after(async () => {
    provider.close();
    await server.close();
  });

  it("are all there", () => assert.ok(scenarios.length >= 35));

  for (const kind of ["fake", "server"]) {
    for (const form of ["function", "using"] as Form[]) {
      for (const scenario of scenarios) {
        for (const api of scenario.apis ?? [""]) {
          it(`${kind}, ${form}: ${scenario.name} ${api}`, async () => {
            const played = JSON.parse(JSON.stringify(scenario).replaceAll("$api", api)) as Scenario;
            const world = new World(kind === "server" ? server : undefined);
            try {
              await new Player(world, provider, played, form).play();
            } finally {
              await world.close();
            }
          });
        }
      }
    }
  }
});
