// Runs one agent as an execution, through Vault's API alone:
//
//     node orchestrator.mts ENVIRONMENT/CHAIN/AGENT KEY COMMAND [ARGUMENT...]
//
// KEY names this attempt, such as run-42/deploy/1. A start that is repeated with
// it, because its answer was lost, gives the same execution, and no second one.
// node runs this file as it is from 22.18 on; an older one needs esbuild or tsc first.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

const { VAULT_ADDR, VAULT_TOKEN, AGENTCHAINS_MOUNT: mount = "agentchains" } = process.env;
const grace = 10_000; // milliseconds between SIGTERM and SIGKILL
const stopped = 75; // exit code after an order to stop

// Refused is an answer that asking again does not change. All other errors say
// only that Vault is away.
class Refused extends Error {}

type Answer = { data: any; lease_id: string; lease_duration: number };
type Order = { state: string; reason: string };

// ask asks Vault, again while it is away and patience, in milliseconds, lasts.
async function ask(method: string, path: string, body?: object, patience = 0, timeout = 15_000): Promise<Answer> {
  const giveUp = performance.now() + patience;
  for (;;) {
    try {
      const response = await fetch(`${VAULT_ADDR}/v1/${path}`, {
        method,
        headers: { "X-Vault-Token": VAULT_TOKEN ?? "" },
        body: body && JSON.stringify(body),
        signal: AbortSignal.timeout(timeout),
      });
      if (response.ok) return (await response.json()) as Answer;
      if (response.status < 500) throw new Refused(`${response.status} ${await response.text()}`);
      throw new Error(`status ${response.status}`);
    } catch (error) {
      if (error instanceof Refused || performance.now() >= giveUp) throw error;
    }
    await sleep(500);
  }
}

class Execution {
  readonly env: Record<string, string>;
  private readonly path: string;
  private readonly lease: string;
  private generation = 1;
  private renewAt = 0;
  private overAt = 0;

  static async start(agent: string, key: string): Promise<Execution> {
    const sent = performance.now();
    const fields = { idempotency_key: key, run: key.split("/")[0], workspace: "typescript-orchestrator" };
    const execution = new Execution(sent, await ask("POST", `${mount}/executions/${agent}`, fields, 30_000));
    await execution.renew(); // at once: Vault keeps a copy of env in the lease until then
    return execution;
  }

  private constructor(sent: number, answer: Answer) {
    this.path = `${mount}/execution/${answer.data.execution_id}`;
    this.env = answer.data.env;
    this.lease = answer.lease_id;
    this.extend(sent, answer);
  }

  private extend(sent: number, answer: Answer) {
    this.renewAt = sent + (answer.lease_duration * 1000) / 3;
    this.overAt = sent + answer.lease_duration * 1000;
  }

  // ask asks Vault, not longer than the lease lasts.
  private ask(method: string, path: string, body?: object): Promise<Answer> {
    const left = this.overAt - performance.now();
    return ask(method, path, body, 0, Math.ceil(Math.max(100, Math.min(15_000, left))));
  }

  // renew renews the lease. When that fails, watch says why, or the next try helps.
  private async renew() {
    const sent = performance.now();
    try {
      this.extend(sent, await this.ask("POST", "sys/leases/renew", { lease_id: this.lease }));
    } catch {
      this.renewAt = sent + 1000;
    }
  }

  // watch renews, and waits until the execution is no longer active.
  async watch(): Promise<Order> {
    while (performance.now() < this.overAt) {
      if (performance.now() >= this.renewAt) await this.renew();
      const wait = Math.max(1, Math.min(5, Math.floor((this.renewAt - performance.now()) / 1000)));
      try {
        const { data } = await this.ask("GET", `${this.path}/watch?generation=${this.generation}&wait=${wait}`);
        if (data.state !== "active") return data;
        this.generation = data.generation;
        await sleep(200);
      } catch (error) {
        if (error instanceof Refused) return { state: "refused", reason: error.message };
        await sleep(1000);
      }
    }
    return { state: "expired", reason: "the lease is over" };
  }

  async tell(verb: string, fields: object) {
    await ask("POST", `${this.path}/${verb}`, fields, 30_000).catch((error) => console.error(`${verb}: ${error.message}`));
  }
}

async function run(agent: string, key: string, command: string, args: string[]): Promise<number> {
  const execution = await Execution.start(agent, key);
  const { PATH, HOME } = process.env;
  // detached: the child leads a process group of its own.
  const child = spawn(command, args, { env: { PATH, HOME, ...execution.env }, stdio: "inherit", detached: true });
  const ended = new Promise<[number | null, NodeJS.Signals | null]>((resolve) => child.once("exit", (...how) => resolve(how)));
  try {
    await once(child, "spawn");
  } catch (error) {
    console.error((error as Error).message);
    await execution.tell("finish", { exit_code: 127 });
    return 127;
  }
  const kill = (signal: NodeJS.Signals) => {
    try {
      process.kill(-child.pid!, signal);
    } catch {} // it has gone
  };

  let order: Order | undefined;
  execution.watch().then((told) => {
    order = told;
    kill("SIGTERM");
    setTimeout(kill, grace, "SIGKILL");
  });
  const [exitCode, signal] = await ended;
  kill("SIGKILL"); // what it left behind in its process group
  const code = exitCode ?? 128 + constants.signals[signal!];
  if (!order) {
    await execution.tell("finish", { exit_code: code });
    return code;
  }
  console.error(`stopped: ${order.reason}`);
  if (order.state === "terminating") {
    await execution.tell("ack", { pid: child.pid, signal: signal ?? "", exit_code: code });
  }
  return stopped;
}

const [agent, key, command, ...args] = process.argv.slice(2);
try {
  process.exit(await run(agent, key, command, args));
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}
