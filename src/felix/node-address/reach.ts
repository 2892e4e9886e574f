// SPDX-License-Identifier: Apache-2.0
import { createSocket } from "node:dgram";
import { familyOf, type IP, parseIP } from "../../net/ip.ts";
import type { Reach } from "./ports.ts";

/** Any port does: nothing is sent. Calico takes this one. Source: calico-interop 4.7. */
const PORT = 80;
/** Routes wait meanwhile: longer than a resolver that is well, and no longer. Units: milliseconds. */
const TIMEOUT_MS = 1000;

/** By connecting a UDP socket, which sends nothing, in this process's network namespace. */
export const udpReach: Reach = {
  sourceTowards: async (host, family) => {
    const socket = createSocket(family === 4 ? "udp4" : "udp6");
    const { promise, resolve } = Promise.withResolvers<IP | undefined>();
    const timer = setTimeout(() => resolve(undefined), TIMEOUT_MS);
    socket.once("error", () => resolve(undefined));
    // No way there, or no such name: then it is called with an error, which its type does not say.
    socket.connect(PORT, host, (error?: Error | null) =>
      resolve(error instanceof Error ? undefined : localAddressOf(socket.address().address)),
    );
    try {
      const ip = await promise;
      return ip !== undefined && familyOf(ip) === family ? ip : undefined;
    } finally {
      clearTimeout(timer);
      socket.close();
    }
  },
};

/** A link-local one carries its zone. */
function localAddressOf(text: string): IP {
  return parseIP(text.replace(/%.*$/, ""));
}
