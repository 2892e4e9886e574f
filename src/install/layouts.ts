// SPDX-License-Identifier: Apache-2.0

/** Where a distribution's container runtime looks. */
export interface Layout {
  /** Name of its overlay under manifests/overlays. */
  readonly name: string;
  /** As in docs/install.md. */
  readonly title: string;
  readonly confDir: string;
  readonly binDir: string;
  /** What else there is to know, for the same place. */
  readonly note?: string;
}

export const DEFAULT_LAYOUT = { confDir: "/etc/cni/net.d", binDir: "/opt/cni/bin" } as const;

/** Distributions whose folders are others than kubeadm's. Source: their own documentation and manifests. */
export const LAYOUTS: readonly Layout[] = [
  {
    name: "k3s",
    title: "k3s",
    confDir: "/var/lib/rancher/k3s/agent/etc/cni/net.d",
    binDir: "/var/lib/rancher/k3s/data/cni",
    note: "start it with `--flannel-backend=none --disable-network-policy`; before the releases of late 2024 its programs are in `/var/lib/rancher/k3s/data/current/bin`",
  },
  {
    name: "microk8s",
    title: "MicroK8s",
    confDir: "/var/snap/microk8s/current/args/cni-network",
    binDir: "/var/snap/microk8s/current/opt/cni/bin",
    note: "first remove its Calico: `microk8s kubectl delete -f /var/snap/microk8s/current/args/cni-network/cni.yaml`",
  },
  {
    name: "openshift",
    title: "OpenShift",
    confDir: "/var/run/multus/cni/net.d",
    binDir: "/var/lib/cni/bin",
    note: "Multus comes first there and calls the network in this folder; the overlay lets the agents use the SCC `privileged`",
  },
  {
    name: "gke",
    title: "GKE (Container-Optimized OS)",
    confDir: DEFAULT_LAYOUT.confDir,
    binDir: "/home/kubernetes/bin",
    note: "`/opt` cannot be written to",
  },
];
