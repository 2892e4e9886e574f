// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createApiServer } from "../../src/apiserver/api-server.ts";
import { BLOCK_AFFINITIES } from "../../src/crds/block-affinity.ts";
import { NODES } from "../../src/crds/core.ts";
import { renderCRD } from "../../src/crds/definition.ts";
import { IP_POOLS } from "../../src/crds/ip-pool.ts";
import { KINDS } from "../../src/crds/kinds.ts";
import { FakeLog, fakeAffinity, fakeNode, fakePool, noMetrics } from "../../src/felix/fake-resources.ts";
import { FakeRouteDataplane } from "../../src/felix/fake-route-dataplane.ts";
import { createFelix } from "../../src/felix/felix.ts";
import { formatKernelRoute } from "../../src/felix/kernel-route.ts";
import { HTTPKubeClient } from "../../src/kube/client.ts";
import { ClusterCache } from "../../src/kube/cluster-cache.ts";
import { GoneError } from "../../src/kube/errors.ts";
import { loadKubeConfig } from "../../src/kube/kube-config.ts";
import { systemClock } from "../../src/lib/system-clock.ts";
import { parseIP } from "../../src/net/ip.ts";

/** A wire that can be cut: what is open breaks, and nothing new gets through until it is mended. */
async function openWire(port: number): Promise<{ port: number; cut(): void; mend(): void; close(): void }> {
  const sockets = new Set<Socket>();
  let isCut = false;
  const server = createServer((near) => {
    if (isCut) return void near.destroy();
    const far = connect(port, "127.0.0.1");
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one);
      one.on("error", () => {});
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("No port");
  const breakAll = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: address.port,
    cut: () => {
      isCut = true;
      breakAll();
    },
    mend: () => {
      isCut = false;
    },
    close: () => {
      server.close();
      breakAll();
    },
  };
}

test("an agent whose watches are answered 410 misses nothing of what happened meanwhile, deletions included", async () => {
  const server = await createApiServer({ manifests: KINDS.map(renderCRD) });
  const wire = await openWire(Number(new URL(server.url).port));
  const folder = mkdtempSync(join(tmpdir(), "expired-watches-"));
  const clientBy = async (url: string): Promise<HTTPKubeClient> => {
    const kubeconfigPath = join(folder, "kubeconfig");
    writeFileSync(kubeconfigPath, server.adminKubeconfig().replaceAll(server.url, url));
    return new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }) });
  };
  const direct = await clientBy(server.url);
  const client = await clientBy(server.url.replace(/\d+$/, String(wire.port)));

  const [A, B, C] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map((ip, i) => fakeNode(`node-${"abc"[i]}`, [ip]));
  for (const node of [A, B, C]) if (node !== undefined) await direct.create(NODES, node);
  await direct.create(IP_POOLS, fakePool("pool", "10.0.0.0/16"));
  const [first, second] = [fakeAffinity("node-b", "10.0.0.64/26"), fakeAffinity("node-c", "10.0.0.128/26")];
  for (const claim of [fakeAffinity("node-a", "10.0.0.0/26"), first, second])
    await direct.create(BLOCK_AFFINITIES, claim);

  const gone: string[] = [];
  const shared = { nodeName: "node-a", clock: systemClock, random: Math.random };
  const cache = new ClusterCache({
    ...shared,
    client,
    onError: (error, resource) => {
      if (error instanceof GoneError) gone.push(resource);
    },
  });
  const kernel = new FakeRouteDataplane();
  kernel.addLink("lo", undefined, 1);
  kernel.addLink("eth0", { ip: parseIP("192.0.2.1"), prefixLength: 24 }, 2);
  const felix = createFelix({
    ...shared,
    dataplane: kernel,
    sources: cache,
    log: new FakeLog(),
    metrics: noMetrics,
    enableForwarding: () => {},
  });
  const nameOf = (ifIndex: number): string | undefined => kernel.linkOf(ifIndex)?.name;
  const routes = (): string[] =>
    kernel.routes.map((route) => formatKernelRoute(route, nameOf)).filter((text) => !text.includes("dev lo"));
  const untilRoutes = (...expected: string[]): Promise<void> =>
    expect.poll(() => routes().toSorted(), { timeout: 20_000 }).toEqual(expected.toSorted());

  cache.start();
  felix.start();
  const blackhole = "blackhole 10.0.0.0/26 proto 80";
  await untilRoutes(
    blackhole,
    "10.0.0.64/26 via 192.0.2.2 dev eth0 proto 80",
    "10.0.0.128/26 via 192.0.2.3 dev eth0 proto 80",
  );

  wire.cut();
  // One block changes hands, one goes with its node, one is new, and a node has another address.
  await direct.delete(BLOCK_AFFINITIES, first.metadata.name);
  await direct.create(BLOCK_AFFINITIES, fakeAffinity("node-d", "10.0.0.64/26"));
  await direct.create(NODES, fakeNode("node-d", ["192.0.2.4"]));
  await direct.delete(BLOCK_AFFINITIES, second.metadata.name);
  await direct.delete(NODES, "node-c");
  await direct.create(BLOCK_AFFINITIES, fakeAffinity("node-b", "10.0.0.192/26"));
  const addresses = [{ type: "InternalIP", address: "192.0.2.22" }];
  await direct.patch(NODES, "node-b", { type: "merge", body: { status: { addresses } } }, { subresource: "status" });
  server.compact();
  wire.mend();
  await untilRoutes(
    blackhole,
    "10.0.0.64/26 via 192.0.2.4 dev eth0 proto 80",
    "10.0.0.192/26 via 192.0.2.22 dev eth0 proto 80",
  );
  expect(gone).toEqual(expect.arrayContaining(["nodes", "blockaffinities", "ippools"]));
  expect(felix.findings()).toEqual([]);

  // The watches live again.
  await direct.create(BLOCK_AFFINITIES, fakeAffinity("node-d", "10.0.1.0/26"));
  await expect.poll(routes, { timeout: 10_000 }).toContain("10.0.1.0/26 via 192.0.2.4 dev eth0 proto 80");

  await felix.stop();
  await cache.stop();
  for (const each of [client, direct]) each.close();
  wire.close();
  await server.close();
  rmSync(folder, { recursive: true });
});
