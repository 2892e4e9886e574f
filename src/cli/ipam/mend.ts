// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import { affinityLabels } from "../../crds/labels.ts";
import { loadAffineBlock } from "../../ipam/allocator/claims.ts";
import type { Finding, Fix } from "../../ipam/audit/finding.ts";
import type { HeldAddress } from "../../ipam/gc/types.ts";
import { newHandle, withBlocks } from "../../ipam/handle.ts";
import type { CreateOutcome, IPAMStore, UpdateOutcome } from "../../ipam/ports.ts";
import { deleteOrphanHandle, type ReleaseTools, releaseAddresses } from "../../ipam/release.ts";
import { finishTombstone, releaseAffinity, removeBlock, repairAffinity } from "../../ipam/release-affinity.ts";
import { describeError } from "../../lib/errors.ts";
import { type CIDR, cidrsOverlap, parseCIDR } from "../../net/cidr.ts";

/** A finding with its fix, and what came of it. */
export interface Mended {
  readonly finding: Finding;
  readonly fix: Fix;
  /** `changed`: somebody else wrote it meanwhile, so it was left alone. */
  readonly outcome: "done" | "changed" | "failed";
  readonly error?: string;
}

/** What must come first: counts go up before addresses are freed, and addresses before what held them. */
const ORDER: readonly Fix["kind"][] = [
  "finishTombstone",
  "labelAffinity",
  "createHandle",
  "setHandleCounts",
  "restoreAffinity",
  "confirmAffinity",
  "freeLeak",
  "deleteHandle",
  "releaseAffinity",
  "removeBlock",
];

/** Findings that have a fix, in the order in which they are mended. */
export function planFixes(findings: readonly Finding[]): readonly { readonly finding: Finding; readonly fix: Fix }[] {
  return findings
    .flatMap((finding) => (finding.fix === undefined ? [] : [{ finding, fix: finding.fix }]))
    .sort((a, b) => ORDER.indexOf(a.fix.kind) - ORDER.indexOf(b.fix.kind));
}

/**
 * Carries out a plan, one after the other but for leaks, which share writes; each is a compare-and-swap against what was
 * seen. One that fails does not stop the others. Never rejects.
 */
export async function mend(tools: ReleaseTools, plan: ReturnType<typeof planFixes>): Promise<readonly Mended[]> {
  const leaks = plan.flatMap(({ fix }) => (fix.kind === "freeLeak" ? [fix.address] : []));
  const results: Mended[] = [];
  let released: { readonly freed: ReadonlySet<HeldAddress>; readonly errors: readonly unknown[] } | undefined;
  for (const { finding, fix } of plan) {
    if (fix.kind === "freeLeak") {
      released ??= await releaseAll(tools, leaks);
      const [failure] = released.errors;
      if (released.freed.has(fix.address)) results.push({ finding, fix, outcome: "done" });
      else if (failure === undefined) results.push({ finding, fix, outcome: "changed" });
      else results.push({ finding, fix, outcome: "failed", error: describeError(failure) });
      continue;
    }
    try {
      results.push({ finding, fix, outcome: (await apply(tools, fix)) ? "done" : "changed" });
    } catch (error) {
      results.push({ finding, fix, outcome: "failed", error: describeError(error) });
    }
  }
  return results;
}

async function releaseAll(
  tools: ReleaseTools,
  leaks: readonly HeldAddress[],
): Promise<{ readonly freed: ReadonlySet<HeldAddress>; readonly errors: readonly unknown[] }> {
  const { freed, errors } = await releaseAddresses(tools, leaks);
  return { freed: new Set(freed), errors };
}

async function apply(tools: ReleaseTools, fix: Exclude<Fix, { readonly kind: "freeLeak" }>): Promise<boolean> {
  const { store } = tools;
  switch (fix.kind) {
    case "finishTombstone":
      return await finishTombstone(store, fix.tombstone);
    case "deleteHandle":
      return await deleteOrphanHandle(tools, fix.orphan);
    case "setHandleCounts":
      return isWritten(await store.update("handle", withBlocks(fix.handle, fix.counts)));
    case "createHandle":
      return isWritten(await store.create("handle", newHandle(fix.handleID, fix.counts)));
    case "labelAffinity":
      return isWritten(await store.update("affinity", labelled(fix.affinity)));
    case "restoreAffinity": {
      const claim = { ...tools, nodeName: fix.node, rivalOf: async (cidr: CIDR) => await rivalIn(store, cidr) };
      return (await loadAffineBlock(claim, parseCIDR(fix.cidr))) !== undefined;
    }
    case "confirmAffinity":
      return await repairAffinity(store, fix.repair);
    case "releaseAffinity":
      return await releaseAffinity(store, fix.release);
    case "removeBlock":
      return await removeBlock(store, fix.removal);
  }
}

/** A block or claim of another size that shares addresses. */
async function rivalIn(store: IPAMStore, cidr: CIDR): Promise<CIDR | undefined> {
  for (const kind of ["affinity", "block"] as const)
    for await (const page of store.pages(kind))
      for (const { spec } of page) {
        const other = parseCIDR(spec.cidr);
        if (other.prefixLength !== cidr.prefixLength && cidrsOverlap(other, cidr)) return other;
      }
  return undefined;
}

function labelled(affinity: BlockAffinity): BlockAffinity {
  const { metadata, spec } = affinity;
  const type = spec.type === "virtual" ? "virtual" : "host";
  const labels = { ...metadata.labels, ...affinityLabels(spec.node, parseCIDR(spec.cidr), type) };
  return { ...affinity, metadata: { ...metadata, labels } };
}

/** @throws what the server, or the lack of an answer, said */
function isWritten(outcome: UpdateOutcome<unknown> | CreateOutcome<unknown>): boolean {
  if (outcome.kind === "refused" || outcome.kind === "unknown") throw outcome.error;
  return outcome.kind === "ok";
}
