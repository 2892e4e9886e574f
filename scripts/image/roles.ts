// SPDX-License-Identifier: Apache-2.0

/** Commands of the image. Each is `scripts/image/gingham` under that name. */
export const ROLES: readonly string[] = [
  "gingham-agent",
  "gingham-controller",
  "gingham-operator",
  "gingham-install",
  "gingham",
  "kubectl-gingham",
];

/** The entry point of src/main that a role runs. */
export function mainOf(role: string): string {
  return role === "gingham" || role === "kubectl-gingham" ? "cli" : role.replace(/^gingham-/, "");
}
