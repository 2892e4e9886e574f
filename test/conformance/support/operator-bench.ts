// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished, vi } from "vitest";
import { createApiServer } from "../../../src/apiserver/api-server.ts";
import { NAMESPACES, NODES, PODS } from "../../../src/crds/core.ts";
import { renderCRD } from "../../../src/crds/definition.ts";
import {
  type Condition,
  INSTALLATIONS,
  type Installation,
  MANAGED_ANNOTATION,
} from "../../../src/crds/installation.ts";
import { CUSTOM_RESOURCE_DEFINITIONS } from "../../../src/crds/installed-crd.ts";
import { IP_POOLS } from "../../../src/crds/ip-pool.ts";
import { IPAM_BLOCKS } from "../../../src/crds/ipam-block.ts";
import { KINDS, OPERATOR_KINDS } from "../../../src/crds/kinds.ts";
import type { KubeObject, Resource } from "../../../src/crds/object.ts";
import { TIGERA_STATUSES, type TigeraStatus } from "../../../src/crds/tigera-status.ts";
import type { Secret } from "../../../src/crds/workloads.ts";
import type { KubeClient } from "../../../src/kube/api.ts";
import { HTTPKubeClient } from "../../../src/kube/client.ts";
import { ForbiddenError, NotFoundError, resourceName } from "../../../src/kube/errors.ts";
import { loadKubeConfig } from "../../../src/kube/kube-config.ts";
import { systemClock as clock } from "../../../src/lib/system-clock.ts";
import { MANAGER } from "../../../src/operator/judge-pools.ts";
import { KubeCluster } from "../../../src/operator/kube-cluster.ts";
import { KubeWatches } from "../../../src/operator/kube-watches.ts";
import { FINALIZER, Operator } from "../../../src/operator/operator.ts";
import { REVISION_ANNOTATION } from "../../../src/operator/render/agent.ts";
import { INSTALLED_RESOURCES, nameOf, resourceOf } from "../../../src/operator/render/manifest.ts";
import {
  MANAGED_BY_LABEL,
  NAMESPACE,
  PULL_SECRET_NAMESPACE,
  TIGERA_OPERATOR,
} from "../../../src/operator/render/names.ts";
import { OPERATOR_ACCOUNT, renderOperator } from "../../../src/operator/render/operator.ts";
import { renderRights, rule } from "../../../src/operator/render/rbac.ts";
import { OperatorWorld } from "./operator-world.ts";

export const IMAGE = "example.org/gingham/gingham:1";
export const PATIENCE = { timeout: 60_000, interval: 50 };

interface InstallOptions {
  readonly name?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/**
 * An API server with an operator on it, and what Kubernetes' own controllers and kubelets would do with DaemonSet and
 * Deployment. The server is the embedded one or, with GINGHAM_TEST_KUBECONFIG, a real kube-apiserver that has no
 * controllers: there the operator has its own account, and no rights but those of its manifest.
 */
export class OperatorBench {
  readonly client: KubeClient;
  readonly #operatorClient: KubeClient;
  readonly reports: string[] = [];
  /** Plural of a kind that the operator may not write. */
  forbidden: string | undefined;
  /** Plural of a kind that it may not list. */
  hidden: string | undefined;
  /** The operator that was started last has died. */
  isDead = false;
  /** Called before each write of the operator. */
  beforeWrite: (plural: string) => Promise<void> = async () => {};
  readonly world: OperatorWorld;

  constructor(client: KubeClient, operatorClient: KubeClient) {
    this.client = client;
    this.world = new OperatorWorld(client);
    this.#operatorClient = operatorClient;
  }

  /**
   * Starts the operator, until the test ends or what is returned is called.
   *
   * @param diesAfter the process ends when the API server has taken so many of its writes
   */
  startOperator({ diesAfter = Number.POSITIVE_INFINITY }: { readonly diesAfter?: number } = {}): () => Promise<void> {
    const stop = new AbortController();
    this.isDead = false;
    const reporter = {
      passed: () => {},
      changed: (what: string) => void this.reports.push(what),
      failed: (error: unknown) => void this.reports.push(String(error)),
    };
    const onError = (error: unknown): void => void this.reports.push(String(error));
    const client = this.#limited(this.#operatorClient, diesAfter, stop);
    const source = new KubeWatches({ client, clock, random: Math.random, onError, onChange: () => operator.nudge() });
    const operator = new Operator({
      cluster: new KubeCluster(client),
      source,
      reporter,
      clock,
      image: IMAGE,
      settleMs: 20,
    });
    source.start();
    const running = operator.run(stop.signal);
    const end = async (): Promise<void> => {
      stop.abort(new Error("the test is over"));
      await running;
      await source.stop();
    };
    onTestFinished(end);
    return end;
  }

