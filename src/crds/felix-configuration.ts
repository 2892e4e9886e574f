// SPDX-License-Identifier: Apache-2.0
import { AGE, type KindDefinition } from "./definition.ts";
import { openObject } from "./field-reader.ts";
import type { KubeObject, Resource } from "./object.ts";
import { boolean, integer, intOrString, object, string } from "./schema.ts";

/** The object that is about all nodes. */
export const FELIX_CONFIGURATION_NAME = "default";

/** The object that is about one node; its fields win over those of `default`, one by one. */
export function nodeFelixConfigurationName(node: string): string {
  return `node.${node}`;
}

/**
 * Settings of the node agents. Fields are not judged here: one that is wrong must not take the others with it, so the agent
 * judges each by itself (felix/config-resolve.ts), and those that it does not know pass through untouched.
 */
export interface FelixConfiguration extends KubeObject {
  readonly spec: Readonly<Record<string, unknown>>;
}

/** @throws InvalidObjectError when it has no name, or no object as `spec` */
export function parseFelixConfiguration(raw: unknown): FelixConfiguration {
  const { head, spec, status } = openObject("crd.projectcalico.org/v1", "FelixConfiguration", raw);
  return { ...head, spec: spec.unread(), ...(status === undefined ? {} : { status }) };
}

export const FELIX_CONFIGURATIONS: Resource<FelixConfiguration> = {
  group: "crd.projectcalico.org",
  version: "v1",
  kind: "FelixConfiguration",
  plural: "felixconfigurations",
  namespaced: false,
  parse: parseFelixConfiguration,
};

const port = (description: string): ReturnType<typeof integer> => integer(description, { minimum: 0, maximum: 65_535 });
const mtu = (description: string): ReturnType<typeof integer> => integer(description, { minimum: 0, maximum: 65_535 });

export const FELIX_CONFIGURATION_KIND: KindDefinition = {
  resource: FELIX_CONFIGURATIONS,
  description:
    "Settings of the node agents: of all in the object named default, of one in that named node.NODE. Fields that are not listed here are kept, for Calico's agents.",
  spec: object(
    {
      logSeverityScreen: string("Debug, Info, Warning, Error or Fatal."),
      healthHost: string("Address of /liveness and /readiness."),
      healthPort: port("TCP port of /liveness and /readiness; 0 takes any."),
      prometheusMetricsHost: string("Address of /metrics."),
      prometheusMetricsPort: port("TCP port of /metrics; 0 takes any."),
      mtuIfacePattern: string("Regular expression: names of the links between nodes, whose smallest MTU counts."),
      vxlanVNI: integer("VXLAN network identifier.", { minimum: 1, maximum: 0xffffff }),
      vxlanPort: integer("UDP port of VXLAN.", { minimum: 1, maximum: 65_535 }),
      ipipEnabled: boolean("IP-in-IP whatever the pools say; absent: as they say."),
      ipipMTU: mtu("MTU of tunl0; 0: what fits between nodes."),
      vxlanEnabled: boolean("VXLAN of IPv4 whatever the pools say; absent: as they say."),
      vxlanMTU: mtu("MTU of vxlan.calico; 0: what fits between nodes."),
      vxlanMTUV6: mtu("MTU of vxlan-v6.calico; 0: what fits between nodes."),
      routeSource: string("CalicoIPAM, or WorkloadIPs: the nodes' spec.podCIDRs are routed, too."),
      routeRefreshInterval: string("Between two looks at all routes, such as 90s."),
      nftablesRefreshInterval: string("Between two looks at the table in nftables, such as 60s."),
      natPortRange: intOrString("Source ports of masqueraded TCP and UDP, such as 32768:65535."),
      natOutgoingAddress: string("Source address instead of the outgoing link's."),
      natOutgoingExclusions: string("Not masqueraded: IPPoolsOnly, or IPPoolsAndHostIPs."),
    },
    { "x-kubernetes-preserve-unknown-fields": true },
  ),
  printerColumns: [AGE],
};
