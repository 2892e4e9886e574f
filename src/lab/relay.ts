// SPDX-License-Identifier: Apache-2.0
import { once } from "node:events";
import { connect, createServer, type NetConnectOpts, type Server, type Socket } from "node:net";
import { pipeline } from "node:stream/promises";

/**
 * Passes every connection on to another address, byte for byte. Two of them join the host's network to the
 * laboratory's: a socket in the file system can be reached from both.
 */
export async function startRelay(
  listen: { readonly path: string } | { readonly host: string; readonly port: number },
  target: NetConnectOpts,
): Promise<Server> {
  const server = createServer((near) => {
    const far = connect(target);
    // Either end may break at any time; then the other is closed, and that is all there is to do.
    void Promise.allSettled([pipeline(near, far), pipeline(far, near)]).then(() => closeBoth(near, far));
  });
  server.listen(listen);
  await once(server, "listening");
  return server;
}

function closeBoth(near: Socket, far: Socket): void {
  near.destroy();
  far.destroy();
}

/** @throws TypeError for a server that listens on a path */
export function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new TypeError("The server does not listen on a port");
  return address.port;
}
