/** The TypeScript blocks of the page about the client compile and work. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, it } from "node:test";

import { ROOT } from "./root.js";

const HOME = `${ROOT}/clients/typescript`;
const PAGE = readFileSync(`${ROOT}/docs/clients/typescript.md`, "utf8");

// What a program around the blocks has. `Client` reaches a fake.
const PRELUDE = `
import { Client as RealClient } from "tope";
import type { ClientOptions } from "tope";
import { Fake } from "tope/testing";
const fake = new Fake();
fake.add("acme", { tokens: 100_000, requests: 100, cost_nanos: 1e12 });
class Client extends RealClient {
  constructor(target: string, options: ClientOptions) {
    super(target === "" ? target : fake, options);
  }
}
process.env["OPENAI_API_KEY"] = process.env["ANTHROPIC_API_KEY"] = "none";
const usage = { prompt_tokens: 5, completion_tokens: 20 };
const messages = [{ role: "user", content: "hi" }];
const shown: unknown[] = [];
const show = (chunk: unknown): void => void shown.push(chunk);
const askModel = async (_: unknown, _maxTokens?: number): Promise<object> => ({ usage });
async function* streamModel(_: unknown, _maxTokens: number): AsyncGenerator<object> {
  yield { choices: [{ delta: { content: "one " } }] };
  yield { choices: [], usage };
}
`;
const END = `
const made: number[] = [];
for await (const one of client.calls.reservations("acme")) {
  made.push(Number(one.amounts.find(({ resource }) => resource === "tokens")?.committed));
}
console.log(JSON.stringify({ allowed, made, shown: shown.length }));
`;

function blocks(): { kind: string; text: string }[] {
  return [...PAGE.matchAll(/```ts ?(\w*)\n(.*?)```/gs)].map(([, kind, text]) => ({ kind: kind ?? "", text: text ?? "" }));
}

describe("the page", () => {
  it("has blocks that compile and work", { timeout: 60_000 }, () => {
    const folder = `${HOME}/build/page`;
    const newest = Number(process.versions.node.split(".")[0]) >= 22;
    const kinds = newest ? ["", "libraries"] : [""];
    const parts = blocks().filter(({ kind }) => kinds.includes(kind)).map(({ text }) => text);
    const body = parts.join("\n").replace('import { Client } from "tope";\n', "");
    const test = blocks().find(({ kind }) => kind === "test")?.text as string;
    mkdirSync(folder, { recursive: true });
    writeFileSync(`${folder}/page.ts`, PRELUDE + body + END);
    writeFileSync(`${folder}/one.ts`, test);
    const options = { rootDir: ".", outDir: "out", noUnusedLocals: false, noUnusedParameters: false };
    const config = { extends: "../../tsconfig.test.json", compilerOptions: options, include: ["*.ts"], exclude: [] };
    writeFileSync(`${folder}/tsconfig.json`, JSON.stringify(config));
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const run = (command: string, ...rest: string[]): string =>
      execFileSync(command, rest, { cwd: folder, encoding: "utf8", env });
    run(process.execPath, `${HOME}/node_modules/typescript/bin/tsc`, "-p", ".");
    const lines = run(process.execPath, "out/page.js").trim().split("\n");
    const { allowed, made, shown } = JSON.parse(lines.at(-1) as string) as Record<string, unknown>;
    assert.equal(allowed, true);
    assert.equal(shown, 4);
    assert.deepEqual(made, [50, 25, 25, 25, 25, 25, 25, 25, 25], "each block with a hold made one");
    assert.match(run(process.execPath, "--test", "--test-reporter=tap", "out/one.js"), /# pass 1/);
  });
});
