// SPDX-License-Identifier: Apache-2.0
import { isIPv6 } from "node:net";
import { dirname, join } from "node:path";
import type { Clock } from "../lib/clock.ts";
import { systemClock } from "../lib/system-clock.ts";
import type { KubeCredentials, TLSMaterial } from "./credentials.ts";
import { KubeConfigError } from "./errors.ts";
import { type KubeConfigContext, parseKubeConfig } from "./kube-config-file.ts";
import { WatchedFile } from "./watched-file.ts";

const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

export interface LoadKubeConfigOptions {
  /** Absent: the service account of the pod we run in. */
  readonly kubeconfigPath?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly clock?: Clock;
  /** Folder of ca.crt, token and namespace. */
  readonly serviceAccountPath?: string;
}

/**
 * Finds the API server and the credentials for it.
 *
 * Tokens, certificates and the kubeconfig itself are read again when they change. Addresses, certificates, tokens and
 * passwords are read right here: `KubeConfig` of @kubernetes/client-node, which runs credential plugins, asks identity
 * providers and speaks to proxies, costs 130 ms and 35 MB in each process, and is loaded only where one of these is
 * configured. @throws KubeConfigError that names the file and what is wrong with it.
 */
export async function loadKubeConfig(options: LoadKubeConfigOptions = {}): Promise<KubeCredentials> {
  const { kubeconfigPath, env = process.env, clock = systemClock } = options;
  if (kubeconfigPath === undefined) return loadInCluster(env, clock, options.serviceAccountPath ?? SERVICE_ACCOUNT);
  const file = open(kubeconfigPath, clock);
  const parse = file.read().trimStart().startsWith("{") ? JSON.parse : (await import("js-yaml")).load;
  const read = (): KubeConfigContext =>
    parseKubeConfig(kubeconfigPath, file.read(), (text): unknown => parse(text), dirname(kubeconfigPath));
  const context = read();
  if (context.needsPlugin) {
    const { loadPluginCredentials } = await import("./plugin-credentials.ts");
    return await loadPluginCredentials(kubeconfigPath, context, clock);
  }
  return new FileCredentials(read, [file], clock);
}

function loadInCluster(
  env: Readonly<Record<string, string | undefined>>,
  clock: Clock,
  folder: string,
): FileCredentials {
  const [server, ...otherServers] = serversOf(env);
  if (server === undefined) {
    throw new KubeConfigError(
      "No API server: KUBERNETES_SERVICE_HOST is not set, so this is no pod; name a kubeconfig file",
    );
  }
  const namespace = open(join(folder, "namespace"), clock).read().trim();
  const context: KubeConfigContext = {
    server,
    otherServers,
    namespace,
    caFile: join(folder, "ca.crt"),
    tokenFile: join(folder, "token"),
    needsPlugin: false,
  };
  return new FileCredentials(() => context, [], clock);
}

/** Kubernetes sets one host; who sets the variables by hand may name several, with commas between them. @throws KubeConfigError */
function serversOf(env: Readonly<Record<string, string | undefined>>): readonly URL[] {
  const hosts = env["KUBERNETES_SERVICE_HOST"] ?? "";
  const port = env["KUBERNETES_SERVICE_PORT"] ?? "443";
  const names = hosts.split(",").flatMap((name) => name.trim() || []);
  return names.map((name) => {
    const url = URL.parse(`https://${isIPv6(name) ? `[${name}]` : name}:${port}`);
    // A path or a second port would be taken for one by whoever wrote it, and asked of nobody.
    if (url === null || url.pathname !== "/" || (name.includes(":") && !isIPv6(name)))
      throw new KubeConfigError(
        `KUBERNETES_SERVICE_HOST ${JSON.stringify(hosts)} and KUBERNETES_SERVICE_PORT ${JSON.stringify(port)}: ` +
          "want addresses or names with commas between them, and one port",
      );
    return url;
  });
}