  #limited(client: KubeClient, diesAfter: number, stop: AbortController): KubeClient {
    let writes = 0;
    const write = async <T>({ plural }: { readonly plural: string }, done: () => Promise<T>): Promise<T> => {
      await this.beforeWrite(plural);
      if (writes++ >= diesAfter) {
        this.isDead = true;
        stop.abort(new Error("the process has died"));
      }
      stop.signal.throwIfAborted();
      return await done();
    };
    const check = (verb: string, resource: Resource<KubeObject>, without: string | undefined): void => {
      if (resource.plural !== without) return;
      const target = { verb, resource: resourceName(resource) };
      throw new ForbiddenError(target, { status: 403, message: `${resource.plural} is forbidden` });
    };
    const patch: KubeClient["patch"] = async (resource, name, change, options) => {
      check("patch", resource as Resource<KubeObject>, this.forbidden);
      if (change.dryRun === true) return await client.patch(resource, name, change, options);
      return await write(resource, () => client.patch(resource, name, change, options));
    };
    const create: KubeClient["create"] = async (resource, object, options) => {
      if (options?.dryRun === true) return await client.create(resource, object, options);
      return await write(resource, () => client.create(resource, object, options));
    };
    const remove: KubeClient["delete"] = async (resource, name, options) =>
      await write(resource, () => client.delete(resource, name, options));
    const list: KubeClient["list"] = async (resource, options) => {
      check("list", resource as Resource<KubeObject>, this.hidden);
      return await client.list(resource, options);
    };
    return new Proxy(client, {
      get: (of, name) => {
        const found: unknown = { patch, list, create, delete: remove }[String(name)] ?? Reflect.get(of, name);
        return typeof found === "function" ? (found.bind(of) as unknown) : found;
      },
    });
  }

  /** Plays controllers and kubelets until the test ends. */
  startWorld(): void {
    const stop = new AbortController();
    const running = this.world.run(stop.signal, (error) => void this.reports.push(`world: ${String(error)}`));
    onTestFinished(async () => {
      stop.abort();
      await running;
    });
  }

  async node(name: string, isUp = true, conditions: readonly object[] = []): Promise<void> {
    const node = { apiVersion: "v1", kind: "Node", metadata: { name, labels: { "gingham.dev/test": "yes" } } };
    await this.client.create(NODES, node).catch(() => undefined);
    const status = {
      conditions: [{ type: "Ready", status: isUp ? "True" : "Unknown" }, ...conditions],
      addresses: [{ type: "InternalIP", address: "203.0.113.1" }],
    };
    await this.client.patch(NODES, name, { type: "merge", body: { status } }, { subresource: "status" });
  }

  async install(spec: object, { name = "default", annotations = {} }: InstallOptions = {}): Promise<Installation> {
    const body = {
      apiVersion: "operator.tigera.io/v1",
      kind: "Installation",
      metadata: { name, annotations: { [MANAGED_ANNOTATION]: "true", ...annotations } },
      spec: { nodeSelector: { "gingham.dev/test": "yes" }, ...spec },
    };
    const patch = { type: "apply", body, fieldManager: "a-user", force: true } as const;
    return await this.client.patch(INSTALLATIONS, name, patch);
  }

  async find<T extends KubeObject>(resource: Resource<T>, name: string): Promise<T | undefined> {
    try {
      return await this.client.get(resource, name, resource.namespaced ? { namespace: NAMESPACE } : {});
    } catch (error) {
      if (error instanceof NotFoundError) return undefined;
      throw error;
    }
  }

  /** Conditions by type, as `True Reason: message`. */
  async conditions(
    resource: Resource<KubeObject> = TIGERA_STATUSES,
    name = "gingham",
  ): Promise<Record<string, string>> {
    const found = (await this.find(resource, name)) as TigeraStatus | undefined;
    const text = ({ type, status, reason, message }: Condition): [string, string] => [
      type,
      `${status} ${reason}: ${message}`,
    ];
    return Object.fromEntries((found?.status?.conditions ?? []).map(text));
  }

