// SPDX-License-Identifier: Apache-2.0
import type { Finding } from "../../felix/calc/findings.ts";
import type { HeldAddress } from "../../ipam/gc/types.ts";
import { describeError } from "../../lib/errors.ts";
import { formatCIDR } from "../../net/cidr.ts";
import { formatIP } from "../../net/ip.ts";
import type { NodeBlocks } from "../collect/node-blocks.ts";
import { ownAddresses } from "../collect/own.ts";
import { lookAtNetns } from "../commands/add.ts";
import type { CNI } from "../commands/cni.ts";
import { isNetnsGone } from "../errors.ts";
import { readWishes } from "../fixed/annotations.ts";
import type { PodInfo } from "../ports.ts";
import { keyOf } from "../records/attachment.ts";
import type { PodRef, WholeRecord } from "../types.ts";
import { adoptedResult, type Candidate, matchLinks, POD_IFACE, type Sandbox, sandboxOf, unlike } from "./match.ts";
import type { HostLink, NodeSurvey } from "./ports.ts";

/** Between two looks; a link that stays a stranger is looked at ever more seldom. Units: milliseconds. */
const LOOK_MS = 20_000;
const MAX_WAIT_MS = 300_000;

type Blocks = Pick<NodeBlocks, "isReady" | "read">;

interface Stranger {
  readonly looks: number;
  readonly againAtMs: number;
  readonly reason: string;
}

/**
 * Takes over the running pods that Calico's plugin made on this node before Gingham came, or whose records somebody deleted:
 * writes their attachment records, so that their routes are kept, their end is noticed and CHECK, GC and DEL find them.
 *
 * A pod is recognised by three things that must agree: an address of this node in a block, with the pod's name; a link
 * with the name that follows from it; and the link's other end, with that address, in a namespace. Nothing of the pod is
 * touched, and while all links are known nothing is read.
 */
export class PodAdopter {
  readonly #survey: NodeSurvey;
  #strangers: ReadonlyMap<number, Stranger & { readonly link: HostLink }> = new Map();

  constructor(survey: NodeSurvey) {
    this.#survey = survey;
  }

