// SPDX-License-Identifier: Apache-2.0

/** Why an Installation is Degraded, as its condition's `reason`. docs/errors.md has them all. */
export type ProblemReason =
  | "InvalidField"
  | "UnsupportedField"
  | "OverlappingPools"
  | "PoolConflict"
  | "PullSecretMissing"
  | "CRDVersion"
  | "SecondInstallation"
  | "NeedsPermission"
  | "NotOurs"
  | "Forbidden"
  | "Rejected"
  | "APIServerAway"
  | "RolloutPaused"
  | "PodFailure";

/** Something that keeps the cluster from being as the Installation says. */
export interface Problem {
  readonly reason: ProblemReason;
  /** What it is about, such as `spec.calicoNetwork.ipPools[0].cidr`. */
  readonly field: string;
  /** The reason and the remedy, without the field. */
  readonly message: string;
}

export function problemText({ field, message }: Problem): string {
  return `${field}: ${message}`;
}

/**
 * What would do harm, and is done only where the annotation `gingham.dev/allow` of the Installation names it.
 */
export const PERMISSIONS = ["DisableAllPools", "ChangeEncapsulation", "ExceedLinkMTU", "ExtendCRDs"] as const;
export type Permission = (typeof PERMISSIONS)[number];
