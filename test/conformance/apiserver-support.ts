// SPDX-License-Identifier: Apache-2.0
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { type ApiServer, type ApiServerOptions, createApiServer } from "../../src/apiserver/api-server.ts";

export interface Outcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Follower {
  output(): string;
  /** Resolves once this was printed. */
  until(text: string): Promise<void>;
}

/** A server on a free port with its own kubectl, for one test. */
export interface Bench {
  readonly server: ApiServer;
  readonly dir: string;
  readonly kubectl: (
    args: readonly string[],
    input?: string,
    env?: Readonly<Record<string, string>>,
  ) => Promise<Outcome>;
  /** As kubectl, and throws unless it exits with 0. */
  readonly ok: (args: readonly string[], input?: string, env?: Readonly<Record<string, string>>) => Promise<string>;
  /** Starts a kubectl that stays, such as a watch; it is ended with the test. */
  readonly follow: (args: readonly string[]) => Follower;
}

/** Minor version of the kubectl on PATH. @throws Error when there is none, or it does not say */
export function kubectlMinor(): number {
  const { stdout, error } = spawnSync("kubectl", ["version", "--client", "-o", "json"], { encoding: "utf8" });
  const minor = /"gitVersion":\s*"v1\.(\d+)\./.exec(stdout ?? "")?.[1];
  if (minor === undefined) throw new Error(`kubectl does not tell its version: ${error?.message ?? stdout}`);
  return Number(minor);
}

export async function startBench(options: ApiServerOptions = {}): Promise<Bench> {
  const dir = mkdtempSync(join(tmpdir(), "gingham-api-"));
  const server = await createApiServer(options);
  onTestFinished(async () => {
    await server.close();
    rmSync(dir, { recursive: true });
  });
  const config = join(dir, "kubeconfig");
  writeFileSync(config, server.adminKubeconfig(), { mode: 0o600 });
  const base = ["--kubeconfig", config, "--cache-dir", join(dir, "cache")];
  const kubectl: Bench["kubectl"] = (args, input, env) => run("kubectl", [...args, ...base], input, env);
  return {
    server,
    dir,
    kubectl,
    ok: async (args, input, env) => {
      const outcome = await kubectl(args, input, env);
      if (outcome.exitCode !== 0)
        throw new Error(`kubectl ${args.join(" ")} exits with ${outcome.exitCode}: ${outcome.stderr}`);
      return outcome.stdout;
    },
    follow: (args) => follow("kubectl", [...args, ...base]),
  };
}

function run(
  program: string,
  args: readonly string[],
  input = "",
  env: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  const child = spawn(program, args, { env: { ...process.env, ...env } });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.on("error", reject).on("close", (exitCode) => resolve({ exitCode, stdout, stderr }));
  child.stdin.end(input);
  return promise;
}

function follow(program: string, args: readonly string[]): Follower {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  onTestFinished(() => void child.kill());
  let output = "";
  const waiting = new Set<() => void>();
  const add = (text: string): void => {
    output += text;
    for (const check of waiting) check();
  };
  child.stdout.setEncoding("utf8").on("data", add);
  child.stderr.setEncoding("utf8").on("data", add);
  const until = (text: string): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const check = (): void => {
      if (!output.includes(text)) return;
      waiting.delete(check);
      resolve();
    };
    waiting.add(check);
    check();
    return promise;
  };
  return { output: () => output, until };
}

export interface HttpAnswer {
  readonly status: number;
  readonly text: string;
  readonly headers: NodeJS.Dict<string | string[]>;
}

/** One HTTPS request, without any client library in between. */
export function http(
  server: ApiServer,
  method: string,
  path: string,
  body?: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<HttpAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  const call = request(
    new URL(path, server.url),
    {
      method,
      ...(server.ca !== undefined && { ca: server.ca }),
      headers: { authorization: `Bearer ${server.adminToken}`, "content-type": "application/json", ...headers },
    },
    (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text, headers: response.headers }));
      response.on("error", reject);
    },
  );
  call.on("error", reject);
  call.end(body);
  return promise;
}
