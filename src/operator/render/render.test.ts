// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { REVISION_ANNOTATION } from "./agent.ts";
import { renderConflist } from "./conflist.ts";
import { type Manifest, nameOf, resourceOf } from "./manifest.ts";
import { OPERATOR_NAMESPACE_RULES, OPERATOR_RULES, renderOperator } from "./operator.ts";
import type { Rule } from "./rbac.ts";
import { renderInstall } from "./render.ts";
import { DEFAULT_SETTINGS, type InstallSettings } from "./settings.ts";

const SETTINGS: InstallSettings = { ...DEFAULT_SETTINGS, image: "example.org/gingham:1" };
const { cni } = DEFAULT_SETTINGS;

interface PodOwner extends Manifest {
  readonly spec: {
    readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
    readonly updateStrategy?: unknown;
    readonly template: {
      readonly metadata: {
        readonly labels: Readonly<Record<string, string>>;
        readonly annotations?: Readonly<Record<string, string>>;
      };
      readonly spec: Readonly<Record<string, unknown>>;
    };
  };
}

function podOwners(manifests: readonly Manifest[]): PodOwner[] {
  return manifests.filter(({ kind }) => kind === "DaemonSet" || kind === "Deployment") as PodOwner[];
}

function agentOf(settings: InstallSettings): PodOwner {
  const agent = podOwners(renderInstall(settings)).find(({ kind }) => kind === "DaemonSet");
  if (agent === undefined) throw new Error("No DaemonSet");
  return agent;
}

const revisionOf = (settings: InstallSettings): unknown =>
  agentOf(settings).spec.template.metadata.annotations?.[REVISION_ANNOTATION];

/** Every single right that a rule gives. */
function rightsOf(rules: readonly Rule[]): string[] {
  return rules.flatMap(({ apiGroups, resources, resourceNames = ["*"], verbs }) =>
    apiGroups.flatMap((group) =>
      resources.flatMap((resource) =>
        resourceNames.flatMap((name) => verbs.map((verb) => `${verb} ${group}/${resource} ${name}`)),
      ),
    ),
  );
}

