// SPDX-License-Identifier: Apache-2.0

/** Everything that the installed objects depend on. Made of an Installation, or of the defaults for static manifests. */
export interface InstallSettings {
  /** Full reference of the one image that has every role. */
  readonly image: string;
  /** Names of Secrets in our namespace. */
  readonly imagePullSecrets: readonly string[];
  readonly provider: Provider;
  readonly cni: CNISettings;
  /** MTU of pods; 0: what fits between nodes. Units: bytes. */
  readonly mtuBytes: number;
  /** How each node finds its own address of a family; absent: its InternalIP. As the agent's --ip-autodetection-method. */
  readonly autodetection: { readonly v4?: string; readonly v6?: string };
  /** Port of the agents' metrics. */
  readonly nodeMetricsPort: number;
  /** Nodes without these labels get no agent. */
  readonly nodeSelector: Readonly<Record<string, string>>;
  /** Labels of the nodes that the controller may run on. */
  readonly controlPlaneNodeSelector: Readonly<Record<string, string>>;
  readonly controlPlaneReplicas: number;
  /** Operator: it deletes the agents' pods itself, one node at a time. RollingUpdate: Kubernetes does. */
  readonly rollout: "Operator" | "RollingUpdate";
  readonly logLevel: "Debug" | "Info" | "Warning" | "Error";
}

export interface CNISettings {
  /** Directories on the host. */
  readonly binDir: string;
  readonly confDir: string;
  /** All: the reference plugins of the chain are installed as well. OursOnly: the host has them. */
  readonly install: "All" | "OursOnly";
  /** Files of other networks that the runtime would take as well: they stay, or get another name. */
  readonly others: (typeof CNI_OTHERS)[number];
  readonly families: readonly (4 | 6)[];
  readonly hostPorts: boolean;
  readonly ipForwarding: boolean;
  readonly sysctls: Readonly<Record<string, string>>;
}

export const CNI_OTHERS = ["keep", "rename"] as const;

export const PROVIDERS = ["", "EKS", "GKE", "AKS", "OpenShift", "DockerEnterprise", "RKE2", "TKG"] as const;
export type Provider = (typeof PROVIDERS)[number];

/** What holds where nobody says otherwise. */
export const DEFAULT_SETTINGS: Omit<InstallSettings, "image"> = {
  imagePullSecrets: [],
  provider: "",
  cni: {
    binDir: "/opt/cni/bin",
    confDir: "/etc/cni/net.d",
    install: "All",
    others: "keep",
    families: [4],
    hostPorts: true,
    ipForwarding: false,
    sysctls: {},
  },
  mtuBytes: 0,
  autodetection: {},
  nodeMetricsPort: 9091,
  nodeSelector: {},
  controlPlaneNodeSelector: {},
  controlPlaneReplicas: 2,
  rollout: "RollingUpdate",
  logLevel: "Info",
};
