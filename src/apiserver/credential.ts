// SPDX-License-Identifier: Apache-2.0
import { appendFileSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { describeError } from "../lib/errors.ts";
import { CredentialError } from "./errors.ts";
import { kubeconfig } from "./kubeconfig.ts";
import { isObject } from "./model.ts";
import { isName } from "./names.ts";
import { makeToken, parseTokens } from "./tokens.ts";

export interface CredentialRequest {
  readonly node: string;
  /** Where the server finds the token, see `followTokens`. */
  readonly tokenFile: string;
  /** As the server has written it: says where the server is, and by which authority it is known. */
  readonly adminKubeconfig: string;
  /** Instead of the server's address in there. */
  readonly server?: string;
  /** Makes a new token, and takes the old one away. */
  readonly isRenewed: boolean;
}

/**
 * Gives a machine the right to write IPAM kinds and its own Node, and nothing else: a line of the token file. A running
 * server reads it at once.
 *
 * @returns the machine's kubeconfig; the same one again for a machine that has one
 * @throws CredentialError, TokenFileError
 */
export function nodeCredential(request: CredentialRequest): string {
  const { node, tokenFile, isRenewed } = request;
  if (!isName(node, "subdomain"))
    throw new CredentialError(`${JSON.stringify(node)} is no name of a Node: lower-case letters, digits, - and .`);
  const { server, ca } = serverOf(request);
  const text = readText(tokenFile);
  const known = parseTokens(text).find((identity) => identity.role === "node" && identity.node === node);
  if (known !== undefined && !isRenewed) return kubeconfig(server, ca, known.user, known.token);
  if (text.trimStart().startsWith("["))
    throw new CredentialError(`${tokenFile} is JSON, which only people write: add an entry for ${node} there`);
  const { user, token } = makeToken(`system:node:${node}`, "node", node);
  const line = `${token},${user},node,${node}\n`;
  if (known === undefined) appendFileSync(tokenFile, text === "" || text.endsWith("\n") ? line : `\n${line}`);
  else {
    const others = text.split("\n").filter((each) => !each.trim().startsWith(known.token));
    replaceFile(tokenFile, `${others.join("\n").trimEnd()}\n${line}`);
  }
  return kubeconfig(server, ca, user, token);
}

function serverOf({ adminKubeconfig, server }: CredentialRequest): { server: string; ca: string | undefined } {
  const cluster = parseCluster(adminKubeconfig);
  const data = cluster["certificate-authority-data"];
  const ca = typeof data === "string" ? Buffer.from(data, "base64").toString() : undefined;
  const found = server ?? cluster["server"];
  if (typeof found !== "string" || !URL.canParse(found))
    throw new CredentialError(`${String(found)} is no address of an API server, such as https://10.0.0.1:6443`);
  // Brackets of IPv6 stay in a URL's hostname.
  if (server === undefined && ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::]"].includes(new URL(found).hostname))
    throw new CredentialError(
      `${adminKubeconfig} says that the API server is ${found}, where other machines do not find it: name it with --server, or start it with --listen ADDRESS:PORT`,
    );
  return { server: found, ca };
}

function parseCluster(path: string): { readonly [field: string]: unknown } {
  let config: unknown;
  try {
    config = JSON.parse(readText(path));
  } catch (cause) {
    if (cause instanceof CredentialError) throw cause;
    throw new CredentialError(`${path} is not as gingham-apiserver --kubeconfig writes it: ${describeError(cause)}`, {
      cause,
    });
  }
  const clusters = isObject(config) ? config["clusters"] : undefined;
  const first: unknown = Array.isArray(clusters) ? clusters[0] : undefined;
  const cluster = isObject(first) ? first["cluster"] : undefined;
  if (!isObject(cluster)) throw new CredentialError(`${path} names no cluster`);
  return cluster;
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new CredentialError(
      `Cannot read ${path}: ${describeError(cause)}; it is there once gingham-apiserver has run with --cert-dir and --kubeconfig`,
      { cause },
    );
  }
}

function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
