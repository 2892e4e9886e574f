// SPDX-License-Identifier: Apache-2.0
import { type CNIVersion, isAtLeast, isSupportedVersion, SUPPORTED_VERSIONS } from "../cni/input/versions.ts";
import { ConflistError } from "./errors.ts";

/** One plugin of a chain; all its other keys go into the file as they are. */
export interface ChainedPlugin {
  readonly type: string;
  readonly ipam?: { readonly type?: string };
}

/** What a network configuration holds beside its versions. */
export interface ConflistTemplate {
  readonly name: string;
  /** At most this version is written, and it is the one for all runtimes. */
  readonly cniVersion?: CNIVersion;
  /** Shape: at least one; the first is ours. */
  readonly plugins: readonly ChainedPlugin[];
}

export const OWN_PLUGIN = "gingham";

/** The pods' MTU is not in it: the agent decides that, pod by pod. */
export const DEFAULT_NETWORK_CONFIG: string = JSON.stringify({
  name: "k8s-pod-network",
  plugins: [
    { type: OWN_PLUGIN, ipam: { type: "gingham-ipam" } },
    { type: "portmap", snat: true, capabilities: { portMappings: true } },
    { type: "bandwidth", capabilities: { bandwidth: true } },
  ],
});

/** What every runtime in use speaks; libcni before 1.2 (containerd 1, CRI-O before 1.31) refuses anything newer. */
const FOR_ALL_RUNTIMES: CNIVersion = "1.0.0";
/** Source: CNI SPEC 1.1.0, Section 1, Plugin configuration objects. */
const NETWORK_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const PLUGIN_TYPE = /^[^/\s]+$/;

/** @throws ConflistError that names the key */
export function parseTemplate(text: string): ConflistTemplate {
  const value = parseJSON(text);
  const { name, plugins, cniVersion } = isObject(value) ? value : refuse("", "is not an object", '{"name", "plugins"}');
  if (typeof name !== "string" || !NETWORK_NAME.test(name))
    refuse("name", `is ${show(name)}`, "letters, digits, _ . -");
  if (cniVersion !== undefined && !isSupportedVersion(cniVersion))
    refuse("cniVersion", `is ${show(cniVersion)}`, `one of ${SUPPORTED_VERSIONS.join(", ")}, or leave it out`);
  if (!Array.isArray(plugins) || plugins.length === 0) refuse("plugins", `is ${show(plugins)}`, "a list of plugins");
  for (const [i, plugin] of (plugins as unknown[]).entries()) {
    const type = isObject(plugin) ? plugin["type"] : undefined;
    if (typeof type !== "string" || !PLUGIN_TYPE.test(type))
      refuse(`plugins[${i}].type`, `is ${show(type)}`, "a program");
  }
  const template = value as unknown as ConflistTemplate;
  const [first] = template.plugins;
  if (first?.type !== OWN_PLUGIN) refuse("plugins[0].type", `is ${show(first?.type)}`, OWN_PLUGIN);
  return template;
}

/** Every program that the runtime, or the agent in its stead, executes for this configuration. */
export function programsOf({ plugins }: ConflistTemplate): readonly string[] {
  const types = plugins.flatMap(({ type, ipam }) => [type, ...(typeof ipam?.type === "string" ? [ipam.type] : [])]);
  // Answered by the agent itself, whether or not there is a program of that name.
  return [...new Set(types)].filter((type) => type !== "gingham-ipam" && type !== "calico-ipam");
}

/**
 * Renders the file, in the versions that every plugin reports.
 *
 * A runtime takes the highest of `cniVersion` and `cniVersions` that it speaks; one from before `cniVersions` existed knows only
 * the first, and fails if that is newer than itself.
 *
 * Source: CNI SPEC 1.1.0, Section 1, Version considerations.
 *
 * @param reported the versions of each program
 * @throws ConflistError when they have none in common
 */
export function renderConflist(template: ConflistTemplate, reported: ReadonlyMap<string, readonly string[]>): string {
  const { cniVersion: pinned, ...rest } = template;
  const common = SUPPORTED_VERSIONS.filter((version) => [...reported.values()].every((list) => list.includes(version)));
  const usable = common.filter((version) => pinned === undefined || isAtLeast(pinned, version));
  const cniVersion = usable.findLast((version) => isAtLeast(pinned ?? FOR_ALL_RUNTIMES, version));
  if (cniVersion === undefined) {
    const said = [...reported].map(([type, list]) => `${type} speaks ${list.join(", ") || "none"}`).join("; ");
    const asked = pinned === undefined ? "" : ` up to ${pinned} (cniVersion)`;
    throw new ConflistError(
      `The plugins of the chain have no version of CNI${asked} in common: ${said}; update the oldest`,
    );
  }
  const newer = usable.filter((version) => isAtLeast(version, cniVersion));
  const versions = newer.length > 1 ? { cniVersion, cniVersions: newer } : { cniVersion };
  return `${JSON.stringify({ ...versions, ...rest }, undefined, 2)}\n`;
}

function parseJSON(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ConflistError(`The network configuration is not JSON: ${(cause as Error).message}`, { cause });
  }
}

function refuse(key: string, what: string, want: string): never {
  throw new ConflistError(`The network configuration${key === "" ? "" : `'s ${key}`} ${what}; want ${want}`);
}

function show(value: unknown): string {
  return value === undefined ? "missing" : JSON.stringify(value);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
