// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { type Ran, runGingham } from "../../src/cli/fake-terminal.ts";
import { CLUSTER_INFORMATION_KIND, CLUSTER_INFORMATIONS } from "../../src/crds/cluster-information.ts";
import { renderCRD } from "../../src/crds/definition.ts";
import { INSTALLATIONS } from "../../src/crds/installation.ts";
import { CUSTOM_RESOURCE_DEFINITIONS } from "../../src/crds/installed-crd.ts";
import { IP_POOLS } from "../../src/crds/ip-pool.ts";
import { IPAM_BLOCKS } from "../../src/crds/ipam-block.ts";
import { IPAM_HANDLES } from "../../src/crds/ipam-handle.ts";
import { KINDS } from "../../src/crds/kinds.ts";
import type { KubeObject, Resource } from "../../src/crds/object.ts";
import {
  CLUSTER_ROLES,
  CONFIG_MAPS,
  DAEMON_SETS,
  DEPLOYMENTS,
  SECRETS,
  SERVICE_ACCOUNTS,
} from "../../src/crds/workloads.ts";
import { blockOf } from "../../src/ipam/gc/fake-cluster.ts";
import { UnreachableError } from "../../src/kube/errors.ts";
import { AGENT, CNI_CONFIG, CONTROLLER, NAMESPACE } from "../../src/operator/render/names.ts";
import { type OperatorBench, startOperatorBench } from "./support/operator-bench.ts";

// Each takes a second or two of a machine that does nothing else.
vi.setConfig({ testTimeout: 180_000 });

const POOL = { cidr: "198.18.0.0/16", encapsulation: "VXLANCrossSubnet" };
const NETWORK = { ipPools: [POOL] };

/** A cluster of three nodes, with everything installed and ready. */
async function installed(spec: object = { calicoNetwork: NETWORK }): Promise<OperatorBench> {
  const bench = await startOperatorBench();
  for (const node of ["a", "b", "c"]) await bench.node(node);
  bench.startWorld();
  await bench.install(spec);
  bench.startOperator();
  await bench.untilCondition("Available", "True");
  await bench.untilCondition("Progressing", "False");
  return bench;
}

