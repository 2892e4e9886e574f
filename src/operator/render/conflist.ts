// SPDX-License-Identifier: Apache-2.0
import type { Manifest } from "./manifest.ts";
import { AGENT, CNI_CONFIG, CNI_CONFIG_KEY, labelsOf, NAMESPACE } from "./names.ts";
import type { CNISettings } from "./settings.ts";

/**
 * The network configuration without its `cniVersion`: the agent fills in the highest that all plugins of the chain on its
 * node report, when it writes the file.
 */
export function renderConflist({ families, hostPorts, ipForwarding, sysctls }: CNISettings): object {
  const assign = { assign_ipv4: String(families.includes(4)), assign_ipv6: String(families.includes(6)) };
  const plugins: object[] = [
    {
      type: "gingham",
      ipam: { type: "gingham-ipam", ...assign },
      ...(ipForwarding && { container_settings: { allow_ip_forwarding: true } }),
    },
  ];
  if (hostPorts) plugins.push({ type: "portmap", snat: true, capabilities: { portMappings: true } });
  plugins.push({ type: "bandwidth", capabilities: { bandwidth: true } });
  if (Object.keys(sysctls).length > 0) plugins.push({ type: "tuning", sysctl: sysctls });
  return {
    name: "k8s-pod-network",
    plugins,
    // portmap 1.1.1 fails CHECK of dual-stack pods although all is well.
    ...(hostPorts && families.length > 1 && { disableCheck: true }),
  };
}

export function renderCNIConfig(cni: CNISettings, managedBy?: string): Manifest {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: CNI_CONFIG, namespace: NAMESPACE, labels: labelsOf(AGENT, managedBy) },
    data: { [CNI_CONFIG_KEY]: `${JSON.stringify(renderConflist(cni), null, 2)}\n` },
  };
}
