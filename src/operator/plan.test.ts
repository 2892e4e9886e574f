// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { renderCRD } from "../crds/definition.ts";
import type { Installation } from "../crds/installation.ts";
import type { InstalledCRD } from "../crds/installed-crd.ts";
import type { IPPool } from "../crds/ip-pool.ts";
import { IP_POOL_KIND } from "../crds/ip-pool.ts";
import type { Secret } from "../crds/workloads.ts";
import { parseCIDR } from "../net/cidr.ts";
import { chooseInstallation, type Plan, planInstallation, questionsOf } from "./plan.ts";
import type { ClusterFacts, PullSecret } from "./ports.ts";
import { problemText } from "./problem.ts";
import type { Manifest } from "./render/manifest.ts";

const EMPTY: ClusterFacts = {
  installations: [],
  crds: new Map(),
  pools: [],
  hasClusterInformation: false,
  blocks: [],
  nodes: [{ name: "node-a", isReady: true, isDown: false, addresses: ["203.0.113.1"] }],
  pullSecrets: new Map(),
  copiedSecrets: [],
  hasTigeraOperator: false,
  unreadable: [],
};

const MAIN = { name: "main", cidr: "10.244.0.0/16", encapsulation: "VXLAN" };

function installation(spec: object, metadata: object = {}): Installation {
  const head = { apiVersion: "operator.tigera.io/v1", kind: "Installation" };
  return { ...head, metadata: { name: "default", uid: "u", ...metadata }, spec: { ...spec } };
}

function plan(
  network: object,
  facts: Partial<ClusterFacts> = {},
  { spec = {}, allow = "", annotations = {} } = {},
): Plan {
  const allowed = allow === "" ? {} : { "gingham.dev/allow": allow };
  return planInstallation({
    installation: installation({ calicoNetwork: network, ...spec }, { annotations: { ...allowed, ...annotations } }),
    facts: { ...EMPTY, ...facts },
    image: "example.org:5000/some/gingham:1",
  });
}

/** As the API server has it. */
function pool(name: string, cidr: string, { ours = true, spec = {} } = {}): IPPool {
  const labels = ours ? { "app.kubernetes.io/managed-by": "gingham-operator" } : {};
  const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name, labels } };
  return { ...head, spec: { cidr, blockSize: 26, vxlanMode: "Always", ...spec } };
}

const inUse = (cidr: string, pods = 3): ClusterFacts["blocks"] => [{ cidr: parseCIDR(cidr), pods }];

/** `Reason field: message` of each. */
const problemsOf = ({ problems }: Plan): string[] => problems.map((p) => `${p.reason} ${problemText(p)}`);

function objectOf({ steps }: Plan, kind: string): Manifest {
  const found = steps.flat().find((manifest) => manifest.kind === kind);
  if (found === undefined) throw new Error(`No ${kind}`);
  return found;
}