  /** Links that are no pod's of ours after two looks; before, an ADD of Calico's plugin may be under way. */
  findings(): readonly Finding[] {
    return [...this.#strangers.values()].flatMap(({ link: { name }, looks, reason }) => {
      if (looks < 2) return [];
      const message = `Link ${name} is a pod's of which Gingham has no record, and has not adopted it: ${reason}; it works as long as its route is there: make the pod anew`;
      return [{ code: "PodNotAdopted", subject: name, message } as const];
    });
  }

  /** Looks until the signal aborts. Never rejects. */
  async run(cni: CNI, blocks: Blocks, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.look(cni, blocks, signal);
      } catch (err) {
        if (!signal.aborted) cni.log.warn({ op: "adopt", err }, "Adoption of pods failed; it is tried again");
      }
      await cni.clock.sleep(LOOK_MS, signal).catch(() => {});
    }
  }

  /** One look. @returns how many pods were adopted. Errors: of the API, WiringError, CNIError */
  async look(cni: CNI, blocks: Blocks, signal: AbortSignal): Promise<number> {
    // Links before records: one of ours has its record before it is made.
    const links = await this.#survey.podLinks();
    const known = await recordedLinks(cni);
    const unknown = links.filter(({ name }) => !known.has(name));
    this.#strangers = new Map(
      [...this.#strangers].filter(([ifIndex]) => unknown.some((link) => link.ifIndex === ifIndex)),
    );
    const nowMs = cni.clock.nowMs();
    const due = unknown.filter(({ ifIndex }) => (this.#strangers.get(ifIndex)?.againAtMs ?? 0) <= nowMs);
    if (due.length === 0 || !(await blocks.isReady())) return 0;
    const candidates = await findCandidates(cni, blocks, due, signal);
    const sandboxes = candidates.length === 0 ? [] : await this.#sandboxes(cni, due);
    const strangers = new Map(this.#strangers);
    let adopted = 0;
    for (const link of due) {
      const mine = candidates.filter((candidate) => candidate.link.ifIndex === link.ifIndex);
      const reason = await adoptOne(cni, link, mine, sandboxes, signal).catch((error: unknown) => {
        if (signal.aborted) throw error;
        // The others must not wait for it.
        return describeError(error);
      });
      if (reason === undefined) {
        adopted++;
        strangers.delete(link.ifIndex);
        continue;
      }
      const looks = (strangers.get(link.ifIndex)?.looks ?? 0) + 1;
      const againAtMs = nowMs + Math.min(LOOK_MS * 2 ** (looks - 1), MAX_WAIT_MS);
      strangers.set(link.ifIndex, { link, looks, againAtMs, reason });
    }
    this.#strangers = strangers;
    return adopted;
  }

  async #sandboxes(cni: CNI, [anyLink]: readonly HostLink[]): Promise<readonly Sandbox[]> {
    const sandboxes: Sandbox[] = [];
    // Only the other end matters yet, but the question wants a name.
    const hostIface = anyLink?.name ?? "lo";
    for (const path of await this.#survey.namespaces()) {
      try {
        const query = { netns: path, contIface: POD_IFACE, hostIface, ips: [] };
        const { contLink, contAddrs } = await cni.wiring.inspect(query);
        if (contLink?.peerIfIndex !== undefined)
          sandboxes.push({ path, peerIfIndex: contLink.peerIfIndex, ips: contAddrs.map(({ ip }) => ip) });
      } catch (error) {
        // It ends while we look, or is another kind of file.
        if (!isNetnsGone(error)) throw error;
      }
    }
    return sandboxes;
  }
}

/** Names of the host's ends of all attachments that have a record, in whatever state. */
async function recordedLinks(cni: CNI): Promise<ReadonlySet<string>> {
  const names = new Set<string>();
  for (const id of await cni.records.list()) {
    const stored = await cni.records.read(id);
    if (stored.kind !== "record") continue;
    const { record } = stored;
    if (record.state === "whole" || record.state === "intent") names.add(record.hostIface ?? "");
    if (record.state === "releasing") names.add(record.link?.hostIface ?? "");
  }
  return names;
}

/** In the node's own blocks first; only a link that none explains has borrowed its address. */
async function findCandidates(
  cni: CNI,
  blocks: Blocks,
  links: readonly HostLink[],
  signal: AbortSignal,
): Promise<readonly Candidate[]> {
  const inBlocks = async (which: "own" | "all"): Promise<readonly Candidate[]> => {
    const held: HeldAddress[] = [];
    for await (const block of blocks.read(which, signal)) held.push(...ownAddresses(cni, block));
    return matchLinks(held, links);
  };
  const own = await inBlocks("own");
  const isExplained = ({ ifIndex }: HostLink): boolean => own.some(({ link }) => link.ifIndex === ifIndex);
  return links.every(isExplained) ? own : inBlocks("all");
}

/** @returns why none of a link's candidates is it; undefined: one was adopted */
async function adoptOne(
  cni: CNI,
  link: HostLink,
  candidates: readonly Candidate[],
  sandboxes: readonly Sandbox[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const endpoint = cni.endpoints.on(link.name);
  let reason =
    endpoint === undefined
      ? "no address of this node in a block is of a pod whose link has this name (another IPAM, or a virtual machine)"
      : `attachment ${endpoint.key} has this link, its record was deleted, and no block has an address of a pod for it`;
  for (const candidate of candidates) {
    const { pod, addresses } = candidate;
    const sandbox = sandboxOf(candidate, sandboxes);
    const who = `pod ${pod.namespace}/${pod.name} holds ${addresses.map(({ ip }) => formatIP(ip)).join(" and ")}`;
    const why =
      sandbox === undefined
        ? "no namespace under /run/netns has the link's other end with that address"
        : await adopt(cni, candidate, sandbox, signal);
    if (why === undefined) return undefined;
    reason = `${who}, and ${why}`;
  }
  return reason;
}

/** Under the locks of an ADD, and against the kernel as it is then. */
async function adopt(
  cni: CNI,
  candidate: Candidate,
  { path }: Sandbox,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { id, link, addresses } = candidate;
  const pod = await cni.pods?.get(candidate.pod, signal);
  using turn = await cni.locks.acquire(keyOf(id), { yields: true, signal });
  using _ifaceTurn = await cni.locks.acquire(`host interface ${link.name}`, { yields: true, signal: turn.signal });
  if ((await cni.records.read(id)).kind !== "absent") return "a CNI call is working on it";
  const endpoint = cni.endpoints.on(link.name);
  // Nobody works on it, since we have the locks: so one of its own is left from a record that somebody deleted.
  if (endpoint !== undefined && endpoint.key !== keyOf(id)) return `attachment ${endpoint.key} has this link`;
  try {
    const netns = await lookAtNetns(cni, path);
    const ips = addresses.map(({ ip }) => ip);
    const facts = await cni.wiring.inspect({ netns: path, contIface: POD_IFACE, hostIface: link.name, ips });
    const why = unlike(candidate, facts);
    if (why !== undefined) return why;
    turn.signal.throwIfAborted();
    const record: WholeRecord = {
      state: "whole",
      handleID: addresses[0]?.handleID ?? "",
      pod: { ...candidate.pod, ...(pod?.nodeName === cni.host.nodeName && { uid: pod.uid }) },
      bootID: cni.host.bootID,
      netns,
      hostIface: link.name,
      hostIfIndex: link.ifIndex,
      allocations: addresses.map(({ ip, block, handleID, sequenceNumber }) => ({
        ip,
        block,
        handleID,
        sequenceNumber,
      })),
      result: adoptedResult(candidate, path, facts),
      ...sourcePrefixesOf(candidate.pod, pod),
      atMs: cni.clock.nowMs(),
    };
    const recorded = await cni.records.create(id, record);
    await recorded.durable;
    const { allowedSourcePrefixes } = record;
    const sources = allowedSourcePrefixes && { allowedSourcePrefixes };
    await cni.endpoints.up({ key: keyOf(id), hostIface: link.name, hostIfIndex: link.ifIndex, ips, ...sources });
    if (endpoint === undefined) noteAdopted(cni, candidate, record);
    else
      cni.log.warn({ op: "adopt", ...id, ...candidate.pod }, "Record of a running pod was lost, and is written anew");
    return undefined;
  } catch (error) {
    if (isNetnsGone(error)) return "its namespace has gone";
    throw error;
  }
}

function noteAdopted(cni: CNI, { id, pod }: Candidate, { handleID, allocations, hostIface, atMs }: WholeRecord): void {
  const ips = allocations.map(({ ip }) => formatIP(ip));
  cni.log.info({ op: "adopt", ...id, ...pod, hostIface, ips }, "Pod that another plugin made is adopted");
  for (const place of allocations)
    cni.journal?.address({ kind: "assigned", atMs, node: cni.host.nodeName, handleID, attachment: id, pod, place });
}

/** An annotation that cannot be read asks for nothing; Calico's plugin has read it before. */
function sourcePrefixesOf(pod: PodRef, info: PodInfo | undefined): Pick<WholeRecord, "allowedSourcePrefixes"> {
  try {
    const { sourcePrefixes } = readWishes({ pod, ...(info && { podAnnotations: info.annotations }) });
    return sourcePrefixes?.length ? { allowedSourcePrefixes: sourcePrefixes.map(formatCIDR) } : {};
  } catch {
    return {};
  }
}
