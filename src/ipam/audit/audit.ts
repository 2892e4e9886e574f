// SPDX-License-Identifier: Apache-2.0
import { checkAddresses } from "./check-addresses.ts";
import { checkBlocks } from "./check-blocks.ts";
import { checkClaims } from "./check-claims.ts";
import { checkHandles } from "./check-handles.ts";
import { checkPools } from "./check-pools.ts";
import { compareFindings, type Finding } from "./finding.ts";
import type { Snapshot } from "./snapshot.ts";

/**
 * Everything that one look finds wrong, worst first. Pure.
 *
 * Holds what `calicoctl ipam check` finds (calico-interop 7.3) and more. A single look also sees work in progress: keep
 * what a second one still finds, see `persistent`.
 *
 * @param watchedMs for how long an earlier look has found the same: what may be somebody's work has a fix only then
 */
export function audit(snapshot: Snapshot, watchedMs = 0): readonly Finding[] {
  return [
    ...unreadable(snapshot),
    ...checkBlocks(snapshot),
    ...checkPools(snapshot),
    ...checkClaims(snapshot, watchedMs),
    ...checkHandles(snapshot, watchedMs),
    ...checkAddresses(snapshot, watchedMs),
    ...general(snapshot),
  ].sort(compareFindings);
}

function unreadable({ invalid }: Snapshot): readonly Finding[] {
  return invalid.map(
    ({ kind, objectName, field, message }): Finding => ({
      code: "invalidObject",
      severity: "error",
      object: { kind, name: objectName },
      reason: message,
      nextStep: `kubectl edit or kubectl delete ${kind.toLowerCase()} ${objectName}; everybody leaves it alone meanwhile`,
      identity: field,
    }),
  );
}

function general({ information, nodes }: Snapshot): readonly Finding[] {
  const findings: Finding[] = [];
  if (information?.datastoreReady === false) {
    findings.push({
      code: "datastoreLocked",
      severity: "warning",
      object: { kind: "ClusterInformation", name: "default" },
      reason: "datastoreReady is false: no pod gets an address, and nothing is collected",
      nextStep: "finish the migration, then set datastoreReady to true (calicoctl datastore migrate unlock)",
      identity: "",
    });
  }
  if (nodes.size === 0) {
    findings.push({
      code: "noNodes",
      severity: "info",
      object: { kind: "Node", name: "" },
      reason: "there is no Node object, so nothing is said about nodes that are gone",
      nextStep: "nothing, if this cluster keeps none",
      identity: "",
    });
  }
  return findings;
}