describe("planInstallation() refuses, and says which field, why and what to do:", () => {
  const at = "spec.calicoNetwork.ipPools[0]";
  it.each<readonly [what: string, plan: () => Plan, problem: string]>([
    [
      "no CIDR",
      () => plan({ ipPools: [{ cidr: "10.0.0.0" }] }),
      `InvalidField ${at}.cidr: "10.0.0.0", want a network such as`,
    ],
    [
      "bits of the host",
      () => plan({ ipPools: [{ cidr: "10.0.0.1/16" }] }),
      `InvalidField ${at}.cidr: "10.0.0.1/16", want 10.0.0.0/16`,
    ],
    [
      "a block larger than the pool",
      () => plan({ ipPools: [{ cidr: "10.0.0.0/24", blockSize: 22 }] }),
      "want 24 to 32: a block of /22 does not fit into 10.0.0.0/24",
    ],
    [
      "a block of the wrong family",
      () => plan({ ipPools: [{ cidr: "10.0.0.0/24", blockSize: 122 }] }),
      `InvalidField ${at}.blockSize: 122, want an integer from 20 to 32`,
    ],
    [
      "IP-in-IP of IPv6",
      () => plan({ ipPools: [{ cidr: "fd00::/112", encapsulation: "IPIP" }] }),
      `InvalidField ${at}.encapsulation: "IPIP", want VXLAN, VXLANCrossSubnet or None: IP-in-IP carries IPv4 only`,
    ],
    [
      "two pools of one name",
      () => plan({ ipPools: [MAIN, { ...MAIN, cidr: "10.1.0.0/16" }] }),
      'ipPools[1].name: "main", want another name',
    ],
    [
      "pools that overlap",
      () => plan({ ipPools: [MAIN, { cidr: "10.244.8.0/24" }] }),
      "OverlappingPools spec.calicoNetwork.ipPools[1].cidr: 10.244.8.0/24 overlaps with pool main (10.244.0.0/16) of this Installation",
    ],
    [
      "a pool over another's",
      () => plan({ ipPools: [MAIN] }, { pools: [pool("x", "10.244.1.0/24", { ours: false })] }),
      "overlaps with IPPool x (10.244.1.0/24), which is there: take another network",
    ],
    [
      "a pool over the services",
      () => plan({ ipPools: [MAIN] }, {}, { spec: { serviceCIDRs: ["10.244.0.0/20"] } }),
      "overlaps with the cluster's services (10.244.0.0/20, spec.serviceCIDRs[0])",
    ],
    [
      "a pool over the nodes",
      () => plan({ ipPools: [{ cidr: "203.0.113.0/24" }] }),
      "overlaps with node node-a, whose address is 203.0.113.1",
    ],
    [
      "another's pool of that name",
      () => plan({ ipPools: [MAIN] }, { pools: [pool("main", "10.9.0.0/16", { ours: false })] }),
      "PoolConflict spec.calicoNetwork.ipPools[0].name: IPPool main (10.9.0.0/16) is there already",
    ],
    [
      "a pool that would move",
      () => plan({ ipPools: [{ ...MAIN, cidr: "10.9.0.0/16" }] }, { pools: [pool("main", "10.244.0.0/16")] }),
      "a pool cannot change these: give the new pool another name",
    ],
    [
      "an unknown provider",
      () => plan({}, {}, { spec: { kubernetesProvider: "Moon" } }),
      'InvalidField spec.kubernetesProvider: "Moon", want one of EKS, GKE',
    ],
    [
      "a pull secret that is not there",
      () => plan({}, {}, { spec: { imagePullSecrets: [{ name: "pull" }] } }),
      "PullSecretMissing spec.imagePullSecrets[0]: there is no Secret pull in the namespace gingham-system: make it in gingham-system, or leave",
    ],
    [
      "a pull secret that may not be copied",
      () => {
        const why = ", and the operator may not read that of elsewhere";
        const pullSecrets = new Map([["pull", { kind: "missing", why } as const]]);
        return plan({}, { pullSecrets }, { spec: { imagePullSecrets: [{ name: "pull" }] } });
      },
      "there is no Secret pull in the namespace gingham-system, and the operator may not read that of elsewhere: make it in",
    ],
    [
      "the Installation of Tigera's operator, which runs",
      () => plan({}, { hasTigeraOperator: true }),
      "TigeraOperator metadata.name: Tigera's operator (Deployment tigera-operator/tigera-operator) acts on the Installation of this name, too: give ours another name",
    ],
    [
      "an unknown wish about other networks",
      () => plan({}, {}, { annotations: { "gingham.dev/cni-others": "delete" } }),
      'InvalidField metadata.annotations[gingham.dev/cni-others]: "delete", want keep or rename',
    ],
    [
      "another dataplane",
      () => plan({ linuxDataplane: "BPF" }),
      'UnsupportedField spec.calicoNetwork.linuxDataplane: "BPF": Gingham has nftables only',
    ],
    [
      "another plugin",
      () => plan({}, {}, { spec: { cni: { type: "AmazonVPC" } } }),
      'UnsupportedField spec.cni.type: "AmazonVPC"',
    ],
    [
      "a sysctl of the host",
      () => plan({ sysctl: [{ key: "kernel.panic", value: "1" }] }),
      'sysctl[0].key: "kernel.panic", want a key that begins with net.',
    ],
    [
      "two ways to find an address",
      () => plan({ nodeAddressAutodetectionV4: { firstFound: true, interface: "eth0" } }),
      "only one: there is firstFound",
    ],
    [
      "a selector that is none",
      () => plan({ ipPools: [{ ...MAIN, nodeSelector: "has(" }] }),
      `InvalidField ${at}.nodeSelector: "has(", want a selector such as all() or has(rack): `,
    ],
    [
      "an MTU that no link has",
      () => plan({ mtu: 40 }),
      "InvalidField spec.calicoNetwork.mtu: 40, want 0 or at least 68",
    ],
    ...Object.entries({ canReach: "no where", interface: "eth[", cidrs: ["x"] }).map(
      ([field, value]) =>
        [
          `a way to find an address that agents do not know: ${field}`,
          () => plan({ nodeAddressAutodetectionV4: { [field]: value } }),
          `InvalidField spec.calicoNetwork.nodeAddressAutodetectionV4.${field}: `,
        ] as const,
    ),
    [
      "a registry that is an address of the web",
      () => plan({}, {}, { spec: { registry: "https://mirror.local" } }),
      'InvalidField spec.registry: "https://mirror.local", want a registry such as registry.example.org:5000',
    ],
    [
      "a path of an image with a blank",
      () => plan({}, {}, { spec: { imagePath: "a b" } }),
      'InvalidField spec.imagePath: "a b", want ',
    ],
    [
      "a port that is taken",
      () => plan({}, {}, { spec: { nodeMetricsPort: 9099 } }),
      "InvalidField spec.nodeMetricsPort: 9099, want another port: this one is taken by",
    ],
    [
      "a share of the nodes that is none",
      () => plan({}, {}, { spec: { nodeUpdateStrategy: { rollingUpdate: { maxUnavailable: "many" } } } }),
      'InvalidField spec.nodeUpdateStrategy.rollingUpdate.maxUnavailable: "many", want 1 to 1000, or 1% to 100%',
    ],
    ["a wrong type", () => plan({ ipPools: "all" }), 'InvalidField spec.calicoNetwork.ipPools: "all", want a list'],
    [
      "an unknown permission",
      () => plan({}, {}, { allow: "Everything" }),
      'metadata.annotations[gingham.dev/allow]: "Everything" is not known; there are DisableAllPools',
    ],
  ])("%s", (_, make, problem) => {
    expect(problemsOf(make())).toEqual([expect.stringContaining(problem)]);
  });

  it("CRDs that serve another version", () => {
    const crd = renderCRD({
      ...IP_POOL_KIND,
      resource: { ...IP_POOL_KIND.resource, version: "v3" },
    }) as unknown as InstalledCRD;
    const [problem = ""] = problemsOf(plan({}, { crds: new Map([[crd.metadata.name, crd]]) }));
    expect(problem).toContain(
      "CRDVersion CustomResourceDefinition ippools.crd.projectcalico.org: ippools are served as v3, and Gingham needs v1",
    );
  });
});

