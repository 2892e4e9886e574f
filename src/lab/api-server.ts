// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hostOfURL } from "./families.ts";
import { type Credentials, parseKubeconfig } from "./kubeconfig.ts";
import { ManagedProcess } from "./managed-process.ts";
import { run, runOk } from "./run.ts";
import { LAB_DIR } from "./topology.ts";

export const API_PORT = 6443;
export const ADMIN_KUBECONFIG: string = join(LAB_DIR, "admin.kubeconfig");
const TOKEN_FILE = join(LAB_DIR, "tokens.csv");

/** Starts the embedded API server on the segment. Its database outlives it, so a second start goes on where it was. */
export async function startAPIServer(program: readonly string[], ip: string, crdDir: string): Promise<ManagedProcess> {
  const server = new ManagedProcess({
    what: "the API server",
    argv: [
      ...program,
      ...["--listen", `${hostOfURL(ip)}:${API_PORT}`, "--data", join(LAB_DIR, "api.db")],
      ...["--kubeconfig", ADMIN_KUBECONFIG, "--token-file", TOKEN_FILE],
      ...["--cert-dir", join(LAB_DIR, "pki"), "--crds", crdDir],
    ],
    env: process.env,
    logPath: join(LAB_DIR, "logs/apiserver.log"),
  });
  await server.waitUntil(async () => existsSync(ADMIN_KUBECONFIG) && (await isListening(ip)), 20_000);
  return server;
}

async function isListening(ip: string): Promise<boolean> {
  const { exitCode } = await run(["bash", "-c", `exec 3<>/dev/tcp/${ip}/${API_PORT}`]);
  return exitCode === 0;
}

/**
 * Gives each node a token of its own: the role `node` may write IPAM kinds and just this Node. The administrator has
 * one here, too, since the server would make another at each start, and kubeconfigs on the host would stop working.
 */
export function writeTokens(nodes: readonly string[]): ReadonlyMap<string, string> {
  const tokens = new Map(nodes.map((node) => [node, makeToken()]));
  const lines = [...tokens].map(([node, token]) => renderNodeToken(node, token));
  writeFileSync(TOKEN_FILE, `${makeToken()},admin,admin,\n${lines.join("")}`, { mode: 0o600 });
  return tokens;
}

function makeToken(): string {
  return randomBytes(24).toString("base64url");
}

/** A line of the API server's token file: token, user, role, node. */
export function renderNodeToken(node: string, token: string): string {
  return `${token},system:node:${node},node,${node}\n`;
}

export async function readAdminCredentials(): Promise<Credentials> {
  const view = ["config", "view", "--raw", "--flatten", "--minify", "-o", "json"];
  return parseKubeconfig(await runOk(["kubectl", "--kubeconfig", ADMIN_KUBECONFIG, ...view]));
}
