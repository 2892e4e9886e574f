// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { affinityLabels } from "../../crds/labels.ts";
import { affinityName, blockNameOf } from "../../crds/names.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { isConfirmed, nodeOfAffinity } from "../affinity.ts";
import { isEmptyBlock } from "../block.ts";
import type { AffinityRelease } from "../gc/types.ts";
import { isGone } from "../gc/verdict.ts";
import type { Finding, Fix } from "./finding.ts";
import { isDamaged, liveBlocks, restMs, type Snapshot, unreadableBlocks, viewOfSnapshot } from "./snapshot.ts";

/** A claim is three writes; what is half done for longer than this is nobody's work. Units: milliseconds. */
const CLAIM_REST_MS = 60_000;

interface Claims {
  readonly snapshot: Snapshot;
  readonly watchedMs: number;
  readonly blocks: ReadonlyMap<string, IPAMBlock>;
  readonly isNodeGone: (node: string) => boolean;
}

/** Claims against blocks, both against nodes, and what is half deleted. */
export function checkClaims(snapshot: Snapshot, watchedMs: number): readonly Finding[] {
  const view = viewOfSnapshot(snapshot);
  const claims: Claims = {
    snapshot,
    watchedMs,
    blocks: new Map(liveBlocks(snapshot).map((block) => [block.spec.cidr, block])),
    isNodeGone: (node) => isGone(node, view),
  };
  const unreadable = unreadableBlocks(snapshot);
  const live = snapshot.affinities.filter(
    ({ spec }) => spec.deleted !== "true" && !unreadable.has(blockNameOf(spec.cidr)),
  );
  return [
    ...live.flatMap((affinity) => {
      const findings = [...wrongName(affinity), ...judge(affinity, claims)];
      // What is mended otherwise gets its labels with that write, or goes away.
      return findings.length > 0 ? findings : labels(affinity);
    }),
    ...unclaimed(claims, live),
    ...tombstones(snapshot),
  ];
}

function judge(affinity: BlockAffinity, { snapshot, watchedMs, blocks, isNodeGone }: Claims): readonly Finding[] {
  const { metadata, spec } = affinity;
  const object = { kind: "BlockAffinity", name: metadata.name };
  const identity = metadata.resourceVersion ?? "";
  const isAtRest = restMs(metadata, snapshot.takenMs, watchedMs) >= CLAIM_REST_MS;
  const type = spec.type || "host";
  const block = blocks.get(spec.cidr);
  // Load balancers' claims are mended by their controller.
  const mend = (fix: Fix): Pick<Finding, "fix" | "nextStep"> => {
    if (type !== "host") return { nextStep: "see kube-controllers, whose claim this is" };
    if (!isAtRest) return { nextStep: "a claim may be at work: gingham ipam check --fix --wait 1m" };
    return { fix, nextStep: "gingham ipam check --fix" };
  };
  const release = (why: AffinityRelease["why"], own?: IPAMBlock): Fix => ({
    kind: "releaseAffinity",
    release: {
      name: metadata.name,
      node: spec.node,
      cidr: spec.cidr,
      why,
      resourceVersion: identity,
      ...(own !== undefined && { sequenceNumber: own.spec.sequenceNumber }),
    },
  });
  if (block === undefined) {
    const reason = `${type} ${spec.node} claims ${spec.cidr}, and there is no such block: its traffic goes to a node that drops it`;
    return [
      { code: "affinityWithoutBlock", severity: "warning", object, reason, identity, ...mend(release("noBlock")) },
    ];
  }
  if (block.spec.affinity !== `${type}:${spec.node}`) {
    const owner = block.spec.affinity ?? "nobody";
    const reason = `${type} ${spec.node} claims ${spec.cidr}, whose block is of ${owner}: a left-over claim, which can draw its traffic away`;
    const fix = release("foreignBlock");
    return [{ code: "affinityOfForeignBlock", severity: "error", object, reason, identity, ...mend(fix) }];
  }
  const isFree = isEmptyBlock(block.spec) && !isDamaged(block);
  if (type === "host" && isNodeGone(spec.node)) {
    const what = `node ${spec.node} is not in the cluster and owns ${spec.cidr}`;
    if (isFree)
      return [
        {
          code: "unknownNode",
          severity: "warning",
          object,
          reason: what,
          identity,
          ...mend(release("nodeGone", block)),
        },
      ];
    const nextStep =
      "gingham-controller frees the addresses of nodes that are gone, then the block; see the other findings";
    return [
      {
        code: "unknownNode",
        severity: "warning",
        object,
        reason: `${what}, with addresses in use`,
        identity,
        nextStep,
      },
    ];
  }
  if (isConfirmed(affinity)) return [];
  const repair = { name: metadata.name, node: spec.node, cidr: spec.cidr, resourceVersion: identity };
  const confirm: Fix = { kind: "confirmAffinity", repair };
  if (spec.state === "pending") {
    const reason = `the claim of ${spec.node} on ${spec.cidr} was begun and never confirmed: nobody routes to it`;
    return [{ code: "unfinishedClaim", severity: "warning", object, reason, identity, ...mend(confirm) }];
  }
  const reason = `giving up ${spec.cidr} was begun by ${spec.node} and never ended: nobody routes to it`;
  const fix = isFree ? release("unfinishedRelease", block) : confirm;
  return [
    { code: "unfinishedRelease", severity: isFree ? "warning" : "error", object, reason, identity, ...mend(fix) },
  ];
}