describe("planInstallation() does harm only where it is named:", () => {
  const pools = [pool("main", "10.244.0.0/16")];
  const cases: readonly (readonly [string, string, (allow: string) => Plan])[] = [
    [
      "all pools disabled",
      "DisableAllPools",
      (allow) => plan({ ipPools: [{ ...MAIN, disableNewAllocations: true }] }, { pools }, { allow }),
    ],
    ["all pools removed", "DisableAllPools", (allow) => plan({ ipPools: [] }, { pools }, { allow })],
    [
      "another encapsulation under pods",
      "ChangeEncapsulation",
      (allow) =>
        plan({ ipPools: [{ ...MAIN, encapsulation: "None" }] }, { pools, blocks: inUse("10.244.0.0/26") }, { allow }),
    ],
    [
      "an MTU that the links do not carry",
      "ExceedLinkMTU",
      (allow) =>
        plan(
          { ipPools: [MAIN], mtu: 1480 },
          { pools, nodes: [{ name: "n", isReady: true, isDown: false, addresses: [], linkMTU: 1500 }] },
          { allow },
        ),
    ],
  ];
  it.each(cases)("%s", (_, permission, make) => {
    expect(problemsOf(make(""))).toEqual([
      expect.stringMatching(new RegExp(`^NeedsPermission .*gingham.dev/allow: ${permission}`)),
    ]);
    expect(problemsOf(make(permission))).toEqual([]);
    expect(problemsOf(make(`ExtendCRDs, ${permission}`))).toEqual([]);
  });

  it("an MTU counts the encapsulation of pools that others made, too", () => {
    const nodes = [{ name: "n", isReady: true, isDown: false, addresses: [], linkMTU: 1500 }];
    const theirs = [pool("theirs", "10.9.0.0/16", { ours: false })];
    expect(problemsOf(plan({ mtu: 1450 }, { nodes, pools: theirs }))).toEqual([]);
    expect(problemsOf(plan({ mtu: 1480 }, { nodes, pools: theirs }))).toEqual([
      expect.stringContaining("1480 and 50 for the encapsulation is more than the links of node n carry (1500)"),
    ]);
  });

  it("an MTU that fits, and an encapsulation that no pod uses, need no permission", () => {
    const nodes = [{ name: "n", isReady: true, isDown: false, addresses: [], linkMTU: 1500 }];
    expect(problemsOf(plan({ ipPools: [MAIN], mtu: 1450 }, { nodes }))).toEqual([]);
    expect(problemsOf(plan({ ipPools: [{ ...MAIN, encapsulation: "None" }] }, { pools }))).toEqual([]);
  });
});

