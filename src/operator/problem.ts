// SPDX-License-Identifier: Apache-2.0

import type { Unreadable } from "./ports.ts";

/** Why an Installation is Degraded, as its condition's `reason`. docs/errors.md has them all. */
export type ProblemReason =
  | "InvalidField"
  | "UnsupportedField"
  | "OverlappingPools"
  | "PoolConflict"
  | "PullSecretMissing"
  | "CRDVersion"
  | "SecondInstallation"
  | "TigeraOperator"
  | "NeedsPermission"
  | "NotOurs"
  | "Forbidden"
  | "Rejected"
  | "APIServerAway"
  | "RolloutPaused"
  | "PodFailure"
  | "NodeDegraded";

/** Something that keeps the cluster from being as the Installation says. */
export interface Problem {
  readonly reason: ProblemReason;
  /** What it is about, such as `spec.calicoNetwork.ipPools[0].cidr`. */
  readonly field: string;
  /** The reason and the remedy, without the field. */
  readonly message: string;
}

/** What may not be read may be anything: so nothing is done. */
export function unreadableProblem({ resource, message }: Unreadable): Problem {
  return { reason: "Forbidden", field: resource, message: `${message}; ${APPLY_AGAIN}` };
}

export const APPLY_AGAIN = "apply the operator's manifest again, which has its rights";

export function problemText({ field, message }: Problem): string {
  return `${field}: ${message}`;
}

/**
 * What would do harm, and is done only where the annotation `gingham.dev/allow` of the Installation names it.
 */
export const PERMISSIONS = ["DisableAllPools", "ChangeEncapsulation", "ExceedLinkMTU", "ExtendCRDs"] as const;
export type Permission = (typeof PERMISSIONS)[number];
