// SPDX-License-Identifier: Apache-2.0
import { request } from "node:http";
import { text } from "node:stream/consumers";
import type { NodeReport } from "../../felix/status.ts";
import { parseJSON } from "../../lib/json.ts";
import { RefusedError } from "../errors.ts";

export const DEFAULT_SOCKET = "/run/gingham/agent.sock";

/** The agent answers out of its memory. Units: milliseconds. */
const TIMEOUT_MS = 5000;

/** What the agent of this node says of itself. @throws RefusedError when nobody answers, with the reason */
export async function askAgent(socketPath: string): Promise<NodeReport> {
  const answer = await ask(socketPath);
  if (answer.status !== 200)
    throw new RefusedError(
      `The agent at ${socketPath} answers ${answer.status}: it may be of another version than this program`,
    );
  // Of the same program; another version's lacks or has fields, which the table shows as they are.
  return parseJSON(answer.body) as NodeReport;
}

/** Whether anybody listens on the socket, however it answers. */
export async function isAgentRunning(socketPath: string): Promise<boolean> {
  return await ask(socketPath).then(
    () => true,
    (error: unknown) => error instanceof RefusedError && error.cause instanceof TimeoutError,
  );
}

class TimeoutError extends Error {}

async function ask(socketPath: string): Promise<{ readonly status: number; readonly body: string }> {
  try {
    return await new Promise((resolve, reject) => {
      const call = request({ socketPath, path: "/status", timeout: TIMEOUT_MS, agent: false }, (response) => {
        text(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject);
      });
      call.once("timeout", () => call.destroy(new TimeoutError(`no answer within ${TIMEOUT_MS / 1000} s`)));
      call.once("error", reject);
      call.end();
    });
  } catch (cause) {
    const why = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new RefusedError(
      `No agent answers at ${socketPath} (${why}): is it running, are you root on its node, or does --socket name another path?`,
      { cause },
    );
  }
}
