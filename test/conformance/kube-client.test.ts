// SPDX-License-Identifier: Apache-2.0
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createApiServer } from "../../src/apiserver/api-server.ts";
import { makeToken } from "../../src/apiserver/tokens.ts";
import { parseYAML } from "../../src/apiserver/yaml.ts";
import { LEASES, NODES, type Node } from "../../src/crds/core.ts";
import { renderCRD } from "../../src/crds/definition.ts";
import { KINDS } from "../../src/crds/kinds.ts";
import { type ContractServer, describeKubeClient } from "../../src/kube/client.contract.ts";
import { HTTPKubeClient } from "../../src/kube/client.ts";
import type { KubeCredentials } from "../../src/kube/credentials.ts";
import { UnreachableError } from "../../src/kube/errors.ts";
import { Informer } from "../../src/kube/informer.ts";
import { loadKubeConfig } from "../../src/kube/kube-config.ts";
import { runAsLeader } from "../../src/kube/lease.ts";
import { systemClock } from "../../src/lib/system-clock.ts";

/** The embedded API server over TLS with a bearer token, and a client by its kubeconfig. */
async function start(
  data: (folder: string) => string,
): Promise<ContractServer & { readonly stop: () => Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), "kube-client-"));
  const server = await createApiServer({ data: data(folder), manifests: KINDS.map(renderCRD) });
  const kubeconfigPath = join(folder, "kubeconfig");
  writeFileSync(kubeconfigPath, server.adminKubeconfig());
  const client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }) });
  return {
    client,
    compact: () => server.compact(),
    stop: async () => {
      client.close();
      await server.close();
      rmSync(folder, { recursive: true });
    },
  };
}

describeKubeClient("the embedded API server, in memory", () => start(() => ":memory:"));
describeKubeClient("the embedded API server, in a file", () => start((folder) => join(folder, "data.sqlite")));

test("a certificate of another authority is refused, and the error says so", async () => {
  const one = await createApiServer();
  const other = await createApiServer();
  const folder = mkdtempSync(join(tmpdir(), "kube-client-"));
  const kubeconfigPath = join(folder, "kubeconfig");
  writeFileSync(kubeconfigPath, one.adminKubeconfig().replaceAll(one.url, other.url));
  const client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }) });
  const error = await client.list(NODES).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(UnreachableError);
  expect(error).toMatchObject({ message: expect.stringMatching(/certificate/) as string });
  client.close();
  rmSync(folder, { recursive: true });
  await Promise.all([one.close(), other.close()]);
});

test.each([
  { name: "127.0.0.1", outcome: "answers" },
  { name: "192.0.2.1", outcome: "refused" },
])("tls-server-name may be an address, as with Go: $name $outcome", async ({ name, outcome }) => {
  const server = await createApiServer();
  const folder = mkdtempSync(join(tmpdir(), "kube-client-"));
  const kubeconfigPath = join(folder, "kubeconfig");
  const config = await parseYAML(server.adminKubeconfig());
  const [{ clusters }] = config as [{ clusters: [{ cluster: Record<string, unknown> }] }];
  clusters[0].cluster["tls-server-name"] = name;
  writeFileSync(kubeconfigPath, JSON.stringify(config[0]));
  const client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }) });
  const result = await client.list(NODES).then(
    () => "answers",
    (error: unknown) => (error instanceof UnreachableError && /altnames/.test(error.message) ? "refused" : error),
  );
  expect(result).toBe(outcome);
  client.close();
  rmSync(folder, { recursive: true });
  await server.close();
});

