// SPDX-License-Identifier: Apache-2.0
import { type Command, defineCommand, EXIT } from "../command.ts";
import { UsageError } from "../errors.ts";
import { styleOf } from "../output/style.ts";
import { askAgent, DEFAULT_SOCKET } from "./agent-socket.ts";
import { renderStatus } from "./status-text.ts";

export const command: Command = defineCommand({
  usage: `gingham node status: what the agent of this node has made, and what is wrong

  --socket PATH   where the agent listens (default: GINGHAM_SOCKET, or ${DEFAULT_SOCKET})

Addresses of the node, its blocks, routes by where they lead, tunnels, MTU, what was repaired, the last errors, findings, and why
the agent is not ready. To be run on the node, as root. Exit status 1 when the agent is not ready.
`,
  options: { socket: { type: "string" } },
  run: async ({ values, positionals }, context) => {
    if (positionals.length > 0) throw new UsageError(`${JSON.stringify(positionals[0])} is not understood`);
    const report = await askAgent(values.socket ?? (context.env["GINGHAM_SOCKET"] || DEFAULT_SOCKET));
    const text = (): string => renderStatus(report, context.clock.nowMs(), styleOf(context.hasColor));
    await context.show(text, report);
    return report.readiness.ok ? EXIT.ok : EXIT.problem;
  },
});
