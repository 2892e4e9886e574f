// SPDX-License-Identifier: Apache-2.0
import { GinghamError } from "../../lib/errors.ts";

/**
 * What the launcher sends to the agent, and what it writes down as a pending release: the CNI_* variables, GINGHAM_CALL
 * (its name for the call) and stdin.
 *
 * Shape: `NAME=value` and a zero byte for each variable, one more zero byte, then stdin to the end. An environment can
 * hold no zero byte, so C needs no escaping to write it. `launcher/gingham.c` is the other side.
 */
export interface Envelope {
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: string;
}

/** The launcher's name for a call. */
const CALL_NAME = /^\d{20}-\d+$/;

/**
 * The pending release that the launcher writes if it waits no longer for the answer to this DEL. Undefined when the call
 * has no name, as one that is itself written down by the agent.
 */
export function pendingNameIn(env: Readonly<Record<string, string | undefined>>): string | undefined {
  const name = env["GINGHAM_CALL"];
  return name !== undefined && CALL_NAME.test(name) ? `${name}.del` : undefined;
}

export class EnvelopeError extends GinghamError {
  constructor(message: string) {
    super("Envelope", message);
  }
}

/** @throws EnvelopeError */
export function decodeEnvelope(bytes: Uint8Array): Envelope {
  const decoder = new TextDecoder();
  const env: Record<string, string> = {};
  for (let at = 0; ; ) {
    const end = bytes.indexOf(0, at);
    if (end < 0)
      throw new EnvelopeError(`No zero byte after offset ${at} of ${bytes.length}: the envelope was cut off`);
    if (end === at) return { env, stdin: decoder.decode(bytes.subarray(end + 1)) };
    const pair = decoder.decode(bytes.subarray(at, end));
    const equals = pair.indexOf("=");
    if (equals <= 0) throw new EnvelopeError(`Offset ${at}: ${JSON.stringify(pair)} is not NAME=value`);
    env[pair.slice(0, equals)] = pair.slice(equals + 1);
    at = end + 1;
  }
}

export function encodeEnvelope({ env, stdin }: Envelope): Uint8Array {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}\0`);
  return new TextEncoder().encode(`${variables.join("")}\0${stdin}`);
}