test("an informer misses nothing while the server is away, whether it remembers its history or not", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kube-client-"));
  const fixed = { data: join(folder, "data.sqlite"), certDir: folder, tokens: [makeToken("admin", "admin")] };
  let server = await createApiServer(fixed);
  const port = Number(new URL(server.url).port);
  const kubeconfigPath = join(folder, "kubeconfig");
  writeFileSync(kubeconfigPath, server.adminKubeconfig());
  const client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }) });
  const node = (name: string, labels: Record<string, string> = {}): Node => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels },
  });
  for (const name of ["kept", "changed", "deleted"]) await client.create(NODES, node(name));

  const informer = new Informer({
    client,
    resource: NODES,
    project: ({ metadata }) => metadata.labels?.["v"] ?? "",
    clock: systemClock,
    random: Math.random,
  });
  const changes: string[] = [];
  let wake = (): void => {};
  informer.onChange((change) => {
    changes.push(`${change.type} ${change.key} ${change.new ?? ""}`.trim());
    wake();
  });
  const seen = async (count: number): Promise<string[]> => {
    while (changes.length < count) await new Promise<void>((resolve) => (wake = resolve));
    return changes.splice(0).sort();
  };
  informer.start();
  await informer.synced;
  expect(await seen(3)).toEqual(["added changed", "added deleted", "added kept"]);

  for (const forgets of [false, true]) {
    await server.close();
    // Written while the informer cannot see it: through a server on another port.
    const hidden = await createApiServer(fixed);
    writeFileSync(join(folder, "hidden"), hidden.adminKubeconfig());
    const writer = new HTTPKubeClient({
      credentials: await loadKubeConfig({ kubeconfigPath: join(folder, "hidden") }),
    });
    await writer.patch(NODES, "changed", { type: "merge", body: { metadata: { labels: { v: String(forgets) } } } });
    await writer.delete(NODES, "deleted");
    await writer.create(NODES, node("new"));
    if (forgets) hidden.compact();
    writer.close();
    await hidden.close();
    server = await createApiServer({ ...fixed, port });
    if (forgets) server.compact();
    expect(await seen(3)).toEqual(["added new", "deleted deleted", `modified changed ${forgets}`]);
    await client.create(NODES, node("deleted"));
    await client.delete(NODES, "new");
    expect(await seen(2)).toEqual(["added deleted", "deleted new"]);
  }
  await informer.stop();
  client.close();
  await server.close();
  rmSync(folder, { recursive: true });
});

test("of several servers one that hangs is passed over, and a watch misses nothing when one dies", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kube-client-"));
  const fixed = { data: join(folder, "data.sqlite"), certDir: folder, tokens: [makeToken("admin", "admin")] };
  // Takes connections as a stopped process does: the kernel does it, and no certificate ever comes.
  const hung = createServer().listen(0, "127.0.0.1");
  await once(hung, "listening");
  let alive = await createApiServer(fixed);
  const kubeconfigPath = join(folder, "kubeconfig");
  writeFileSync(kubeconfigPath, alive.adminKubeconfig());
  const loaded = await loadKubeConfig({ kubeconfigPath });
  const free = createServer().listen(0, "127.0.0.1");
  await once(free, "listening");
  const [hungPort, freePort] = [hung, free].map((server) => (server.address() as AddressInfo).port);
  free.close();
  const servers = [`https://127.0.0.1:${hungPort}`, alive.url, `https://127.0.0.1:${freePort}`].map(
    (url) => new URL(url),
  );
  const credentials: KubeCredentials = {
    server: servers[0] as URL,
    otherServers: servers.slice(1),
    namespace: undefined,
    proxyAgent: undefined,
    tls: () => loaded.tls(),
    headers: async () => await loaded.headers(),
    refresh: () => loaded.refresh(),
  };
  const client = new HTTPKubeClient({ credentials });
  const informer = new Informer({
    client,
    resource: NODES,
    project: () => true,
    clock: systemClock,
    random: Math.random,
  });
  informer.start();
  await client.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: "first" } });
  await expect.poll(() => [...informer.keys()]).toEqual(["first"]);

  await alive.close();
  alive = await createApiServer({ ...fixed, port: Number(freePort) });
  // A write on a connection that has just ended would be the caller's to repeat; a read is repeated.
  await client.get(NODES, "first");
  await client.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: "second" } });
  await expect.poll(() => [...informer.keys()].toSorted(), { timeout: 20_000 }).toEqual(["first", "second"]);

  await informer.stop();
  client.close();
  hung.close();
  await alive.close();
  rmSync(folder, { recursive: true });
}, 60_000);

test("of two contenders one leads, and the other when it lets go", async () => {
  const { client, stop } = await start(() => ":memory:");
  const turns: string[] = [];
  const contend = (identity: string): Promise<void> =>
    runAsLeader(
      {
        client,
        namespace: "kube-system",
        name: "gingham",
        identity,
        clock: systemClock,
        random: Math.random,
        leaseSeconds: 1,
      },
      async () => {
        turns.push(`${identity} leads`);
        const { spec } = await client.get(LEASES, "gingham", { namespace: "kube-system" });
        expect(spec?.holderIdentity).toBe(identity);
        await systemClock.sleep(300);
        turns.push(`${identity} ends`);
      },
      AbortSignal.timeout(30_000),
    );
  await Promise.all([contend("a"), contend("b")]);
  const [first = "", second = ""] = turns[0] === "a leads" ? ["a", "b"] : ["b", "a"];
  expect(turns).toEqual([`${first} leads`, `${first} ends`, `${second} leads`, `${second} ends`]);
  await stop();
});
