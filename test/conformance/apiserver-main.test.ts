// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it, onTestFinished } from "vitest";
import { BLOCK_CRD, BLOCKS } from "../../src/apiserver/fake-client.ts";
import { isObject } from "../../src/apiserver/model.ts";
import { http } from "./apiserver-support.ts";

const PROGRAM = join(import.meta.dirname, "../../src/main/apiserver.ts");

function directory(): string {
  const dir = mkdtempSync(join(tmpdir(), "gingham-apiserver-"));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  return dir;
}

interface Running {
  readonly child: ChildProcess;
  readonly url: string;
  readonly lines: string[];
}

/** Starts the program and waits for its line "serving". */
async function start(args: readonly string[]): Promise<Running> {
  const argv = ["--disable-warning=ExperimentalWarning", PROGRAM, "--listen", "127.0.0.1:0", ...args];
  const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line);
    const entry: unknown = JSON.parse(line);
    if (isObject(entry) && entry["msg"] === "serving") {
      createInterface({ input: child.stdout }).on("line", (later) => lines.push(later));
      return { child, url: String(entry["url"]), lines };
    }
  }
  throw new Error(`The API server ended before it served: ${lines.join("\n")}`);
}

function clientOf(url: string, dir: string, adminToken: string): Parameters<typeof http>[0] {
  const unused = (): never => {
    throw new Error("only url, ca and adminToken are real");
  };
  return {
    url,
    ca: readFileSync(join(dir, "pki/ca.crt"), "utf8"),
    adminToken,
    adminKubeconfig: unused,
    nodeKubeconfig: unused,
    compact: unused,
    close: unused,
  };
}

describe("gingham-apiserver", () => {
  it("keeps token, certificates, definitions and objects over SIGTERM and a restart", async () => {
    const dir = directory();
    writeFileSync(join(dir, "block.yaml"), JSON.stringify(BLOCK_CRD));
    const args = [
      ...["--data", join(dir, "api.db"), "--cert-dir", join(dir, "pki")],
      ...["--kubeconfig", join(dir, "admin.conf"), "--crds", dir],
    ];
    const first = await start(args);
    expect(statSync(join(dir, "admin.conf")).mode & 0o777).toBe(0o600);
    const token = readFileSync(join(dir, "pki/tokens.csv"), "utf8").split("\n")[1]?.split(",")[0] ?? "";
    const body = JSON.stringify({
      apiVersion: "test.gingham.dev/v1",
      kind: "Block",
      metadata: { name: "a" },
      spec: { cidr: "x/1" },
    });
    expect((await http(clientOf(first.url, dir, token), "POST", BLOCKS, body)).status).toBe(201);
    first.child.kill("SIGTERM");
    expect(await once(first.child, "exit")).toEqual([0, null]);
    expect(first.lines.map((l) => (JSON.parse(l) as { msg: string }).msg)).toEqual(["serving", "stopped"]);
    const second = await start(args);
    expect((await http(clientOf(second.url, dir, token), "GET", `${BLOCKS}/a`)).status).toBe(200);
  });

  it("keeps what was answered when it is killed", async () => {
    const dir = directory();
    writeFileSync(join(dir, "tokens"), "0123456789abcdef,admin,admin\n");
    const args = ["--data", join(dir, "api.db"), "--cert-dir", join(dir, "pki"), "--token-file", join(dir, "tokens")];
    const first = await start(args);
    const client = clientOf(first.url, dir, "0123456789abcdef");
    const path = "/api/v1/namespaces/default/configmaps";
    for (let i = 0; i < 20; i++) await http(client, "POST", path, JSON.stringify({ metadata: { name: `c${i}` } }));
    first.child.kill("SIGKILL");
    await once(first.child, "exit");
    const second = await start(args);
    const { text } = await http(clientOf(second.url, dir, "0123456789abcdef"), "GET", path);
    expect(text.match(/"kind":"ConfigMap"/g)).toHaveLength(20);
  });

  it("serves others while half a request waits", async () => {
    const dir = directory();
    writeFileSync(join(dir, "tokens"), "0123456789abcdef,admin,admin\n");
    const { url } = await start(["--cert-dir", join(dir, "pki"), "--token-file", join(dir, "tokens")]);
    const half = connect(Number(new URL(url).port), "127.0.0.1");
    half.write("\x16\x03\x01");
    onTestFinished(() => void half.destroy());
    const slow = http(clientOf(url, dir, "0123456789abcdef"), "POST", "/api/v1/namespaces", undefined, {
      "content-length": "100",
    });
    slow.catch(() => undefined);
    expect((await http(clientOf(url, dir, "0123456789abcdef"), "GET", "/api/v1/namespaces")).status).toBe(200);
  });
});
