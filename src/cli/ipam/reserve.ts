// SPDX-License-Identifier: Apache-2.0
import {
  FIRST_ORDINAL,
  IP_RESERVATIONS,
  type IPReservation,
  OWNER_LABELS,
  projectReservation,
} from "../../crds/ip-reservation.ts";
import { recordedAddresses, stateOf } from "../../ipam/audit/recorded.ts";
import { liveBlocks, poolAround, type Snapshot } from "../../ipam/audit/snapshot.ts";
import type { KubeClient } from "../../kube/api.ts";
import { AlreadyExistsError, NotFoundError } from "../../kube/errors.ts";
import { type CIDR, cidrContains, cidrsOverlap, formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { bitsOf, familyOf, formatIP } from "../../net/ip.ts";
import { type Command, type CommandContext, defineCommand, EXIT } from "../command.ts";
import { RefusedError, UsageError } from "../errors.ts";
import { renderTable } from "../output/table.ts";
import { parseNetwork } from "./addresses.ts";
import { readCluster } from "./read-cluster.ts";

export const command: Command = defineCommand({
  usage: `gingham ipam reserve: keep addresses from automatic assignment

  gingham ipam reserve 10.0.0.5 10.0.0.16/28 --name X            nobody gets them but who asks for one by name
  gingham ipam reserve 10.0.0.5 --name X --for pod/NS/NAME       this pod gets it
  gingham ipam reserve 10.0.0.16/30 --name X --for statefulset/NS/NAME [--first-ordinal N]
                                                                 pod NAME-N gets the first address, and so on
  gingham ipam reserve --list
  gingham ipam reserve --remove NAME

  --force   also addresses outside all pools, in use by others, or reserved already
`,
  options: {
    name: { type: "string" },
    for: { type: "string" },
    "first-ordinal": { type: "string" },
    list: { type: "boolean" },
    remove: { type: "string" },
    force: { type: "boolean" },
  },
  run: async ({ values, positionals }, context) => {
    const { name, list, remove, force = false } = values;
    if ([list, remove, positionals.length > 0 || undefined].filter((way) => way !== undefined).length !== 1)
      throw new UsageError("Name addresses to reserve, or --list, or --remove NAME");
    if (list === true) return await listReservations(context);
    if (remove !== undefined) return await removeReservation(await context.connect(), remove, context);
    if (name === undefined) throw new UsageError("A reservation needs a name: --name NAME");
    const networks = positionals.map(parseNetwork);
    const owner = values.for === undefined ? undefined : parseOwner(values.for, values["first-ordinal"]);
    if (owner === undefined && values["first-ordinal"] !== undefined)
      throw new UsageError("--first-ordinal belongs to --for statefulset/NAMESPACE/NAME");
    const client = await context.connect();
    const snapshot = await readCluster(client, context.clock, { handles: false, owners: false });
    const reasons = force ? [] : objections(networks, owner, snapshot);
    if (reasons.length > 0)
      throw new RefusedError(`Nothing was reserved. ${reasons.join(". ")}. --force reserves all the same`);
    return await create(client, reservationOf(name, networks, owner), context);
  },
});

/** Who is to get the addresses. */
export interface Owner {
  readonly kind: "Pod" | "StatefulSet";
  readonly namespace: string;
  readonly name: string;
  readonly firstOrdinal?: string;
}

/** @throws UsageError */
export function parseOwner(text: string, firstOrdinal: string | undefined): Owner {
  const [type = "", namespace = "", name = "", ...more] = text.split("/");
  const kind = ({ pod: "Pod", statefulset: "StatefulSet", sts: "StatefulSet" } as const)[type.toLowerCase()];
  if (kind === undefined || namespace === "" || name === "" || more.length > 0)
    throw new UsageError(`--for is ${JSON.stringify(text)}, want pod/NAMESPACE/NAME or statefulset/NAMESPACE/NAME`);
  if (firstOrdinal === undefined) return { kind, namespace, name };
  if (kind !== "StatefulSet" || !/^\d{1,9}$/.test(firstOrdinal))
    throw new UsageError(
      `--first-ordinal is ${JSON.stringify(firstOrdinal)}, want a whole number, and --for a StatefulSet`,
    );
  return { kind, namespace, name, firstOrdinal };
}

const MAX_LABEL = 63;
const SHOWN = 5;

export function reservationOf(name: string, networks: readonly CIDR[], owner: Owner | undefined): IPReservation {
  const isLong = (owner?.name.length ?? 0) > MAX_LABEL;
  const labels = owner && {
    [OWNER_LABELS.kind]: owner.kind,
    [OWNER_LABELS.namespace]: owner.namespace,
    ...(!isLong && { [OWNER_LABELS.name]: owner.name }),
  };
  const annotations = {
    ...(owner !== undefined && isLong && { [OWNER_LABELS.name]: owner.name }),
    ...(owner?.firstOrdinal !== undefined && { [FIRST_ORDINAL]: owner.firstOrdinal }),
  };
  return {
    apiVersion: `${IP_RESERVATIONS.group}/${IP_RESERVATIONS.version}`,
    kind: IP_RESERVATIONS.kind,
    metadata: {
      name,
      ...(labels !== undefined && { labels }),
      ...(Object.keys(annotations).length > 0 && { annotations }),
    },
    spec: { reservedCIDRs: networks.map(networkText) },
  };
}

/** A single address is written without a length. */
function networkText(cidr: CIDR): string {
  const isSingle = cidr.prefixLength === bitsOf(familyOf(cidr.network));
  return isSingle ? formatIP(cidr.network) : formatCIDR(cidr);
}

/** Why these addresses should not be reserved; nothing when they may be. Pure. */
export function objections(networks: readonly CIDR[], owner: Owner | undefined, snapshot: Snapshot): readonly string[] {
  const reserved = snapshot.reservations.map(projectReservation);
  return networks.flatMap((network, i) => {
    const text = networkText(network);
    const reasons: string[] = [];
    // Of a StatefulSet, two pods would have to share it.
    const twice = networks.slice(0, i).find((earlier) => cidrsOverlap(earlier, network));
    if (twice !== undefined) reasons.push(`${text} overlaps ${networkText(twice)}, which is named as well`);
    if (poolAround(snapshot.pools, network) === undefined)
      reasons.push(
        `${text} lies in no IPPool (there are: ${snapshot.pools.map(({ cidr }) => formatCIDR(cidr)).join(", ") || "none"})`,
      );
    const other = reserved.find(({ networks: theirs }) => theirs.some((cidr) => cidrsOverlap(cidr, network)));
    if (other !== undefined) reasons.push(`${text} is reserved by IPReservation ${other.name} already`);
    const users = usersOf(network, owner, snapshot);
    if (users.length > 0) {
      const more = users.length > SHOWN ? ` and ${users.length - SHOWN} more` : "";
      reasons.push(`in use: ${users.slice(0, SHOWN).join(", ")}${more}`);
    }
    return reasons;
  });
}

/** Who uses addresses of a network. The pods that they are to be reserved for may. */
function usersOf(network: CIDR, owner: Owner | undefined, snapshot: Snapshot): readonly string[] {
  return liveBlocks(snapshot)
    .filter(({ spec }) => cidrsOverlap(parseCIDR(spec.cidr), network))
    .flatMap((block) =>
      recordedAddresses(block).flatMap(({ ip, attribute }) => {
        if (!cidrContains(network, ip) || stateOf(attribute) === "cooling") return [];
        const { namespace, pod } = attribute.secondary ?? {};
        if (owner !== undefined && isOwner(owner, namespace, pod)) return [];
        const who = pod === undefined ? `handle ${attribute.handle_id ?? "none"}` : `pod ${namespace}/${pod}`;
        return [`${formatIP(ip)} by ${who}`];
      }),
    );
}

function isOwner(owner: Owner, namespace: string | undefined, pod: string | undefined): boolean {
  if (namespace !== owner.namespace || pod === undefined) return false;
  if (owner.kind === "Pod") return pod === owner.name;
  return pod.startsWith(`${owner.name}-`) && /^\d+$/.test(pod.slice(owner.name.length + 1));
}

async function create(client: KubeClient, reservation: IPReservation, context: CommandContext): Promise<number> {
  try {
    const created = await client.create(IP_RESERVATIONS, reservation);
    const { owner } = projectReservation(created);
    const whom = owner === undefined ? "" : ` for ${owner.kind} ${owner.namespace}/${owner.name}`;
    await context.show(
      () => `IPReservation ${created.metadata.name} reserves ${created.spec.reservedCIDRs.join(", ")}${whom}\n`,
      created,
    );
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof AlreadyExistsError)) throw error;
    const { name } = reservation.metadata;
    throw new RefusedError(
      `IPReservation ${name} exists already; take another name, or first: gingham ipam reserve --remove ${name}`,
    );
  }
}

