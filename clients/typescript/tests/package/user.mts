import { Client, QuotaExceeded, Usage } from "tope";
import type { Settlement } from "tope";
import { TenantNotFound } from "tope/errors";
import { quotaFetch } from "tope/fetch";
import { Fake } from "tope/testing";
import { QuotaService } from "tope/v1";

const fake = new Fake();
fake.add("acme", { tokens: 1_000 });
const settlements: Settlement[] = [];
const client = new Client(fake, { tenant: "acme", onSettled: (one) => settlements.push(one) });
{
  await using hold = await client.hold(100);
  hold.use(new Usage({ input: 3, output: 4 }));
}
const refused = await client.hold(1_000).catch((error: unknown) => error);
const unknown = await client.hold({ amounts: 1, tenant: "nobody" }).catch((error: unknown) => error);
const guarded: (text: string) => Promise<number> = client.guard(10, (text: string) => text.length);
const stream: () => AsyncGenerator<string> = client.guard(10, async function* () {
  yield "a";
});
for await (const text of stream()) {
  text.toUpperCase();
}
const right =
  refused instanceof QuotaExceeded &&
  refused.remaining === 993 &&
  unknown instanceof TenantNotFound &&
  settlements[0]?.basis === "exact" &&
  (await guarded("four")) === 4 &&
  typeof quotaFetch(client) === "function" &&
  QuotaService.typeName === "tope.v1.QuotaService";
await client.close();
if (!right) {
  throw new Error("the package does not work");
}