describe("the operator", () => {
  it("makes a network of an Installation, and says what of it has no effect", async () => {
    const bench = await installed({
      calicoNetwork: { ...NETWORK, bgp: "Disabled", hostPorts: "Disabled" },
      typhaMetricsPort: 9093,
    });
    expect(await bench.conditions()).toMatchObject({ Degraded: expect.stringMatching(/^False/) as string });
    const own = await bench.conditions(INSTALLATIONS as Resource<KubeObject>, "default");
    for (const field of ["spec.typhaMetricsPort", "spec.calicoNetwork.bgp (Gingham does not speak BGP"])
      expect(own["FieldsIgnored"]).toContain(field);
    expect(own["Available"]).toMatch(/^True/);
    const pool = await bench.find(IP_POOLS, "default-ipv4-ippool");
    expect(pool?.spec).toMatchObject({
      cidr: "198.18.0.0/16",
      blockSize: 26,
      vxlanMode: "CrossSubnet",
      natOutgoing: true,
    });
    // With a real API server: its manifest gives the operator all rights that it uses.
    expect(bench.reports.filter((report) => /orbidden/.test(report))).toEqual([]);
    const conflist = (await bench.find(CONFIG_MAPS, CNI_CONFIG))?.data?.["conflist"] ?? "";
    expect(conflist).toContain("gingham-ipam");
    expect(conflist).not.toContain("portmap");
    // Whose they are: those that the agents need to the end have no owner that takes them away.
    expect((await bench.find(DAEMON_SETS, AGENT))?.metadata.ownerReferences?.[0]?.kind).toBe("Installation");
    expect((await bench.find(SERVICE_ACCOUNTS, AGENT))?.metadata.ownerReferences).toBeUndefined();
  });

  it("repairs what others delete or change, and leaves alone what is theirs", async () => {
    const bench = await installed();
    await bench.client.delete(CLUSTER_ROLES, AGENT);
    await bench.client.patch(IP_POOLS, "default-ipv4-ippool", { type: "merge", body: { spec: { disabled: true } } });
    const options = { namespace: NAMESPACE };
    const body = { metadata: { annotations: { theirs: "kept" } }, spec: { replicas: 0 } };
    await bench.client.patch(DEPLOYMENTS, CONTROLLER, { type: "merge", body, fieldManager: "someone" }, options);
    await bench.until("the role is back", async () => (await bench.find(CLUSTER_ROLES, AGENT)) !== undefined);
    await bench.until("the pool is as it was", async () => {
      return (await bench.find(IP_POOLS, "default-ipv4-ippool"))?.spec.disabled === false;
    });
    await bench.until("the controller is as it was", async () => {
      return (await bench.find(DEPLOYMENTS, CONTROLLER))?.spec?.replicas === 2;
    });
    expect((await bench.find(DEPLOYMENTS, CONTROLLER))?.metadata.annotations?.["theirs"]).toBe("kept");
  });

  it("touches nothing for an Installation that cannot be, and says which field, why, and what to do", async () => {
    const bench = await installed();
    const before = await bench.find(DAEMON_SETS, AGENT);
    const twice = { ipPools: [POOL, { cidr: "198.18.128.0/17" }], mtu: 1300 };
    await bench.install({ calicoNetwork: twice });
    await bench.untilCondition(
      "Degraded",
      "True OverlappingPools: spec.calicoNetwork.ipPools[1].cidr: 198.18.128.0/17 overlaps",
    );
    await bench.install({ calicoNetwork: { ipPools: [{ cidr: "198.18.0.0/33" }], mtu: 1300 } });
    await bench.untilCondition("Degraded", 'True InvalidField: spec.calicoNetwork.ipPools[0].cidr: "198.18.0.0/33"');
    expect((await bench.find(DAEMON_SETS, AGENT))?.metadata.generation).toBe(before?.metadata.generation);
    expect((await bench.conditions())["Available"]).toMatch(/^True/);
    await bench.install({ calicoNetwork: { ...NETWORK, mtu: 1300 } });
    await bench.untilCondition("Degraded", "False");
    expect((await bench.find(DAEMON_SETS, AGENT))?.metadata.generation).not.toBe(before?.metadata.generation);
  });

  it("changes one agent after the other, stops at a node that got worse, and goes on when the change is taken back", async () => {
    const bench = await startOperatorBench();
    await bench.node("a", false);
    for (const node of ["b", "c", "d"]) await bench.node(node);
    bench.startWorld();
    await bench.install({ calicoNetwork: NETWORK });
    const end = bench.startOperator();
    await bench.untilCondition("Available", "True");
    await bench.until("four agents", async () => Object.keys(await bench.revisions()).length === 4);
    const { b: old } = await bench.revisions();

    bench.world.behaviour = { c: "fails" };
    await bench.install({ calicoNetwork: { ...NETWORK, mtu: 1300 } });
    // Node a was down before: it is changed, and holds nobody back.
    await bench.untilCondition("Degraded", "True RolloutPaused: node c: its new agent");
    const paused = await bench.revisions();
    // Whoever takes over knows from the DaemonSet that node c was healthy.
    await end();
    bench.startOperator();
    await bench.install({ calicoNetwork: { ...NETWORK, mtu: 1300 }, controlPlaneReplicas: 1 });
    await bench.until("the new operator has had a look", async () => {
      return (await bench.find(DEPLOYMENTS, CONTROLLER))?.spec?.replicas === 1;
    });
    expect(await bench.revisions()).toEqual(paused);
    expect([paused["a"], paused["b"], paused["c"], paused["d"]].map((revision) => revision === old)).toEqual([
      false,
      false,
      false,
      true,
    ]);

    bench.world.behaviour = {};
    await bench.install({ calicoNetwork: NETWORK });
    await bench.untilCondition("Degraded", "False");
    await bench.until("all are as before", async () => {
      return Object.values(await bench.revisions()).every((revision) => revision === old);
    });
  });

  it("does not touch what it did not make, and writes nothing before that is settled", async () => {
    const bench = await startOperatorBench();
    await bench.node("a");
    const account = {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { name: AGENT, namespace: NAMESPACE, labels: { "gingham.dev/test": "yes" } },
    };
    await bench.client.create(SERVICE_ACCOUNTS, account);
    await bench.install({ calicoNetwork: NETWORK });
    bench.startOperator();
    await bench.untilCondition("Degraded", `True NotOurs: ServiceAccount ${NAMESPACE}/${AGENT}`);
    expect(await bench.find(CLUSTER_ROLES, AGENT)).toBeUndefined();
    expect(await bench.find(DAEMON_SETS, AGENT)).toBeUndefined();
  });

  it("names the kind that it has no right to write, before it has written anything", async () => {
    const bench = await startOperatorBench();
    await bench.node("a");
    bench.forbidden = "networkpolicies";
    await bench.install({ calicoNetwork: NETWORK });
    bench.startOperator();
    await bench.untilCondition(
      "Degraded",
      `True Forbidden: NetworkPolicy ${NAMESPACE}/gingham: Cannot patch networkpolicies`,
    );
    expect((await bench.conditions())["Degraded"]).toContain("apply the operator's manifest again");
    expect(await bench.find(SERVICE_ACCOUNTS, AGENT)).toBeUndefined();
    bench.forbidden = undefined;
    // What is not watched is looked at again without being told.
    await bench.install({ calicoNetwork: NETWORK, nodeMetricsPort: 9191 });
    await bench.until("it goes on", async () => (await bench.find(DAEMON_SETS, AGENT)) !== undefined);
  });

  it("names the kind that it has no right to read, and does nothing blindly", async () => {
    const bench = await startOperatorBench();
    bench.hidden = "ippools";
    await bench.install({ calicoNetwork: NETWORK });
    bench.startOperator();
    await bench.untilCondition("Degraded", "True Forbidden: ippools.crd.projectcalico.org: Cannot list ippools");
    expect(await bench.find(SERVICE_ACCOUNTS, AGENT)).toBeUndefined();
  });

  it("names what it may not look at, and counts agents that it cannot see neither as ready nor as gone", async () => {
    const bench = await installed();
    bench.hidden = "pods";
    await bench.install({ calicoNetwork: { ...NETWORK, mtu: 1300 } });
    await bench.untilCondition("Degraded", "True Forbidden: pods: Cannot list pods");
    await bench.client.delete(INSTALLATIONS, "default");
    await bench.until("the removal has begun", async () => {
      const { metadata, status } = (await bench.find(INSTALLATIONS, "default")) ?? {};
      const degraded = status?.conditions?.find(({ type }) => type === "Degraded");
      return metadata?.deletionTimestamp !== undefined && degraded?.observedGeneration === metadata.generation;
    });
    expect((await bench.conditions())["Degraded"]).toContain("True Forbidden: pods");
    expect(await bench.find(CLUSTER_ROLES, AGENT)).toBeDefined();
  });

  it("tells what agents say of their nodes, and forgets it with them", async () => {
    const bench = await installed();
    const message = "/etc/cni/net.d/05-other.conf comes first, so new pods get that network: remove it";
    await bench.node("b", true, [{ type: "NetworkDegraded", status: "True", message }]);
    await bench.untilCondition("Degraded", `True NodeDegraded: node b: ${message}`);
    expect((await bench.conditions())["Available"]).toMatch(/^True/);
    await bench.node("b");
    await bench.untilCondition("Degraded", "False");
  });

  it("turns Available with the last agent of a change, and stays so while one starts anew", async () => {
    const bench = await startOperatorBench();
    for (const node of ["a", "b"]) await bench.node(node);
    bench.world.behaviour = { b: "fails" };
    bench.startWorld();
    await bench.install({ calicoNetwork: NETWORK });
    const end = bench.startOperator();
    await bench.untilCondition("Degraded", "True PodFailure");
    expect((await bench.conditions())["Available"]).toMatch(/^False/);
    await bench.setAgentReady("b", true);
    await bench.untilCondition("Available", "True");
    await bench.setAgentReady("a", false);
    await bench.untilCondition("Progressing", "True ResourceNotReady: 1 of 2 agents are ready");
    expect((await bench.conditions())["Available"]).toMatch(/^True/);
    // The Installation remembers, and not the operator.
    await end();
    bench.startOperator();
    await bench.setAgentReady("a", true);
    await bench.untilCondition("Progressing", "False");
    await bench.setAgentReady("a", false);
    await bench.untilCondition("Progressing", "True");
    expect((await bench.conditions())["Available"]).toMatch(/^True/);
  });

  it("tells the Installation when it has no right to TigeraStatus", async () => {
    const bench = await startOperatorBench();
    bench.forbidden = "tigerastatuses";
    await bench.install({ calicoNetwork: NETWORK });
    bench.startOperator();
    await bench.until("the Installation says so", async () => {
      const { Degraded = "" } = await bench.conditions(INSTALLATIONS as Resource<KubeObject>, "default");
      return Degraded.includes("True Forbidden: TigeraStatus gingham: Cannot patch tigerastatuses");
    });
  });

  it("tells that the API server did not answer, and goes on where it was", async () => {
    const bench = await startOperatorBench();
    const target = { verb: "patch", resource: "deployments.apps", name: CONTROLLER };
    bench.beforeWrite = async (plural) => {
      if (plural === "deployments") throw new UnreachableError(target, "no answer within 10 s");
    };
    await bench.install({ calicoNetwork: NETWORK });
    bench.startOperator();
    await bench.untilCondition("Degraded", `True APIServerAway: Deployment ${NAMESPACE}/${CONTROLLER}: Cannot patch`);
    expect(await bench.find(DAEMON_SETS, AGENT)).toBeDefined();
    bench.beforeWrite = async () => {};
    await bench.client.delete(CLUSTER_ROLES, AGENT);
    await bench.untilCondition("Degraded", "False");
    expect(await bench.find(DEPLOYMENTS, CONTROLLER)).toBeDefined();
  });

  it("does nothing for the Installation that Tigera's operator acts on while that runs", async () => {
    const bench = await startOperatorBench();
    await bench.tigeraOperator(1);
    await bench.install({ calicoNetwork: NETWORK });
    bench.startOperator();
    await bench.untilCondition("Degraded", "True TigeraOperator: metadata.name: Tigera's operator (Deployment");
    expect(await bench.find(SERVICE_ACCOUNTS, AGENT)).toBeUndefined();
    await bench.tigeraOperator(0);
    await bench.install({ calicoNetwork: NETWORK, nodeMetricsPort: 9191 });
    await bench.untilCondition("Degraded", "False");
  });

  it("lets a ClusterInformation be that comes while it works: a migration's lock stays", async () => {
    const bench = await startOperatorBench({ crds: [renderCRD(CLUSTER_INFORMATION_KIND)] });
    const theirs = {
      apiVersion: "crd.projectcalico.org/v1",
      kind: "ClusterInformation",
      metadata: { name: "default" },
      spec: { clusterGUID: "theirs", datastoreReady: false },
    };
    bench.beforeWrite = async (plural) => {
      if (plural !== "clusterinformations") return;
      bench.beforeWrite = async () => {};
      await bench.client.create(CLUSTER_INFORMATIONS, theirs);
    };
    await bench.install({ calicoNetwork: NETWORK });
    bench.startOperator();
    await bench.until("the agents are there", async () => (await bench.find(DAEMON_SETS, AGENT)) !== undefined);
    const { metadata, spec } = (await bench.find(CLUSTER_INFORMATIONS, "default")) ?? {};
    expect([spec, metadata?.labels]).toEqual([theirs.spec, undefined]);
    await bench.untilCondition("Degraded", "False");
  });

  it("copies a pull secret from Tigera's namespace, keeps the copy as it should be, and takes it away", async () => {
    const bench = await startOperatorBench();
    const data = { ".dockerconfigjson": Buffer.from('{"auths":{}}').toString("base64") };
    const secret = await bench.pullSecretElsewhere("pull", data);
    await bench.install({ calicoNetwork: NETWORK, imagePullSecrets: [{ name: "missing" }] });
    bench.startOperator();
    await bench.untilCondition(
      "Degraded",
      "True PullSecretMissing: spec.imagePullSecrets[0]: there is no Secret missing",
    );
    expect(await bench.find(DAEMON_SETS, AGENT)).toBeUndefined();
    await bench.install({ calicoNetwork: NETWORK, imagePullSecrets: [{ name: "pull" }] });
    const hasCopy = async (): Promise<boolean> =>
      (await bench.find(SECRETS, "pull"))?.data?.[".dockerconfigjson"] === data[".dockerconfigjson"];
    await bench.until("the copy is there", hasCopy);
    expect((await bench.find(SECRETS, "pull"))?.metadata.ownerReferences?.[0]?.kind).toBe("Installation");
    const body = { data: { ".dockerconfigjson": "e30=" } };
    await bench.client.patch(SECRETS, "pull", { type: "merge", body }, { namespace: NAMESPACE });
    await bench.until("the copy is as it was", hasCopy);
    await bench.install({ calicoNetwork: NETWORK, imagePullSecrets: [] });
    await bench.until("the copy is gone", async () => (await bench.find(SECRETS, "pull")) === undefined);
    expect(await bench.client.get(SECRETS, "pull", { namespace: secret.metadata.namespace ?? "" })).toBeDefined();
  });

  it("finishes what operators that died after any of their writes have begun, and so with a removal", async () => {
    const bench = await startOperatorBench();
    for (const node of ["a", "b"]) await bench.node(node);
    bench.startWorld();
    await bench.install({ calicoNetwork: NETWORK });
    /** Operators that live longer and longer, until it holds. */
    const inTurns = async (holds: () => Promise<boolean>): Promise<number> => {
      for (let diesAfter = 0; diesAfter < 80; diesAfter += 3) {
        const end = bench.startOperator({ diesAfter });
        await bench.until("done, or the operator is dead", async () => bench.isDead || (await holds()));
        await end();
        if (await holds()) return diesAfter;
      }
      throw new Error("None of them was able to finish");
    };
    const isAvailable = async (): Promise<boolean> => {
      const { Available = "", Progressing = "" } = await bench.conditions();
      return Available.startsWith("True") && Progressing.startsWith("False");
    };
    // Most of them died with half of it done.
    expect(await inTurns(isAvailable)).toBeGreaterThan(20);
    const objects = await bench.installedObjects();
    expect(objects).toContain(`DaemonSet ${NAMESPACE}/${AGENT}`);
    await bench.client.delete(INSTALLATIONS, "default");
    await inTurns(async () => (await bench.find(INSTALLATIONS, "default")) === undefined);
    expect(await bench.installedObjects()).toEqual([]);
    expect(await bench.find(IP_POOLS, "default-ipv4-ippool")).toBeUndefined();
    expect(await bench.conditions()).toEqual({});
  });

  it("lets go of an Installation whose annotation is taken off, and touches nothing any more", async () => {
    const bench = await installed();
    await bench.install({ calicoNetwork: NETWORK }, { annotations: { "gingham.dev/managed": "false" } });
    await bench.until("the finalizer is gone", async () => {
      const { finalizers = [] } = (await bench.find(INSTALLATIONS, "default"))?.metadata ?? {};
      return finalizers.length === 0;
    });
    expect(await bench.find(DAEMON_SETS, AGENT)).toBeDefined();
    // Nobody looks any more, so nobody says that all is well.
    expect(await bench.conditions()).toEqual({});
    await bench.client.delete(INSTALLATIONS, "default");
    expect(await bench.find(INSTALLATIONS, "default")).toBeUndefined();
  });

  it("heeds the older of two Installations, and tells the other so; one without the annotation not at all", async () => {
    const bench = await installed();
    await bench.install({ calicoNetwork: { ipPools: [] } }, { name: "second" });
    await bench.until("the second is told", async () => {
      const { Degraded = "" } = await bench.conditions(INSTALLATIONS as Resource<KubeObject>, "second");
      return Degraded.includes("True SecondInstallation") && Degraded.includes("Installation default is older");
    });
    await bench.install({}, { name: "third", annotations: { "gingham.dev/managed": "false" } });
    expect(await bench.conditions(INSTALLATIONS as Resource<KubeObject>, "third")).toEqual({});
    expect(await bench.find(IP_POOLS, "default-ipv4-ippool")).toBeDefined();

    // The annotation is taken off the older one: the second takes over what is there.
    const before = await bench.find(DAEMON_SETS, AGENT);
    const { metadata } = await bench.install({ calicoNetwork: NETWORK }, { name: "second" });
    await bench.install({ calicoNetwork: NETWORK }, { annotations: { "gingham.dev/managed": "false" } });
    await bench.until("the second owns the agents", async () => {
      const owners = (await bench.find(DAEMON_SETS, AGENT))?.metadata.ownerReferences ?? [];
      return owners.length === 1 && owners[0]?.uid === metadata.uid;
    });
    const after = await bench.find(DAEMON_SETS, AGENT);
    expect([after?.metadata.uid, after?.metadata.generation]).toEqual([
      before?.metadata.uid,
      before?.metadata.generation,
    ]);
    await bench.until("the second is in charge", async () => {
      const { Degraded = "" } = await bench.conditions(INSTALLATIONS as Resource<KubeObject>, "second");
      return Degraded.startsWith("False");
    });
  });

  it("removes all that it made but the CRDs, the agents before what they need to give addresses back", async () => {
    const bench = await installed();
    const gone: string[] = [];
    const seen = async (what: string, resource: Resource<KubeObject>, name: string): Promise<void> => {
      await bench.until(`${what} is gone`, async () => (await bench.find(resource, name)) === undefined);
      gone.push(what);
    };
    // A node's claim, the address of its tunnel, and what another network has.
    const tunnel = blockOf("198.18.0.0/26", "a", [
      { handleID: "vxlan-tunnel-addr-a", attributes: { node: "a", type: "vxlanTunnelAddress" } },
    ]);
    const other = blockOf("198.19.0.0/26", "a", []);
    for (const { metadata, ...block } of [tunnel, other])
      await bench.client.create(IPAM_BLOCKS, { ...block, metadata: { name: metadata.name } });
    const handle = { handleID: "vxlan-tunnel-addr-a", block: { "198.18.0.0/26": 1 }, deleted: false };
    await bench.client.create(IPAM_HANDLES, {
      apiVersion: "crd.projectcalico.org/v1",
      kind: "IPAMHandle",
      metadata: { name: "vxlan-tunnel-addr-a" },
      spec: handle,
    });
    await bench.client.delete(INSTALLATIONS, "default");
    await Promise.all([
      seen("the agents", DAEMON_SETS as Resource<KubeObject>, AGENT),
      seen("their rights", CLUSTER_ROLES, AGENT),
    ]);
    expect(gone[0]).toBe("the agents");
    await seen("the pool", IP_POOLS as Resource<KubeObject>, "default-ipv4-ippool");
    await seen("the Installation", INSTALLATIONS as Resource<KubeObject>, "default");
    expect(await bench.conditions()).toEqual({});
    expect((await bench.client.list(IPAM_BLOCKS)).items.map(({ spec }) => spec.cidr)).toEqual(["198.19.0.0/26"]);
    expect((await bench.client.list(IPAM_HANDLES)).items).toEqual([]);
    for (const kind of KINDS)
      expect(await bench.find(CUSTOM_RESOURCE_DEFINITIONS, renderCRD(kind).metadata.name)).toBeDefined();
  });
});

