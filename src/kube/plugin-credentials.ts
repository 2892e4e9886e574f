// SPDX-License-Identifier: Apache-2.0
import type { RequestOptions } from "node:https";
// The package's own entry would load a thousand generated files.
import { KubeConfig } from "@kubernetes/client-node/dist/config.js";
import type { Clock } from "../lib/clock.ts";
import type { KubeCredentials, TLSMaterial } from "./credentials.ts";
import { KubeConfigError } from "./errors.ts";
import type { KubeConfigContext } from "./kube-config-file.ts";

/** Asking is cheap, as KubeConfig keeps a plugin's answer until it expires, but it reads certificate files each time. */
const ASK_EVERY_MS = 3_000;

/** Credentials by credential plugin (exec), identity provider or through a proxy. @throws KubeConfigError */
export async function loadPluginCredentials(
  path: string,
  context: KubeConfigContext,
  clock: Clock,
): Promise<KubeCredentials> {
  const credentials = new PluginCredentials(path, context, clock);
  await credentials.headers();
  return credentials;
}

class PluginCredentials implements KubeCredentials {
  readonly server: URL;
  readonly namespace: string | undefined;
  readonly #path: string;
  readonly #clock: Clock;
  #config: KubeConfig | undefined;
  #asked: Promise<RequestOptions> | undefined;
  #askedMs = 0;
  #tls: TLSMaterial = {};
  #proxyAgent: RequestOptions["agent"];
  readonly #usesProxy: boolean;

  constructor(path: string, context: KubeConfigContext, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
    this.server = context.server;
    this.namespace = context.namespace;
    this.#usesProxy = context.usesProxy ?? false;
  }

  get proxyAgent(): Exclude<RequestOptions["agent"], boolean | undefined> | undefined {
    return this.#usesProxy && typeof this.#proxyAgent === "object" ? this.#proxyAgent : undefined;
  }

  tls(): TLSMaterial {
    return this.#tls;
  }

  async headers(): Promise<Readonly<Record<string, string>>> {
    if (this.#asked === undefined || this.#clock.nowMs() - this.#askedMs >= ASK_EVERY_MS) {
      this.#askedMs = this.#clock.nowMs();
      this.#asked = this.#ask();
    }
    const { headers, auth } = await this.#asked;
    const found = Object.entries(headers ?? {}).map(([name, value]) => [name.toLowerCase(), String(value)] as const);
    if (typeof auth === "string") found.push(["authorization", `Basic ${Buffer.from(auth).toString("base64")}`]);
    return Object.fromEntries(found);
  }

  refresh(): void {
    // KubeConfig offers no way to forget a plugin's answer, so everything is loaded anew.
    this.#config = undefined;
    this.#asked = undefined;
  }

  async #ask(): Promise<RequestOptions> {
    const options: RequestOptions = { headers: {} };
    try {
      this.#config ??= loaded(this.#path);
      await this.#config.applyToHTTPSOptions(options);
    } catch (cause) {
      this.#asked = undefined;
      throw new KubeConfigError(`Cannot get credentials by kubeconfig ${this.#path}: see the cause`, { cause });
    }
    const now = materialOf(options);
    if (JSON.stringify(now) !== JSON.stringify(this.#tls)) this.#tls = now;
    this.#proxyAgent = options.agent;
    return options;
  }
}

function loaded(path: string): KubeConfig {
  const config = new KubeConfig();
  config.loadFromFile(path);
  return config;
}

function materialOf(options: RequestOptions): TLSMaterial {
  const material: { -readonly [K in keyof TLSMaterial]: TLSMaterial[K] } = {};
  for (const field of ["ca", "cert", "key"] as const) {
    const value = options[field];
    if (typeof value === "string" || Buffer.isBuffer(value)) material[field] = value.toString();
  }
  if (options.rejectUnauthorized === false) material.rejectUnauthorized = false;
  if (typeof options.servername === "string") material.servername = options.servername;
  return material;
}