describe("planInstallation()", () => {
  it("has pools before agents, and CRDs before pools", () => {
    const { steps } = plan({ ipPools: [MAIN] });
    const stepOf = (kind: string): number => steps.findIndex((step) => step.some((manifest) => manifest.kind === kind));
    const order = ["CustomResourceDefinition", "IPPool", "ServiceAccount", "DaemonSet"].map(stepOf);
    expect(order).toEqual([0, 1, 2, 3]);
  });

  it("changes as many agents at once as the Installation says, also by a share of the nodes, at least one", () => {
    const nodes = Array.from({ length: 30 }, (_, i) => ({
      name: `n${i}`,
      isReady: true,
      isDown: false,
      addresses: [],
    }));
    const atOnce = (maxUnavailable: unknown): number =>
      plan({}, { nodes }, { spec: { nodeUpdateStrategy: { rollingUpdate: { maxUnavailable } } } }).maxUnavailable;
    expect([undefined, 3, "4", "25%", "1%"].map(atOnce)).toEqual([1, 3, 4, 8, 1]);
  });

  it("takes registry, path and prefix from the Installation, and the rest from its own image", () => {
    const imageOf = (spec: object): string | undefined =>
      /"image":"([^"]*)"/.exec(JSON.stringify(objectOf(plan({}, {}, { spec }), "DaemonSet")))?.[1];
    expect(imageOf({})).toBe("example.org:5000/some/gingham:1");
    expect(imageOf({ registry: "mirror.local/" })).toBe("mirror.local/some/gingham:1");
    expect(imageOf({ registry: "mirror.local:5000/cache", imagePath: "/calico/" })).toBe(
      "mirror.local:5000/cache/calico/gingham:1",
    );
    expect(imageOf({ registry: "mirror.local", imagePath: "calico", imagePrefix: "x-" })).toBe(
      "mirror.local/calico/x-gingham:1",
    );
  });

  it("tells the agents what to do with other networks' files, where the Installation says so", () => {
    const agent = (annotations: object): string =>
      JSON.stringify(objectOf(plan({}, {}, { annotations }), "DaemonSet")).replaceAll(/[{}"]/g, "");
    expect(agent({ "gingham.dev/cni-others": "rename" })).toContain("name:GINGHAM_CNI_OTHERS,value:rename");
    expect(agent({})).not.toContain("GINGHAM_CNI_OTHERS");
    expect(agent({ "gingham.dev/cni-others": "keep" })).toBe(agent({}));
  });

  it("copies pull secrets that are elsewhere, and takes away the copies that nobody asks for", () => {
    const secretOf = (name: string): Secret => ({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name, namespace: "elsewhere", uid: "1", labels: { theirs: "yes" } },
      type: "kubernetes.io/dockerconfigjson",
      data: { ".dockerconfigjson": "e30=" },
    });
    const pullSecrets = new Map<string, PullSecret>([
      ["a", { kind: "elsewhere", secret: secretOf("a") }],
      ["b", { kind: "present" }],
    ]);
    const spec = { imagePullSecrets: [{ name: "a" }, { name: "b" }] };
    const made = plan({}, { pullSecrets, copiedSecrets: [secretOf("a"), secretOf("old")] }, { spec });
    expect(problemsOf(made)).toEqual([]);
    const copies = made.steps.flat().filter(({ kind }) => kind === "Secret");
    expect(copies).toEqual([
      {
        ...secretOf("a"),
        metadata: {
          name: "a",
          namespace: "gingham-system",
          labels: expect.objectContaining({ "app.kubernetes.io/managed-by": "gingham-operator" }) as object,
          ownerReferences: [expect.objectContaining({ kind: "Installation", uid: "u" }) as object],
        },
      },
    ]);
    expect(made.remove.map(({ metadata }) => metadata.name)).toEqual(["old"]);
  });

  it("minds its own Installation beside Tigera's operator", () => {
    const made = planInstallation({
      installation: installation({}, { name: "gingham" }),
      facts: { ...EMPTY, hasTigeraOperator: true },
      image: "i",
    });
    expect(problemsOf(made)).toEqual([]);
  });

  it("makes a pool where nobody has one, and none where pools are somebody's", () => {
    const poolsOf = ({ steps }: Plan): string[] =>
      steps
        .flat()
        .filter(({ kind }) => kind === "IPPool")
        .map((p) => p.metadata.name);
    expect(poolsOf(plan({}))).toEqual(["default-ipv4-ippool"]);
    expect(poolsOf(plan({}, { pools: [pool("theirs", "10.9.0.0/16", { ours: false })] }))).toEqual([]);
    expect(poolsOf(plan({ ipPools: [] }))).toEqual([]);
    const named = plan({ ipPools: [{ cidr: "10.1.0.0/16" }, { cidr: "10.2.0.0/16" }, { cidr: "fd00:1::/112" }] });
    expect(poolsOf(named)).toEqual(["default-ipv4-ippool", "10-2-0-0-16", "default-ipv6-ippool"]);
  });

  it("keeps to the pools that are there where the Installation names none, whoever made them", () => {
    const ours = pool("default-ipv4-ippool", "10.244.0.0/16", { spec: { ipipMode: "Never" } });
    const families = ({ steps }: Plan): string =>
      JSON.stringify(objectOf({ steps } as Plan, "ConfigMap"))
        .match(/assign_ipv[46]\\+": \\+"\w+/g)
        ?.join() ?? "";
    const both = families(plan({ ipPools: [MAIN, { cidr: "fd00:1::/112" }] }));
    const four = families(plan({ ipPools: [MAIN] }));
    // Nobody says what the operator's own should be like.
    const alone = plan({}, { pools: [ours] });
    expect([problemsOf(alone), alone.remove, families(alone)]).toEqual([[], [], four]);
    expect(alone.steps.flat().some(({ kind }) => kind === "IPPool")).toBe(false);
    // Another pool of a user takes no family away, and a disabled one does no harm.
    const six = pool("six", "fd00:2::/112", { ours: false, spec: { blockSize: 122 } });
    expect(families(plan({}, { pools: [ours, six] }))).toBe(both);
    const disabled = pool("off", "10.9.0.0/16", { ours: false, spec: { disabled: true } });
    expect(problemsOf(plan({}, { pools: [ours, disabled] }))).toEqual([]);
  });

  it("leaves a pool alone that somebody else made with the same network", () => {
    const { steps, notes, problems } = plan(
      { ipPools: [MAIN] },
      { pools: [pool("main", "10.244.0.0/16", { ours: false })] },
    );
    expect(problems).toEqual([]);
    expect(steps.flat().some(({ kind }) => kind === "IPPool")).toBe(false);
    expect(notes).toEqual(["IPPool main was not made by the operator: it is left as it is"]);
  });

  it("removes a pool of its own that is no longer asked for, and only disables it while pods use it", () => {
    const pools = [pool("main", "10.244.0.0/16"), pool("old", "10.9.0.0/16")];
    expect(plan({ ipPools: [MAIN] }, { pools }).remove.map(({ metadata }) => metadata.name)).toEqual(["old"]);
    const used = plan({ ipPools: [MAIN] }, { pools, blocks: inUse("10.9.0.0/26") });
    expect(used.remove).toEqual([]);
    const old = used.steps.flat().find(({ kind, metadata }) => kind === "IPPool" && metadata.name === "old");
    expect(old?.["spec"]).toMatchObject({ cidr: "10.9.0.0/16", disabled: true });
    expect(used.notes).toEqual(["IPPool old is disabled, and goes when nobody uses it any more (pods: 3)"]);
  });

  it("asks for addresses of the families that the pools have", () => {
    const conflist = (network: object): unknown => {
      const { data } = objectOf(plan(network), "ConfigMap") as Manifest & {
        readonly data: { readonly conflist: string };
      };
      return JSON.parse(data.conflist);
    };
    const asking = (assign_ipv6: string): unknown =>
      expect.objectContaining({ ipam: expect.objectContaining({ assign_ipv6 }) as unknown });
    expect(conflist({ ipPools: [MAIN] })).toMatchObject({
      plugins: expect.arrayContaining([asking("false")]) as unknown,
    });
    const dual = { ipPools: [MAIN, { cidr: "fd00:1::/112" }] };
    expect(conflist(dual)).toMatchObject({ plugins: expect.arrayContaining([asking("true")]) as unknown });
  });

  it("makes nothing that garbage collection could take from the agents before they are gone", () => {
    const kept = plan({ ipPools: [MAIN] })
      .steps.flat()
      .filter(({ metadata }) => metadata.ownerReferences === undefined)
      .map(({ kind, metadata }) => `${kind} ${metadata.name}`)
      .filter((name) => !name.startsWith("CustomResourceDefinition"));
    expect(kept.sort()).toEqual([
      "ClusterInformation default",
      "ClusterRole gingham-agent",
      "ClusterRoleBinding gingham-agent",
      "IPPool main",
      "ServiceAccount gingham-agent",
    ]);
  });

  it("names every field that it does not heed, at any depth", () => {
    const { ignored, problems } = plan(
      { bgp: "Enabled", windowsDataplane: "HNS", nodeAddressAutodetectionV4: { firstFound: true } },
      {},
      { spec: { typhaDeployment: {}, cni: { type: "Calico", specVersion: "1.0.0" } } },
    );
    expect(problems).toEqual([]);
    expect(ignored.map((text) => text.split(" ", 1)[0])).toEqual([
      "spec.typhaDeployment",
      "spec.cni.specVersion",
      "spec.calicoNetwork.bgp",
      "spec.calicoNetwork.windowsDataplane",
    ]);
  });
});