describe("renderInstall()", () => {
  it("names no object twice, and knows where each is served", () => {
    const manifests = renderInstall({ ...SETTINGS, provider: "GKE" });
    expect(new Set(manifests.map(nameOf)).size).toBe(manifests.length);
    for (const manifest of manifests) {
      const { namespaced } = resourceOf(manifest);
      expect([nameOf(manifest), manifest.metadata.namespace !== undefined]).toEqual([nameOf(manifest), namespaced]);
    }
  });

  it("selects the pods that it makes, and their account and binding are among the objects", () => {
    const manifests = [...renderInstall(SETTINGS), ...renderOperator(SETTINGS)];
    const names = new Set(manifests.map(nameOf));
    for (const { spec, metadata } of podOwners(manifests)) {
      expect(spec.template.metadata.labels).toMatchObject(spec.selector.matchLabels);
      const account = String(spec.template.spec["serviceAccountName"]);
      expect(names).toContain(`ServiceAccount ${metadata.namespace}/${account}`);
      expect(names).toContain(`ClusterRoleBinding ${account}`);
    }
  });

  it("starts nothing that needs a pod network: every pod has the host's", () => {
    for (const { spec } of podOwners([...renderInstall(SETTINGS), ...renderOperator(SETTINGS)]))
      expect(spec.template.spec["hostNetwork"]).toBe(true);
  });

  it.each([
    ["node.kubernetes.io/not-ready", "NoSchedule"],
    ["node.kubernetes.io/not-ready", "NoExecute"],
    ["node.kubernetes.io/network-unavailable", "NoSchedule"],
    ["node.cloudprovider.kubernetes.io/uninitialized", "NoSchedule"],
    ["node-role.kubernetes.io/control-plane", "NoSchedule"],
    // The one that goes when an agent is ready may have any effect.
    ["gingham.dev/agent-not-ready", "NoSchedule"],
    ["gingham.dev/agent-not-ready", "NoExecute"],
  ])("starts everything on nodes that begin with the taint %s:%s", (key, effect) => {
    for (const { spec, metadata } of podOwners([...renderInstall(SETTINGS), ...renderOperator(SETTINGS)])) {
      const tolerations = spec.template.spec["tolerations"] as { key?: string; operator: string; effect?: string }[];
      const isTolerated = tolerations.some(
        (one) => one.operator === "Exists" && (one.key ?? key) === key && (one.effect ?? effect) === effect,
      );
      expect([metadata.name, isTolerated]).toEqual([metadata.name, true]);
    }
  });

  it("lets agents see the host: its processes, namespaces that the runtime makes later, and their own records", () => {
    const { spec } = agentOf(SETTINGS).spec.template;
    const [agent] = spec["containers"] as {
      env: object[];
      volumeMounts: { name: string }[];
      securityContext: object;
    }[];
    const volumes = spec["volumes"] as { name: string; hostPath?: { path: string } }[];
    const pathOf = (name: string): string | undefined => volumes.find((one) => one.name === name)?.hostPath?.path;
    expect(spec["hostPID"]).toBe(true);
    expect(agent?.securityContext).toEqual({ privileged: true, runAsUser: 0 });
    // Plugins of the chain are executed among the host's mounts.
    expect(agent?.env).toContainEqual({ name: "GINGHAM_HOST_MOUNTS", value: "on" });
    expect(agent?.volumeMounts).toContainEqual({
      name: "netns",
      mountPath: "/run/netns",
      mountPropagation: "HostToContainer",
    });
    expect(agent?.volumeMounts).toContainEqual({ name: "state", mountPath: "/var/lib/gingham" });
    expect([pathOf("netns"), pathOf("state"), pathOf("run")]).toEqual([
      "/run/netns",
      "/var/lib/gingham",
      "/run/gingham",
    ]);
  });

  it("gives the agents another revision with whatever is in their pods, and with nothing else", () => {
    const revision = revisionOf(SETTINGS);
    expect(revisionOf({ ...SETTINGS })).toBe(revision);
    expect(revisionOf({ ...SETTINGS, rollout: "Operator", controlPlaneReplicas: 1 })).toBe(revision);
    expect(revisionOf({ ...SETTINGS, image: "example.org/gingham:2" })).not.toBe(revision);
    expect(revisionOf({ ...SETTINGS, mtuBytes: 1300 })).not.toBe(revision);
    // They read the network configuration again when it changes.
    expect(revisionOf({ ...SETTINGS, cni: { ...cni, hostPorts: false } })).toBe(revision);
  });

  it("labels each object with its manager, and none without one", () => {
    const managers = (managedBy?: string): unknown[] =>
      renderInstall(SETTINGS, managedBy).map(({ metadata }) => metadata.labels?.["app.kubernetes.io/managed-by"]);
    expect(new Set(managers("me"))).toEqual(new Set(["me"]));
    expect(new Set(managers())).toEqual(new Set([undefined]));
  });
});

describe("renderConflist()", () => {
  it("has no cniVersion, which the agent finds out, and the plugins that were asked for in their order", () => {
    const types = (settings: Partial<typeof cni>): unknown[] => {
      const list = renderConflist({ ...cni, ...settings }) as { plugins: { type: string }[] };
      expect(list).not.toHaveProperty("cniVersion");
      return list.plugins.map(({ type }) => type);
    };
    expect(types({})).toEqual(["gingham", "portmap", "bandwidth"]);
    expect(types({ hostPorts: false, sysctls: { "net.core.somaxconn": "1024" } })).toEqual([
      "gingham",
      "bandwidth",
      "tuning",
    ]);
  });

  it("asks for the families of the pools", () => {
    const ipam = (families: (4 | 6)[]): unknown => {
      const list = renderConflist({ ...cni, families }) as { plugins: { ipam: unknown }[] };
      return list.plugins[0]?.ipam;
    };
    expect(ipam([4])).toMatchObject({ assign_ipv4: "true", assign_ipv6: "false" });
    expect(ipam([6])).toMatchObject({ assign_ipv4: "false", assign_ipv6: "true" });
  });
});

describe("renderOperator()", () => {
  it("holds every right that it grants: Kubernetes refuses to let anyone grant more", () => {
    const held = new Set(rightsOf([...OPERATOR_RULES, ...OPERATOR_NAMESPACE_RULES]));
    const granted = renderInstall(SETTINGS).flatMap((manifest) =>
      manifest.kind.endsWith("Role") ? rightsOf(manifest["rules"] as Rule[]) : [],
    );
    // Events in the namespace default come with a Role of their own.
    const lacking = granted.filter((right) => !held.has(right) && right !== "create /events *");
    expect(granted.length).toBeGreaterThan(30);
    expect(lacking).toEqual([]);
  });

  it("may read only what is secret in its own namespace", () => {
    expect(rightsOf(OPERATOR_RULES).filter((right) => right.includes("secrets"))).toEqual([]);
  });
});