describe("the operator that is taken away", () => {
  it("leaves a pool that pods have addresses of, with what is in it, and goes nevertheless", async () => {
    const bench = await installed();
    const { metadata, ...block } = blockOf("198.18.0.0/26", "a", [
      { handleID: "net.c", attributes: { node: "a", pod: "web" } },
    ]);
    await bench.client.create(IPAM_BLOCKS, { ...block, metadata: { name: metadata.name } });
    await bench.client.delete(INSTALLATIONS, "default");
    await bench.until(
      "the Installation is gone",
      async () => (await bench.find(INSTALLATIONS, "default")) === undefined,
    );
    expect(await bench.find(CLUSTER_ROLES, AGENT)).toBeUndefined();
    expect(await bench.find(IP_POOLS, "default-ipv4-ippool")).toBeDefined();
    expect((await bench.client.list(IPAM_BLOCKS)).items).toHaveLength(1);
  });
});

describe("the operator in a cluster that has CRDs already", () => {
  /** As Calico's: no columns, and IPAMBlock has no status. */
  const bare = (): KubeObject[] =>
    KINDS.map((kind) => renderCRD({ ...kind, printerColumns: [], statusSubresource: kind.resource.kind === "IPPool" }));
  const BLOCKS = "ipamblocks.crd.projectcalico.org";

  it("leaves them as they are, and adds columns and the status only when told to", async () => {
    const bench = await startOperatorBench({ crds: bare() });
    await bench.node("a");
    bench.startWorld();
    const before = await bench.find(CUSTOM_RESOURCE_DEFINITIONS, BLOCKS);
    await bench.install({ calicoNetwork: NETWORK });
    bench.startOperator();
    await bench.untilCondition("Available", "True");
    expect((await bench.find(CUSTOM_RESOURCE_DEFINITIONS, BLOCKS))?.metadata.generation).toBe(
      before?.metadata.generation,
    );
    await bench.install({ calicoNetwork: NETWORK }, { annotations: { "gingham.dev/allow": "ExtendCRDs" } });
    await bench.until("blocks have a status", async () => {
      const version = (await bench.find(CUSTOM_RESOURCE_DEFINITIONS, BLOCKS))?.spec.versions[0];
      return version?.subresources?.status !== undefined && (version.additionalPrinterColumns ?? []).length > 3;
    });
  });

  it("refuses those of another version", async () => {
    const crds = bare().map(
      (crd) => JSON.parse(JSON.stringify(crd).replaceAll('"v1","served"', '"v3","served"')) as KubeObject,
    );
    const bench = await startOperatorBench({ crds });
    await bench.install({ calicoNetwork: NETWORK });
    bench.startOperator();
    await bench.untilCondition("Degraded", `True CRDVersion: CustomResourceDefinition`);
    expect((await bench.conditions())["Degraded"]).toContain("blockaffinities are served as v3, and Gingham needs v1");
    expect(await bench.find(DAEMON_SETS, AGENT)).toBeUndefined();
  });
});

