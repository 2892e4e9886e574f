// SPDX-License-Identifier: Apache-2.0
import type { AttachmentRecord, FileIdentity, PodRef } from "../../cni/types.ts";
import { formatKernelRoute } from "../../felix/kernel-route.ts";
import { readIPIPDevice, stepsFromIPIP } from "../../felix/managers/ipip-manager.ts";
import { IPIP_DEVICE, ownerOfRoute, ROUTE_PROTOCOL, VXLAN_DEVICES } from "../../felix/ownership.ts";
import type { DeviceChange, KernelAddr, KernelLink, KernelRoute } from "../../felix/ports.ts";

/** What there is on the node, ours and others'. */
export interface CleanFacts {
  readonly links: readonly KernelLink[];
  readonly addrs: readonly KernelAddr[];
  /** Of the main table, both families. */
  readonly routes: readonly KernelRoute[];
  /** Attachment records with the name of the pod's interface. */
  readonly attachments: readonly { readonly contIface: string; readonly record: AttachmentRecord }[];
  readonly bootID: string;
  /** Whether nftables has the table `inet gingham`. */
  readonly hasTable: boolean;
  /** Why that cannot be known: nft may be in the agent's image only. */
  readonly tableProblem?: string;
  /** What gives the runtime's folder of network configurations back to others. */
  readonly confSteps: readonly ConfStep[];
  /** Programs that the installer has put into the runtime's folder, and that are still what it put there. */
  readonly programs: readonly string[];
  /** The installer's note of them, where there is one. */
  readonly programRecord?: string;
  /** Files and folders of the agent that are there. */
  readonly paths: readonly string[];
}

/** A step in the runtime's folder of network configurations. */
export type ConfStep = { readonly path: string } & (
  | { readonly kind: "removeConf" }
  | { readonly kind: "restoreConf"; readonly to: string }
);

export type CleanStep =
  | { readonly kind: "podLink"; readonly hostIface: string; readonly hostIfIndex: number; readonly pod?: PodRef }
  /** Of an ADD that did not end: made perhaps, and then found by the pod's end. */
  | {
      readonly kind: "unfinishedLink";
      readonly netns: string;
      readonly identity: FileIdentity;
      readonly contIface: string;
      readonly hostIface: string;
    }
  | { readonly kind: "route"; readonly route: KernelRoute; readonly text: string }
  | { readonly kind: "device"; readonly name: string; readonly ifIndex: number }
  | { readonly kind: "ipip"; readonly changes: readonly DeviceChange[] }
  | { readonly kind: "table" }
  | ConfStep
  | { readonly kind: "program" | "path"; readonly path: string };

/**
 * Says what to remove, in the order in which it has to go: first what makes the runtime call us, links before the routes that
 * hang on them, and the records last, since a second try needs them. Each kind of object is ours by the test of `felix/ownership.ts`, and links by their
 * record; all else is not mentioned.
 *
 * @param keepsPods leaves links, routes and tunnels to the agent of Calico's that comes after, and programs that its network
 * configuration may name
 */
export function planClean(
  facts: CleanFacts,
  { keepsPods = false }: { readonly keepsPods?: boolean } = {},
): readonly CleanStep[] {
  const kept = [
    ...facts.confSteps,
    ...(facts.hasTable ? [{ kind: "table" } as const] : []),
    ...facts.paths.map((path) => ({ kind: "path", path }) as const),
  ];
  if (keepsPods) return kept;
  const nameOf = (ifIndex: number): string | undefined => facts.links.find((link) => link.ifIndex === ifIndex)?.name;
  const links = facts.attachments.flatMap(({ contIface, record }) => linkStep(contIface, record, facts, nameOf));
  const routes = facts.routes
    .filter((route) => ownerOfRoute(route, nameOf) !== "foreign")
    // A deletion without a metric may match any, so what has none goes first.
    .toSorted((a, b) => a.metric - b.metric)
    .map((route) => ({ kind: "route", route, text: formatKernelRoute(route, nameOf) }) as const);
  const names: readonly string[] = Object.values(VXLAN_DEVICES);
  const devices = facts.links
    .filter(({ name, vxlan }) => vxlan !== undefined && names.includes(name))
    .map(({ name, ifIndex }) => ({ kind: "device", name, ifIndex }) as const);
  const note = facts.programRecord === undefined ? [] : [{ kind: "path", path: facts.programRecord } as const];
  const programs = [...facts.programs.map((path) => ({ kind: "program", path }) as const), ...note];
  const [conf, rest] = [facts.confSteps, kept.slice(facts.confSteps.length)];
  return [...conf, ...links, ...routes, ...devices, ...ipipStep(facts), ...programs, ...rest];
}

/** The module's own device stays. The tunnel address on it is one of this node's blocks, which their blackholes tell. */
function ipipStep({ links, addrs, routes }: CleanFacts): readonly CleanStep[] {
  const blackholes = routes.filter(({ type, protocol }) => type === "blackhole" && protocol === ROUTE_PROTOCOL);
  const poolCIDRs = blackholes.map(({ dst }) => dst);
  const device = readIPIPDevice(links, addrs, { poolCIDRs, known: new Set() });
  const changes = device === undefined || device === "taken" ? [] : stepsFromIPIP(device);
  return changes.length === 0 ? [] : [{ kind: "ipip", changes }];
}

function linkStep(
  contIface: string,
  record: AttachmentRecord,
  { bootID }: CleanFacts,
  nameOf: (ifIndex: number) => string | undefined,
): readonly CleanStep[] {
  const { pod } = record;
  switch (record.state) {
    case "whole":
    case "releasing": {
      const link = record.state === "whole" ? record : record.link;
      if (link === undefined || link.bootID !== bootID || nameOf(link.hostIfIndex) !== link.hostIface) return [];
      const { hostIface, hostIfIndex } = link;
      return [{ kind: "podLink", hostIface, hostIfIndex, ...(pod !== undefined && { pod }) }];
    }
    case "intent": {
      const { hostIface, netns } = record;
      if (hostIface === undefined || record.bootID !== bootID) return [];
      return [{ kind: "unfinishedLink", netns: netns.path, identity: netns.identity, contIface, hostIface }];
    }
    case "assigned":
      return [];
    default:
      return record satisfies never;
  }
}

/** One line for people. */
export function describeStep(step: CleanStep): string {
  switch (step.kind) {
    case "podLink": {
      const { pod, hostIface } = step;
      return `link ${hostIface}${pod === undefined ? "" : `, of pod ${pod.namespace}/${pod.name}, which loses its network`}`;
    }
    case "unfinishedLink":
      return `link ${step.hostIface} of an unfinished ADD, if it is there`;
    case "route":
      return `route ${step.text}`;
    case "device":
      return `link ${step.name}, with its neighbours and forwarding entries`;
    case "ipip":
      return `tunnel address of link ${IPIP_DEVICE}`;
    case "table":
      return "table inet gingham of nftables";
    case "removeConf":
      return `network configuration ${step.path}`;
    case "restoreConf":
      return `network configuration ${step.path} gets its name ${step.to} back`;
    case "program":
      return `program ${step.path}`;
    case "path":
      return step.path;
    default:
      return step satisfies never;
  }
}
