// SPDX-License-Identifier: Apache-2.0
import { networkInterfaces } from "node:os";
import { Api } from "./api.ts";
import { Authenticator, type Identity } from "./auth.ts";
import { builtinResources } from "./builtin/kinds.ts";
import { type Certificates, ensureCertificates } from "./certificates.ts";
import { CRD_GROUP, CRD_PLURAL, crdTarget, resourcesOf } from "./crd.ts";
import type { StoreEvent } from "./entry.ts";
import { type Intercept, listen, type RequestLog } from "./http.ts";
import { kubeconfig } from "./kubeconfig.ts";
import type { ApiObject } from "./model.ts";
import { OpenAPI } from "./openapi.ts";
import { memoryPersistence, sqlitePersistence } from "./persistence.ts";
import { Reader } from "./reader.ts";
import { Registry, type ResourceDef, storageKey } from "./resource.ts";
import { Store } from "./store.ts";
import { makeToken } from "./tokens.ts";
import { Writer } from "./writer.ts";

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
  /** Objects that are created, or updated, before the first request: CRDs above all. */
  readonly manifests?: readonly unknown[];
  /** Units: changes that a watch can look back on. @default 20000 */
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

const FIRST_NAMESPACES = ["default", "kube-system", "kube-public", "kube-node-lease"];
const HISTORY_LENGTH = 20_000;

/** Starts a server that is ready when the promise resolves. */
export async function createApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const { host = "127.0.0.1", data = ":memory:", tokens = [] } = options;
  const nowMs = (): number => Date.now();
  const persistence = data === ":memory:" ? memoryPersistence(nowMs()) : sqlitePersistence(data);
  const store = new Store(persistence, options.historyLength ?? HISTORY_LENGTH);
  const registry = new Registry();
  for (const def of builtinResources()) registry.add(def);
  serveDefinitions(store, registry);
  const writer = new Writer(store, registry, nowMs);
  await createFirstObjects(writer, registry, store, options.manifests ?? []);

  const admin = tokens.find((t) => t.role === "admin") ?? makeToken("admin", "admin");
  const authenticator = new Authenticator([admin, ...tokens]);
  const certificates = options.insecureHttp === true ? undefined : certificatesFor(options.certDir, host, nowMs());
  const api = new Api({
    store,
    registry,
    reader: new Reader(store),
    writer,
    openapi: new OpenAPI(registry),
    authenticator,
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

/** Serves each definition that is stored, now and whenever one comes, changes or goes. */
function serveDefinitions(store: Store, registry: Registry): void {
  const crds = storageKey({ group: CRD_GROUP, plural: CRD_PLURAL });
  const add = (crd: ApiObject): void => {
    for (const def of resourcesOf(crd)) registry.add(def);
  };
  const follow = ({ type, entry }: StoreEvent): void => {
    if (entry.resource !== crds) return;
    const { group, plural } = crdTarget(entry.object);
    registry.remove(group, plural);
    if (type !== "DELETED") add(entry.object);
  };
  for (const entry of store.list(crds)) add(entry.object);
  store.log.listen((events) => events.forEach(follow));
}

async function createFirstObjects(
  writer: Writer,
  registry: Registry,
  store: Store,
  manifests: readonly unknown[],
): Promise<void> {
  const find = (apiVersion: string, kind: string): ResourceDef | undefined =>
    registry
      .all()
      .find(
        (def) => def.kind === kind && (def.group === "" ? def.version : `${def.group}/${def.version}`) === apiVersion,
      );
  const namespaces = FIRST_NAMESPACES.map((name) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } }));
  for (const [i, manifest] of [...namespaces, ...manifests].entries()) {
    const { apiVersion, kind, metadata } = manifest as Partial<ApiObject>;
    const def = find(String(apiVersion), String(kind));
    if (def === undefined || metadata === undefined) {
      throw new TypeError(
        `Cannot load manifest ${i - namespaces.length}: no kind ${String(kind)} in ${String(apiVersion)} is served`,
      );
    }
    const namespace = def.namespaced ? (metadata.namespace ?? "default") : "";
    const key = def.namespaced ? `${namespace}/${metadata.name}` : metadata.name;
    const context = {
      def,
      namespace,
      name: metadata.name,
      subresource: "",
      dryRun: false,
      fieldValidation: "Strict",
      manager: { name: "gingham-apiserver", isNamed: false },
      admit: () => undefined,
    } as const;
    const isThere = store.get(storageKey(def), key) !== undefined;
    if (!isThere) await writer.create(context, structuredClone(manifest));
    else if (i >= namespaces.length) await writer.patch(context, { type: "merge", body: manifest, force: false });
  }
}
