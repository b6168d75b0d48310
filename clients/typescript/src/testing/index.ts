/** Help for tests of programs that use Tope: a fake in memory, the real server, and faults between them. */

export { Clock } from "./books.js";
export type { Limits } from "./books.js";
export { Fake } from "./fake.js";
export { Faulty, abandon } from "./faults.js";
export type { FaultKind } from "./faults.js";
export { Server, findBinary } from "./server.js";