function open(path: string, clock: Clock): WatchedFile {
  try {
    return new WatchedFile(path, clock);
  } catch (cause) {
    throw new KubeConfigError(`Cannot read ${path}: check that it exists and who may read it`, { cause });
  }
}

/** Credentials that are text in files, or in the kubeconfig itself. */
class FileCredentials implements KubeCredentials {
  readonly server: URL;
  readonly otherServers: readonly URL[];
  readonly namespace: string | undefined;
  readonly proxyAgent: undefined;
  readonly #read: () => KubeConfigContext;
  readonly #clock: Clock;
  readonly #files = new Map<string, WatchedFile>();
  readonly #roots: readonly WatchedFile[];
  #context: KubeConfigContext;
  #rootTexts: readonly string[];
  #tls: TLSMaterial;

  /** @param roots the files that `read` depends on. */
  constructor(read: () => KubeConfigContext, roots: readonly WatchedFile[], clock: Clock) {
    this.#read = read;
    this.#clock = clock;
    this.#roots = roots;
    this.#context = read();
    this.#rootTexts = roots.map((root) => root.read());
    this.server = this.#context.server;
    this.otherServers = this.#context.otherServers ?? [];
    this.namespace = this.#context.namespace;
    this.#tls = this.#readTLS();
    // A token that cannot be read is to be told now, not with the first request.
    if (this.#context.tokenFile !== undefined) this.#text(this.#context.tokenFile);
  }

  tls(): TLSMaterial {
    this.#reload();
    const now = this.#readTLS();
    const old = this.#tls;
    const isSame =
      now.ca === old.ca &&
      now.cert === old.cert &&
      now.key === old.key &&
      now.rejectUnauthorized === old.rejectUnauthorized &&
      now.servername === old.servername;
    if (!isSame) this.#tls = now;
    return this.#tls;
  }

  headers(): Promise<Readonly<Record<string, string>>> {
    this.#reload();
    const { tokenFile, token, username, password } = this.#context;
    const bearer = tokenFile === undefined ? token : this.#text(tokenFile).trim();
    if (bearer) return Promise.resolve({ authorization: `Bearer ${bearer}` });
    if (username === undefined) return Promise.resolve({});
    const basic = Buffer.from(`${username}:${password ?? ""}`).toString("base64");
    return Promise.resolve({ authorization: `Basic ${basic}` });
  }

  refresh(): void {
    for (const file of [...this.#roots, ...this.#files.values()]) file.check();
  }

  /** Follows a kubeconfig that somebody rewrote. One that does not parse is half written: the old one stays in force. */
  #reload(): void {
    const texts = this.#roots.map((root) => root.read());
    if (texts.every((text, i) => text === this.#rootTexts[i])) return;
    try {
      this.#context = this.#read();
      this.#rootTexts = texts;
    } catch (error) {
      if (!(error instanceof KubeConfigError)) throw error;
    }
  }

  #readTLS(): TLSMaterial {
    const { ca, caFile, cert, certFile, key, keyFile, insecure, tlsServerName } = this.#context;
    const material: { -readonly [K in keyof TLSMaterial]: TLSMaterial[K] } = {};
    const caText = caFile === undefined ? ca : this.#text(caFile);
    const certText = certFile === undefined ? cert : this.#text(certFile);
    const keyText = keyFile === undefined ? key : this.#text(keyFile);
    if (caText !== undefined) material.ca = caText;
    if (certText !== undefined) material.cert = certText;
    if (keyText !== undefined) material.key = keyText;
    if (insecure === true) material.rejectUnauthorized = false;
    if (tlsServerName !== undefined) material.servername = tlsServerName;
    return material;
  }

  #text(path: string): string {
    let file = this.#files.get(path);
    if (file === undefined) {
      file = open(path, this.#clock);
      this.#files.set(path, file);
    }
    return file.read();
  }
}
