// SPDX-License-Identifier: Apache-2.0
import { networkInterfaces } from "node:os";
import { Authenticator, type Identity, type IdentitySource } from "./auth.ts";
import { type Certificates, ensureCertificates } from "./certificates.ts";
import { createEngine } from "./engine.ts";
import { type Intercept, listen, type RequestLog } from "./http.ts";
import { kubeconfig } from "./kubeconfig.ts";
import { memoryPersistence, sqlitePersistence } from "./persistence.ts";
import { makeToken } from "./tokens.ts";

export interface ApiServerOptions {
  /** @default "127.0.0.1" */
  readonly host?: string;
  /** @default 0, a free port */
  readonly port?: number;
  /** SQLite file, or ":memory:". @default ":memory:" */
  readonly data?: string;
  /** Where the certificates are kept; absent: made anew and kept in memory. */
  readonly certDir?: string;
  /** Plain HTTP, for measurements and debugging on loopback. @default false */
  readonly insecureHttp?: boolean;
  /** Tokens that are known from the start; without an admin among them one is made. */
  readonly tokens?: readonly Identity[];
  /** Tokens that come and go while it runs, beside those. */
  readonly tokenSource?: IdentitySource;
  /** Objects that are created, or updated, before the first request: CRDs above all. */
  readonly manifests?: readonly unknown[];
  /** Objects that are created after those when there is none of their kind yet. */
  readonly defaults?: readonly unknown[];
  /** Units: changes that a watch can look back on. @default 2000 */
  readonly historyLength?: number;
  /** Fault injection for tests. */
  readonly intercept?: Intercept;
  readonly log?: RequestLog;
}

export interface ApiServer {
  readonly url: string;
  /** PEM; undefined with insecureHttp. */
  readonly ca: string | undefined;
  readonly adminToken: string;
  adminKubeconfig(): string;
  /** Makes a token of the role "node" and a kubeconfig for it. */
  nodeKubeconfig(node: string): string;
  /** Forgets all but the newest changes, so that older watches get 410. For tests. */
  compact(keep?: number): void;
  /** Ends all watches, answers what is under way, closes the disk. */
  close(): Promise<void>;
}

const HISTORY_LENGTH = 2000;

/** Starts a server that is ready when the promise resolves. */
export async function createApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const { host = "127.0.0.1", data = ":memory:", tokens = [] } = options;
  const nowMs = Date.now;
  const admin = tokens.find((t) => t.role === "admin") ?? makeToken("admin", "admin");
  const authenticator = new Authenticator([admin, ...tokens], options.tokenSource);
  const certificates = options.insecureHttp === true ? undefined : certificatesFor(options.certDir, host, nowMs());
  const { api, store } = await createEngine({
    persistence: data === ":memory:" ? memoryPersistence(nowMs()) : sqlitePersistence(data),
    historyLength: options.historyLength ?? HISTORY_LENGTH,
    authenticator,
    manifests: options.manifests ?? [],
    defaults: options.defaults ?? [],
    nowMs,
  });
  const http = await listen(api, {
    host,
    port: options.port ?? 0,
    certificates,
    intercept: options.intercept,
    log: options.log,
  });
  const configFor = (identity: Identity): string =>
    kubeconfig(http.url, certificates?.ca, identity.user, identity.token);
  return {
    url: http.url,
    ca: certificates?.ca,
    adminToken: admin.token,
    adminKubeconfig: () => configFor(admin),
    nodeKubeconfig: (node) => {
      const identity = makeToken(`system:node:${node}`, "node", node);
      authenticator.add(identity);
      return configFor(identity);
    },
    compact: (keep = 0) => store.log.compact(keep),
    close: async () => {
      await http.close();
      store.close();
    },
  };
}

function certificatesFor(dir: string | undefined, host: string, nowMs: number): Certificates {
  const isWildcard = host === "0.0.0.0" || host === "::";
  const own = Object.values(networkInterfaces()).flatMap((list) => list?.map((i) => i.address) ?? []);
  return ensureCertificates(dir, isWildcard ? own.filter((a) => !a.startsWith("fe80:")) : [host], nowMs);
}