/** A reservation as it is listed. */
interface Listed {
  readonly name: string;
  readonly cidrs: readonly string[];
  readonly for: string;
  readonly inUse: number;
}

async function listReservations(context: CommandContext): Promise<number> {
  const client = await context.connect();
  const snapshot = await readCluster(client, context.clock, { handles: false, owners: false });
  const listed = listedOf(snapshot);
  await context.show(
    () =>
      listed.length === 0
        ? "There is no IPReservation.\n"
        : renderTable<Listed>(
            [
              { title: "NAME", text: ({ name }) => name },
              { title: "ADDRESSES", text: ({ cidrs }) => cidrs.join(", ") },
              { title: "FOR", text: (row) => row.for },
              { title: "IN USE", text: ({ inUse }) => String(inUse), align: "right" },
            ],
            listed,
          ),
    listed,
  );
  return EXIT.ok;
}

function listedOf(snapshot: Snapshot): readonly Listed[] {
  const used = liveBlocks(snapshot).flatMap((block) => recordedAddresses(block));
  return [...snapshot.reservations]
    .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    .map((reservation): Listed => {
      const { name, networks, owner } = projectReservation(reservation);
      const inUse = used.filter(({ ip }) => networks.some((network) => cidrContains(network, ip))).length;
      const whom = owner === undefined ? "" : `${owner.kind} ${owner.namespace}/${owner.name}`;
      return { name, cidrs: reservation.spec.reservedCIDRs, for: whom, inUse };
    });
}

async function removeReservation(client: KubeClient, name: string, { people }: CommandContext): Promise<number> {
  try {
    await client.delete(IP_RESERVATIONS, name);
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    throw new RefusedError(`There is no IPReservation ${name}; see gingham ipam reserve --list`);
  }
  people.write(`IPReservation ${name} is gone: its addresses can be assigned again\n`);
  return EXIT.ok;
}
