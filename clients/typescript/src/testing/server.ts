/** A real server for tests: the program `tope`, with a database of its own in a temporary folder. */

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, mkdtempSync, openSync, closeSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { NameTaken } from "../errors.js";
import { AdminService } from "../gen/tope/v1/admin_service_pb.js";
import { PlanSchema, TenantState } from "../gen/tope/v1/policy_pb.js";
import { Target } from "../target.js";
import { call, grpc } from "../transport.js";
import type { Connection } from "../transport.js";
import { asLimits } from "./books.js";
import type { Limits } from "./books.js";

const START_MS = 30_000;
const CALL_MS = 10_000;

/** Returns the program: of TOPE_BIN, or in the PATH. */
export function findBinary(): string | undefined {
  const named = process.env["TOPE_BIN"];
  if (named !== undefined && named !== "") {
    if (!isProgram(named)) {
      throw new Error(`TOPE_BIN names ${named}, which is no program`);
    }
    return named;
  }
  const folders = (process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.map((folder) => join(folder, "tope")).find(isProgram);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

async function freePort(): Promise<number> {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  listener.close();
  await once(listener, "close");
  return port;
}

/** A running server. `target` is for `new Client`. `restart` kills it, and starts it again with its data. */
export class Server implements AsyncDisposable {
  private process: ChildProcess | undefined;
  private admin: Connection | undefined;

  private constructor(
    private readonly binary: string,
    private readonly options: readonly string[],
    private readonly folder: string,
    readonly port: number,
  ) {}

  /** Starts a server. */
  static async start(binary?: string, options: readonly string[] = []): Promise<Server> {
    const found = binary ?? findBinary();
    if (found === undefined) {
      throw new Error("there is no program `tope`: set TOPE_BIN, or install the server");
    }
    const server = new Server(found, options, mkdtempSync(join(tmpdir(), "tope-test-")), await freePort());
    await server.start();
    return server;
  }

  get target(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** The URL of the database, for commands such as `tope keys create`. */
  get database(): string {
    return `sqlite://${join(this.folder, "tope.db")}`;
  }

  /** What the server has logged. */
  get log(): string {
    return readFileSync(join(this.folder, "log"), "utf8");
  }

  /** Starts the server, and waits until it answers. */
  async start(): Promise<void> {
    const command = ["serve", "--listen", this.target, "--http", "off", "--database", "sqlite://tope.db"];
    // The settings of the developer's own server must not reach this one.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("TOPE_")));
    const log = openSync(join(this.folder, "log"), "a");
    const child = spawn(this.binary, [...command, ...this.options], {
      cwd: this.folder,
      env,
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    this.process = child;
    const end = performance.now() + START_MS;
    while (!(await answers(this.port))) {
      if (child.exitCode !== null) {
        throw new Error(`the server ended with ${child.exitCode}:\n${this.log}`);
      }
      if (performance.now() > end) {
        await this.kill();
        throw new Error(`the server did not start in ${START_MS / 1_000} seconds:\n${this.log}`);
      }
      await sleep(20);
    }
  }

  /** Ends the server at once, as a crash does. */
  kill(): Promise<void> {
    return this.end("SIGKILL");
  }

  /** Ends the server as an operator does. Open calls may end. */
  stop(): Promise<void> {
    return this.end("SIGTERM");
  }

  private async end(how: NodeJS.Signals): Promise<void> {
    const child = this.process;
    this.process = undefined;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      child.kill(how);
      await once(child, "exit");
    }
  }

  /** Kills the server, and starts it again with the same address and data. */
  async restart(): Promise<void> {
    await this.kill();
    await this.start();
  }

  /** Ends the server, and removes its data. */
  async close(): Promise<void> {
    this.admin?.close();
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Adds a tenant with a plan of these limits. `{ tokens: 1_000 }` is a limit of 1,000 tokens a day. */
  async add(tenant: string, limits: Limits): Promise<void> {
    const plan = create(PlanSchema, { id: `plan-of-${tenant}`, limits: asLimits(limits) });
    for (const resource of new Set(plan.limits.map((limit) => limit.resource))) {
      await this.addResource(resource);
    }
    const { connection } = this;
    await call(connection, AdminService.method.createPlan, { plan }, CALL_MS);
    await call(connection, AdminService.method.createTenant, { tenant: { id: tenant, plan: plan.id } }, CALL_MS);
  }

  /** Declares a resource, unless it is declared. */
  async addResource(id: string): Promise<void> {
    try {
      await call(this.connection, AdminService.method.createResource, { resource: { id } }, CALL_MS);
    } catch (error) {
      if (!(error instanceof NameTaken)) {
        throw error;
      }
    }
  }

  /** Suspends a tenant, or ends that. */
  async suspend(tenant: string, suspended = true): Promise<void> {
    const state = suspended ? TenantState.SUSPENDED : TenantState.ACTIVE;
    await call(this.connection, AdminService.method.updateTenant, { tenant: { id: tenant, state } }, CALL_MS);
  }

  private get connection(): Connection {
    this.admin ??= grpc(new Target(this.target, { key: undefined, keyFile: undefined }));
    return this.admin;
  }
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