describe("gingham operator plan", () => {
  const INSTALLATION = (network: object): string =>
    JSON.stringify({
      apiVersion: "operator.tigera.io/v1",
      kind: "Installation",
      metadata: { name: "default", annotations: { "gingham.dev/managed": "true" } },
      spec: { nodeSelector: { "gingham.dev/test": "yes" }, calicoNetwork: network },
    });

  async function plan(bench: OperatorBench, network: object): Promise<Ran> {
    const folder = mkdtempSync(join(tmpdir(), "gingham-plan-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = join(folder, "installation.yaml");
    writeFileSync(file, INSTALLATION(network));
    return await runGingham(`operator plan -f ${file}`, { client: bench.client });
  }

  it("says what would change, and changes nothing; afterwards nothing is left to change", async () => {
    const bench = await startOperatorBench();
    for (const node of ["a", "b", "c"]) await bench.node(node);
    const first = await plan(bench, NETWORK);
    expect([first.status, first.stderr]).toEqual([0, ""]);
    for (const line of ["+ IPPool default-ipv4-ippool", `+ DaemonSet ${NAMESPACE}/${AGENT}`])
      expect(first.stdout.split("\n")).toContain(line);
    expect(await bench.find(IP_POOLS, "default-ipv4-ippool")).toBeUndefined();

    bench.startWorld();
    await bench.install({ calicoNetwork: NETWORK });
    bench.startOperator();
    await bench.untilCondition("Progressing", "False");
    expect((await plan(bench, NETWORK)).stdout).toBe("0 of 24 objects would change.\n");
    const second = await plan(bench, { ipPools: [{ ...POOL, natOutgoing: "Disabled" }], mtu: 1300 });
    expect(second.stdout).toContain("~ IPPool default-ipv4-ippool\n    spec.natOutgoing: true -> false\n");
    expect(second.stdout).toContain('env[GINGHAM_POD_INTERFACE_MTU].value: "0" -> "1300"\n');
    expect(second.stdout).toContain("2 of 24 objects would change.\nAgents would be replaced, 1 at a time");
  });

  it("says what the operator would refuse", async () => {
    const bench = await installed();
    const { status, stdout } = await plan(bench, { ipPools: [{ ...POOL, disableNewAllocations: true }] });
    expect(status).toBe(1);
    expect(stdout).toContain("NeedsPermission  spec.calicoNetwork.ipPools: no pool would be left");

    const { parse: _, ...RAW_BLOCKS } = IPAM_BLOCKS;
    // Damaged: it has fewer ordinals than addresses. Its pod is cut off like any other.
    const block = {
      apiVersion: "crd.projectcalico.org/v1",
      kind: "IPAMBlock",
      metadata: { name: "198-18-0-0-26" },
      spec: { cidr: "198.18.0.0/26", allocations: [0], attributes: [{}], unallocated: [], strictAffinity: false },
    };
    await bench.client.create(RAW_BLOCKS as Resource<KubeObject>, block);
    const change = await plan(bench, { ipPools: [{ ...POOL, encapsulation: "None" }] });
    expect(change.status).toBe(1);
    expect(change.stdout).toContain("ipPools[0].encapsulation: IPPool default-ipv4-ippool is in use (pods: 1), and");
  });
});