  /** What the kubelet of the node says of its agent now. */
  async setAgentReady(node: string, isReady: boolean): Promise<void> {
    const { items } = await this.client.list(PODS, { namespace: NAMESPACE });
    const pod = items.find(({ spec }) => spec?.nodeName === node);
    const conditions = [{ type: "Ready", status: isReady ? "True" : "False" }];
    const patch = { type: "merge", body: { status: { conditions, containerStatuses: null } } } as const;
    const options = { namespace: NAMESPACE, subresource: "status" } as const;
    await this.client.patch(PODS, pod?.metadata.name ?? "", patch, options);
  }

  /** `kind namespace/name` of all that has the operator's label, but pools. */
  async installedObjects(): Promise<string[]> {
    const labelSelector = `${MANAGED_BY_LABEL}=${MANAGER}`;
    const lists = INSTALLED_RESOURCES.map(async (resource) => {
      const { items } = await this.client.list(resource, { labelSelector }).catch((error: unknown) => {
        // The embedded server does not know every kind.
        if (error instanceof NotFoundError) return { items: [] };
        throw error;
      });
      return items.map((object) => nameOf({ ...object, kind: resource.kind }));
    });
    return (await Promise.all(lists)).flat();
  }

  /** A Secret in the namespace of Tigera's operator, which ours may read. */
  async pullSecretElsewhere(name: string, data: Readonly<Record<string, string>>): Promise<Secret> {
    const namespace = PULL_SECRET_NAMESPACE;
    const head = { apiVersion: "v1", metadata: { name, namespace, labels: { "gingham.dev/test": "yes" } } };
    const secret = { ...head, kind: "Secret", type: "kubernetes.io/dockerconfigjson", data };
    await applyAll(this.client, [
      { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } },
      secret,
      ...renderRights(OPERATOR_ACCOUNT, [rule("", ["secrets"], ["get"])], head.metadata.labels, namespace),
    ]);
    return secret;
  }

  /** A Deployment as Tigera's, which nobody runs. */
  async tigeraOperator(replicas: number): Promise<void> {
    const { name, namespace } = TIGERA_OPERATOR;
    const labels = { name, "gingham.dev/test": "yes" };
    const template = { metadata: { labels }, spec: { containers: [{ name, image: IMAGE }] } };
    const spec = { replicas, selector: { matchLabels: { name } }, template };
    const deployment = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name, namespace, labels }, spec };
    await applyAll(this.client, [{ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } }, deployment]);
  }

  async until(what: string, holds: () => Promise<boolean>): Promise<void> {
    await vi.waitFor(async () => {
      if (!(await holds())) {
        const said = JSON.stringify(await this.conditions(), null, 2);
        throw new Error(`Not yet: ${what}. TigeraStatus: ${said}. Heard: ${this.reports.slice(-5).join("; ")}`);
      }
    }, PATIENCE);
  }

  async untilCondition(type: string, text: string): Promise<void> {
    await this.until(`${type} ${text}`, async () => (await this.conditions())[type]?.includes(text) ?? false);
  }

  /** Node by node: the revision of its agent. */
  async revisions(): Promise<Record<string, string>> {
    const { items } = await this.client.list(PODS, { namespace: NAMESPACE });
    return Object.fromEntries(
      items.map(({ metadata, spec }) => [spec?.nodeName ?? "", metadata.annotations?.[REVISION_ANNOTATION] ?? ""]),
    );
  }
}

