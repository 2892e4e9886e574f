// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Logger, PendingRelease, PendingStore } from "../../../src/cni/ports.ts";
import { filePendingStore } from "../../../src/cni/records/pending-store.ts";

export const LAUNCHER_SOURCE: string = join(import.meta.dirname, "../../../launcher/gingham.c");

/** The compile line that the source itself gives, with definitions added. */
export function buildLauncher(output: string, definitions: readonly string[] = []): void {
  const line = /^ \*\s+(musl-gcc .*) -o gingham gingham\.c$/m.exec(readFileSync(LAUNCHER_SOURCE, "utf8"))?.[1];
  if (line === undefined) throw new Error(`${LAUNCHER_SOURCE} does not tell how to compile it`);
  const [compiler = "", ...flags] = line.split(" ");
  execFileSync(compiler, [...flags, ...definitions.map((d) => `-D${d}`), "-o", output, LAUNCHER_SOURCE]);
}

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };

export interface Run {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number | null;
  readonly tookMs: number;
}

/** A folder with a launcher of short patience, a socket path and a state folder. */
export class LauncherBench implements Disposable {
  readonly folder: string = mkdtempSync(join(tmpdir(), "gingham-launcher-"));
  readonly program: string = join(this.folder, "gingham");
  readonly socketPath: string = join(this.folder, "run/agent.sock");
  readonly stateDir: string = join(this.folder, "state");
  readonly #pendingStore: PendingStore = filePendingStore(join(this.stateDir, "pending"), SILENT);

  constructor(definitions: readonly string[] = ["ADD_WAIT_MS=1500", "ANSWER_WAIT_MS=1500", "STATUS_WAIT_MS=1500"]) {
    buildLauncher(this.program, definitions);
    execFileSync("mkdir", [join(this.folder, "run")]);
  }

  /** DELs that are written down, as the agent reads them. */
  pending(): Promise<readonly PendingRelease[]> {
    return this.#pendingStore.list();
  }

  /** The same, and forgets them. */
  async takePending(): Promise<readonly PendingRelease[]> {
    const releases = await this.pending();
    for (const { name } of releases) await this.#pendingStore.remove(name);
    return releases;
  }

  env(command: string | undefined, more: Readonly<Record<string, string>> = {}): Record<string, string> {
    return {
      ...(command !== undefined && { CNI_COMMAND: command }),
      CNI_CONTAINERID: "c1",
      CNI_NETNS: "/run/netns/c1",
      CNI_IFNAME: "eth0",
      CNI_PATH: "/opt/cni/bin",
      GINGHAM_SOCKET: this.socketPath,
      GINGHAM_STATE_DIR: this.stateDir,
      ...more,
    };
  }

  /** @param signal kills the launcher */
  run(env: Record<string, string>, stdin: string | Uint8Array, signal?: AbortSignal): Promise<Run> {
    const start = performance.now();
    const { promise, resolve, reject } = Promise.withResolvers<Run>();
    const child = spawn(this.program, [], { env, ...(signal && { signal }), killSignal: "SIGKILL" });
    const out = { stdout: "", stderr: "" };
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out.stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      out.stderr += text;
    });
    child.on("error", (error) => (signal?.aborted ? undefined : reject(error)));
    child.on("close", (exitCode) => resolve({ ...out, exitCode, tookMs: performance.now() - start }));
    // A launcher that refuses early does not read it all.
    child.stdin.on("error", () => {});
    child.stdin.end(stdin);
    return promise;
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A server on the launcher's socket that does with each connection what the script says, given the whole request. */
export async function serveScript(
  path: string,
  script: (request: string, socket: Socket) => void,
): Promise<AsyncDisposable & { readonly requests: string[] }> {
  const requests: string[] = [];
  const server: Server = createServer((socket) => {
    let received: Buffer = Buffer.alloc(0);
    let answered = false;
    socket.on("error", () => {});
    socket.on("data", (chunk: Uint8Array) => {
      received = Buffer.concat([received, chunk]);
      const text = received.toString("latin1");
      const head = text.indexOf("\r\n\r\n");
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? Number.NaN);
      if (answered || head < 0 || received.length < head + 4 + length) return;
      answered = true;
      const request = received.toString("utf8");
      requests.push(request);
      script(request, socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    requests,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

export function httpAnswer(status: number, body: string): string {
  return `HTTP/1.1 ${status} X\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}
