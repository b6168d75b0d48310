/** Keys, TLS and servers that are away, with the real server. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { Client, QuotaExceeded, TopeError, errors } from "tope";
import type { ClientOptions } from "tope";
import { Server, findBinary } from "tope/testing";
import { AdminService, Period } from "tope/v1";

describe("access", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "tope-access-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  function makeKey(server: Server, ...options: string[]): string {
    const command = ["keys", "create", "--database", server.database, ...options];
    return execFileSync(findBinary() as string, command, { encoding: "utf8" }).trim();
  }

  it("shows a key, and reads the file of a key again when it is exchanged", async () => {
    await using server = await Server.start(undefined, ["--auth", "keys"]);
    await using admin = new Client(server.target, { key: makeKey(server, "--role", "admin") });
    const { createResource, createPlan, createTenant, deleteKey } = AdminService.method;
    await admin.call(createResource, { resource: { id: "tokens" } });
    const limits = [{ id: "l", resource: "tokens", quantity: 1_000n, period: Period.DAY }];
    await admin.call(createPlan, { plan: { id: "p", limits } });
    await admin.call(createTenant, { tenant: { id: "t", plan: "p" } });

    const [first, second] = [1, 2].map(() => makeKey(server, "--role", "spender", "--tenant", "t")) as [string, string];
    const keyFile = join(folder, "key");
    writeFileSync(keyFile, `${first}\n`);
    await using client = new Client(server.target, { tenant: "t", keyFile });
    const spend = async (): Promise<void> => {
      const hold = await client.hold(10);
      const settlement = await hold.commit({ tokens: 3 });
      assert.equal(settlement?.error, undefined);
    };
    await spend();
    await admin.call(deleteKey, { id: first.split("_")[1] as string });
    await assert.rejects(spend(), errors.Unauthenticated);
    writeFileSync(keyFile, second);
    await spend();

    const wrong: [string | undefined, new (...args: never[]) => Error][] = [
      [undefined, errors.KeyMissing],
      ["nonsense", errors.KeyMalformed],
      [`tope_AAAAAAAAAAAA_${"b".repeat(43)}`, errors.Unauthenticated],
      [makeKey(server, "--role", "spender", "--tenant", "other"), errors.NotPermitted],
    ];
    for (const [key, kind] of wrong) {
      await using stranger = new Client(server.target, { tenant: "t", key, onUnavailable: "allow" });
      const error = (await stranger.hold(1).catch((failure: unknown) => failure)) as TopeError;
      assert.ok(error instanceof kind, String(error));
      assert.ok(key === undefined || !JSON.stringify([error, error.stack]).includes(key));
    }
  });

  it("uses TLS, with a certificate of the client", async () => {
    const openssl = (...options: string[]): void => {
      execFileSync("openssl", options, { cwd: folder, stdio: "ignore" });
    };
    const fresh = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(...fresh, "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca");
    for (const name of ["server", "client"]) {
      writeFileSync(join(folder, `${name}.ext`), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
      openssl(...fresh, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`);
      const sign = ["x509", "-req", "-in", `${name}.csr`, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
      openssl(...sign, "-days", "2", "-extfile", `${name}.ext`, "-out", `${name}.pem`);
    }
    const path = (name: string): string => join(folder, name);
    const options = ["--tls-cert", path("server.pem"), "--tls-key", path("server.key")];
    await using server = await Server.start(undefined, [...options, "--tls-client-ca", path("ca.pem")]);
    const target = `https://localhost:${server.port}`;
    const mine: ClientOptions = { ca: path("ca.pem"), clientCert: path("client.pem"), clientKey: path("client.key") };
    await using client = new Client(target, { tenant: "t", ...mine });
    await assert.rejects(client.hold(1), errors.TenantNotFound);
    for (const less of [{ ca: path("ca.pem") }, { ...mine, ca: undefined }]) {
      const stranger = new Client(target, { tenant: "t", timeoutMs: 500, log: () => undefined, ...less });
      await assert.rejects(stranger.hold(1), (error: TopeError) => error.transient);
      await stranger.close(10);
    }
  });

  it("refuses targets and files that are wrong, and names them", () => {
    for (const target of ["", "nowhere", "ftp://x:1", "http://x:1/path", "x:99999", "http://u@x", "a b:1"]) {
      if (target !== "" && target !== "nowhere") {
        assert.throws(() => new Client(target), /target must be HOST:PORT/, target);
      }
    }
    assert.throws(() => new Client("http://x:1", { clientCert: "a", clientKey: "b" }), /https/);
    assert.throws(() => new Client("https://x:1", { clientCert: "a" }), /together/);
    assert.throws(() => new Client("https://x:1", { ca: "/no/such/file" }), /ca names \/no\/such\/file/);
    assert.throws(() => new Client("x:1", { key: "two words" }), /key must be/);
    assert.throws(() => new Client("x:1", { timeoutMs: 0 }), /timeoutMs/);
    assert.throws(() => new Client("x:1", { queueMax: 0 }), /queueMax/);
  });

  it("says that the file of a key cannot be read, and calls no server", async () => {
    await using client = new Client("127.0.0.1:59999", { tenant: "t", keyFile: join(folder, "none") });
    await assert.rejects(client.hold(1), /keyFile names .*none, which cannot be read: ENOENT/);
  });

  it("gives up on a server that is away after two seconds, and keeps what was allowed until it is back", async () => {
    await using server = await Server.start();
    await server.add("t", { tokens: 10_000 });
    await server.kill();
    await using client = new Client(server.target, { tenant: "t", log: () => undefined });
    const began = performance.now();
    await assert.rejects(client.hold(1), errors.Unreachable);
    assert.ok(performance.now() - began < 2_500);
    const lenient = new Client(server.target, {
      tenant: "t", onUnavailable: "allow", timeoutMs: 200, queueMax: 5, log: () => undefined,
    });
    for (let round = 0; round < 8; round += 1) {
      await lenient.hold(10, (hold) => hold.add({ tokens: 7 }));
    }
    assert.equal(await lenient.flush(100), false);
    assert.deepEqual([lenient.pending, lenient.lost], [5, 3]);
    await server.start();
    assert.ok(await lenient.flush(20_000));
    const found: number[] = [];
    for await (const one of lenient.calls.reservations("t")) {
      found.push(Number(one.amounts[0]?.committed));
    }
    assert.deepEqual(found, [7, 7, 7, 7, 7]);
    assert.ok(await lenient.close());
    await assert.rejects(lenient.hold(1), errors.Cancelled);
    const refused = await client.hold(20_000).catch((error: unknown) => error);
    assert.ok(refused instanceof QuotaExceeded && refused.windowEnd instanceof Date);
  });
});
