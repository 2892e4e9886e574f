// SPDX-License-Identifier: Apache-2.0
import { FELIX_CONFIGURATION_NAME, type FelixConfiguration } from "../crds/felix-configuration.ts";
import type { Finding } from "./calc/findings.ts";
import { WORKLOAD_IFACE_PREFIX } from "./ownership.ts";

interface Unsupported {
  /** Whether a value asks for something else than what the agent does anyhow. */
  readonly isAsked: (value: unknown) => boolean;
  /** What happens instead. */
  readonly instead: string;
}

const isTrue = (value: unknown): boolean => value === true;
const isText = (value: unknown): boolean => typeof value === "string" && value !== "";
const isWord =
  (word: string) =>
  (value: unknown): boolean =>
    typeof value === "string" && value.toLowerCase() === word.toLowerCase();

/**
 * Fields of Calico's whose silent neglect would surprise: a person who sets them expects other routes, other packets or another
 * dataplane. All fields that are neither here nor in the table of options have no effect and are not told.
 */
const UNSUPPORTED: Readonly<Record<string, Unsupported>> = {
  bpfEnabled: { isAsked: isTrue, instead: "routes and nftables are used" },
  wireguardEnabled: { isAsked: isTrue, instead: "nothing is encrypted" },
  wireguardEnabledV6: { isAsked: isTrue, instead: "nothing is encrypted" },
  ipForwarding: { isAsked: isWord("Disabled"), instead: "forwarding is switched on; pods need it" },
  interfacePrefix: {
    isAsked: (value) => isText(value) && !String(value).split(",").includes(WORKLOAD_IFACE_PREFIX),
    instead: `pods' interfaces begin with ${WORKLOAD_IFACE_PREFIX}`,
  },
  deviceRouteProtocol: { isAsked: (value) => Number(value) !== 80, instead: "routes have protocol 80" },
  deviceRouteSourceAddress: { isAsked: isText, instead: "the kernel chooses the source" },
  deviceRouteSourceAddressIPv6: { isAsked: isText, instead: "the kernel chooses the source" },
  floatingIPs: { isAsked: isWord("Enabled"), instead: "pods with floatingIPs are refused" },
};

/**
 * What is asked for and not done, field by field.
 *
 * @param relevant objects that are about this node; the first wins, field by field
 * @param all of the cluster, of which those for selected nodes are named
 */
export function unsupportedFields(
  relevant: readonly FelixConfiguration[],
  all: readonly FelixConfiguration[],
): readonly Finding[] {
  const fields = Object.entries(UNSUPPORTED).flatMap(([field, { isAsked, instead }]): readonly Finding[] => {
    const object = relevant.find(({ spec }) => (spec[field] ?? undefined) !== undefined);
    const value = object?.spec[field];
    if (object === undefined || !isAsked(value)) return [];
    const subject = `FelixConfiguration ${object.metadata.name}: ${field}`;
    const message = `${subject}: ${JSON.stringify(value)} is not supported: ${instead}`;
    return [{ code: "ConfigUnsupported", subject, message }];
  });
  return [...fields, ...all.filter(isForSelectedNodes).map(toldOfSelector)];
}

/** Those that no node has by its name. Source: Calico 3.32, selector-scoped configuration (a preview there). */
function isForSelectedNodes({ metadata: { name }, spec }: FelixConfiguration): boolean {
  return name !== FELIX_CONFIGURATION_NAME && !name.startsWith("node.") && isText(spec["nodeSelector"]);
}

function toldOfSelector({ metadata: { name } }: FelixConfiguration): Finding {
  const subject = `FelixConfiguration ${name}: nodeSelector`;
  const message = `${subject}: objects for selected nodes are not supported: none of its fields counts; make one named node.NODE for each`;
  return { code: "ConfigUnsupported", subject, message };
}
