// SPDX-License-Identifier: Apache-2.0
import type { PluginRunner } from "../cni/delegation/types.ts";
import { describeError } from "../lib/errors.ts";
import { ConflistError } from "./errors.ts";

/** A plugin answers VERSION from its own memory. */
const ANSWER_WITHIN_MS = 10_000;

/**
 * Asks each program of a chain for the versions of CNI that it speaks: by executing it, so that one that is missing, not
 * executable or of another machine is known before the first pod is.
 *
 * @throws ConflistError that names the first program that cannot be used
 */
export async function askVersions(
  runner: PluginRunner,
  types: readonly string[],
  binDir: string,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const asked = types.map(async (type) => [type, await askVersion(runner, type, binDir)] as const);
  return new Map(await Promise.all(asked));
}

async function askVersion(runner: PluginRunner, type: string, binDir: string): Promise<readonly string[]> {
  const env = { CNI_COMMAND: "VERSION", CNI_PATH: binDir };
  // The oldest form of the call; every plugin understands it. Source: CNI SPEC 0.4.0, VERSION.
  const stdin = '{"cniVersion":"0.4.0"}';
  const timeout = AbortSignal.timeout(ANSWER_WITHIN_MS);
  const answer = await runner.run({ type, env, stdin }, timeout).catch((cause: unknown) => {
    const why = timeout.aborted ? `has not answered within ${ANSWER_WITHIN_MS / 1000} s` : describeError(cause);
    throw unusable(type, binDir, why, cause);
  });
  const versions = parseVersions(answer.stdout);
  if (answer.exitCode === 0 && versions !== undefined) return versions;
  const words = (answer.stderr || answer.stdout).trim().slice(0, 200);
  throw unusable(type, binDir, `answered VERSION with exit code ${answer.exitCode}${words === "" ? "" : `: ${words}`}`);
}

function parseVersions(text: string): readonly string[] | undefined {
  try {
    const { supportedVersions } = JSON.parse(text) as { supportedVersions?: unknown };
    return Array.isArray(supportedVersions) ? supportedVersions.filter((item) => typeof item === "string") : undefined;
  } catch {
    return undefined;
  }
}

function unusable(type: string, binDir: string, why: string, cause?: unknown): ConflistError {
  const fix = `install it in ${binDir}, or take it out of the network configuration`;
  return new ConflistError(`Plugin ${type} of the chain cannot be used: ${why}; ${fix}`, { cause });
}
