// SPDX-License-Identifier: Apache-2.0
import { get as httpGet } from "node:http";
import { describeError } from "../lib/errors.ts";
import type { GateProbe } from "./ports.ts";

/** By GET: a status from 200 to 399 is good, as with Calico's plugin; redirects are not followed. */
export const httpGate: GateProbe = async (url, signal) => {
  // Only here, since hardly any configuration has such a gate.
  const get = url.startsWith("https:") ? (await import("node:https")).get : httpGet;
  try {
    const status = await new Promise<number>((resolve, reject) => {
      const request = get(url, { signal, agent: false }, (response) => {
        response.destroy();
        resolve(response.statusCode ?? 0);
      });
      request.once("error", reject);
    });
    return status >= 200 && status < 400 ? undefined : `it answered status ${status}`;
  } catch (error) {
    return signal.aborted ? "it did not answer" : describeError(error);
  }
};