function labels(affinity: BlockAffinity): readonly Finding[] {
  const { metadata, spec } = affinity;
  const wanted = affinityLabels(spec.node, parseCIDR(spec.cidr), spec.type === "virtual" ? "virtual" : "host");
  const wrong = Object.keys(wanted).filter((key) => metadata.labels?.[key] !== wanted[key]);
  if (wrong.length === 0) return [];
  return [
    {
      code: "missingLabels",
      severity: "warning",
      object: { kind: "BlockAffinity", name: metadata.name },
      reason: `lacks ${wrong.join(", ")}: Calico 3.31 and later do not see this claim`,
      nextStep: "gingham ipam check --fix",
      fix: { kind: "labelAffinity", affinity },
      identity: metadata.resourceVersion ?? "",
    },
  ];
}

function wrongName({ metadata, spec }: BlockAffinity): readonly Finding[] {
  const wanted = affinityName(spec.node, parseCIDR(spec.cidr));
  if (metadata.name === wanted) return [];
  const reason = `the claim of ${spec.node} on ${spec.cidr} must be named ${wanted}: under another name no client finds it`;
  const object = { kind: "BlockAffinity", name: metadata.name };
  const nextStep = `kubectl delete blockaffinity ${metadata.name}`;
  return [{ code: "wrongName", severity: "warning", object, reason, nextStep, identity: wanted }];
}

/** Blocks whose owner has no claim, and empty ones without an owner. */
function unclaimed({ blocks, isNodeGone }: Claims, live: readonly BlockAffinity[]): readonly Finding[] {
  const claimed = new Set(live.map(({ spec }) => `${spec.type || "host"}:${spec.node} ${spec.cidr}`));
  const findings: Finding[] = [];
  for (const block of blocks.values()) {
    const { metadata, spec } = block;
    const object = { kind: "IPAMBlock", name: metadata.name };
    const { sequenceNumber } = spec;
    const identity = String(sequenceNumber);
    const isFree = isEmptyBlock(spec) && !isDamaged(block);
    if (spec.affinity === undefined) {
      // One in use without an owner is on its way out: its last address takes it along.
      if (!isFree) continue;
      const fix: Fix = { kind: "removeBlock", removal: { name: metadata.name, why: "unowned", sequenceNumber } };
      const reason = `${spec.cidr} is empty and nobody owns it`;
      const nextStep = "gingham ipam check --fix";
      findings.push({ code: "unownedBlock", severity: "warning", object, reason, nextStep, fix, identity });
      continue;
    }
    if (claimed.has(`${spec.affinity} ${spec.cidr}`)) continue;
    const node = nodeOfAffinity(spec.affinity);
    const gone = node !== undefined && isNodeGone(node);
    const fix: Fix = { kind: "removeBlock", removal: { name: metadata.name, why: "nodeGone", sequenceNumber } };
    findings.push({
      code: gone ? "unknownNode" : "blockWithoutAffinity",
      severity: "warning",
      object,
      reason: gone
        ? `node ${node} is not in the cluster and owns ${spec.cidr}, without a BlockAffinity`
        : `${spec.affinity} owns ${spec.cidr} without a BlockAffinity, so other nodes do not route it; an agent of Gingham that runs there makes one at once`,
      ...mendUnclaimed(node, spec.cidr, gone, isFree ? fix : undefined),
      identity,
    });
  }
  return findings;
}

function mendUnclaimed(
  node: string | undefined,
  cidr: string,
  gone: boolean,
  removal: Fix | undefined,
): Pick<Finding, "fix" | "nextStep"> {
  if (node === undefined) return { nextStep: "see kube-controllers, whose block this is" };
  const nextStep = "gingham ipam check --fix";
  if (!gone) return { nextStep, fix: { kind: "restoreAffinity", node, cidr } };
  if (removal !== undefined) return { nextStep, fix: removal };
  return { nextStep: "gingham-controller frees the addresses of nodes that are gone, then the block" };
}

function tombstones(snapshot: Snapshot): readonly Finding[] {
  const kinds = [
    ["block", "IPAMBlock", snapshot.blocks.filter(({ spec }) => spec.deleted)],
    ["handle", "IPAMHandle", snapshot.handles.filter(({ spec }) => spec.deleted)],
    ["affinity", "BlockAffinity", snapshot.affinities.filter(({ spec }) => spec.deleted === "true")],
  ] as const;
  return kinds.flatMap(([tombstone, kind, objects]) =>
    objects.map(
      ({ metadata: { name, resourceVersion = "" } }): Finding => ({
        code: "staleTombstone",
        severity: "warning",
        object: { kind, name },
        reason: "is marked as deleted, and nobody has deleted it",
        nextStep: "gingham ipam check --fix",
        fix: { kind: "finishTombstone", tombstone: { kind: tombstone, name } },
        identity: resourceVersion,
      }),
    ),
  );
}
