// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { blockName } from "../../crds/names.ts";
import { ipAt, parseCIDR } from "../../net/cidr.ts";
import { formatIP } from "../../net/ip.ts";
import { type BlockFinding, checkBlock, damageOf } from "../check-block.ts";
import type { Finding } from "./finding.ts";
import { liveBlocks, type Snapshot } from "./snapshot.ts";

/** Contradictions of a block that are told one by one. */
const SHOWN = 5;

/** Each block by itself. */
export function checkBlocks(snapshot: Snapshot): readonly Finding[] {
  return liveBlocks(snapshot).flatMap((block) => [...invariants(block, snapshot.takenMs), ...wrongName(block)]);
}

function invariants(block: IPAMBlock, nowMs: number): readonly Finding[] {
  const broken = damageOf(block.spec);
  const others = checkBlock(block.spec, nowMs).flatMap((finding) => untidiness(block, finding));
  if (broken.length === 0) return others;
  const texts = broken.flatMap((finding) => damageText(finding, block) ?? []);
  const more = texts.length > SHOWN ? `; and ${texts.length - SHOWN} more` : "";
  const { name } = block.metadata;
  const damaged: Finding = {
    code: "damagedBlock",
    severity: "error",
    object: { kind: "IPAMBlock", name },
    reason: `nothing is assigned from this block or freed in it: ${texts.slice(0, SHOWN).join("; ")}${more}`,
    nextStep: `find its writer, move its pods (delete them), then kubectl delete ipamblock ${name}`,
    identity: "",
  };
  return [damaged, ...others];
}

/** What leaves no doubt about who holds what. */
function untidiness(block: IPAMBlock, finding: BlockFinding): readonly Finding[] {
  const found = { object: { kind: "IPAMBlock", name: block.metadata.name }, identity: JSON.stringify(finding) };
  if (finding.kind === "unreferencedAttribute") {
    const reason = `owner record ${finding.index} is there, and no address points at it`;
    const nextStep = "nothing: the next release from this block drops it";
    return [{ ...found, code: finding.kind, severity: "warning", reason, nextStep }];
  }
  if (finding.kind === "releasedInFuture") {
    const reason = `owner record ${finding.index} was released at ${finding.releasedAt}, which is to come`;
    const nextStep = "set the clock of the node that wrote it; its addresses stay unused until then";
    return [{ ...found, code: finding.kind, severity: "warning", reason, nextStep }];
  }
  if (finding.kind !== "namelessAttribute") return [];
  return finding.ordinals.map((ordinal) => nameless(block, ordinal, found));
}

function nameless({ spec }: IPAMBlock, ordinal: number, found: Pick<Finding, "object" | "identity">): Finding {
  const address = addressText(spec.cidr, ordinal);
  return {
    ...found,
    code: "namelessAddress",
    severity: "warning",
    address,
    reason: "its owner record has neither a handle nor a time of release: nobody will ever give it back",
    nextStep: `if nobody uses it: gingham ipam release --force ${address}; look for a Calico up to 3.32, or an old IPAMBlock CRD, which drop releasedAt`,
    identity: String(spec.sequenceNumberForAllocation[String(ordinal)] ?? 0n),
  };
}

/** Undefined for what is no damage. */
function damageText(finding: BlockFinding, { spec }: IPAMBlock): string | undefined {
  switch (finding.kind) {
    case "sizeMismatch":
      return `${finding.found} addresses are free or in use, ${spec.cidr} has ${finding.expected}`;
    case "attributeOutOfRange":
      return `${addressText(spec.cidr, finding.ordinal)} points at owner record ${finding.index}, and there are ${spec.attributes.length}`;
    case "duplicateFree":
      return `${addressText(spec.cidr, finding.ordinal)} is twice in the list of free addresses`;
    case "freeOutOfRange":
      return `ordinal ${finding.ordinal} in the list of free addresses is outside ${spec.cidr}`;
    case "freeButAllocated":
      return `${addressText(spec.cidr, finding.ordinal)} is in use, and in the list of free addresses`;
    case "unreferencedAttribute":
    case "releasedInFuture":
    case "namelessAttribute":
      return undefined;
  }
}

function addressText(cidr: string, ordinal: number): string {
  return formatIP(ipAt(parseCIDR(cidr), ordinal));
}

/** Clients ask for an object by the name that they derive. */
function wrongName({ metadata, spec }: IPAMBlock): readonly Finding[] {
  const wanted = blockName(parseCIDR(spec.cidr));
  if (metadata.name === wanted) return [];
  return [
    {
      code: "wrongName",
      severity: "error",
      object: { kind: "IPAMBlock", name: metadata.name },
      reason: `the block ${spec.cidr} must be named ${wanted}: under another name no client finds it`,
      nextStep: `move its pods (delete them), then kubectl delete ipamblock ${metadata.name}`,
      identity: spec.cidr,
    },
  ];
}
