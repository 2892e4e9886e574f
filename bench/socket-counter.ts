// SPDX-License-Identifier: Apache-2.0
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

export interface SocketCounter {
  /** What GINGHAM_SOCKET names. */
  readonly path: string;
  /** Since the start. Units: bytes. */
  readonly bytes: { asked: number; answered: number };
  close(): void;
}

/** Stands between launcher and agent and counts. Not for timing: it costs some itself. */
export async function startSocketCounter(path: string, agentSocket: string): Promise<SocketCounter> {
  const bytes = { asked: 0, answered: 0 };
  // The launcher ends its request by its length and the agent its answer by closing, so each side's end is passed on.
  const server = createServer({ allowHalfOpen: true }, (launcher) => {
    const agent = connect({ path: agentSocket, allowHalfOpen: true });
    relay(launcher, agent, (count) => {
      bytes.asked += count;
    });
    relay(agent, launcher, (count) => {
      bytes.answered += count;
    });
  });
  server.listen(path);
  await once(server, "listening");
  return { path, bytes, close: () => void server.close() };
}

function relay(from: Socket, to: Socket, count: (bytes: number) => void): void {
  from.on("data", (data: Buffer) => count(data.length));
  from.on("error", () => to.destroy());
  from.pipe(to);
}
