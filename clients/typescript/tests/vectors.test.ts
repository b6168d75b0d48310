/** Estimates and usage are the same numbers as those of the other clients: clients/scenarios/vectors.json. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";

import { Estimator, StreamUsage, Usage } from "tope";

import { ROOT } from "./root.js";
import { words } from "./world.js";

interface Figures {
  input: number;
  output: number;
  cache_read: number;
  cache_write: number;
  reasoning: number;
}
interface Vectors {
  texts: { text: string; times?: number; tokens: number }[];
  prompts: { prompt: unknown; tools?: unknown; tokens: number; kind: string }[];
  usages: { reply: unknown; usage: Figures | null }[];
  streams: { prompt: number | null; chunks: unknown[]; usage: Figures | null; complete: boolean; total: number }[];
}
const vectors = JSON.parse(readFileSync(`${ROOT}/clients/scenarios/vectors.json`, "utf8")) as Vectors;

function shown(usage: Usage | undefined): Figures | null {
  if (usage === undefined) {
    return null;
  }
  const { input, output, cacheRead, cacheWrite, reasoning } = usage;
  return { input, output, cache_read: cacheRead, cache_write: cacheWrite, reasoning };
}

describe("vectors", () => {
  const estimator = new Estimator();

  vectors.texts.forEach(({ text, times = 1, tokens }, index) => {
    it(`text ${index}`, () => assert.equal(estimator.text(text.repeat(times)), tokens));
  });
  vectors.prompts.forEach(({ prompt, tools, tokens, kind }, index) => {
    it(`prompt ${index}`, () => assert.deepEqual(estimator.prompt(prompt, tools), { tokens, kind }));
  });
  vectors.usages.forEach(({ reply, usage }, index) => {
    it(`usage ${index}`, () => assert.deepEqual(shown(Usage.of(reply)), usage));
  });
  vectors.streams.forEach(({ prompt, chunks, usage, complete, total }, index) => {
    it(`stream ${index}`, () => {
      const stream = new StreamUsage(prompt ?? undefined, words, () => 1);
      chunks.forEach((chunk) => stream.observe(chunk));
      assert.deepEqual([shown(stream.soFar()), stream.complete, stream.total(true)], [usage, complete, total]);
    });
  });
});