describe("questionsOf()", () => {
  it("asks for blocks only where a pool of the operator would change or go, or everything", () => {
    const pools = [pool("main", "10.244.0.0/16")];
    const blocks = (network: object, metadata: object = {}): boolean =>
      questionsOf(installation({ calicoNetwork: network }, metadata), pools, "i").blocks;
    expect(blocks({ ipPools: [MAIN] })).toBe(false);
    expect(blocks({ ipPools: [{ ...MAIN, encapsulation: "None" }] })).toBe(true);
    expect(blocks({ ipPools: [] })).toBe(true);
    // Where the Installation names none, all stay as they are.
    expect(blocks({})).toBe(false);
    expect(blocks({ ipPools: [MAIN] }, { deletionTimestamp: "2026-01-01T00:00:00Z" })).toBe(true);
  });
});

describe("chooseInstallation()", () => {
  const marked = (name: string, creationTimestamp: string): Installation =>
    installation({}, { name, creationTimestamp, annotations: { "gingham.dev/managed": "true" } });

  it("takes the oldest of those with the annotation, and no other", () => {
    const [old, young] = [marked("z", "2026-01-01T00:00:00Z"), marked("a", "2026-01-02T00:00:00Z")];
    const tigeras = installation({}, { creationTimestamp: "2025-01-01T00:00:00Z" });
    expect(chooseInstallation([young, tigeras, old])).toEqual({ active: old, others: [young] });
    expect(chooseInstallation([tigeras])).toEqual({ active: undefined, others: [] });
  });
});
