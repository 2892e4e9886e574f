// SPDX-License-Identifier: Apache-2.0
import { CNIError } from "../errors.ts";

/** Versions of the CNI specification that are spoken here, oldest first. `launcher/gingham.c` has the same list. */
export const SUPPORTED_VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;

export type CNIVersion = (typeof SUPPORTED_VERSIONS)[number];

/** What answers are written in when the caller's version is unknown. */
export const NEWEST_VERSION: CNIVersion = "1.1.0";

/** A configuration without `cniVersion` is from before the field existed; Calico's plugin answers these as 0.2.0. */
export const UNVERSIONED: CNIVersion = "0.2.0";

export function isSupportedVersion(text: unknown): text is CNIVersion {
  return SUPPORTED_VERSIONS.some((version) => version === text);
}

export function isAtLeast(version: CNIVersion, least: CNIVersion): boolean {
  return SUPPORTED_VERSIONS.indexOf(version) >= SUPPORTED_VERSIONS.indexOf(least);
}

/** @throws CNIError IncompatibleVersion, which names what is supported */
export function parseVersion(value: unknown): CNIVersion {
  if (value === undefined || value === null || value === "") return UNVERSIONED;
  if (isSupportedVersion(value)) return value;
  throw new CNIError(
    "IncompatibleVersion",
    `cniVersion ${JSON.stringify(value)} is not supported; gingham speaks ${SUPPORTED_VERSIONS.join(", ")}`,
  );
}

/** The version for an answer to a configuration that may be unusable. */
export function answerVersion(configuration: unknown): CNIVersion {
  if (typeof configuration !== "object" || configuration === null || !("cniVersion" in configuration)) {
    return NEWEST_VERSION;
  }
  return isSupportedVersion(configuration.cniVersion) ? configuration.cniVersion : NEWEST_VERSION;
}