/** A bench for one test. With `crds`, those kinds are there before, and nobody has labelled them as the operator's. */
export async function startOperatorBench({
  crds = [],
}: {
  readonly crds?: readonly KubeObject[];
} = {}): Promise<OperatorBench> {
  const folder = mkdtempSync(join(tmpdir(), "gingham-operator-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const named = process.env["GINGHAM_TEST_KUBECONFIG"];
  if (named) return await startNamed(named, folder, crds);
  const server = await createApiServer({ manifests: [...OPERATOR_KINDS.map(renderCRD), ...crds] });
  onTestFinished(() => server.close());
  const kubeconfigPath = join(folder, "kubeconfig");
  writeFileSync(kubeconfigPath, server.adminKubeconfig(), { mode: 0o600 });
  const client = await connect(kubeconfigPath);
  await applyAll(client, renderOperator({ image: IMAGE, imagePullSecrets: [], controlPlaneNodeSelector: {} }));
  return new OperatorBench(client, client);
}

async function startNamed(kubeconfigPath: string, folder: string, crds: readonly KubeObject[]): Promise<OperatorBench> {
  const client = await connect(kubeconfigPath);
  await refuseUsedCluster(client);
  await cleanUp(client);
  onTestFinished(() => cleanUp(client));
  await applyAll(client, [...OPERATOR_KINDS.map(renderCRD), ...crds]);
  await vi.waitFor(async () => await client.list(INSTALLATIONS), PATIENCE);
  await vi.waitFor(async () => await client.list(TIGERA_STATUSES), PATIENCE);
  await applyAll(client, renderOperator({ image: IMAGE, imagePullSecrets: [], controlPlaneNodeSelector: {} }));
  const { name, namespace } = OPERATOR_ACCOUNT;
  const token = execFileSync("kubectl", ["--kubeconfig", kubeconfigPath, "create", "token", name, "-n", namespace], {
    encoding: "utf8",
  }).trim();
  const { load } = await import("js-yaml");
  const config = load(readFileSync(kubeconfigPath, "utf8")) as { users: [{ user: object }] };
  config.users[0].user = { token };
  const operatorConfig = join(folder, "operator-kubeconfig");
  writeFileSync(operatorConfig, JSON.stringify(config), { mode: 0o600 });
  return new OperatorBench(client, await connect(operatorConfig));
}

/** Fixed names, fake nodes and fake kubelets are no guests for a cluster that works. */
async function refuseUsedCluster(client: KubeClient): Promise<void> {
  const { items } = await client.list(NODES);
  const real = items.find(({ metadata }) => metadata.labels?.["gingham.dev/test"] === undefined);
  if (real === undefined) return;
  throw new Error(
    `The API server of GINGHAM_TEST_KUBECONFIG has a real node, ${real.metadata.name}: the operator's tests want one without nodes and controllers`,
  );
}

async function cleanUp(client: KubeClient): Promise<void> {
  const all = async <T extends KubeObject>(parsed: Resource<T>, mine: (object: T) => boolean): Promise<void> => {
    const { parse: _, ...resource } = parsed;
    const list = await client.list<T>(resource).catch((error: unknown) => {
      if (error instanceof NotFoundError) return { items: [] };
      throw error;
    });
    for (const object of list.items.filter(mine)) {
      const { name, namespace, finalizers = [] } = object.metadata;
      const options = namespace === undefined ? {} : { namespace };
      if (finalizers.includes(FINALIZER))
        await client.patch<T>(resource, name, { type: "merge", body: { metadata: { finalizers: null } } }, options);
      await client.delete<T>(resource, name, options).catch(() => undefined);
    }
  };
  const isManaged = ({ metadata }: KubeObject): boolean => metadata.labels?.[MANAGED_BY_LABEL] === MANAGER;
  await all(INSTALLATIONS, () => true);
  await all(TIGERA_STATUSES, () => true);
  await all(IPAM_BLOCKS as Resource<KubeObject>, () => true);
  await all(IP_POOLS as Resource<KubeObject>, () => true);
  await all(PODS, ({ metadata }) => metadata.namespace === NAMESPACE);
  await all(NODES, () => true);
  for (const resource of INSTALLED_RESOURCES)
    await all(resource, (object) => isManaged(object) || object.metadata.labels?.["gingham.dev/test"] === "yes");
  const names = new Set(KINDS.map((kind) => renderCRD(kind).metadata.name));
  await all(CUSTOM_RESOURCE_DEFINITIONS, ({ metadata }) => names.has(metadata.name));
  await vi.waitFor(async () => {
    const { items } = await client.list(CUSTOM_RESOURCE_DEFINITIONS);
    if (items.some(({ metadata }) => names.has(metadata.name))) throw new Error("CRDs are still going");
  }, PATIENCE);
}

async function connect(kubeconfigPath: string): Promise<KubeClient> {
  const client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }), clock });
  onTestFinished(() => client.close());
  return client;
}

export async function applyAll(client: KubeClient, objects: readonly KubeObject[]): Promise<void> {
  const resources = [...OPERATOR_KINDS.map(({ resource }) => resource), NAMESPACES as Resource<KubeObject>];
  for (const object of objects) {
    const resource = resources.find(({ kind }) => kind === object.kind) ?? resourceOf(object);
    const { name, namespace } = object.metadata;
    const patch = { type: "apply", body: object, fieldManager: "a-user", force: true } as const;
    const { parse: _, ...raw } = resource;
    await client.patch(raw, name, patch, namespace === undefined ? {} : { namespace });
  }
}
